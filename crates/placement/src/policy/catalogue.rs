//! Every policy of others, ready to be compared.

use super::{
    ByTable, Mix, Policy,
    baskets::Baskets,
    best_fit::{best_fit, worst_fit},
    capability::{expected_capability, least_capability_lost, most_capability},
    das::Das,
    dra::Dra,
    fgd::fragmentation_gradient,
    hami::{Hami, HamiServes, HamiStart, longest_run},
    in_order::{FirstFit, RoundRobin},
    mfi::{MfiWindows, least_fragmentation},
    nos::Nos,
};
use crate::{
    geometry::Geometry,
    score::{ScoreTable, TableError},
};

/// Percent of the GPUs that are for the largest profile alone, for the policy with two baskets. A
/// guess: the published quota is not known to us.
const LARGE_PERCENT: u8 = 30;

/// The policies of others that are tables. `mix` is what those that weigh profiles are told.
pub fn baseline_tables(geometry: &Geometry, mix: &Mix) -> Vec<ScoreTable> {
    vec![
        best_fit(geometry),
        worst_fit(geometry),
        least_fragmentation(geometry, MfiWindows::Touched, true),
        least_fragmentation(geometry, MfiWindows::Touched, false),
        least_fragmentation(geometry, MfiWindows::PartlyTouched, true),
        least_fragmentation(geometry, MfiWindows::PartlyTouched, false),
        fragmentation_gradient(geometry, mix),
        most_capability(geometry),
        expected_capability(geometry, mix),
        least_capability_lost(geometry, mix),
        longest_run(geometry),
    ]
}

/// All policies of others. Tables keep idle instances and reuse them among equals. `seed` is for
/// those that leave something to chance.
///
/// # Errors
/// None; the signature is that of their tables.
pub fn baselines(
    geometry: &Geometry,
    mix: &Mix,
    seed: u64,
) -> Result<Vec<Box<dyn Policy>>, TableError> {
    let mut all: Vec<Box<dyn Policy>> = vec![
        Box::new(FirstFit::lowest_start(geometry)?),
        Box::new(FirstFit::best_index(geometry)?),
        Box::new(RoundRobin::new(geometry)?),
        Box::new(Das::new(geometry)?),
        Box::new(Dra::new(geometry, seed)?),
        Box::new(Nos::new(geometry)?),
        Box::new(Baskets::new(geometry, LARGE_PERCENT)?),
    ];
    for start in [HamiStart::ByProfile, HamiStart::LongestRun] {
        for serves in [HamiServes::AtLeast, HamiServes::Exactly] {
            all.push(Box::new(Hami::new(geometry, start, serves)?));
        }
    }
    for table in baseline_tables(geometry, mix) {
        all.push(Box::new(ByTable::new(geometry, &table)?));
    }
    Ok(all)
}

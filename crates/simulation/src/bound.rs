//! What no policy can pass, even if it moves running instances at will.
//!
//! In the long run the instances that are present, per GPU, lie in the mean of the layouts that
//! GPUs can have. So the accepted concurrency is at most what a linear programme over the layouts
//! allows: it bounds every policy that does not look at lifetimes. Below a load of about 1 it says
//! nothing (everything fits in the mean); above, it says how much is lost whatever one does.
//! A check of [`crate::clairvoyant`], whose bound is found by other means; no part of the crate needs it.

mod simplex;

use std::collections::BTreeSet;

use placement::{Geometry, placements};

use crate::demand::Demand;
use crate::exact::Measure;

/// Upper bound in percent of what is asked for, for any number of GPUs, at a load relative to all
/// memory slices.
pub(crate) fn fluid(geometry: &Geometry, demand: &Demand, load: f64, measure: Measure) -> f64 {
    let worth: Vec<f64> = match measure {
        Measure::Pods => vec![1.0; demand.slices().len()],
        Measure::Slices => demand.slices().to_vec(),
    };
    let rate = demand.rate(load, 1);
    let offered: Vec<f64> = demand.shares().iter().map(|share| share * rate).collect();
    let asked: f64 = offered.iter().zip(&worth).map(|(o, w)| o * w).sum();

    // Variables: the concurrency of each profile, then the part of the GPUs in each layout.
    let layouts = full_layouts(geometry);
    let profiles = offered.len();
    let width = profiles + layouts.len();
    let mut rows = Vec::new();
    for (profile, most) in offered.iter().enumerate() {
        let mut row = vec![0.0; width];
        row[profile] = 1.0;
        rows.push((row.clone(), *most));
        for (at, layout) in layouts.iter().enumerate() {
            row[profiles + at] = -f64::from(layout[profile]);
        }
        rows.push((row, 0.0));
    }
    let mut all = vec![0.0; profiles];
    all.resize(width, 1.0);
    rows.push((all, 1.0));
    let mut objective = worth;
    objective.resize(width, 0.0);
    100.0 * simplex::maximum(&objective, rows) / asked
}

/// How many instances of each profile stand in each layout to which nothing can be added.
fn full_layouts(geometry: &Geometry) -> Vec<Vec<u8>> {
    let mut layouts = BTreeSet::new();
    geometry.each_layout(|set, mask| {
        if geometry.free(mask) == 0 {
            let mut counts = vec![0; geometry.profiles().len()];
            for id in placements(set) {
                counts[geometry.spot(id).profile.index()] += 1;
            }
            layouts.insert(counts);
        }
    });
    layouts.into_iter().collect()
}

#[cfg(test)]
mod tests;

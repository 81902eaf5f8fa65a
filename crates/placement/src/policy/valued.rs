//! Rules of others as values of masks.
//!
//! Who decides by what a GPU is worth before and after, as the planner of whole nodes does, cannot use a
//! rule that scores placements: he needs one value for each mask. A rule that looks at what a GPU
//! loses has such values already. Slices that are free may be given a price on top, so that a GPU with more of
//! them is never worth less: between the places of one profile that decides nothing, for all of them
//! take as many slices. Rules that look only at what is left afterwards (MCC, MECC, the longest run) have no
//! such values. MFI as published has, but only with a price on free slices beside which everything else is so small that
//! the planner's other prices would decide.

use super::{MfiWindows, Mix, capability, fgd, mfi, narrow};
use crate::{geometry::Geometry, score::ScoreTable};

/// [`super::fewest_blocked`], and so the same choices.
pub fn fewest_blocked(geometry: &Geometry) -> ScoreTable {
    table("MFI-all", geometry, |mask| {
        -mfi::fragmentation(geometry, MfiWindows::Touched, false, mask)
    })
}

/// [`fn@super::best_fit`], but that on a GPU the start is taken that leaves the most placements possible.
/// That is the rule by which its order of starts was made, for GPUs that are empty.
pub fn best_fit(geometry: &Geometry) -> ScoreTable {
    let mix = Mix::uniform(geometry);
    table("BF", geometry, |mask| {
        let free = i64::from(u32::from(geometry.slices()) - mask.count_ones());
        // What is taken of a GPU costs less, the less of it is free. There are no more placements than 64, so
        // that these decide only among equals.
        128 * free * free + capability::capability(geometry, &mix, mask)
    })
}

/// [`super::fragmentation_gradient`], and so the same choices.
pub fn fragmentation_gradient(geometry: &Geometry, mix: &Mix) -> ScoreTable {
    table("FGD-MIG", geometry, |mask| {
        -fgd::fragmentation(geometry, mix, mask)
    })
}

/// [`super::least_capability_lost`], and so the same choices.
pub fn least_capability_lost(geometry: &Geometry, mix: &Mix) -> ScoreTable {
    table("MECC-lost", geometry, |mask| {
        capability::capability(geometry, mix, mask)
    })
}

/// The mix with every profile in it: a quarter of it is all profiles alike. A profile that was not asked for
/// lately may be tomorrow, and whoever keeps no place for it breaks into empty GPUs for nothing.
#[must_use]
pub fn open_minded(geometry: &Geometry, mix: &Mix) -> Mix {
    let profiles = i64::try_from(geometry.profiles().len()).unwrap_or(i64::MAX);
    let total: i64 = geometry.profile_ids().map(|p| mix.part(p)).sum();
    let parts = geometry.profile_ids().map(|p| {
        let part = 3 * profiles * mix.part(p) + total;
        u32::try_from(part).unwrap_or(u32::MAX)
    });
    Mix::new(parts.collect())
}

/// A table of values, with so high a price on free slices that none is worth less than nothing.
fn table(name: &str, geometry: &Geometry, value: impl Fn(u16) -> i64) -> ScoreTable {
    let plain: Vec<i64> = geometry.masks().map(value).collect();
    let value = |mask: u16| plain[usize::from(mask)];
    let rises = geometry.masks().flat_map(|mask| {
        let free = (0..geometry.slices()).map(|slice| 1u16 << slice);
        let free = free.filter(move |slice| mask & slice == 0);
        free.map(move |slice| (mask, mask | slice))
    });
    let price = rises.map(|(before, after)| value(after) - value(before));
    let price = price.max().unwrap_or(0).max(0);
    let free = |mask: u16| i64::from(u32::from(geometry.slices()) - mask.count_ones());
    let priced = |mask| narrow(value(mask) + price * free(mask));
    let values: Vec<i32> = geometry.masks().map(priced).collect();
    let score = |mask: u16, spot: u16| {
        let of = |mask: u16| values[usize::from(mask)];
        of(mask | spot).saturating_sub(of(mask))
    };
    // There is a value for each mask, so that this is never the second.
    ScoreTable::from_values(name, geometry, &values).unwrap_or_else(|_| {
        ScoreTable::from_fn(name, geometry, |mask, id| {
            score(mask, geometry.spot(id).mask)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, policy};
    use mig::GpuModel;

    fn geometries() -> Vec<Geometry> {
        let products = ["NVIDIA A30", "NVIDIA A100-SXM4-80GB"];
        let model = |name| GpuModel::known(name).unwrap();
        products
            .map(|name| Geometry::new(&model(name)).unwrap())
            .into()
    }

    fn mixes(geometry: &Geometry) -> Vec<Mix> {
        let parts = [3, 0, 50, 7, 1, 9].iter().copied();
        vec![
            Mix::uniform(geometry),
            Mix::new(parts.take(geometry.profiles().len()).collect()),
        ]
    }

    fn assert_same_choices(geometry: &Geometry, rule: &ScoreTable, valued: &ScoreTable) {
        let (rule, valued) = (
            Index::new(geometry, rule).unwrap(),
            Index::new(geometry, valued).unwrap(),
        );
        for profile in geometry.profile_ids() {
            assert_eq!(rule.order(profile), valued.order(profile));
            for mask in geometry.masks() {
                assert_eq!(rule.best(profile, mask), valued.best(profile, mask));
            }
        }
    }

    #[test]
    fn values_decide_as_the_rules_that_they_stand_for() {
        for geometry in geometries() {
            let g = &geometry;
            assert_same_choices(g, &policy::fewest_blocked(g), &fewest_blocked(g));
            for mix in mixes(g) {
                let rule = policy::fragmentation_gradient(g, &mix);
                assert_same_choices(g, &rule, &fragmentation_gradient(g, &mix));
                let rule = policy::least_capability_lost(g, &mix);
                assert_same_choices(g, &rule, &least_capability_lost(g, &mix));
            }
        }
    }

    #[test]
    fn best_fit_by_values_takes_the_fullest_gpu_as_best_fit_does() {
        for geometry in geometries() {
            let of = |table: &ScoreTable| Index::new(&geometry, table).unwrap();
            let (rule, valued) = (of(&policy::best_fit(&geometry)), of(&best_fit(&geometry)));
            for profile in geometry.profile_ids() {
                let fullness = |index: &Index| -> Vec<u32> {
                    index
                        .order(profile)
                        .iter()
                        .map(|mask| mask.count_ones())
                        .collect()
                };
                assert_eq!(fullness(&rule), fullness(&valued));
                assert_eq!(rule.best(profile, 0), valued.best(profile, 0));
            }
        }
    }

    #[test]
    fn a_gpu_with_more_free_slices_is_never_worth_less() {
        for geometry in geometries() {
            let mix = &mixes(&geometry)[1];
            let tables = [
                fewest_blocked(&geometry),
                best_fit(&geometry),
                fragmentation_gradient(&geometry, mix),
                least_capability_lost(&geometry, mix),
            ];
            for table in tables {
                let values = table.values().unwrap();
                for mask in geometry.masks() {
                    for slice in 0..geometry.slices() {
                        let fuller = usize::from(mask | 1 << slice);
                        assert!(
                            values[fuller] <= values[usize::from(mask)],
                            "{}",
                            table.name()
                        );
                    }
                }
            }
        }
    }
}

//! The largest load at which a given share is still accepted: what a policy saves in GPUs.

use crate::exact::Measure;
use crate::loss::{Loss, Tally};

/// Loads between which it is searched.
const LOADS: (f64, f64) = (0.3, 1.5);
/// How closely.
const CLOSE: f64 = 0.001;

/// The largest load, relative to all memory slices, at which `percent` of the pods (or of their
/// slices) are accepted in the mean over the seeds. `run` simulates one seed of a scenario that is
/// `loss` but for its load. Between 0.3 and 1.5; 0.3 also stands for less.
///
/// # Errors
/// Those of `run`.
pub fn sustained<E>(
    loss: &Loss,
    measure: Measure,
    percent: f64,
    seeds: &[u64],
    mut run: impl FnMut(&Loss, u64) -> Result<Tally, E>,
) -> Result<f64, E> {
    let (mut low, mut high) = LOADS;
    while high - low > CLOSE {
        let mut trial = *loss;
        trial.load = f64::midpoint(low, high);
        let (mut sum, mut count) = (0.0, 0.0);
        for seed in seeds {
            let tally = run(&trial, *seed)?;
            sum += match measure {
                Measure::Pods => tally.pods(),
                Measure::Slices => tally.slices(),
            };
            count += 1.0;
        }
        if sum >= percent * count {
            low = trial.load;
        } else {
            high = trial.load;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::Demand;
    use crate::testing::a100;

    #[test]
    fn whole_gpus_sustain_the_load_of_erlangs_formula() {
        // Ten servers lose 1 % at 4.461 erlangs.
        let geometry = a100();
        let demand = Demand::new(&geometry, &[1]).unwrap();
        let mut loss = Loss::new(10, 1.0);
        loss.measured = 20_000.0;
        let load = sustained(&loss, Measure::Pods, 99.0, &[1], |loss, seed| {
            loss.run_repacked(&geometry, &demand, seed)
        });
        let load = load.unwrap();
        assert!((load - 0.4461).abs() < 0.01, "{load}");
    }
}

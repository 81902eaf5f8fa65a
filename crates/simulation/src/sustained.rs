//! The largest load at which a given share is still accepted: what a policy saves in GPUs.

/// How closely it is searched.
const CLOSE: f64 = 0.001;

/// The largest load, between two, at which `accepted` still returns `percent`: it is asked for the accepted part in
/// percent at a load, and is expected not to rise with it. The answer is within a thousandth, and next to an end of
/// the range if the load is beyond it.
///
/// # Errors
/// Those of `accepted`.
pub fn sustained<E>(
    (mut low, mut high): (f64, f64),
    percent: f64,
    mut accepted: impl FnMut(f64) -> Result<f64, E>,
) -> Result<f64, E> {
    while high - low > CLOSE {
        let middle = f64::midpoint(low, high);
        if accepted(middle)? >= percent {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(f64::midpoint(low, high))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::demand::Demand;
    use crate::loss::Loss;
    use crate::testing::a100;

    #[test]
    fn whole_gpus_sustain_the_load_of_erlangs_formula() {
        // Ten servers lose 1 % at 4.461 erlangs.
        let geometry = a100();
        let demand = Demand::new(&geometry, &[1]).unwrap();
        let load = sustained((0.3, 1.5), 99.0, |load| {
            let mut loss = Loss::new(10, load);
            loss.measured = 20_000.0;
            let tally = loss.run_repacked(&geometry, &demand, 1)?;
            Ok::<_, placement::PoolError>(tally.pods())
        });
        let load = load.unwrap();
        assert!((load - 0.4461).abs() < 0.01, "{load}");
    }

    #[test]
    fn the_load_is_found_where_the_accepted_part_crosses() {
        let crosses = |load| Ok::<_, Infallible>(if load <= 0.873 { 99.5 } else { 98.0 });
        let found = sustained((0.2, 1.2), 99.0, crosses).unwrap();
        assert!((found - 0.873).abs() < 0.001, "{found}");
        let never = sustained((0.2, 1.2), 99.0, |_| Ok::<_, Infallible>(90.0)).unwrap();
        assert!((never - 0.2).abs() < 0.001, "{never}");
    }
}

use super::*;
use crate::testing::a100;

#[test]
fn a_textbook_programme_has_its_known_value() {
    // Dantzig's: max 3x + 5y with x <= 4, 2y <= 12, 3x + 2y <= 18.
    let rows = vec![
        (vec![1.0, 0.0], 4.0),
        (vec![0.0, 2.0], 12.0),
        (vec![3.0, 2.0], 18.0),
    ];
    assert!((simplex::maximum(&[3.0, 5.0], rows) - 36.0).abs() < 1e-9);
}

#[test]
fn overload_is_bounded_as_found_before() {
    let geometry = a100();
    let known = [94.3, 96.1, 92.4, 93.6];
    for ((name, demand), known) in Demand::mixes(&geometry).iter().zip(known) {
        let pods = fluid(&geometry, demand, 1.15, Measure::Pods);
        assert!((pods - known).abs() < 0.06, "{name}: {pods}");
        let slices = fluid(&geometry, demand, 1.15, Measure::Slices);
        assert!((slices - 87.0).abs() < 0.06, "{name}: {slices}");
    }
}

#[test]
fn below_capacity_everything_fits_in_the_mean() {
    let geometry = a100();
    for (name, demand) in Demand::mixes(&geometry) {
        let slices = fluid(&geometry, &demand, 0.85, Measure::Slices);
        assert!((slices - 100.0).abs() < 1e-6, "{name}: {slices}");
    }
}

/// The same bound from constraints on the halves of an A100: the right half has a pair of slices of
/// which 1g reaches only one, and only 3g and 7g reach across pairs there.
fn by_halves(offered: &[f64; 6], worth: &[f64; 6]) -> f64 {
    // 7g, 4g, 3g right, 3g left, 2g, double 1g left, double 1g right, 1g.
    let [o7, o4, o3, o2, od, o1] = *offered;
    let [w7, w4, w3, w2, wd, w1] = *worth;
    let rows = vec![
        (vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], o7),
        (vec![0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], o4),
        (vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], o3),
        (vec![0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], o2),
        (vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0], od),
        (vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], o1),
        (vec![1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], 1.0),
        (vec![1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 1.0),
        (vec![3.0, 2.0, 1.0, 2.0, 1.0, 1.0, 0.0, 0.0], 3.0),
        (vec![7.0, 4.0, 3.0, 4.0, 2.0, 2.0, 1.0, 1.0], 7.0),
    ];
    simplex::maximum(&[w7, w4, w3, w3, w2, wd, wd, w1], rows)
}

#[test]
fn the_bound_over_layouts_is_that_of_the_closed_form() {
    let geometry = a100();
    for (name, demand) in Demand::mixes(&geometry) {
        for load in [0.9, 1.0, 1.3, 2.0] {
            let rate = demand.rate(load, 1);
            let offered: Vec<f64> = demand.shares().iter().map(|share| share * rate).collect();
            let offered: [f64; 6] = offered.try_into().unwrap();
            let closed = 100.0 * by_halves(&offered, &[1.0; 6]) / rate;
            let layouts = fluid(&geometry, &demand, load, Measure::Pods);
            assert!((closed - layouts).abs() < 1e-6, "{name} at {load}");
        }
    }
}

use super::*;
use crate::bound::fluid;
use crate::contest::Contestant;
use crate::testing::a100;

fn a30() -> Geometry {
    let model = mig::GpuModel::known("NVIDIA A30").unwrap();
    Geometry::new(&model).unwrap()
}

#[test]
fn the_rules_of_an_a100_are_those_that_a_person_would_write() {
    let rules = rules(&a100());
    let rule = |takes: [f64; 6], has| Rule {
        takes: takes.to_vec(),
        has,
    };
    assert!(rules.contains(&rule([8.0, 4.0, 4.0, 2.0, 2.0, 1.0], 8.0)));
    // Compute slices, of which a 1g with double memory takes one at the right end.
    assert!(rules.contains(&rule([7.0, 4.0, 3.0, 2.0, 1.0, 1.0], 7.0)));
    assert!(rules.contains(&rule([1.0, 1.0, 0.0, 0.0, 0.0, 0.0], 1.0)));
    assert!(rules.contains(&rule([3.0, 2.0, 1.0, 1.0, 0.0, 0.0], 3.0)));
}

#[test]
fn no_layout_breaks_a_rule() {
    let a100 = a100();
    for geometry in [a100.as_ref(), &a30()] {
        for rule in rules(geometry) {
            geometry.each_layout(|set, _| {
                let of = placements(set).map(|id| rule.takes[geometry.spot(id).profile.index()]);
                assert!(of.sum::<f64>() <= rule.has);
            });
        }
    }
}

/// The most worth of pods that can be accepted together on one A30, by trying all sets.
fn by_trying(geometry: &Geometry, pods: &[Offered], worth: &[f64]) -> f64 {
    let mut best = 0.0_f64;
    for set in 0u32..1 << pods.len() {
        let taken = |at: usize| set >> at & 1 == 1;
        let fits = (0..pods.len()).all(|now| {
            let runs = (0..=now).filter(|at| taken(*at) && pods[*at].until > now);
            let slices: u8 = runs
                .map(|at| geometry.profiles()[pods[at].profile].size)
                .sum();
            // Sizes 1, 2 and 4 at their own multiples fit if their sum does.
            slices <= geometry.slices()
        });
        if fits {
            let sum = (0..pods.len())
                .filter(|at| taken(*at))
                .map(|at| worth[pods[at].profile]);
            best = best.max(sum.sum());
        }
    }
    best
}

#[test]
fn it_is_never_below_the_best_of_all_choices() {
    let geometry = a30();
    for (_, demand) in Demand::mixes(&geometry) {
        for seed in 0..12 {
            let mut loss = Loss::new(1, 1.5);
            loss.measured = 4.0;
            let mut pods = pods(&demand, &loss, seed);
            pods.truncate(14);
            let count = pods.len();
            for pod in &mut pods {
                pod.until = pod.until.min(count);
            }
            for worth in [vec![1.0; 3], demand.slices().to_vec()] {
                let optimum = by_trying(&geometry, &pods, &worth);
                let least = lowest(&pods, &rules(&geometry), &worth, 1.0, optimum);
                assert!(least >= optimum - 1e-6, "{least} {optimum}");
                // Parts of pods are worth something on so few, but not much.
                assert!(least <= 1.4 * optimum + 0.5, "{least} {optimum}");
            }
        }
    }
}

#[test]
fn no_policy_passes_it_and_neither_do_moves() {
    let geometry = a100();
    for (name, demand) in Demand::mixes(&geometry) {
        for load in [0.85, 1.15] {
            let loss = Loss {
                measured: 20.0,
                ..Loss::new(20, load)
            };
            let mut policy = Contestant::Ours.policy(&geometry, &demand, 1).unwrap();
            let ours = loss.run(&geometry, &demand, policy.as_mut(), 1).unwrap();
            let moved = loss.run_repacked(&geometry, &demand, 1).unwrap();
            for (measure, accepted) in [
                (Measure::Pods, ours.pods().max(moved.pods())),
                (Measure::Slices, ours.slices().max(moved.slices())),
            ] {
                let most = bound(&geometry, &demand, &loss, 1, measure, accepted);
                assert!(
                    most >= accepted && most <= 100.0,
                    "{name} {load} {most} {accepted}"
                );
            }
        }
    }
}

#[test]
fn in_long_overload_it_is_a_little_above_what_ignores_lifetimes() {
    // Who knows lifetimes takes the short ones, and so passes the bound of those who do not.
    let geometry = a100();
    let (_, demand) = &Demand::mixes(&geometry)[0];
    let loss = Loss {
        law: crate::law::Law::Deterministic,
        measured: 100.0,
        ..Loss::new(100, 1.3)
    };
    let blind = fluid(&geometry, demand, 1.3, Measure::Slices);
    let most = bound(&geometry, demand, &loss, 1, Measure::Slices, blind);
    // With lifetimes that are all alike there is nothing to know.
    assert!((most - blind).abs() < 2.0, "{most} {blind}");
}

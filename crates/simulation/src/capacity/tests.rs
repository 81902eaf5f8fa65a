use proptest::prelude::*;

use super::*;
use crate::contest::Contestant;
use crate::demand::Demand;
use crate::loss::Loss;
use crate::testing::a100;

fn part(product: &str, gpus: u32) -> Part {
    let model = mig::GpuModel::known(product).unwrap();
    Part {
        geometry: Arc::new(Geometry::new(&model).unwrap()),
        gpus,
        per_node: 4,
    }
}

fn all_wants(part: &Part) -> Vec<Want> {
    let profiles = part.geometry.profile_ids();
    profiles
        .map(|profile| Want {
            name: part.geometry.profile(profile).name.to_string(),
            profiles: vec![Some(profile)],
        })
        .collect()
}

fn scenario<'a>(parts: &'a [Part], wants: &'a [Want], shares: &'a [u32]) -> Scenario<'a> {
    Scenario {
        parts,
        wants,
        shares,
        waits: false,
        from: 10.0,
        until: 70.0,
        samples: 50,
    }
}

fn at(time: f64, lifetime: f64, want: usize) -> Arrival {
    Arrival {
        time,
        lifetime,
        want,
    }
}

fn run(scenario: &Scenario<'_>, arrivals: &[Arrival]) -> Outcome {
    let arrivals = arrivals.iter().copied();
    let outcome = scenario.run(Contestant::Ours, 1, arrivals, &mut |_| true);
    outcome.unwrap().unwrap()
}

#[test]
fn on_one_model_it_counts_what_the_loss_model_counts() {
    let (parts, shares) = ([part("NVIDIA A100-SXM4-80GB", 50)], [1; 6]);
    let wants = all_wants(&parts[0]);
    let geometry = a100();
    let demand = Demand::new(&geometry, &shares).unwrap();
    for contestant in [Contestant::FirstFit, Contestant::Ours, Contestant::Dra] {
        let mut policy = contestant.policy(&geometry, &demand, 3).unwrap();
        let loss = Loss::new(50, 1.0);
        let known = loss.run(&geometry, &demand, policy.as_mut(), 3).unwrap();
        let stream = Stream::new(&shares, demand.rate(1.0, 50), Law::Exponential, 3);
        let scenario = scenario(&parts, &wants, &shares);
        let found = scenario.run(contestant, 3, stream, &mut |_| true);
        let found = found.unwrap().unwrap();
        assert!((found.pods() - known.pods()).abs() < 1e-9);
        assert!((found.capacity() - known.slices()).abs() < 1e-9);
        assert!((found.active - known.active).abs() < 1e-6);
        assert!((found.created_per_start() - known.created_per_start()).abs() < 1e-9);
    }
}

#[test]
fn a_pod_goes_to_the_model_where_it_takes_least_and_else_to_another() {
    let parts = [part("NVIDIA A30", 1), part("NVIDIA A100-SXM4-80GB", 1)];
    let small = |part: &Part| part.geometry.profile_ids().last();
    let wants = [Want {
        name: "1g".to_owned(),
        profiles: vec![small(&parts[0]), small(&parts[1])],
    }];
    let mut scenario = scenario(&parts, &wants, &[1]);
    scenario.from = 0.0;
    let pods = [at(0.0, f64::INFINITY, 0); 12];
    let outcome = run(&scenario, &pods);
    // Seven on the A100, four on the A30, and one that is lost.
    assert_eq!((outcome.asked[0], outcome.accepted[0]), (12, 11));
    let on = |part: usize| outcome.standing[part][0].len();
    assert_eq!((on(0), on(1)), (4, 7));
    assert!((outcome.share[0] - 0.125).abs() < 1e-12);
}

#[test]
fn pods_wait_for_what_ends_and_others_go_ahead() {
    let parts = [part("NVIDIA A30", 1)];
    let wants = all_wants(&parts[0]);
    let mut scenario = scenario(&parts, &wants, &[1, 1, 1]);
    (scenario.waits, scenario.from) = (true, 0.0);
    let (whole, half) = (0, 1);
    let pods = [at(0.0, 2.0, half), at(1.0, 1.0, whole), at(1.5, 0.25, half)];
    let outcome = run(&scenario, &pods);
    assert_eq!(outcome.accepted, outcome.asked);
    assert_eq!(outcome.waited(Some(whole)), [1.0]);
    assert_eq!(outcome.waited(Some(half)), [0.0, 0.0]);
    // Half of it for 2, half for a quarter, all of it for 1: 2.125 of 70.
    assert!((outcome.used - 100.0 * 2.125 / 70.0).abs() < 1e-9);
}

#[test]
fn what_nothing_can_serve_is_an_error() {
    let parts = [part("NVIDIA A30", 1)];
    let wants = [Want {
        name: "3g".to_owned(),
        profiles: vec![None],
    }];
    let outcome = scenario(&parts, &wants, &[1]).run(Contestant::Ours, 1, [], &mut |_| true);
    assert!(outcome.unwrap_err().to_string().contains("3g"));
}

#[test]
fn it_ends_when_it_is_told_to() {
    let (parts, shares) = ([part("NVIDIA A30", 4)], [1; 3]);
    let wants = all_wants(&parts[0]);
    let stream = Stream::new(&shares, 1e6, Law::Exponential, 1);
    let outcome =
        scenario(&parts, &wants, &shares).run(Contestant::Ours, 1, stream, &mut |_| false);
    assert_eq!(outcome.unwrap(), None);
}

proptest! {
    #[test]
    fn whatever_comes_the_books_balance(
        waits: bool,
        pods in proptest::collection::vec((0.0..60.0, 0.0..20.0, 0_usize..6), 0..200),
    ) {
        let mut pods: Vec<_> = pods.into_iter().map(|(t, l, w)| at(t, l, w)).collect();
        pods.sort_by(|one, other| one.time.total_cmp(&other.time));
        let parts = [part("NVIDIA A100-SXM4-80GB", 2), part("NVIDIA H100 80GB HBM3", 1)];
        let mut wants = all_wants(&parts[0]);
        for want in &mut wants {
            want.profiles.push(want.profiles[0]);
        }
        let shares = [1; 6];
        let mut scenario = scenario(&parts, &wants, &shares);
        scenario.waits = waits;
        let outcome = run(&scenario, &pods);
        prop_assert!(outcome.accepted.iter().zip(&outcome.asked).all(|(some, all)| some <= all));
        let after = pods.iter().filter(|pod| pod.time >= scenario.from).count();
        prop_assert_eq!(outcome.asked.iter().sum::<u64>(), after as u64);
        prop_assert_eq!(outcome.samples.len(), 50);
        prop_assert!(outcome.samples.iter().all(|s| (-1e-6..=100.0 + 1e-6).contains(&s.used)));
        prop_assert!((0.0..=3.0 + 1e-9).contains(&outcome.active));
        prop_assert!(outcome.created <= outcome.started);
        prop_assert!(outcome.waited(None).iter().all(|wait| *wait >= 0.0));
    }
}

//! Idle instances that are taken off offer until a plan chooses them.

use cdmo_proto::agent::instance::State;

use super::super::*;
use super::bench::*;

fn states(bench: &Bench) -> Vec<State> {
    let instances = bench.hosts["a"].gpus.iter().flat_map(|gpu| &gpu.instances);
    instances.map(cdmo_proto::agent::Instance::state).collect()
}

#[test]
fn what_a_pod_leaves_behind_is_offered_to_nobody_until_a_pod_is_planned_for() {
    let mut bench = Bench::parking(&[("a", 2)]);
    bench.create("first", &[(THREE, 1)]);
    bench.run();
    bench.bind("first", "a");
    bench.finish("first");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.shown("a", THREE), 0);
    assert_eq!(states(&bench), [State::Parked]);
    bench.create("second", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.shown("a", THREE), 1);
    assert_eq!(states(&bench), [State::Idle], "the same one");
    bench.note("second", "SliceReady");
}

#[test]
fn what_was_made_for_a_pod_stays_offered_until_it_is_bound() {
    let mut bench = Bench::parking(&[("a", 2)]);
    bench.create("first", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.shown("a", THREE), 1);
}

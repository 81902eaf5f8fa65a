//! Fractions: made, or moved to from another name and back.

use cdmo_proto::agent::instance::State;

use super::super::*;
use super::bench::*;

/// A node whose only GPU has one idle 3g instance, under the name of its profile.
fn idle_three() -> Bench {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("first", &[(THREE, 1)]);
    bench.run();
    bench.bind("first", "a");
    bench.run();
    bench.finish("first");
    bench.run();
    bench.take_log();
    bench
}

#[test]
fn a_fraction_is_made_under_its_own_name() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("half", &[(HALF, 1)]);
    bench.run();
    assert_eq!(
        bench.take_log(),
        [
            "SlicePlanned half",
            "plan a GPU-a0: +3g.20gb@4",
            "status a fraction-0.500=1",
            "annotate half",
            "SliceReady half",
        ]
    );
    let (_, plan) = &bench.annotations[0];
    assert_eq!(plan["devices"][0]["profile"], "3g.20gb");
    assert_eq!(plan["devices"][0]["resource"], HALF);
    bench.bind("half", "a");
    bench.run();
}

#[test]
fn an_idle_device_moves_to_the_fraction_with_the_same_care_as_one_that_is_given_up() {
    let mut bench = idle_three();
    bench.create("half", &[(HALF, 1)]);
    bench.run();
    assert_eq!(
        bench.take_log(),
        ["SlicePlanned half", "status a 3g.20gb=0"]
    );
    bench.pass(Duration::from_millis(100));
    assert_eq!(
        bench.take_log(),
        [
            "list a",
            "plan a GPU-a0: 3g.20gb@4>fraction-0.500",
            "status a 3g.20gb=0",
            "list a",
            "pods a 4 []",
            "commit a",
            "status a fraction-0.500=1",
            "annotate half",
            "SliceReady half",
        ]
    );
    assert_eq!(
        bench.note("half", "SlicePlanned").text,
        "Making idle 3g.20gb at slice 4 available as cdmo.clear.ml/fraction-0.500 on GPU 0 (GPU-a0) of \
         node a"
    );
    assert_eq!((bench.shown("a", THREE), bench.shown("a", HALF)), (0, 1));
    bench.bind("half", "a");
    bench.run();
    bench.finish("half");
    bench.run();
    // And back again.
    bench.create("three", &[(THREE, 1)]);
    bench.pass(Duration::from_millis(200));
    assert_eq!((bench.shown("a", THREE), bench.shown("a", HALF)), (1, 0));
    let moved = "plan a GPU-a0: 3g.20gb@4>nvidia.com/mig-3g.20gb";
    assert!(
        bench.log.iter().any(|line| line == moved),
        "{:#?}",
        bench.log
    );
}

#[test]
fn a_device_that_a_bound_pod_counts_on_does_not_move() {
    let mut bench = idle_three();
    bench.unseen.push(serde_json::json!({
        "metadata": {"namespace": "ns", "name": "late", "uid": "late"},
        "spec": {"nodeName": "a", "containers": [
            {"name": "c", "resources": {"limits": {THREE: "1"}}},
        ]},
        "status": {"phase": "Pending"},
    }));
    bench.create("half", &[(HALF, 1)]);
    bench.pass(Duration::from_millis(200));
    let log = bench.take_log();
    assert!(log.contains(&"list a".to_owned()), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains('>')), "{log:#?}");
    assert!(bench.device("a", THREE, State::Idle).is_some());
}

#[test]
fn a_device_that_a_waiting_pod_may_be_getting_does_not_move() {
    let mut bench = idle_three();
    bench.create("three", &[(THREE, 1)]);
    bench.create("half", &[(HALF, 1)]);
    bench.run();
    // There is room for another one.
    assert_eq!(bench.shown("a", THREE), 1);
    assert_eq!(bench.shown("a", HALF), 1);
    bench.bind("three", "a");
    bench.bind("half", "a");
}

#[test]
fn a_move_that_is_called_off_leaves_the_device_where_it_was() {
    let mut bench = idle_three();
    bench.unseen_after_lists = 1;
    bench.unseen.push(serde_json::json!({
        "metadata": {"namespace": "ns", "name": "late", "uid": "late"},
        "spec": {"nodeName": "a", "containers": [
            {"name": "c", "resources": {"limits": {THREE: "1"}}},
        ]},
        "status": {"phase": "Pending"},
    }));
    bench.create("half", &[(HALF, 1)]);
    bench.pass(Duration::from_millis(200));
    let log = bench.take_log();
    assert!(log.contains(&"abort a".to_owned()), "{log:#?}");
    assert!(!log.contains(&"commit a".to_owned()), "{log:#?}");
    assert_eq!((bench.shown("a", THREE), bench.shown("a", HALF)), (1, 0));
}

#[test]
fn a_fraction_that_no_class_serves_is_refused_at_once() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("third", &[("cdmo.clear.ml/fraction-0.3", 1)]);
    bench.run();
    let words = &bench.note("third", "InvalidProfile").text;
    assert!(words.contains("0.125, 0.250, 0.500, 1.000"), "{words}");
}

#[test]
fn several_fractions_in_one_pod_are_served_together() {
    let mut bench = idle_three();
    let eighth = "cdmo.clear.ml/fraction-0.125";
    bench.create("pod", &[(HALF, 1), (eighth, 2)]);
    bench.pass(Duration::from_millis(200));
    assert_eq!((bench.shown("a", HALF), bench.shown("a", eighth)), (1, 2));
    bench.bind("pod", "a");
}

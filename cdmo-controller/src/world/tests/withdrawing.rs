//! Giving idle devices up for something else.

use cdmo_proto::agent::instance::State;

use super::super::*;
use super::bench::*;

/// A node whose only GPU has two idle 3g instances.
fn full_of_idle() -> Bench {
    let mut bench = Bench::new(&[("a", 1)]);
    for pod in ["x", "y"] {
        bench.create(pod, &[(THREE, 1)]);
        bench.run();
        bench.bind(pod, "a");
        bench.run();
    }
    bench.finish("x");
    bench.finish("y");
    bench.run();
    bench.take_log();
    bench
}

#[test]
fn idle_devices_are_given_up_in_the_order_that_keeps_pods_safe() {
    let mut bench = full_of_idle();
    bench.create("big", &[(SEVEN, 1)]);
    bench.run();
    assert_eq!(bench.take_log(), ["SlicePlanned big", "status a 3g.20gb=0"]);
    bench.pass(Duration::from_millis(100));
    assert_eq!(
        bench.take_log(),
        [
            "list a",
            "plan a GPU-a0: -3g.20gb@4 -3g.20gb@0 +7g.40gb@0",
            "status a 3g.20gb=0",
            "list a",
            "pods a 5 []",
            "commit a",
            "status a 7g.40gb=1",
            "annotate big",
            "SliceReady big",
        ]
    );
    let words = &bench.note("big", "SliceReady").text;
    assert!(words.contains("2 idle devices withdrawn"), "{words}");
}

#[test]
fn a_device_that_a_waiting_pod_counts_on_is_not_given_up() {
    let mut bench = full_of_idle();
    // The scheduler may be giving one of them to `small` at this moment.
    bench.create("small", &[(THREE, 1)]);
    bench.create("big", &[(SEVEN, 1)]);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shown("a", THREE), 2);
    bench.note("big", "NoRoom");
}

#[test]
fn a_pod_bound_while_the_status_went_down_keeps_its_device() {
    let mut bench = full_of_idle();
    bench.create("big", &[(SEVEN, 1)]);
    bench.run();
    bench.take_log();
    bench.create("late", &[(THREE, 1)]);
    bench.bind_only("late", "a");
    bench.pass(Duration::from_millis(100));
    let log = bench.take_log();
    assert!(!log.iter().any(|line| line.starts_with("plan")), "{log:#?}");
    assert_eq!(bench.shown("a", THREE), 2, "offered again");
}

/// A pod that is bound to `a`, which the watch has not shown yet.
fn unseen_pod() -> serde_json::Value {
    serde_json::json!({
        "metadata": {"namespace": "ns", "name": "late", "uid": "late"},
        "spec": {"nodeName": "a", "containers": [
            {"name": "c", "resources": {"limits": {THREE: "1"}}},
        ]},
        "status": {"phase": "Pending"},
    })
}

#[test]
fn a_pod_that_only_the_api_knows_of_keeps_its_device_listed() {
    let mut bench = full_of_idle();
    bench.unseen.push(unseen_pod());
    bench.create("big", &[(SEVEN, 1)]);
    bench.pass(Duration::from_millis(200));
    let log = bench.take_log();
    assert!(log.contains(&"list a".to_owned()), "{log:#?}");
    assert!(!log.iter().any(|line| line.starts_with("plan")), "{log:#?}");
}

#[test]
fn a_pod_that_arrives_after_the_first_look_aborts_the_withdrawal() {
    let mut bench = full_of_idle();
    bench.unseen_after_lists = 1;
    bench.unseen.push(unseen_pod());
    bench.create("big", &[(SEVEN, 1)]);
    bench.pass(Duration::from_millis(200));
    let log = bench.take_log();
    assert!(log.contains(&"abort a".to_owned()), "{log:#?}");
    assert!(!log.contains(&"commit a".to_owned()), "{log:#?}");
}

#[test]
fn a_status_that_the_kubelet_raised_again_is_asserted_before_the_commit() {
    let mut bench = full_of_idle();
    bench.conflicts = 1;
    bench.create("big", &[(SEVEN, 1)]);
    bench.run();
    assert_eq!(bench.take_log(), ["SlicePlanned big", "status a conflict"]);
    bench.pass(Duration::from_secs(2));
    let log = bench.take_log();
    assert_eq!(log[0], "status a 3g.20gb=0");
    assert!(log.contains(&"commit a".to_owned()), "{log:#?}");
}

#[test]
fn without_an_answer_to_the_status_patch_nothing_is_sent_to_the_agent() {
    let mut bench = full_of_idle();
    bench.deaf_api = true;
    bench.create("big", &[(SEVEN, 1)]);
    bench.pass(Duration::from_secs(20));
    let log = bench.take_log();
    assert!(!log.iter().any(|line| line.starts_with("plan")), "{log:#?}");
}

#[test]
fn a_device_in_use_is_never_part_of_a_plan() {
    let mut bench = full_of_idle();
    bench.create("user", &[(THREE, 1)]);
    bench.run();
    bench.bind("user", "a");
    bench.create("big", &[(SEVEN, 1)]);
    bench.pass(Duration::from_mins(5));
    assert!(bench.device("a", THREE, State::Held).is_some());
    assert!(
        !bench.log.iter().any(|line| line.starts_with("plan")),
        "{:#?}",
        bench.log
    );
    bench.note("big", "NoRoom");
}

#[test]
fn a_pod_that_waits_for_its_volume_does_not_lose_the_device_it_was_assigned() {
    let mut bench = full_of_idle();
    bench.put(
        "slow",
        serde_json::json!({
            "metadata": {"namespace": "ns", "name": "slow", "uid": "slow"},
            "spec": {
                "containers": [{"name": "c", "resources": {"limits": {THREE: "1"}}}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}],
            },
            "status": {"phase": "Pending"},
        }),
    );
    bench.pass(Duration::from_secs(40));
    bench.create("big", &[(SEVEN, 1)]);
    bench.pass(Duration::from_mins(10));
    // The other one is given up, for the big pod has waited long enough.
    assert_eq!(
        bench.shown("a", THREE),
        1,
        "the scheduler may still bind it"
    );
    bench.pass(Duration::from_mins(30));
    assert_eq!(bench.shown("a", SEVEN), 1, "nor is it waited for for ever");
}

#[test]
fn a_plan_called_off_again_and_again_is_not_put_off_for_long() {
    let mut bench = full_of_idle();
    bench.unseen.push(serde_json::json!({
        "metadata": {"namespace": "ns", "name": "late", "uid": "late"},
        "spec": {"nodeName": "a", "containers": [
            {"name": "c", "resources": {"limits": {THREE: "1"}}},
        ]},
        "status": {"phase": "Pending"},
    }));
    bench.create("big", &[(SEVEN, 1)]);
    bench.pass(Duration::from_mins(5));
    bench.unseen.clear();
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.shown("a", SEVEN), 1);
}

#[test]
fn a_plan_is_called_off_at_once_when_a_pod_gets_what_it_would_give_up() {
    let mut bench = full_of_idle();
    bench.create("big", &[(SEVEN, 1)]);
    bench.run();
    bench.take_log();
    bench.create("late", &[(THREE, 1)]);
    bench.bind("late", "a");
    bench.run();
    assert_eq!(bench.shown("a", THREE), 2, "both count again");
    let log = bench.take_log();
    assert!(!log.iter().any(|line| line.starts_with("plan")), "{log:#?}");
}

/// The kubelet writes the status of node `a` at this second.
fn heartbeat(bench: &mut Bench, second: i64) {
    let time = jiff::Timestamp::from_second(second).unwrap().to_string();
    let conditions = serde_json::json!([{"type": "Ready", "lastHeartbeatTime": time}]);
    bench.nodes.get_mut("a").unwrap()["status"]["conditions"] = conditions;
    bench.node_event("a");
}

#[test]
fn nothing_is_withdrawn_while_the_kubelet_is_about_to_raise_the_status_again() {
    let mut bench = full_of_idle();
    heartbeat(&mut bench, NOW);
    bench.pass(Duration::from_millis(9_700));
    bench.create("big", &[(SEVEN, 1)]);
    bench.take_log();
    bench.pass(Duration::from_millis(300));
    let log = bench.take_log();
    assert_eq!(log, ["SlicePlanned big", "status a 3g.20gb=0"]);
    // There it is; once it is mended, it will not happen again for ten seconds.
    bench.nodes.get_mut("a").unwrap()["status"]["allocatable"][THREE] = "2".into();
    heartbeat(&mut bench, NOW + 10);
    bench.pass(Duration::from_millis(200));
    let log = bench.take_log();
    assert_eq!(log[..2], ["status a 3g.20gb=0", "list a"], "{log:#?}");
    assert!(log.contains(&"SliceReady big".to_owned()), "{log:#?}");
}

#[test]
fn a_write_that_was_due_and_did_not_come_holds_nothing_up_any_longer() {
    let mut bench = full_of_idle();
    heartbeat(&mut bench, NOW);
    bench.pass(Duration::from_millis(9_700));
    bench.create("big", &[(SEVEN, 1)]);
    bench.pass(Duration::from_millis(1_300));
    bench.note("big", "SliceReady");
}

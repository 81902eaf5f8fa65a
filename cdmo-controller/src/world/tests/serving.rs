//! The main job.

use cdmo_proto::agent::{self, instance::State};
use serde_json::json;

use super::super::*;
use super::bench::*;

#[test]
fn a_pod_that_asks_for_a_slice_gets_one() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    let log = bench.take_log();
    assert_eq!(
        log,
        [
            "SlicePlanned pod",
            "plan a GPU-a0: +3g.20gb@4",
            "status a 3g.20gb=1",
            "annotate pod",
            "SliceReady pod",
        ]
    );
    let (_, plan) = &bench.annotations[0];
    assert_eq!(plan["node"], "a");
    assert_eq!(plan["devices"][0]["gpu"], "GPU-a0");
    assert_eq!(plan["devices"][0]["profile"], "3g.20gb");
    assert_eq!(plan["devices"][0]["device"], "MIG-GPU-a0-4");
    bench.bind("pod", "a");
    bench.run();
    assert_eq!(bench.take_log(), ["pods a 2 [pod]"]);
}

#[test]
fn a_pod_that_is_not_bound_although_its_devices_lie_ready_is_annotated_three_times_more() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    bench.pass(Duration::from_secs(8));
    let written: Vec<_> = bench
        .annotations
        .iter()
        .map(|(_, plan)| (plan["node"].clone(), plan["reminder"].clone()))
        .collect();
    assert_eq!(
        written,
        [json!(null), json!(1), json!(2), json!(3)].map(|number| (json!("a"), number))
    );
}

#[test]
fn a_pod_whose_devices_somebody_else_got_is_not_reminded_of_them() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("pod", &[(SEVEN, 1)]);
    bench.run();
    bench.create("other", &[(SEVEN, 1)]);
    bench.bind("other", "a");
    bench.pass(Duration::from_secs(8));
    let of_pod = bench.annotations.iter().filter(|(name, _)| name == "pod");
    assert_eq!(of_pod.count(), 1, "{:?}", bench.annotations);
}

#[test]
fn a_pod_that_was_bound_is_not_annotated_again() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    bench.bind("pod", "a");
    bench.pass(Duration::from_mins(1));
    assert_eq!(bench.annotations.len(), 1);
}

#[test]
fn a_pod_that_is_bound_before_its_plan_has_ended_is_annotated_once() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.bound_at_once = Some(("pod".into(), "a".into()));
    bench.create("pod", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(8));
    assert_eq!(bench.annotations.len(), 1, "{:#?}", bench.log);
    assert_eq!(bench.annotations[0].1["devices"][0]["gpu"], "GPU-a0");
}

#[test]
fn an_idle_device_is_left_to_the_scheduler() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("first", &[(THREE, 1)]);
    bench.run();
    bench.bind("first", "a");
    bench.run();
    bench.finish("first");
    bench.run();
    bench.take_log();
    bench.create("second", &[(THREE, 1)]);
    bench.run();
    assert_eq!(bench.take_log(), Vec::<String>::new());
}

#[test]
fn a_pod_of_several_profiles_is_shown_to_the_scheduler_at_once_and_whole() {
    let mut bench = Bench::new(&[("a", 2)]);
    bench.create("pod", &[(THREE, 3), (ONE, 2)]);
    bench.run();
    let patches: Vec<_> = bench
        .log
        .iter()
        .filter(|line| line.starts_with("status"))
        .cloned()
        .collect();
    assert_eq!(patches, ["status a 1g.5gb=2 3g.20gb=3"]);
}

/// The only device is in use by one pod, and another one waits for it.
fn second_waits_for_first() -> Bench {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("first", &[(SEVEN, 1)]);
    bench.run();
    bench.bind("first", "a");
    bench.create("second", &[(SEVEN, 1)]);
    bench.pass(Duration::from_secs(2));
    bench
}

#[test]
fn a_pod_that_waited_for_a_device_in_use_is_poked_when_it_is_free() {
    let mut bench = second_waits_for_first();
    bench.note("second", "NoRoom");
    bench.take_log();
    bench.finish("first");
    bench.run();
    assert_eq!(bench.take_log(), ["pods a 3 []", "annotate second"]);
}

#[test]
fn a_pod_that_waited_for_a_freed_device_is_reminded_of_it_as_of_one_that_was_made() {
    let mut bench = second_waits_for_first();
    bench.finish("first");
    bench.annotations.clear();
    bench.pass(Duration::from_secs(8));
    assert_eq!(
        reminders_of(&bench, "second"),
        [json!(null), json!(1), json!(2), json!(3)]
    );
    bench.bind("second", "a");
    bench.pass(Duration::from_mins(1));
    assert_eq!(reminders_of(&bench, "second").len(), 4);
}

#[test]
fn a_pod_that_lost_a_freed_device_is_told_of_the_next() {
    let mut bench = second_waits_for_first();
    bench.finish("first");
    bench.run();
    // Somebody else is faster.
    bench.create("third", &[(SEVEN, 1)]);
    bench.bind("third", "a");
    bench.pass(Duration::from_secs(8));
    assert_eq!(reminders_of(&bench, "second"), [json!(null)]);
    bench.finish("third");
    bench.run();
    assert_eq!(reminders_of(&bench, "second"), [json!(null), json!(1)]);
}

#[test]
fn a_pod_for_which_something_is_made_is_told_of_a_freed_device_that_is_there_first() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    bench.create("first", &[(SEVEN, 1)]);
    bench.run();
    bench.bind("first", "a");
    bench.hosts.get_mut("b").unwrap().manner = Manner::Mute;
    bench.create("second", &[(SEVEN, 1)]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.log.last().unwrap(), "plan b GPU-b0: +7g.40gb@0");
    bench.finish("first");
    bench.pass(Duration::from_secs(1));
    assert_eq!(reminders_of(&bench, "second"), [json!(null), json!(1)]);
}

/// The numbers of the reminders in what was written onto a pod.
fn reminders_of(bench: &Bench, pod: &str) -> Vec<serde_json::Value> {
    let of_pod = bench.annotations.iter().filter(|(name, _)| name == pod);
    of_pod.map(|(_, plan)| plan["reminder"].clone()).collect()
}

#[test]
fn pods_that_come_together_get_a_device_each() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    for pod in 0..4 {
        bench.create(&format!("pod-{pod}"), &[(THREE, 1)]);
    }
    bench.run();
    let log = &bench.log;
    assert_eq!(
        bench.shown("a", THREE) + bench.shown("b", THREE),
        4,
        "{log:#?}"
    );
    let told: std::collections::BTreeSet<_> = bench
        .annotations
        .iter()
        .map(|(pod, _)| pod.clone())
        .collect();
    assert_eq!(told.len(), 4);
}

#[test]
fn a_pod_held_back_by_somebody_elses_gate_is_not_planned_for() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("pod", &[(THREE, 1)]);
    let mut pod = bench.pods["pod"].clone();
    pod["spec"]["schedulingGates"] = serde_json::json!([{"name": "kueue.x-k8s.io/admission"}]);
    bench.put("pod", pod);
    bench.run();
    assert_eq!(bench.take_log(), Vec::<String>::new());
}

#[test]
fn nothing_is_planned_before_everything_is_listed() {
    let now = Instant::now();
    let mut bench = Bench::new(&[("a", 1)]);
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    bench.world = World::new(bench.world.config.clone(), metrics, now);
    bench.create("pod", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(30));
    assert_eq!(bench.take_log(), Vec::<String>::new());
}

#[test]
fn a_node_where_a_pod_is_not_bound_in_time_is_set_aside_for_it() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    assert_eq!((bench.shown("a", THREE), bench.shown("b", THREE)), (1, 0));
    // Something that the controller cannot see keeps the pod from node a.
    bench.pass(Duration::from_secs(29));
    assert_eq!(bench.shown("b", THREE), 0);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.shown("b", THREE), 1);
}

#[test]
fn cpu_that_others_use_up_makes_a_node_useless() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    bench.put(
        "web",
        serde_json::json!({
            "metadata": {"namespace": "ns", "name": "web", "uid": "web"},
            "spec": {"nodeName": "a", "containers": [
                {"name": "c", "resources": {"requests": {"cpu": "60"}}},
            ]},
            "status": {"phase": "Running"},
        }),
    );
    let limits = serde_json::json!({"limits": {THREE: "1", "cpu": "8"}});
    bench.put(
        "pod",
        serde_json::json!({
            "metadata": {"namespace": "ns", "name": "pod", "uid": "pod"},
            "spec": {"containers": [{"name": "c", "resources": limits}]},
            "status": {"phase": "Pending"},
        }),
    );
    bench.run();
    assert_eq!((bench.shown("a", THREE), bench.shown("b", THREE)), (0, 1));
}

/// The agent tells of a grant to a pod of this name, or to somebody unknown.
fn grant(bench: &mut Bench, pod: Option<&str>) {
    let device = bench.device("a", THREE, State::Idle).unwrap();
    device.set_state(State::Held);
    device.holders = pod
        .map(|pod| agent::Holder {
            namespace: "ns".into(),
            pod: pod.into(),
            ..agent::Holder::default()
        })
        .into_iter()
        .collect();
    bench.snapshot("a");
}

#[test]
fn a_grant_that_is_told_before_the_binding_is_seen_makes_no_second_slice() {
    for holder in [None, Some("p")] {
        let mut bench = Bench::new(&[("a", 1)]);
        bench.create("p", &[(THREE, 1)]);
        bench.run();
        bench.take_log();
        grant(&mut bench, holder);
        bench.pass(Duration::from_secs(1));
        bench.bind_only("p", "a");
        bench.pass(Duration::from_secs(5));
        let log = bench.take_log();
        assert!(!log.iter().any(|line| line.starts_with("plan")), "{log:#?}");
    }
}

#[test]
fn a_pod_whose_device_somebody_else_got_is_served_anew() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("p", &[(THREE, 1)]);
    bench.run();
    bench.take_log();
    grant(&mut bench, None);
    bench.pass(Duration::from_secs(3));
    let log = bench.take_log();
    assert!(log.iter().any(|line| line.starts_with("plan")), "{log:#?}");
}

#[test]
fn for_a_quarter_of_the_time_that_a_pass_took_no_other_one_is_made() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.run();
    bench.create("first", &[(THREE, 1)]);
    let begin = bench.world.wake_at().unwrap();
    assert_eq!(begin, bench.now + COALESCE);
    bench.world.decide(begin);
    let long = Duration::from_millis(80);
    bench.now = begin + long;
    bench.world.took(long, bench.now);
    bench.create("second", &[(THREE, 1)]);
    let next = bench.world.plan_at;
    assert_eq!(next, Some(bench.now + long / 4));
    // A turn without a pass changes nothing about that.
    bench.world.decide(bench.now);
    bench.world.took(Duration::from_secs(1), bench.now);
    assert_eq!(bench.world.plan_at, next);
}

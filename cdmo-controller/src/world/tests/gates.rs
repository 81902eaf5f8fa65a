//! Our scheduling gate: planned for as if it were not there, and taken off when it is time.

use super::super::*;
use super::bench::*;

fn gated(bench: &Bench, pod: &str) -> bool {
    let gates = &bench.pods[pod]["spec"]["schedulingGates"];
    gates.as_array().is_some_and(|gates| !gates.is_empty())
}

#[test]
fn a_gated_pod_is_served_and_opened_when_its_devices_are_shown() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create_gated("pod", &[(HALF, 1)], &[GATE]);
    bench.run();
    assert_eq!(
        bench.take_log(),
        [
            "SlicePlanned pod",
            "plan a GPU-a0: +3g.20gb@4",
            "status a fraction-0.500=1",
            "open pod",
            "annotate pod",
            "SliceReady pod",
        ]
    );
    assert!(!gated(&bench, "pod"));
    bench.bind("pod", "a");
    bench.run();
}

#[test]
fn a_pod_that_free_devices_cover_is_opened_at_once() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("first", &[(THREE, 1)]);
    bench.run();
    bench.bind("first", "a");
    bench.finish("first");
    bench.run();
    bench.take_log();
    bench.create_gated("pod", &[(THREE, 1)], &[GATE]);
    bench.run();
    assert_eq!(bench.take_log(), ["open pod"]);
}

#[test]
fn only_our_gate_goes_and_only_when_no_other_is_left() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create_gated("pod", &[(THREE, 1)], &["example.com/quota", GATE]);
    bench.pass(Duration::from_mins(5));
    assert!(bench.take_log().is_empty(), "others hold it back");
    let mut pod = bench.pods["pod"].clone();
    let gates = pod["spec"]["schedulingGates"].as_array_mut().unwrap();
    gates.remove(0);
    bench.put("pod", pod);
    bench.run();
    assert!(!gated(&bench, "pod"));
}

#[test]
fn a_gate_that_could_not_be_taken_off_is_tried_again() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.stuck_gates = 3;
    bench.create_gated("pod", &[(THREE, 1)], &[GATE]);
    bench.run();
    assert!(gated(&bench, "pod"));
    bench.pass(Duration::from_secs(10));
    assert!(!gated(&bench, "pod"));
    let opened = bench.log.iter().filter(|line| line.starts_with("open"));
    assert_eq!(opened.count(), 4, "{:#?}", bench.log);
}

#[test]
fn a_controller_that_starts_finds_gates_that_the_one_before_left() {
    let mut bench = Bench::unheard(&[("a", 1)]);
    bench.create_gated("pod", &[(THREE, 1)], &[GATE]);
    bench.list_nodes();
    bench.list_pods();
    bench.list_agents();
    bench.run();
    assert!(!gated(&bench, "pod"));
    bench.bind("pod", "a");
}

#[test]
fn a_pod_that_can_never_be_served_is_left_to_the_scheduler() {
    let mut bench = Bench::new(&[("a", 1)]);
    for (pod, resource, count) in [
        ("nonsense", "nvidia.com/mig-banana", 1),
        ("absent", "nvidia.com/mig-1g.6gb", 1),
        ("greedy", HALF, 3),
    ] {
        bench.create_gated(pod, &[(resource, count)], &[GATE]);
        bench.pass(Duration::from_secs(2));
        assert!(!gated(&bench, pod), "{pod}: {:#?}", bench.log);
    }
}

#[test]
fn a_pod_that_waits_for_running_ones_keeps_its_gate_for_a_minute() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("first", &[(SEVEN, 1)]);
    bench.run();
    bench.bind("first", "a");
    bench.create_gated("soon", &[(SEVEN, 1)], &[GATE]);
    bench.pass(Duration::from_secs(50));
    assert!(gated(&bench, "soon"));
    bench.note("soon", "NoRoom");
    bench.finish("first");
    bench.run();
    assert!(!gated(&bench, "soon"));
    bench.bind("soon", "a");
    bench.create_gated("late", &[(SEVEN, 1)], &[GATE]);
    bench.pass(Duration::from_secs(61));
    assert!(!gated(&bench, "late"), "the scheduler may preempt");
}

#[test]
fn a_gate_on_a_pod_that_asks_for_no_device_is_taken_off() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create_gated("pod", &[("cpu", 1)], &["example.com/quota", GATE]);
    bench.run();
    assert_eq!(bench.take_log(), ["open pod"]);
    assert_eq!(
        bench.pods["pod"]["spec"]["schedulingGates"],
        serde_json::json!([{"name": "example.com/quota"}])
    );
}

#[test]
fn a_pod_that_waits_for_something_that_does_not_end_keeps_its_gate_for_a_minute() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("first", &[(SEVEN, 1)]);
    bench.run();
    bench.bind("first", "a");
    bench.finish("first");
    bench.run();
    bench.hosts.get_mut("a").unwrap().manner = Manner::Mute;
    bench.create("small", &[(ONE, 1)]);
    bench.run();
    bench.create_gated("pod", &[(THREE, 1)], &[GATE]);
    bench.pass(Duration::from_secs(59));
    assert!(gated(&bench, "pod"));
    bench.pass(Duration::from_secs(1));
    assert!(!gated(&bench, "pod"), "{:#?}", bench.log);
}

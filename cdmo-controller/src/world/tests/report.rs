//! What the world tells of itself.

use status_report::{AgentState, InstanceState, Report as Told, Stage};

use super::super::*;
use super::bench::*;

fn report(bench: &mut Bench) -> Told {
    told(bench, None)
}

fn told(bench: &mut Bench, only: Option<&[String]>) -> Told {
    let clock = Clock {
        now: bench.now,
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    bench.world.report("controller-0", only, clock)
}

#[test]
fn a_report_shows_who_holds_what_what_is_idle_and_who_waits() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    bench.create("test", &[(ONE, 1)]);
    bench.run();
    bench.create("train", &[(THREE, 1)]);
    bench.run();
    bench.bind("train", "a");
    bench.create("greedy", &[(ONE, 99)]);
    bench.pass(Duration::from_secs(1));
    let shown = Told {
        revision: 0,
        ..report(&mut bench)
    };
    insta::assert_json_snapshot!(shown);
}

#[test]
fn a_pod_that_waits_is_shown_with_who_is_in_its_way_now() {
    let mut bench = Bench::new(&[("a", 1)]);
    for name in ["train", "test"] {
        bench.create(name, &[(THREE, 1)]);
        bench.run();
        bench.bind(name, "a");
    }
    bench.create("whole", &[(SEVEN, 1)]);
    bench.run();
    let message = |bench: &mut Bench| report(bench).waiting.remove(0).message;
    let before = message(&mut bench);
    assert!(
        before.ends_with("7g.40gb blocked by ns/train and ns/test on GPU 0 of node a"),
        "{before}"
    );
    bench.finish("train");
    bench.run();
    let after = message(&mut bench);
    assert!(
        after.ends_with(
            "7g.40gb blocked by ns/test on GPU 0 of node a, 1 idle 3g.20gb would not help"
        ),
        "{after}"
    );
}

#[test]
fn an_operation_under_way_is_shown_with_its_stage_and_its_pod() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.hosts.get_mut("a").unwrap().manner = Manner::Mute;
    bench.create("train", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(2));
    let report = report(&mut bench);
    let operation = &report.nodes[0].operations[0];
    assert_eq!(operation.stage, Stage::Making);
    assert_eq!(operation.pod.to_string(), "ns/train");
    assert_eq!(operation.makes[0].profile, "3g.20gb");
    assert_eq!(operation.planned.to_string(), "2026-03-01T11:59:58Z");
    let waiting = &report.waiting[0];
    assert_eq!(waiting.reason, "Planned");
    assert!(waiting.message.contains("node a"), "{}", waiting.message);
}

#[test]
fn a_node_whose_agent_is_gone_keeps_its_picture_and_says_what_is_wrong() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("train", &[(THREE, 1)]);
    bench.run();
    bench.break_session("a");
    bench.pass(Duration::from_secs(30));
    let node = report(&mut bench).nodes.remove(0);
    assert_eq!(node.agent.state, AgentState::Down);
    assert_eq!(
        node.agent.since.unwrap().to_string(),
        "2026-03-01T11:59:30Z"
    );
    assert!(node.agent.reason.unwrap().contains("ended the session"));
    assert_eq!(node.problems.len(), 1, "{:?}", node.problems);
    assert_eq!(node.gpus[0].instances[0].state, InstanceState::Idle);
}

#[test]
fn a_gpu_that_failed_is_shown_at_rest_with_the_reason() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.hosts.get_mut("a").unwrap().manner = Manner::Refusing("in_use");
    bench.create("train", &[(THREE, 1)]);
    bench.run();
    let rest = report(&mut bench).nodes[0].gpus[0].rest.clone().unwrap();
    assert_eq!(
        (rest.failures, rest.reason.as_str()),
        (1, "the driver says no")
    );
}

#[test]
fn only_the_nodes_that_were_asked_for_are_told_of() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    let report = told(
        &mut bench,
        Some(&["b".to_owned(), "no-such-node".to_owned()]),
    );
    let names: Vec<_> = report.nodes.iter().map(|node| &node.name).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn the_revision_rises_when_something_happens_and_rests_when_nothing_does() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.pass(Duration::from_mins(10));
    let before = bench.world.revision();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.world.revision(), before);
    bench.create("train", &[(THREE, 1)]);
    assert!(bench.world.revision() > before);
}

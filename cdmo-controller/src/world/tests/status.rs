//! Node status and the node's annotation.

use super::super::*;
use super::bench::*;
use crate::session::Problem;

#[test]
fn counts_that_the_kubelet_undoes_are_asserted_again() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    bench.take_log();
    bench.kubelet_writes("a", THREE, 0);
    bench.run();
    assert_eq!(bench.take_log(), ["status a 3g.20gb=1"]);
    assert_eq!(bench.shown("a", THREE), 1);
}

#[test]
fn without_a_session_nothing_is_written() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    bench.break_session("a");
    bench.kubelet_writes("a", THREE, 0);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shown("a", THREE), 0);
}

#[test]
fn devices_of_somebody_elses_plugin_are_never_touched_and_count_as_room() {
    let mut bench = Bench::new(&[("a", 0)]);
    let mut node = bench.nodes["a"].clone();
    node["metadata"]["name"] = "static".into();
    node["metadata"]["labels"] = serde_json::json!({});
    node["status"]["allocatable"][THREE] = "1".into();
    bench.nodes.insert("static".into(), node);
    bench.node_event("static");
    bench.create("pod", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.take_log(), Vec::<String>::new());
}

#[test]
fn what_the_agent_has_to_say_becomes_the_nodes_annotation() {
    let mut bench = Bench::new(&[("a", 1)]);
    let host = bench.hosts.get_mut("a").unwrap();
    host.problems = vec!["GPU 0 needs a reset".into(), "GPU 1 too".into()];
    bench.snapshot("a");
    bench.run();
    assert_eq!(
        bench.take_log(),
        ["problems a: GPU 0 needs a reset; GPU 1 too"]
    );
    bench.hosts.get_mut("a").unwrap().problems.clear();
    bench.snapshot("a");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.take_log(), ["problems a: none"]);
}

#[test]
fn bad_certificates_are_named_at_once_and_a_restart_is_not() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.break_session("a");
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.take_log(), Vec::<String>::new());
    let expired = Problem {
        category: "peer_expired",
        sentence: "the agent's certificate expired on Monday; renew it".into(),
        lasting: true,
    };
    bench.report("a", Said::Down(expired));
    bench.run();
    let log = bench.take_log();
    assert!(
        log[0].starts_with("problems a: no session") && log[0].contains("renew it"),
        "{log:?}"
    );
}

#[test]
fn a_labelled_node_without_an_agent_says_so_after_a_while() {
    let mut bench = Bench::new(&[("a", 1)]);
    let mut node = bench.nodes["a"].clone();
    node["metadata"]["name"] = "bare".into();
    bench.nodes.insert("bare".into(), node);
    bench.node_event("bare");
    bench.pass(Duration::from_secs(50));
    assert_eq!(bench.take_log(), Vec::<String>::new());
    bench.pass(Duration::from_secs(15));
    let log = bench.take_log();
    assert!(
        log[0].starts_with("problems bare: no agent runs on this node"),
        "{log:?}"
    );
}

/// The agent's pod, as the kubelet tells of it.
fn agent_is(bench: &mut Bench, status: serde_json::Value) {
    let mut pod = agent_pod("a");
    pod.status = from(status);
    bench.apply(Input::AgentPod(Box::new(Event::Apply(pod))));
    bench.run();
}

#[test]
fn an_agent_that_ends_again_and_again_is_quoted_on_the_node_until_it_is_up() {
    let mut bench = Bench::new(&[("a", 1)]);
    let ended = serde_json::json!({"terminated": {"exitCode": 65, "message": "failed to load it"}});
    let container = serde_json::json!({
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended,
    });
    bench.break_session("a");
    agent_is(
        &mut bench,
        serde_json::json!({
            "phase": "Running", "podIP": "127.0.0.1", "containerStatuses": [container],
        }),
    );
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.take_log(), Vec::<String>::new(), "it may come up yet");
    bench.pass(Duration::from_secs(10));
    let why = "problems a: the agent does not start: failed to load it (exit code 65); its pod is \
               cdmo-operator/agent-a";
    assert_eq!(bench.take_log(), [why], "and not that nobody answers");
    bench.report("a", Said::Up);
    bench.snapshot("a");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.take_log().last().unwrap(), "problems a: none");
}

#[test]
fn an_agent_that_is_not_started_is_pointed_at_after_a_while() {
    let mut bench = Bench::new(&[("a", 1)]);
    let container = serde_json::json!({"state": {"waiting": {"reason": "ContainerCreating"}}});
    agent_is(
        &mut bench,
        serde_json::json!({"phase": "Pending", "containerStatuses": [container]}),
    );
    bench.take_log();
    bench.pass(Duration::from_secs(25));
    assert_eq!(bench.take_log(), Vec::<String>::new(), "images are pulled");
    bench.pass(Duration::from_secs(10));
    let log = bench.take_log();
    let words = "the agent does not start: its pod stays in ContainerCreating";
    assert!(log[0].contains(words), "{log:?}");
    assert!(
        log[0].contains("-n cdmo-operator describe pod agent-a"),
        "{log:?}"
    );
    assert_eq!(log.len(), 1, "{log:?}");
}

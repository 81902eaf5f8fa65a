//! Agents that fail, and that their neighbours do not notice.

use cdmo_proto::agent::plan_progress::Stage;

use super::super::*;
use super::bench::*;

#[test]
fn a_mute_agent_holds_no_other_node_up() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    bench.hosts.get_mut("a").unwrap().manner = Manner::Mute;
    bench.create("first", &[(SEVEN, 1)]);
    bench.run();
    bench.create("second", &[(SEVEN, 1)]);
    bench.run();
    assert_eq!(bench.shown("b", SEVEN), 1);
    // Nor does the first pod wait for ever.
    bench.bind("second", "b");
    bench.pass(Duration::from_mins(4));
    bench.note("first", "AgentError");
}

#[test]
fn a_plan_lost_with_its_session_is_made_anew() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.hosts.get_mut("a").unwrap().manner = Manner::Mute;
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    bench.break_session("a");
    bench.run();
    bench.hosts.get_mut("a").unwrap().manner = Manner::Obedient;
    bench.report("a", Said::Up);
    bench.snapshot("a");
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.shown("a", THREE), 1);
    assert!(
        bench.log.contains(&"SliceReady pod".to_owned()),
        "{:#?}",
        bench.log
    );
}

#[test]
fn a_refusal_by_the_driver_is_told_and_tried_again_ever_more_rarely() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.hosts.get_mut("a").unwrap().manner = Manner::Refusing("insufficient_resources");
    bench.create("pod", &[(THREE, 1)]);
    bench.pass(Duration::from_mins(1));
    let plans = bench
        .log
        .iter()
        .filter(|line| line.starts_with("plan"))
        .count();
    assert!((3..=7).contains(&plans), "{plans} plans");
    let words = &bench.note("pod", "AgentError").text;
    assert!(
        words.contains("the driver says no") && words.contains("node a"),
        "{words}"
    );
}

#[test]
fn a_stale_plan_is_made_anew_from_the_state_that_the_agent_answers_with() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.hosts.get_mut("a").unwrap().manner = Manner::Refusing("stale");
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    let plans = bench
        .log
        .iter()
        .filter(|line| line.starts_with("plan"))
        .count();
    assert_eq!(plans, 1, "not again from the same state: {:#?}", bench.log);
    let host = bench.hosts.get_mut("a").unwrap();
    host.manner = Manner::Obedient;
    host.gpus[0].state_version += 1;
    bench.snapshot("a");
    bench.run();
    assert_eq!(bench.shown("a", THREE), 1);
}

#[test]
fn an_agent_cannot_report_on_another_nodes_plan() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    bench.hosts.get_mut("a").unwrap().manner = Manner::Mute;
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    bench.progress("b", "1-1", Stage::Done, "");
    bench.run();
    assert!(!bench.log.contains(&"SliceReady pod".to_owned()));
}

#[test]
fn a_node_that_is_deleted_is_forgotten() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    let node = from(bench.nodes["a"].clone());
    bench.apply(Input::Node(Box::new(Event::Delete(node))));
    bench.apply(Input::AgentPod(Box::new(Event::Delete(agent_pod("a")))));
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    assert_eq!(bench.shown("b", THREE), 1);
}

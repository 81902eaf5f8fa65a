//! Taking nodes over and giving them back.

use super::super::taking::NO_AGENT;
use super::super::*;
use super::bench::*;
use crate::names::{LEAVE_ALONE_ANNOTATION, MANAGED_LABEL, PARTITIONING_LABEL};
use crate::session::Problem;
use crate::takeover::OPERATOR_LABELS;

impl Bench {
    fn label_of(&self, label: &str) -> Option<&str> {
        self.nodes["a"]["metadata"]["labels"][label].as_str()
    }

    fn set(&mut self, map: &str, key: &str, value: Option<&str>) {
        let all = &mut self.nodes.get_mut("a").unwrap()["metadata"][map];
        match value {
            Some(value) => all[key] = value.into(),
            None => drop(all.as_object_mut().unwrap().remove(key)),
        }
        self.node_event("a");
    }

    fn unlabel(&mut self) {
        self.set("labels", PARTITIONING_LABEL, None);
    }

    /// The agent says that nothing of ours is left.
    fn clear(&mut self) {
        self.given_back = true;
        self.snapshot("a");
        self.run();
    }

    fn intent(&self) -> &agent::NodeIntent {
        &self.intents.last().unwrap().1
    }
}

use cdmo_proto::agent;

/// A node with one idle 3g instance.
fn one_idle() -> Bench {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("pod", &[(THREE, 1)]);
    bench.run();
    bench.bind("pod", "a");
    bench.run();
    bench.finish("pod");
    bench.run();
    bench.take_log();
    bench
}

#[test]
fn a_node_that_is_handed_over_gets_our_label_and_its_agent_an_intent() {
    let bench = Bench::new(&[("a", 1)]);
    assert_eq!(bench.label_of(MANAGED_LABEL), Some("true"));
    assert_eq!(
        bench.label_of(OPERATOR_LABELS[0]),
        None,
        "there is no operator"
    );
    assert_eq!(bench.intents.len(), 1);
    assert!(bench.intent().turn_mig_on && !bench.intent().give_back);
}

#[test]
fn a_new_session_is_told_again_and_an_old_one_only_what_is_new() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.report("a", Said::Down(Problem::passing("closed", "gone")));
    bench.report("a", Said::Up);
    bench.snapshot("a");
    bench.run();
    assert_eq!(bench.intents.len(), 2);
    bench.snapshot("a");
    bench.run();
    assert_eq!(bench.intents.len(), 2);
    bench.set("annotations", LEAVE_ALONE_ANNOTATION, Some("1"));
    bench.run();
    assert_eq!(bench.intent().leave_alone, ["1"]);
}

#[test]
fn what_is_idle_is_given_up_and_then_the_node_is_let_go() {
    let mut bench = one_idle();
    bench.unlabel();
    bench.pass(Duration::from_secs(1));
    let log = bench.take_log();
    let done = |what: &str| log.iter().any(|line| line == what);
    assert!(done("status a 3g.20gb=0"), "{log:#?}");
    assert!(
        done("plan a GPU-a0: -3g.20gb@4") && done("commit a"),
        "{log:#?}"
    );
    assert!(bench.intent().give_back);
    assert_eq!(
        bench.label_of(MANAGED_LABEL),
        Some("true"),
        "not before the agent says so"
    );
    bench.clear();
    assert_eq!(bench.label_of(MANAGED_LABEL), None);
}

#[test]
fn what_a_pod_holds_stays_and_no_other_pod_is_sent_there() {
    let mut bench = Bench::new(&[("a", 1)]);
    for pod in ["stays", "ends"] {
        bench.create(pod, &[(THREE, 1)]);
        bench.run();
        bench.bind(pod, "a");
        bench.run();
    }
    bench.finish("ends");
    bench.run();
    bench.take_log();
    bench.unlabel();
    bench.create("late", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.shown("a", THREE), 1);
    let plans = bench.log.iter().filter(|line| line.starts_with("plan"));
    assert_eq!(plans.collect::<Vec<_>>(), ["plan a GPU-a0: -3g.20gb@0"]);
    bench.note("late", "NoRoom");
}

#[test]
fn a_label_that_comes_back_takes_the_intent_back() {
    let mut bench = one_idle();
    bench.unlabel();
    bench.run();
    bench.set("labels", PARTITIONING_LABEL, Some("mig"));
    bench.pass(Duration::from_secs(10));
    assert!(!bench.intent().give_back);
    bench.create("again", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.shown("a", THREE), 1);
}

#[test]
fn nothing_is_made_while_the_operator_replaces_the_driver() {
    let mut bench = Bench::new(&[("a", 1)]);
    let state = crate::names::DRIVER_UPGRADE_LABEL;
    bench.set("labels", state, Some("drain-required"));
    bench.create("pod", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(5));
    assert!(
        !bench.log.iter().any(|line| line.starts_with("plan")),
        "{:#?}",
        bench.log
    );
    bench.set("labels", state, Some("upgrade-done"));
    bench.pass(Duration::from_secs(1));
    assert!(bench.log.iter().any(|line| line.starts_with("plan")));
}

#[test]
fn a_node_whose_agent_is_away_for_a_driver_upgrade_is_not_let_go() {
    let mut bench = one_idle();
    let state = crate::names::DRIVER_UPGRADE_LABEL;
    bench.set("labels", state, Some("pod-restart-required"));
    bench.report("a", Said::Down(Problem::passing("closed", "gone")));
    bench.hosts.clear();
    bench.list_agents();
    bench.run();
    bench.unlabel();
    bench.pass(2 * NO_AGENT);
    assert_eq!(bench.label_of(MANAGED_LABEL), Some("true"));
    bench.set("labels", state, Some("upgrade-done"));
    bench.pass(NO_AGENT / 2);
    assert_eq!(
        bench.label_of(MANAGED_LABEL),
        Some("true"),
        "the agent may yet come back"
    );
    bench.pass(NO_AGENT);
    assert_eq!(bench.label_of(MANAGED_LABEL), None);
}

#[test]
fn a_driver_upgrade_forbids_nothing_and_only_pauses() {
    let mut bench = Bench::new(&[("a", 1)]);
    let state = crate::names::DRIVER_UPGRADE_LABEL;
    bench.set("labels", state, Some("cordon-required"));
    bench.run();
    assert!(bench.intent().turn_mig_on && bench.intent().paused);
    bench.set("labels", state, Some("upgrade-done"));
    bench.run();
    assert!(bench.intent().turn_mig_on && !bench.intent().paused);
}

#[test]
fn the_first_intent_waits_for_nothing() {
    let mut bench = Bench::unheard(&[("a", 1)]);
    bench.nodes.get_mut("a").unwrap()["metadata"]["annotations"][LEAVE_ALONE_ANNOTATION] =
        "0".into();
    bench.list_nodes();
    bench.list_pods();
    bench.list_agents();
    bench.run();
    assert_eq!(bench.intent().leave_alone, ["0"]);
}

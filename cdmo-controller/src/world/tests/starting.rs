//! A controller that has just started learns of the cluster piece by piece.

use serde_json::json;

use super::super::*;
use super::bench::*;

fn tables(bench: &Bench) -> Vec<&String> {
    let lines = bench.log.iter();
    lines.filter(|line| line.starts_with("pods ")).collect()
}

#[test]
fn an_agent_is_not_told_of_pods_before_all_are_listed() {
    let mut bench = Bench::unheard(&[("a", 1)]);
    bench.list_nodes();
    bench.list_agents();
    let pod = |name: &str| {
        json!({
            "metadata": {"namespace": "ns", "name": name, "uid": name},
            "spec": {"nodeName": "a", "containers": []},
            "status": {"phase": "Running"},
        })
    };
    bench.apply(Input::Pod(Box::new(Event::Init)));
    bench.apply(Input::Pod(Box::new(Event::InitApply(from(pod("one"))))));
    bench.run();
    assert_eq!(tables(&bench), [""; 0], "more pods may follow");
    bench.apply(Input::Pod(Box::new(Event::InitApply(from(pod("two"))))));
    bench.apply(Input::Pod(Box::new(Event::InitDone)));
    bench.run();
    assert_eq!(tables(&bench), ["pods a 1 [one two]"]);
}

#[test]
fn an_agent_stays_with_the_controller_before_until_everything_is_listed() {
    let mut bench = Bench::unheard(&[("a", 1)]);
    bench.list_agents();
    bench.list_pods();
    bench.run();
    bench.pass(Duration::from_mins(1));
    assert!(!bench.log.contains(&"connect a".into()), "{:?}", bench.log);
    bench.list_nodes();
    bench.run();
    assert!(bench.log.contains(&"connect a".into()), "{:?}", bench.log);
}

#[test]
fn an_agent_that_answers_before_its_node_is_listed_gets_its_table() {
    let mut bench = Bench::unheard(&[("a", 1)]);
    bench.list_pods();
    bench.list_agents();
    bench.run();
    bench.list_nodes();
    bench.run();
    assert_eq!(tables(&bench), ["pods a 1 []"]);
}

#[test]
fn a_pod_is_planned_for_as_soon_as_the_last_list_is_complete() {
    let mut bench = Bench::unheard(&[("a", 1)]);
    bench.create("pod", &[(THREE, 1)]);
    bench.list_pods();
    bench.list_agents();
    bench.apply(Input::Node(Box::new(Event::Init)));
    let node = from(bench.nodes["a"].clone());
    bench.apply(Input::Node(Box::new(Event::InitApply(node))));
    bench.run();
    bench.pass(Duration::from_secs(10));
    bench.apply(Input::Node(Box::new(Event::InitDone)));
    bench.run();
    assert_eq!(bench.shown("a", THREE), 1);
}

#[test]
fn what_a_node_says_stands_until_its_agent_was_heard() {
    let mut bench = Bench::unheard(&[("a", 1)]);
    let said = "GPU 0 needs a reset";
    bench.nodes.get_mut("a").unwrap()["metadata"]["annotations"] =
        json!({"cdmo.clear.ml/problems": said});
    let host = bench.hosts.get_mut("a").unwrap();
    host.problems = vec![said.into()];
    host.manner = Manner::Silent;
    bench.list_nodes();
    bench.list_pods();
    bench.list_agents();
    bench.run();
    bench.hosts.get_mut("a").unwrap().manner = Manner::Obedient;
    bench.snapshot("a");
    bench.run();
    let problems = bench.log.iter().filter(|line| line.starts_with("problems"));
    assert_eq!(problems.count(), 0, "{:?}", bench.log);
}

//! Pods of a group start together or not at all.

use serde_json::json;
use status_report::Fate;

use super::super::*;
use super::bench::*;

/// A pod of group `train`, which has so many.
fn member(bench: &mut Bench, name: &str, resource: &str, size: &str, gates: &[&str]) {
    let annotations = json!({"cdmo.clear.ml/group": "train", "cdmo.clear.ml/group-size": size});
    let gates: Vec<_> = gates.iter().map(|gate| json!({"name": gate})).collect();
    let pod = json!({
        "metadata": {
            "namespace": "ns", "name": name, "uid": format!("uid-{name}"), "annotations": annotations,
        },
        "spec": {
            "schedulingGates": gates,
            "containers": [{"name": "main", "resources": {"limits": {resource: "1"}}}],
        },
        "status": {"phase": "Pending"},
    });
    bench.put(name, pod);
}

/// The same, made by this Job.
fn made_by(bench: &mut Bench, job: &str, name: &str, size: &str) {
    member(bench, name, ONE, size, &[]);
    let mut pod = bench.pods[name].clone();
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": job, "controller": true,
    }]);
    bench.put(name, pod);
}

fn succeed(bench: &mut Bench, name: &str) {
    let mut pod = bench.pods[name].clone();
    pod["status"]["phase"] = json!("Succeeded");
    bench.put(name, pod);
}

fn gated(bench: &Bench, pod: &str) -> bool {
    let gates = &bench.pods[pod]["spec"]["schedulingGates"];
    gates.as_array().is_some_and(|gates| !gates.is_empty())
}

#[test]
fn nothing_is_made_until_all_pods_are_there() {
    let mut bench = Bench::new(&[("a", 1)]);
    member(&mut bench, "one", THREE, "2", &[]);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shown("a", THREE), 0);
    assert!(
        bench
            .note("one", "GroupWaits")
            .text
            .contains("1 more pod of its group train must come first"),
        "{:?}",
        bench.notes
    );
    member(&mut bench, "two", THREE, "2", &[]);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shown("a", THREE), 2);
    bench.bind("one", "a");
    bench.bind("two", "a");
}

#[test]
fn nothing_is_made_for_some_of_them_while_running_pods_are_in_the_way_of_others() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("running", &[(THREE, 1)]);
    bench.run();
    bench.bind("running", "a");
    for name in ["one", "two"] {
        member(&mut bench, name, THREE, "2", &[]);
    }
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shown("a", THREE), 1, "the running pod's");
    let note = bench.note("two", "GroupWaits");
    assert!(
        note.text.contains("1 would fit at the same time"),
        "{note:?}"
    );
    bench.finish("running");
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shown("a", THREE), 2);
    bench.bind("one", "a");
    // The other is not held up, nor is anything made a second time, because one has started.
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shown("a", THREE), 2);
    bench.bind("two", "a");
}

#[test]
fn gates_are_opened_together() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("running", &[(THREE, 1)]);
    bench.run();
    bench.bind("running", "a");
    bench.create("idle", &[(THREE, 1)]);
    bench.run();
    bench.bind("idle", "a");
    bench.finish("idle");
    bench.run();
    for name in ["one", "two"] {
        member(&mut bench, name, THREE, "2", &[GATE]);
    }
    // A device lies ready for one of them, and neither a minute's wait opens it nor is the node set aside.
    bench.pass(Duration::from_mins(3));
    assert!(
        gated(&bench, "one") && gated(&bench, "two"),
        "{:#?}",
        bench.log
    );
    bench.annotations.clear();
    bench.finish("running");
    bench.pass(Duration::from_secs(1));
    assert!(
        !gated(&bench, "one") && !gated(&bench, "two"),
        "{:#?}",
        bench.log
    );
    for name in ["one", "two"] {
        let mut annotated = bench.annotations.iter();
        assert!(
            annotated.any(|(pod, _)| pod == name),
            "the scheduler may miss {name}: {:?}",
            bench.annotations
        );
    }
    bench.bind("one", "a");
    bench.bind("two", "a");
}

#[test]
fn a_gate_stays_shut_while_devices_for_others_are_still_being_made() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    bench.hosts.get_mut("b").unwrap().manner = Manner::Mute;
    for name in ["one", "two"] {
        member(&mut bench, name, SEVEN, "2", &[GATE]);
    }
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shown("a", SEVEN), 1, "{:#?}", bench.log);
    assert!(gated(&bench, "one") && gated(&bench, "two"));
    bench.hosts.get_mut("b").unwrap().manner = Manner::Obedient;
    bench.pass(Duration::from_mins(10));
    assert_eq!(bench.shown("b", SEVEN), 1, "{:#?}", bench.log);
    assert!(!gated(&bench, "one") && !gated(&bench, "two"));
}

#[test]
fn gates_stay_shut_while_no_node_may_run_the_pods() {
    let mut bench = Bench::new(&[("a", 1)]);
    let cordon = |bench: &mut Bench, is: bool| {
        bench.nodes.get_mut("a").unwrap()["spec"] = json!({"unschedulable": is});
        bench.node_event("a");
    };
    cordon(&mut bench, true);
    for name in ["one", "two"] {
        member(&mut bench, name, THREE, "2", &[GATE]);
    }
    bench.pass(Duration::from_mins(3));
    bench.note("one", "NoNode");
    assert!(gated(&bench, "one") && gated(&bench, "two"));
    cordon(&mut bench, false);
    bench.pass(Duration::from_secs(5));
    assert!(!gated(&bench, "one") && !gated(&bench, "two"));
}

#[test]
fn gates_of_pods_that_no_node_could_ever_serve_are_opened() {
    let mut bench = Bench::new(&[("a", 1)]);
    for name in ["one", "two"] {
        member(&mut bench, name, "nvidia.com/mig-1g.6gb", "2", &[GATE]);
    }
    bench.pass(Duration::from_secs(5));
    assert!(!gated(&bench, "one") && !gated(&bench, "two"));
}

#[test]
fn idle_devices_are_not_kept_for_a_pod_that_waits_behind_its_gate_for_others() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("idle", &[(THREE, 1)]);
    bench.run();
    bench.bind("idle", "a");
    bench.finish("idle");
    bench.run();
    member(&mut bench, "one", THREE, "2", &[GATE]);
    bench.create("big", &[(SEVEN, 1)]);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.shown("a", SEVEN), 1, "{:#?}", bench.log);
    bench.bind("big", "a");
}

#[test]
fn a_pod_that_is_made_again_joins_those_that_run() {
    let mut bench = Bench::new(&[("a", 1)]);
    for name in ["one", "two"] {
        member(&mut bench, name, THREE, "2", &[]);
    }
    bench.run();
    bench.bind("one", "a");
    bench.bind("two", "a");
    bench.finish("two");
    bench.run();
    member(&mut bench, "three", THREE, "2", &[]);
    bench.pass(Duration::from_secs(5));
    bench.bind("three", "a");
}

#[test]
fn pods_that_succeeded_in_another_run_do_not_count() {
    let mut bench = Bench::new(&[("a", 1)]);
    for name in ["one", "two"] {
        made_by(&mut bench, "first", name, "2");
    }
    bench.run();
    for name in ["one", "two"] {
        bench.bind(name, "a");
        succeed(&mut bench, name);
    }
    made_by(&mut bench, "second", "three", "2");
    bench.pass(Duration::from_secs(5));
    let note = bench.note("three", "GroupWaits");
    assert!(
        note.text
            .contains("1 more pod of its group train must come first"),
        "{note:?}"
    );
    made_by(&mut bench, "second", "four", "2");
    bench.pass(Duration::from_secs(5));
    bench.bind("three", "a");
    bench.bind("four", "a");
    // One of a Job with more completions than pods at a time.
    succeed(&mut bench, "three");
    made_by(&mut bench, "second", "five", "2");
    bench.pass(Duration::from_secs(5));
    bench.bind("five", "a");
}

#[test]
fn two_runs_of_one_name_are_told_apart_by_nobody_and_so_told_to_be() {
    let mut bench = Bench::new(&[("a", 1)]);
    for name in ["one", "two"] {
        made_by(&mut bench, "first", name, "2");
    }
    bench.run();
    for name in ["one", "two"] {
        bench.bind(name, "a");
    }
    made_by(&mut bench, "second", "three", "2");
    bench.pass(Duration::from_secs(5));
    let note = bench.note("three", "GroupWaits");
    assert!(
        note.text
            .contains("3 pods of its group train wait or run, and 2 start together"),
        "{note:?}"
    );
}

#[test]
fn a_size_that_is_none_is_said_on_the_pod() {
    let mut bench = Bench::new(&[("a", 1)]);
    member(&mut bench, "one", THREE, "many", &[]);
    bench.pass(Duration::from_secs(5));
    let note = bench.note("one", "GroupWaits");
    assert!(
        note.text.contains(
            "cdmo.clear.ml/group-size is \"many\" on a pod of its group train; give the number"
        ),
        "{note:?}"
    );
}

#[test]
fn a_question_about_a_group_is_answered_for_all_of_it() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.pass(Duration::from_secs(1));
    let mut ask = |count: usize, size: &str| {
        let pods = json!([{
            "name": "train",
            "count": count,
            "annotations": {"cdmo.clear.ml/group": "train", "cdmo.clear.ml/group-size": size},
            "spec": {"containers": [{"name": "main", "resources": {"limits": {THREE: 1}}}]},
        }]);
        let pods = read_supposed(&pods.to_string()).unwrap();
        let clock = Clock {
            now: bench.now,
            time: "2026-03-01T12:00:00Z".parse().unwrap(),
        };
        bench.world.what_if(&pods, clock).unwrap().pods
    };
    let fates =
        |pods: &[status_report::Prospect]| pods.iter().map(|pod| pod.fate).collect::<Vec<_>>();
    assert_eq!(fates(&ask(2, "2")), [Fate::Planned, Fate::Waiting]);
    assert_eq!(fates(&ask(3, "3")), [Fate::Refused; 3]);
    let missing = ask(1, "2");
    assert_eq!(fates(&missing), [Fate::Refused]);
    assert!(
        missing[0].message.contains("1 more pod"),
        "{}",
        missing[0].message
    );
}

#[test]
fn a_question_about_a_group_does_not_count_its_launcher() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.pass(Duration::from_secs(1));
    let pod = |name: &str, limits: serde_json::Value| {
        json!({
            "name": name,
            "annotations": {"cdmo.clear.ml/group": "train", "cdmo.clear.ml/group-size": "2"},
            "spec": {"containers": [{"name": "main", "resources": {"limits": limits}}]},
        })
    };
    let pods = json!([
        pod("launcher", json!({"cpu": 1})),
        pod("worker", json!({THREE: 1}))
    ]);
    let pods = read_supposed(&pods.to_string()).unwrap();
    let clock = Clock {
        now: bench.now,
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    let answer = bench.world.what_if(&pods, clock).unwrap();
    let worker = &answer.pods[1];
    assert_eq!(worker.fate, Fate::Refused);
    assert!(worker.message.contains("1 more pod"), "{}", worker.message);
    assert_ne!(answer.pods[0].fate, Fate::Refused);
}

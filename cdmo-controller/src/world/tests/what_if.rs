//! What would become of pods that are not there.

use status_report::{Fate, Prospect};

use super::super::*;
use super::bench::*;

/// What would become of pods that ask for these, by turns.
fn ask(bench: &mut Bench, pods: &str) -> Vec<Prospect> {
    let pods = read_supposed(pods).unwrap();
    let clock = Clock {
        now: bench.now,
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    bench.world.what_if(&pods, clock).unwrap().pods
}

fn pods(name: &str, count: usize, resource: &str) -> String {
    let spec = serde_json::json!({
        "containers": [{ "name": "main", "resources": { "limits": { resource: 1 } } }],
    });
    serde_json::json!([{ "name": name, "count": count, "spec": spec }]).to_string()
}

#[test]
fn as_many_fit_as_there_is_room_for_and_the_rest_is_told_why() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.pass(Duration::from_secs(1));
    let told = ask(&mut bench, &pods("train", 3, THREE));
    let fates: Vec<_> = told.iter().map(|pod| pod.fate).collect();
    assert_eq!(fates, [Fate::Planned, Fate::Waiting, Fate::Refused]);
    assert_eq!(told[0].name, "train-0");
    assert_eq!(told[0].node.as_deref(), Some("a"));
    assert_eq!(told[0].makes.len(), 1);
    assert!(
        told[0].message.starts_with("Making 3g.20gb at slice "),
        "{}",
        told[0].message
    );
    assert!(
        told[2].message.contains("promised to pods that come first"),
        "{}",
        told[2].message
    );
}

#[test]
fn a_pod_that_would_not_fit_is_told_who_would_be_in_its_way() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("running", &[(ONE, 1)]);
    bench.run();
    bench.bind("running", "a");
    bench.run();
    let told = ask(&mut bench, &pods("whole", 2, SEVEN));
    for told in told {
        assert_eq!(told.fate, Fate::Refused);
        assert!(
            told.message
                .ends_with("7g.40gb blocked by ns/running on GPU 0 of node a"),
            "{}",
            told.message
        );
    }
}

#[test]
fn nothing_is_begun_by_a_question() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.pass(Duration::from_secs(1));
    let before = bench.world.revision();
    for _ in 0..3 {
        assert_eq!(
            ask(&mut bench, &pods("train", 1, SEVEN))[0].fate,
            Fate::Planned
        );
    }
    bench.run();
    assert_eq!(bench.world.revision(), before);
    assert_eq!(bench.shown("a", SEVEN), 0);
    assert!(bench.notes.is_empty(), "{:?}", bench.notes);
}

#[test]
fn idle_devices_serve_at_once_or_are_given_up_by_name() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("old", &[(THREE, 1)]);
    bench.run();
    bench.bind("old", "a");
    bench.finish("old");
    bench.run();
    assert_eq!(
        ask(&mut bench, &pods("same", 1, THREE))[0].fate,
        Fate::Ready
    );
    let told = ask(&mut bench, &pods("whole", 1, SEVEN)).remove(0);
    assert_eq!(told.fate, Fate::Planned);
    assert_eq!(told.gives_up[0].profile, "3g.20gb");
    assert!(
        told.message.contains("in place of idle 3g.20gb"),
        "{}",
        told.message
    );
}

#[test]
fn pods_that_wait_already_come_first() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("running", &[(ONE, 1)]);
    bench.run();
    bench.bind("running", "a");
    bench.create("whole", &[(SEVEN, 1)]);
    bench.create("nine", &[(ONE, 99)]);
    bench.pass(Duration::from_secs(1));
    // Neither can be served, so neither is in the way.
    let told = ask(&mut bench, &pods("small", 1, ONE));
    assert_eq!(told[0].fate, Fate::Planned);
    let text = pods("small", 1, ONE).replace(
        "\"containers\"",
        "\"nodeSelector\":{\"no\":\"such\"},\"containers\"",
    );
    let told = ask(&mut bench, &text);
    assert_eq!(told[0].fate, Fate::Refused);
    assert!(
        told[0].message.contains("node selector"),
        "{}",
        told[0].message
    );
}

#[test]
fn a_pod_that_asks_for_nothing_of_ours_is_told_so() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.pass(Duration::from_secs(1));
    let told = ask(&mut bench, &pods("web", 1, "example.com/other")).remove(0);
    assert_eq!(told.fate, Fate::Nothing);
    assert!(told.wants.is_empty());
}

#[test]
fn a_question_is_bounded_in_all_that_its_answer_costs() {
    let limits: serde_json::Map<_, _> = (1..=17)
        .map(|memory| (format!("nvidia.com/mig-1g.{memory}gb"), 1.into()))
        .collect();
    let wide = serde_json::json!([{
        "name": "wide", "spec": { "containers": [{ "resources": { "limits": limits } }] },
    }]);
    let many = serde_json::json!(vec![serde_json::json!({ "spec": {} }); 65]);
    let long = serde_json::json!([{ "name": "x".repeat(301), "spec": {} }]);
    for (question, words) in [
        (wide, "asks for 17 different slices"),
        (many, "about 65 different pods"),
        (long, "has 301 bytes"),
    ] {
        let sentence = read_supposed(&question.to_string()).unwrap_err();
        assert!(sentence.contains(words), "{sentence}");
    }
}

#[test]
fn nothing_is_told_before_the_agents_are_heard() {
    let mut bench = Bench::unheard(&[("a", 1)]);
    let pods = read_supposed(&pods("train", 1, THREE)).unwrap();
    let clock = Clock {
        now: bench.now,
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    assert_eq!(bench.world.what_if(&pods, clock), None);
}

//! Every demand that cannot be served says why on the pod, once.

use super::super::*;
use super::bench::*;

#[track_caller]
fn refusal(limits: &[(&str, u32)]) -> (String, String) {
    let mut bench = Bench::new(&[("a", 2)]);
    bench.create("pod", limits);
    bench.pass(Duration::from_secs(5));
    let notes: Vec<_> = bench
        .notes
        .iter()
        .map(|n| (n.reason.to_owned(), n.text.clone()))
        .collect();
    assert_eq!(notes.len(), 1, "exactly one Event: {notes:#?}");
    assert!(bench.notes[0].warning);
    notes[0].clone()
}

#[test]
fn refusals_are_sentences_that_a_person_understands() {
    let cases = [
        ("nonsense", vec![("nvidia.com/mig-banana", 1)]),
        (
            "a profile of another GPU",
            vec![("nvidia.com/mig-1g.10gb.gfx", 1)],
        ),
        ("a count of 99", vec![(ONE, 99)]),
        (
            "whole GPUs where there are none",
            vec![("nvidia.com/gpu", 1)],
        ),
    ];
    let words: Vec<_> = cases
        .iter()
        .map(|(case, limits)| {
            let (reason, text) = refusal(limits);
            format!("{case}: {reason}: {text}")
        })
        .collect();
    insta::assert_snapshot!(words.join("\n"));
}

#[test]
fn a_refusal_is_not_repeated_with_every_pass() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("pod", &[(ONE, 99)]);
    for n in 0..20 {
        bench.create(&format!("other-{n}"), &[(ONE, 1)]);
        bench.pass(Duration::from_secs(1));
    }
    let told = bench
        .notes
        .iter()
        .filter(|note| note.pod.name() == "pod")
        .count();
    assert_eq!(told, 1);
}

#[test]
fn nothing_else_suffers_from_a_pod_with_nonsense_in_it() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.create("bad", &[("nvidia.com/mig-banana", 1)]);
    bench.create("good", &[(THREE, 1)]);
    bench.run();
    assert_eq!(bench.shown("a", THREE), 1);
    bench.note("bad", "InvalidProfile");
    bench.note("good", "SliceReady");
}

#[test]
fn a_cluster_without_labelled_nodes_says_what_to_do() {
    let mut bench = Bench::new(&[]);
    bench.create("pod", &[(THREE, 1)]);
    bench.pass(Duration::from_secs(10));
    let text = &bench.note("pod", "NoNode").text;
    assert!(
        text.contains("cdmo.clear.ml/gpu-partitioning=mig"),
        "{text}"
    );
}

/// A GPU of which a pod has the half, and a pod that waits for all of it.
fn blocked(bench: &mut Bench) {
    bench.create("train", &[(THREE, 1)]);
    bench.run();
    bench.bind("train", "a");
    bench.create("whole", &[(SEVEN, 1)]);
    bench.pass(Duration::from_secs(5));
}

#[test]
fn a_pod_is_told_who_is_in_its_way() {
    let mut bench = Bench::new(&[("a", 1)]);
    blocked(&mut bench);
    assert_eq!(
        bench.note("whole", "NoRoom").text,
        "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: 7g.40gb blocked by ns/train on GPU 0 of node a"
    );
}

#[test]
fn names_of_other_pods_are_not_told_where_they_are_nobodys_business() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.world.config.name_holders = false;
    blocked(&mut bench);
    assert_eq!(
        bench.note("whole", "NoRoom").text,
        "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: 7g.40gb blocked by 1 instance in use on GPU 0 of node a"
    );
}

#[test]
fn a_pod_that_comes_first_is_named_while_its_devices_are_still_being_made() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.hosts.get_mut("a").unwrap().manner = Manner::Mute;
    bench.create("first", &[(SEVEN, 1)]);
    bench.run();
    bench.create("second", &[(SEVEN, 1)]);
    bench.pass(Duration::from_secs(2));
    let text = &bench.note("second", "NoRoom").text;
    assert!(
        text.contains("7g.40gb blocked by ns/first on GPU 0"),
        "{text}"
    );
}

#[test]
fn other_pods_in_the_way_are_no_news_until_the_sentence_is_repeated() {
    let mut bench = Bench::new(&[("a", 1)]);
    bench.world.config.window_after = None;
    blocked(&mut bench);
    let told = |bench: &Bench| {
        bench
            .notes
            .iter()
            .filter(|n| n.pod.name() == "whole")
            .count()
    };
    bench.create("other", &[(THREE, 1)]);
    bench.run();
    bench.bind("other", "a");
    bench.finish("train");
    bench.pass(Duration::from_mins(5));
    assert_eq!(told(&bench), 1);
    bench.pass(Duration::from_mins(10));
    assert_eq!(told(&bench), 2);
    let last = bench.notes.iter().rfind(|note| note.pod.name() == "whole");
    let text = &last.unwrap().text;
    assert!(text.contains("blocked by ns/other on GPU 0"), "{text}");
}

#[test]
fn one_page_looks_for_who_is_in_the_way_of_so_many_wishes_and_no_more() {
    let mut bench = Bench::new(&[("a", 10)]);
    bench.create("all", &[(SEVEN, 10)]);
    bench.run();
    bench.bind("all", "a");
    for count in 1..=66 {
        bench.create(&format!("pod-{count}"), &[(ONE, count)]);
    }
    bench.run();
    let clock = Clock {
        now: bench.now,
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    let waiting = bench.world.report("controller-0", None, clock).waiting;
    let say = |words: &str| {
        waiting
            .iter()
            .filter(|pod| pod.message.contains(words))
            .count()
    };
    assert_eq!(say("blocked by ns/all on"), 64);
    assert_eq!(say("running pods are in the way"), 2);
}

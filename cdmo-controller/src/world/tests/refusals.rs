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

//! docs/fractions.md quotes what the webhook says, and shows what it writes.

use serde_json::json;

use crate::server::{create, yaml};

const DOCUMENT: &str = include_str!("../../../../docs/fractions.md");

/// The sources that sentences are in, without the breaks of long literals.
fn sources() -> String {
    let texts = [
        include_str!("../../src/container.rs"),
        include_str!("../../src/plan.rs"),
        include_str!("../../src/plan/pod_word.rs"),
        include_str!("../../src/plan/slot.rs"),
        include_str!("../../src/review.rs"),
        include_str!("../../src/words.rs"),
    ];
    let mut joined = String::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let line = line.trim();
        joined.push_str(line.trim_end_matches('\\'));
        if !line.ends_with('\\') {
            joined.push('\n');
        }
    }
    joined
        .replace("\\\"", "\"")
        .replace("{MAX_GPUS}", "32")
        .replace("{why}: ", "\n")
}

#[test]
fn every_sentence_that_is_quoted_is_in_the_source() {
    let sources = sources();
    let (_, said) = DOCUMENT.split_once("## What is refused").unwrap();
    let quoted: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .collect();
    assert!(quoted.len() >= 15);
    for sentence in quoted {
        for part in sentence
            .split('…')
            .flat_map(|part| part.split(": ask for a share"))
        {
            let part = part
                .trim_matches([' ', ',', ';', '"'])
                .trim_start_matches("but ");
            assert!(sources.contains(part), "{part:?} of {sentence:?}");
        }
    }
}

#[test]
fn the_example_is_stored_as_it_is_shown() {
    let blocks: Vec<&str> = DOCUMENT
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let stored = create("pods", &yaml(blocks[0])).unwrap().object;
    let shown = yaml(blocks[1]);
    assert_eq!(
        stored["metadata"]["annotations"],
        shown["metadata"]["annotations"]
    );
    let (stored, shown) = (
        &stored["spec"]["containers"][0],
        &shown["spec"]["containers"][0],
    );
    assert_eq!(stored["resources"], shown["resources"]);
    assert_eq!(stored["env"], shown["env"]);

    let queue = yaml(blocks[2]);
    let pod = json!({"spec": {"containers": [{"name": "main", "resources": queue["resources"]}]}});
    assert_eq!(create("pods", &pod).unwrap().warnings, [""; 0]);
}

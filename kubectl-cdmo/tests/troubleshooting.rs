//! The sentences that docs/troubleshooting.md quotes are those that the programs write.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it, too")]

use std::fs;
use std::path::Path;

/// All string literals of these crates are in here, joined where they are broken into lines.
fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = [
        "cdmo-controller",
        "crates/mig",
        "crates/mtls",
        "crates/nvml-mig",
        "crates/planner",
        "device-plugin",
        "kubectl-cdmo",
        "mig-node-agent",
    ];
    let mut text = String::new();
    for name in crates {
        read(&root.join(name).join("src"), &mut text);
    }
    text
}

fn read(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // What only tests say nobody sees.
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            read(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let mut continued = false;
            for line in source.lines() {
                let line = if continued { line.trim_start() } else { line };
                continued = line.ends_with('\\');
                text.push_str(line.trim_end_matches('\\'));
                if !continued {
                    text.push('\n');
                }
            }
        }
    }
}

#[test]
fn every_sentence_quoted_in_troubleshooting_is_one_of_ours() {
    let document = include_str!("../../docs/troubleshooting.md");
    let sources = sources();
    let quotes: Vec<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .collect();
    assert!(quotes.len() > 40, "the page quotes what people see");
    // Where names and numbers stand, and where a code's own words begin, the sentence is broken.
    let missing: Vec<_> = quotes
        .iter()
        .flat_map(|quote| quote.split(['…', '(']))
        .map(|part| part.trim().trim_end_matches(':').trim_end_matches(')'))
        .filter(|part| part.len() > 3 && !sources.contains(part))
        .collect();
    assert!(missing.is_empty(), "nobody writes: {missing:#?}");
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for page in ["troubleshooting.md", "status.md"] {
        let text = fs::read_to_string(docs.join(page)).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page } else { file };
            let found = fs::read_to_string(docs.join(file));
            let Ok(found) = found else {
                panic!("{page} links to {target}, which is not there");
            };
            let headings = found.lines().filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|line| {
                let words = line.trim_start_matches('#').trim().to_lowercase();
                words.replace(' ', "-")
            });
            assert!(
                anchor.is_empty() || anchors.any(|known| known == anchor),
                "{page} links to {target}, a heading that is not there"
            );
        }
    }
}

//! The fuzz target's corpus, replayed and mutated.

use std::{fs, path::Path};

use proptest::prelude::*;
use proptest::sample::Index;

use crate::invariants::check;

/// All bodies of the corpus, by name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/review");
    let mut bodies: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        })
        .collect();
    bodies.sort();
    bodies
}

#[test]
fn every_body_of_the_corpus_is_answered_as_it_must_be() {
    let bodies = corpus();
    assert!(bodies.len() >= 20, "{}", bodies.len());
    for (name, body) in bodies {
        println!("{name}");
        check(&body);
    }
}

/// Pieces that mean something to the webhook.
const PIECES: [&str; 16] = [
    "null",
    "0",
    "-1",
    "[]",
    "{}",
    "\"\"",
    "\"1.3\"",
    "\"0.5\"",
    "\"1e3\"",
    "\"clear.ml/fraction-1\"",
    "\"cdmo.clear.ml/fraction-0.500\"",
    "\"nvidia.com/mig-3g.20gb\"",
    "\"UPDATE\"",
    "\"Always\"",
    "true",
    "\"cronjobs\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bodies_with_other_values_are_answered_as_they_must_be(
        body in any::<Index>(), places in prop::collection::vec((any::<Index>(), 0..PIECES.len()), 1..6),
    ) {
        let bodies = corpus();
        let Ok(mut value) = serde_json::from_slice(&body.get(&bodies).1) else {
            return Ok(());
        };
        for (place, piece) in places {
            let mut count = 0;
            visit(&mut value, &mut |_| count += 1);
            let (wanted, mut at) = (place.index(count), 0);
            let piece: serde_json::Value = serde_json::from_str(PIECES[piece]).unwrap();
            visit(&mut value, &mut |value| {
                if at == wanted {
                    *value = piece.clone();
                }
                at += 1;
            });
        }
        // Else hardly anything is left to look at.
        for (field, text) in [("kind", "AdmissionReview"), ("apiVersion", "admission.k8s.io/v1")] {
            if value.is_object() {
                value[field] = text.into();
            }
        }
        check(value.to_string().as_bytes());
    }

    #[test]
    fn bodies_with_other_bytes_are_answered_as_they_must_be(
        body in any::<Index>(), cut in any::<Index>(), bytes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..8),
    ) {
        let bodies = corpus();
        let mut body = body.get(&bodies).1.clone();
        for (place, byte) in bytes {
            if !body.is_empty() {
                let place = place.index(body.len());
                body[place] = byte;
            }
        }
        if cut.index(4) == 0 {
            body.truncate(cut.index(body.len() + 1));
        }
        check(&body);
    }
}

/// Every value in a value, itself first; what replaces one is visited in its place.
fn visit(value: &mut serde_json::Value, see: &mut dyn FnMut(&mut serde_json::Value)) {
    see(value);
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| visit(item, see)),
        serde_json::Value::Object(members) => {
            members.values_mut().for_each(|member| visit(member, see));
        }
        _ => {}
    }
}

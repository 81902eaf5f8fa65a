use proptest::prelude::*;

use super::*;
use crate::journal::PodIdentity;

fn grant(id: &str) -> Record {
    Record::Grant {
        resource: "nvidia.com/mig-1g.5gb".into(),
        ids: vec![id.into()],
    }
}

fn journal(ids: &[&str]) -> Vec<u8> {
    let mut bytes = render(&Recorded::default());
    for id in ids {
        encode(&grant(id), &mut bytes);
    }
    bytes
}

fn held(reading: &Reading) -> Vec<&str> {
    let ids = reading.recorded.holds.keys();
    ids.map(|(_, id)| id.as_str()).collect()
}

#[test]
fn an_empty_journal_says_nothing() {
    assert_eq!(read(b""), Ok(Reading::default()));
    assert_eq!(read(&journal(&[])), Ok(Reading::default()));
}

#[test]
fn garbage_in_the_middle_costs_only_its_own_line() {
    let mut bytes = journal(&["a"]);
    bytes.extend_from_slice(b"\x00\xff garbage\n");
    encode(&grant("b"), &mut bytes);
    let reading = read(&bytes).unwrap();
    assert_eq!(held(&reading), ["a", "b"]);
    assert_eq!((reading.damaged_lines, reading.first_damaged), (1, 3));
    assert_eq!(reading.torn, 0);
}

#[test]
fn a_flipped_bit_is_noticed() {
    let mut bytes = journal(&["a", "b"]);
    let first_grant = bytes.iter().position(|b| *b == b'\n').unwrap() + 20;
    bytes[first_grant] ^= 1;
    let reading = read(&bytes).unwrap();
    assert_eq!(reading.damaged_lines, 1);
    assert_eq!(held(&reading), ["b"]);
}

#[test]
fn a_newer_format_is_not_guessed_at() {
    assert_eq!(read(b"cdmo-journal 2\nwhatever\n"), Err(Newer(2)));
}

#[test]
fn a_file_that_is_no_journal_is_damage() {
    let reading = read(b"#!/bin/sh\necho hello\n").unwrap();
    assert!(reading.damaged_lines > 0);
    assert_eq!(reading.recorded, Recorded::default());
}

#[test]
fn a_file_without_any_line_is_damage_unless_it_began_as_a_journal() {
    let reading = read(&[0xff; 300]).unwrap();
    assert_eq!(
        (reading.damaged_lines, reading.first_damaged, reading.torn),
        (1, 1, 0)
    );
    let header = journal(&[]);
    for cut in 0..header.len() {
        let reading = read(&header[..cut]).unwrap();
        assert_eq!((reading.damaged_lines, reading.torn), (0, cut));
    }
}

#[test]
fn a_change_of_boot_voids_hardware_records_but_not_holds() {
    let mut recorded = Recorded::default();
    recorded.apply(&Record::Boot { id: "one".into() });
    recorded.apply(&grant("a"));
    recorded.apply(&Record::Begin {
        op: 1,
        gpu: "GPU".into(),
        change: super::super::Change::TurnOn,
    });
    recorded.apply(&Record::Boot { id: "two".into() });
    assert!(recorded.half_done.is_empty());
    assert_eq!(recorded.holds.len(), 1);
}

fn any_pods() -> impl Strategy<Value = Vec<PodIdentity>> {
    let pod = "[ab]?".prop_map(|uid| PodIdentity {
        uid,
        ..PodIdentity::unseen()
    });
    proptest::collection::vec(pod, 0..3)
}

fn any_record() -> impl Strategy<Value = Record> {
    let word = "[a-z\"\\\\\n ]{0,6}";
    prop_oneof![
        (0u64..9).prop_map(|epoch| Record::Epoch { epoch }),
        word.prop_map(|id| Record::Boot { id }),
        (word, proptest::collection::vec(word, 0..3))
            .prop_map(|(resource, ids)| Record::Grant { resource, ids }),
        (word, word).prop_map(|(resource, id)| Record::Release { resource, id }),
        (word, word, any_pods()).prop_map(|(resource, id, pods)| Record::Gone {
            resource,
            id,
            pods
        }),
        (0u64..4, word).prop_map(|(op, gpu)| Record::Begin {
            op,
            gpu,
            change: super::super::Change::Complete { instance: 3 },
        }),
        (0u64..4).prop_map(|op| Record::End { op }),
        (word, 0u32..4, proptest::option::of(word)).prop_map(|(gpu, instance, resource)| {
            Record::Exposed {
                gpu,
                instance,
                profile: "1g.5gb".into(),
                start: 0,
                resource,
            }
        }),
    ]
}

proptest! {
    #[test]
    fn compaction_changes_nothing(records in proptest::collection::vec(any_record(), 0..40)) {
        let mut recorded = Recorded::default();
        for record in &records {
            recorded.apply(record);
        }
        let reading = read(&render(&recorded)).unwrap();
        prop_assert_eq!(reading.recorded, recorded);
        prop_assert_eq!((reading.torn, reading.damaged_lines), (0, 0));
    }

    #[test]
    fn a_journal_cut_anywhere_keeps_every_record_before_the_cut(
        records in proptest::collection::vec(any_record(), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = render(&Recorded::default());
        let mut ends = vec![(bytes.len(), Recorded::default())];
        for record in &records {
            encode(record, &mut bytes);
            let mut so_far = ends.last().unwrap().1.clone();
            so_far.apply(record);
            ends.push((bytes.len(), so_far));
        }
        let cut = cut.index(bytes.len());
        let reading = read(&bytes[..cut]).unwrap();
        let expected = ends.iter().rev().find(|(end, _)| *end <= cut);
        let expected = expected.map(|(_, so_far)| so_far.clone()).unwrap_or_default();
        prop_assert_eq!(reading.recorded, expected);
        prop_assert_eq!(reading.damaged_lines, 0);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }
}

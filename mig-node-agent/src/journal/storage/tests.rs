use super::super::{Journal, Record};
use super::*;

fn epoch(epoch: u64) -> Record {
    Record::Epoch { epoch }
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    format::encode(record, &mut bytes);
    bytes
}

#[test]
fn what_was_appended_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.storage.append(&encoded(&epoch(4))).unwrap();
    drop(opened);
    assert_eq!(open(dir.path()).unwrap().recorded.epoch, 4);
}

#[test]
fn a_torn_tail_is_cut_off_and_writing_goes_on_behind_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.storage.append(&encoded(&epoch(4))).unwrap();
    let torn = encoded(&epoch(5));
    opened.storage.append(&torn[..torn.len() / 2]).unwrap();
    drop(opened);
    let mut opened = open(dir.path()).unwrap();
    assert_eq!(opened.recorded.epoch, 4);
    assert_eq!(opened.damage, None);
    opened.storage.append(&encoded(&epoch(6))).unwrap();
    drop(opened);
    let opened = open(dir.path()).unwrap();
    assert_eq!((opened.recorded.epoch, opened.damage), (6, None));
}

#[test]
fn a_damaged_journal_is_reported_kept_aside_and_whole_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut opened = open(dir.path()).unwrap();
    opened.storage.append(&encoded(&epoch(4))).unwrap();
    opened.storage.append(b"garbage\n").unwrap();
    opened.storage.append(&encoded(&epoch(5))).unwrap();
    drop(opened);
    let before = std::fs::read(&path).unwrap();
    let opened = open(dir.path()).unwrap();
    assert_eq!(opened.recorded.epoch, 5);
    let damage = opened.damage.as_deref().unwrap();
    assert!(damage.contains("line 3"), "{damage}");
    drop(opened);
    assert_eq!(
        std::fs::read(dir.path().join("journal.damaged")).unwrap(),
        before
    );
    assert_eq!(open(dir.path()).unwrap().damage, None);
}

#[test]
fn a_second_agent_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Locked { .. })));
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn a_newer_journal_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    std::fs::write(&path, "cdmo-journal 9\nfuture\n").unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("format 9"), "{error}");
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "cdmo-journal 9\nfuture\n"
    );
}

#[tokio::test]
async fn a_long_journal_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path()).unwrap();
    let (journal, closed) = Journal::start(opened.storage, opened.recorded).unwrap();
    for round in 1..20 {
        let records = (0..300).map(|n| epoch(round * 1000 + n)).collect();
        journal.write(records).await.unwrap();
    }
    drop(journal);
    closed.await.unwrap();
    let length = std::fs::metadata(dir.path().join("journal")).unwrap().len();
    assert!(length < 100_000, "{length}");
    assert_eq!(open(dir.path()).unwrap().recorded.epoch, 19_299);
}

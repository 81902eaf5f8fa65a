use std::io;
use std::sync::Mutex;

use super::*;

/// A disk that can be full.
#[derive(Clone, Default)]
struct Disk {
    state: Arc<Mutex<(Vec<u8>, bool)>>,
}

impl Storage for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if state.1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.0.extend_from_slice(bytes);
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.state.lock().unwrap().0 = bytes.to_vec();
        Ok(())
    }

    fn size(&self) -> u64 {
        self.state.lock().unwrap().0.len() as u64
    }
}

fn epoch(epoch: u64) -> Vec<Record> {
    vec![Record::Epoch { epoch }]
}

#[tokio::test]
async fn a_full_disk_fails_the_write_and_nothing_else() {
    let disk = Disk::default();
    let (journal, closed) = Journal::start(disk.clone(), Recorded::default()).unwrap();
    journal.write(epoch(1)).await.unwrap();
    disk.state.lock().unwrap().1 = true;
    let error = journal.write(epoch(2)).await.unwrap_err();
    assert!(matches!(error, WriteError::Disk(_)), "{error}");
    assert!(journal.trouble().borrow().is_some());
    disk.state.lock().unwrap().1 = false;
    journal.write(epoch(3)).await.unwrap();
    assert_eq!(*journal.trouble().borrow(), None);
    drop(journal);
    closed.await.unwrap();
    let text = String::from_utf8(disk.state.lock().unwrap().0.clone()).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[tokio::test]
async fn a_note_is_written_before_what_comes_after_it() {
    let disk = Disk::default();
    let (journal, _closed) = Journal::start(disk.clone(), Recorded::default()).unwrap();
    journal.note(epoch(1)).unwrap();
    journal.write(epoch(2)).await.unwrap();
    let text = String::from_utf8(disk.state.lock().unwrap().0.clone()).unwrap();
    let at = |epoch: &str| text.find(&format!("\"epoch\":{epoch}")).unwrap();
    assert!(at("1") < at("2"), "{text}");
}

#[tokio::test]
async fn everything_is_written_before_the_journal_counts_as_closed() {
    let disk = Disk::default();
    let (journal, closed) = Journal::start(disk.clone(), Recorded::default()).unwrap();
    let (first, second) = tokio::join!(journal.write(epoch(1)), journal.write(epoch(2)));
    first.and(second).unwrap();
    drop(journal);
    closed.await.unwrap();
    assert_eq!(disk.size(), {
        let mut bytes = Vec::new();
        format::encode(&Record::Epoch { epoch: 1 }, &mut bytes);
        2 * bytes.len() as u64
    });
}

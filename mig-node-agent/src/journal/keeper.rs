//! One thread that writes the journal, so that no async worker ever waits for a disk, and so that
//! records that arrive together are synced together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::format;
use super::record::{Record, Recorded};
use super::storage::Storage;

/// Records waiting for the disk; more than this and the writer is told so.
const QUEUE: usize = 256;
/// Longest that anybody waits for the disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// Below this, compaction is not worth a second file.
const SMALL: u64 = 64 << 10;

/// Why a fact is not on disk. The act that it describes must not be done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk refused.
    #[error("failed to write the journal: {0}")]
    Disk(Arc<std::io::Error>),
    /// The disk does not answer, or too much is waiting for it.
    #[error("failed to write the journal: the disk does not keep up")]
    Slow,
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

struct Entry {
    records: Vec<Record>,
    reply: oneshot::Sender<Result<(), WriteError>>,
}

/// Handle to the journal.
#[derive(Clone, Debug)]
pub struct Journal {
    entries: mpsc::Sender<Entry>,
    trouble: watch::Receiver<Option<String>>,
}

impl Journal {
    /// Starts the thread that writes; it ends when the last handle is dropped, and the receiver
    /// resolves once everything is on disk.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn start(
        storage: impl Storage,
        recorded: Recorded,
    ) -> std::io::Result<(Self, oneshot::Receiver<()>)> {
        let (entries, queue) = mpsc::channel(QUEUE);
        let (ended, closed) = oneshot::channel();
        let (shown, trouble) = watch::channel(None);
        std::thread::Builder::new()
            .name("journal".into())
            .stack_size(128 << 10)
            .spawn(move || {
                keep(storage, recorded, queue, &shown);
                // Nobody listens where nobody cares when it closed.
                let _ = ended.send(());
            })?;
        Ok((Self { entries, trouble }, closed))
    }

    /// Why the last write failed, as a sentence; none while writing works.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    /// Writes facts and returns once they would survive a crash.
    ///
    /// # Errors
    /// [`WriteError`]; the facts may then be on disk or not, and the act must not be done.
    pub async fn write(&self, records: Vec<Record>) -> Result<(), WriteError> {
        match tokio::time::timeout(PATIENCE, self.enter(records)?).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(WriteError::Closed),
            Err(_) => Err(WriteError::Slow),
        }
    }

    /// Writes facts that nothing waits for, after everything that was to be written before.
    ///
    /// # Errors
    /// [`WriteError`], if they cannot even wait for the disk.
    pub fn note(&self, records: Vec<Record>) -> Result<(), WriteError> {
        self.enter(records).map(drop)
    }

    fn enter(
        &self,
        records: Vec<Record>,
    ) -> Result<oneshot::Receiver<Result<(), WriteError>>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let entered = self.entries.try_send(Entry { records, reply });
        entered.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::Slow,
            mpsc::error::TrySendError::Closed(_) => WriteError::Closed,
        })?;
        Ok(answer)
    }
}

fn keep(
    mut storage: impl Storage,
    mut recorded: Recorded,
    mut queue: mpsc::Receiver<Entry>,
    trouble: &watch::Sender<Option<String>>,
) {
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < QUEUE
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        let mut bytes = Vec::new();
        for record in batch.iter().flat_map(|entry| &entry.records) {
            format::encode(record, &mut bytes);
        }
        let result = storage
            .append(&bytes)
            .map_err(|error| WriteError::Disk(Arc::new(error)));
        let sentence = result.as_ref().err().map(|error| {
            format!("No device can be granted, made or destroyed: {error}; see to the disk under --state-dir.")
        });
        trouble.send_if_modified(|shown| std::mem::replace(shown, sentence.clone()) != sentence);
        for entry in batch {
            if result.is_ok() {
                entry.records.iter().for_each(|r| recorded.apply(r));
            }
            // A writer that gave up waiting needs no answer.
            let _ = entry.reply.send(result.clone());
        }
        match result {
            Ok(()) => compact(&mut storage, &recorded),
            Err(error) => tracing::error!(%error, "What was to be journaled is not done"),
        }
    }
}

fn compact(storage: &mut impl Storage, recorded: &Recorded) {
    if storage.size() < SMALL {
        return;
    }
    let whole = format::render(recorded);
    if storage.size() < 4 * whole.len() as u64 {
        return;
    }
    if let Err(error) = storage.replace(&whole) {
        tracing::warn!(%error, "Failed to compact the journal; it goes on growing");
    }
}

#[cfg(test)]
mod tests;

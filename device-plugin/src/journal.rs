//! Writes to the agent's ledger: one after the other, and none waited for without end.
//!
//! A call that takes too long cannot be taken back, so it is not dropped but left to end by itself,
//! and no other begins before: a release that comes to the disk late must not strike out a newer
//! grant. Until then everybody else is told that the journal is busy.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use crate::{Holder, Ledger, LedgerError};

/// The ledger and whose turn it is.
pub(crate) struct Journal {
    ledger: Arc<dyn Ledger>,
    limit: Duration,
    turn: Arc<Mutex<()>>,
}

/// Nobody else writes meanwhile.
pub(crate) struct Turn {
    ledger: Arc<dyn Ledger>,
    limit: Duration,
    until: Instant,
    guard: OwnedMutexGuard<()>,
}

/// What is written.
pub(crate) enum Line {
    Grant {
        resource: String,
        ids: Vec<String>,
    },
    Release {
        resource: String,
        id: String,
    },
    HeldBy {
        resource: String,
        id: String,
        holder: Holder,
    },
    Settled {
        resource: String,
        id: String,
        present: Option<Holder>,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Nothing was written.
    #[error("it is busy with an earlier write for more than {0:?}")]
    Busy(Duration),
    #[error("{0}")]
    Failed(LedgerError),
    /// It may be written yet.
    #[error("it did not answer within {0:?}")]
    Late(Duration),
}

impl Journal {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, limit: Duration) -> Self {
        Self {
            ledger,
            limit,
            turn: Arc::default(),
        }
    }

    /// Waits for the turn. The time limit is that of waiting and writing together.
    pub(crate) async fn turn(&self) -> Result<Turn, JournalError> {
        let until = Instant::now() + self.limit;
        let guard = tokio::time::timeout_at(until, Arc::clone(&self.turn).lock_owned());
        Ok(Turn {
            guard: guard.await.map_err(|_| JournalError::Busy(self.limit))?,
            ledger: Arc::clone(&self.ledger),
            limit: self.limit,
            until,
        })
    }

    /// Waits for the turn and writes.
    pub(crate) async fn write(&self, line: Line) -> Result<(), JournalError> {
        self.turn().await?.write(line).await
    }
}

impl Turn {
    pub(crate) async fn write(self, line: Line) -> Result<(), JournalError> {
        let (ledger, guard) = (self.ledger, self.guard);
        // Not among the tasks that a shutdown waits for: it may never end.
        let call = tokio::spawn(async move {
            let written = line.write(&*ledger).await;
            drop(guard);
            written
        });
        match tokio::time::timeout_at(self.until, call).await {
            Ok(Ok(written)) => written.map_err(JournalError::Failed),
            Ok(Err(ended)) => Err(JournalError::Failed(ended.into())),
            Err(_) => Err(JournalError::Late(self.limit)),
        }
    }
}

impl Line {
    async fn write(&self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        match self {
            Self::Grant { resource, ids } => ledger.grant(resource, ids).await,
            Self::Release { resource, id } => ledger.release(resource, id).await,
            Self::HeldBy {
                resource,
                id,
                holder,
            } => ledger.held_by(resource, id, holder).await,
            Self::Settled {
                resource,
                id,
                present,
            } => ledger.settled(resource, id, present.as_ref()).await,
        }
    }
}

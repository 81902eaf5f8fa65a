//! What changed, in order: a bounded ring per kind from which every watch reads at its own
//! position, so that a slow watcher costs nobody else anything and is told `Gone` when it has
//! fallen off the end.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tokio::sync::watch;

use super::{Kind, Store};

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It has another resource version.
    Modified,
    /// It is gone; the event carries its last state with the version of the deletion.
    Deleted,
}

impl Change {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change of one object.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The object after the change.
    pub object: Arc<Value>,
    /// The object before the change; none if it was added.
    pub previous: Option<Arc<Value>>,
    /// Resource version of the change.
    pub rv: u64,
    json: OnceLock<String>,
}

impl Event {
    pub(super) fn new(
        change: Change,
        object: Arc<Value>,
        previous: Option<Arc<Value>>,
        rv: u64,
    ) -> Self {
        Self {
            change,
            object,
            previous,
            rv,
            json: OnceLock::new(),
        }
    }

    /// The object as JSON; made once, however many watchers there are.
    pub(crate) fn json(&self) -> &str {
        self.json.get_or_init(|| self.object.to_string())
    }
}

/// The wanted resource version is older than what history still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Gone {
    /// The version asked for.
    pub asked: u64,
    /// The oldest version from which history is complete.
    pub oldest: u64,
}

/// The last changes of one kind.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    /// Version of the youngest event that was thrown away.
    floor: u64,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            events: VecDeque::new(),
            capacity,
            floor: 0,
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push_back(Arc::new(event));
        while self.events.len() > self.capacity {
            self.drop_oldest();
        }
    }

    /// Throws all events away, as etcd's compaction does; `now` is the current version.
    pub(super) fn compact(&mut self, now: u64) {
        self.events.clear();
        self.floor = now;
    }

    fn drop_oldest(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.floor = event.rv;
        }
    }

    pub(super) fn check(&self, from: u64) -> Result<(), Gone> {
        if from < self.floor {
            return Err(Gone {
                asked: from,
                oldest: self.floor,
            });
        }
        Ok(())
    }

    /// The events after `from`, oldest first.
    pub(super) fn after(
        &self,
        from: u64,
    ) -> Result<impl DoubleEndedIterator<Item = &Arc<Event>>, Gone> {
        self.check(from)?;
        let first = self.events.partition_point(|event| event.rv <= from);
        Ok(self.events.range(first..))
    }
}

/// A position in the history of one kind.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    kind: Kind,
    after: u64,
    changed: watch::Receiver<u64>,
}

impl Watch {
    pub(super) fn new(store: Store, kind: Kind, after: u64, changed: watch::Receiver<u64>) -> Self {
        Self {
            store,
            kind,
            after,
            changed,
        }
    }

    /// The next change. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Arc<Event>, Gone> {
        loop {
            self.changed.borrow_and_update();
            if let Some(event) = self.take(1)?.pop() {
                return Ok(event);
            }
            if self.changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// All changes so far that were not taken yet, at most `limit`; empty if there are none.
    pub fn take(&mut self, limit: usize) -> Result<Vec<Arc<Event>>, Gone> {
        let events = self.store.changes(self.kind, self.after, limit)?;
        if let Some(last) = events.last() {
            self.after = last.rv;
        }
        Ok(events)
    }

    /// The version up to which changes were taken.
    pub fn position(&self) -> u64 {
        self.after
    }
}

//! What must be looked at again at a certain time.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::names::PodKey;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// All demands.
    Plan,
    /// A node.
    Node(String),
    /// An operation whose time may have run out.
    Operation(String),
    /// A pod that may have to be told something.
    Tell(PodKey),
    /// A pod for which devices lie ready, and which may not have been bound since.
    Remind(PodKey),
    /// A pod whose scheduling gate may have to go.
    Gate(PodKey),
    /// Pods that came and went, which are to be replayed.
    Replay,
}

/// All alarms that are set. One may ring without need; whoever hears it looks for himself.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeSet<(Instant, Alarm)>);

impl Alarms {
    /// Rings at that time.
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm) {
        self.0.insert((at, alarm));
    }

    /// The next time anything rings.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes an alarm that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, alarm)| alarm)
    }
}

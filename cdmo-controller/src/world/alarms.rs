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
pub(super) struct Alarms {
    /// The first [`Alarm::Plan`]. Others are not remembered: each pass looks at all demands, and sets what it needs then.
    plan: Option<Instant>,
    others: BTreeSet<(Instant, Alarm)>,
}

impl Alarms {
    /// Rings at that time.
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm) {
        if alarm == Alarm::Plan {
            self.plan = self.plan.into_iter().chain([at]).min();
        } else {
            self.others.insert((at, alarm));
        }
    }

    /// A pass is being made: whatever was to be looked at in one is looked at now.
    pub(super) fn planning(&mut self) {
        self.plan = None;
    }

    /// The next time anything rings.
    pub(super) fn next(&self) -> Option<Instant> {
        let other = self.others.first().map(|(at, _)| *at);
        self.plan.into_iter().chain(other).min()
    }

    /// When a pass is to be made.
    #[cfg(test)]
    pub(super) fn next_plan(&self) -> Option<Instant> {
        self.plan
    }

    /// Takes an alarm that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Alarm> {
        if self.plan.is_some_and(|at| at <= now) {
            self.plan = None;
            return Some(Alarm::Plan);
        }
        if self.others.first()?.0 > now {
            return None;
        }
        self.others.pop_first().map(|(_, alarm)| alarm)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn of_all_passes_that_are_to_be_made_the_first_is_remembered_until_one_is() {
        let (mut alarms, now) = (Alarms::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for seconds in [3, 2, 4] {
            alarms.set(at(seconds), Alarm::Plan);
        }
        alarms.set(at(1), Alarm::Replay);
        assert_eq!(alarms.next(), Some(at(1)));
        assert_eq!(alarms.due(now), None);
        assert_eq!(alarms.due(at(9)), Some(Alarm::Plan));
        assert_eq!(alarms.due(at(9)), Some(Alarm::Replay));
        assert_eq!((alarms.due(at(9)), alarms.next()), (None, None));
        alarms.set(at(3), Alarm::Plan);
        alarms.planning();
        assert_eq!(alarms.next(), None);
    }
}

//! When a node's kubelet will write the node's status next, as far as that can be told.
//!
//! A kubelet looks at the status every ten seconds, and puts its own counts back where we lowered
//! them. A pod that the scheduler sends to a device on the strength of that, in the tens of
//! milliseconds before the kubelet hears that the device is withdrawn, is failed by the kubelet for
//! good. Nothing can call the kubelet's write off; but having written once it keeps quiet for ten
//! seconds, so devices are withdrawn while no write is due.
//!
//! The period is the default of `nodeStatusUpdateFrequency`, and up to 4 % longer each time
//! (`pkg/kubelet/kubelet.go`: `wait.JitterUntil(kl.syncNodeStatus, .., 0.04, true, ..)`). It writes
//! only if something differs, or every five minutes, so after a minute its rhythm is lost; then
//! there is no waiting, and the odds are those of a hundredth of a second in ten.

use std::time::Duration;

use tokio::time::Instant;

const PERIOD: Duration = Duration::from_secs(10);
/// By how much a period may be longer, in percent.
const JITTER: u32 = 4;
/// Time before a write from which on nothing should be withdrawn: for the withdrawal itself.
const BEFORE: Duration = Duration::from_millis(500);
/// Time that a write takes to be seen here.
const AFTER: Duration = Duration::from_millis(500);
/// Precision of the heartbeat that a node's status carries.
const SECOND: Duration = Duration::from_secs(1);
/// Periods after which the rhythm is lost.
const REMEMBERED: u32 = 5;

/// The rhythm of one kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    wrote: Instant,
    /// It may have been so much later.
    unsure: Duration,
}

impl Beat {
    /// A write was seen just now.
    pub fn seen(now: Instant) -> Self {
        Self {
            wrote: now,
            unsure: Duration::ZERO,
        }
    }

    /// A heartbeat says that there was one in the second that began then.
    pub fn told(wrote: Instant) -> Self {
        Self {
            wrote,
            unsure: SECOND,
        }
    }

    /// If a write is due about now: when it is over.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        (1..=REMEMBERED)
            .map(|periods| {
                let from = (PERIOD * periods).saturating_sub(BEFORE);
                let longer = PERIOD * periods * JITTER / 100;
                let to = PERIOD * periods + longer + self.unsure + AFTER;
                (self.wrote + from, self.wrote + to)
            })
            .find(|(from, to)| (*from..*to).contains(&now))
            .map(|(_, to)| to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(milliseconds: u64) -> Option<u128> {
        let wrote = Instant::now();
        let now = wrote + Duration::from_millis(milliseconds);
        let until = Beat::seen(wrote).due(now)?;
        Some((until - wrote).as_millis())
    }

    #[test]
    fn a_kubelet_that_just_wrote_is_quiet_for_a_while() {
        assert_eq!(after(0), None);
        assert_eq!(after(9_499), None);
    }

    #[test]
    fn a_write_is_due_every_ten_seconds_and_each_is_less_sure_than_the_one_before() {
        assert_eq!(after(9_500), Some(10_900));
        assert_eq!(after(10_899), Some(10_900));
        assert_eq!(after(10_900), None);
        assert_eq!(after(30_000), Some(31_700));
    }

    #[test]
    fn after_a_minute_nobody_knows() {
        assert_eq!(after(60_000), None);
        assert_eq!(after(300_000), None);
    }

    #[test]
    fn a_heartbeat_is_a_second_less_sure() {
        let wrote = Instant::now();
        let due = Beat::told(wrote).due(wrote + PERIOD);
        assert_eq!(due, Some(wrote + Duration::from_millis(11_900)));
    }
}

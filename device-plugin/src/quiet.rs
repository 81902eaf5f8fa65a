//! Keeps our questions to podresources out of the admission of pods.
//!
//! The kubelet marks devices as taken, calls Allocate without its lock, and only after the answer
//! remembers whose they are. If a List in between frees what another pod had, the kubelet computes
//! the marks anew from what it remembers (dm/manager.go, `UpdateAllocatedDevices`), and the marks of
//! the admission under way are lost: it may refuse the pod for want of the devices just granted, or
//! give them to another one as well. Others may ask List, too, but nobody asks as often as we do.
//!
//! `GetPreferredAllocation` comes before the marks, so that is where the quiet begins.

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Timing;

/// The admission under way.
#[derive(Debug, Default)]
struct Admission {
    /// Calls to Allocate that we have not answered: while there are any, it is not over.
    in_hand: u32,
    /// Over by then at the latest; none if it is over.
    until: Option<Instant>,
    /// What was granted in it. A container that starts with one of these is proof that the kubelet
    /// remembers.
    granted: Vec<String>,
}

impl Admission {
    fn is_under_way(&self, now: Instant) -> bool {
        self.in_hand > 0 || self.until.is_some_and(|until| until > now)
    }
}

/// What a kubelet is doing.
#[derive(Debug)]
pub(crate) enum Occupied<'a> {
    /// It admits no pod, nor will it while this is kept, unless it is kept for long.
    Idle(MutexGuard<'a, ()>),
    /// It waits for our answer to Allocate.
    Waiting,
    /// It admits a pod, or answers a List.
    Busy,
}

/// A call to Allocate that is being answered.
#[derive(Debug)]
pub(crate) struct InHand<'a> {
    quiet: &'a Quiet,
    ids: Vec<String>,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let granted = std::mem::take(&mut self.ids);
        let rest = self.quiet.timing.admission_rest;
        self.quiet.admission.send_modify(|admission| {
            admission.in_hand = admission.in_hand.saturating_sub(1);
            admission.until = Some(Instant::now() + rest);
            admission.granted = granted;
        });
    }
}

/// Whether List may be called.
#[derive(Debug)]
pub(crate) struct Quiet {
    timing: Timing,
    admission: watch::Sender<Admission>,
    listing: Mutex<()>,
}

impl Quiet {
    /// No admission is under way.
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            timing,
            admission: watch::Sender::default(),
            listing: Mutex::default(),
        }
    }

    /// The kubelet is about to take devices: no List begins from now on, and none is under way when
    /// this returns.
    pub(crate) async fn begin(&self) {
        // A kubelet that does not answer List must not keep its pods waiting for ever.
        let _turn = timeout(self.timing.admission_wait, self.listing.lock()).await;
        let until = Instant::now() + self.timing.admission_timeout;
        self.admission.send_modify(|admission| {
            admission.until = Some(until);
            admission.granted.clear();
        });
    }

    /// The kubelet calls Allocate for these devices, and waits until this is dropped.
    pub(crate) fn allocates(&self, ids: Vec<String>) -> InHand<'_> {
        self.admission.send_modify(|admission| {
            admission.in_hand += 1;
            admission.granted.clear();
        });
        InHand { quiet: self, ids }
    }

    /// A container starts with these devices.
    pub(crate) fn starts(&self, ids: &[String]) {
        self.admission.send_if_modified(|admission| {
            let known = admission.granted.iter().any(|id| ids.contains(id));
            if known {
                admission.until = None;
                admission.granted.clear();
            }
            known
        });
    }

    /// Leave to call List now, or why not.
    pub(crate) fn try_leave_to_list(&self) -> Occupied<'_> {
        let Ok(leave) = self.listing.try_lock() else {
            return Occupied::Busy;
        };
        let admission = self.admission.borrow();
        if admission.in_hand > 0 {
            Occupied::Waiting
        } else if admission.is_under_way(Instant::now()) {
            Occupied::Busy
        } else {
            Occupied::Idle(leave)
        }
    }

    /// Leave to call List, until it is dropped. At first admissions go before; in the end the next
    /// one waits.
    pub(crate) async fn leave_to_list(&self) -> MutexGuard<'_, ()> {
        let mut changes = self.admission.subscribe();
        let patience = Instant::now() + self.timing.list_patience;
        let mut kept = None;
        loop {
            let leave = match kept.take() {
                Some(leave) => leave,
                None => self.listing.lock().await,
            };
            let now = Instant::now();
            let (under_way, mut over) = {
                let admission = changes.borrow_and_update();
                let until = admission.until.filter(|_| admission.in_hand == 0);
                (admission.is_under_way(now), until)
            };
            if !under_way {
                return leave;
            }
            if now < patience {
                drop(leave);
                over = Some(over.map_or(patience, |over| over.min(patience)));
            } else {
                kept = Some(leave);
            }
            // Looked at again when the time is over, or is another one.
            let _ = match over {
                Some(over) => timeout_at(over, changes.changed()).await,
                None => Ok(changes.changed().await),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn quiet() -> (Quiet, Timing) {
        (Quiet::new(Timing::default()), Timing::default())
    }

    async fn time_to_list(quiet: &Quiet) -> Duration {
        let start = Instant::now();
        drop(quiet.leave_to_list().await);
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_admission_nothing_waits() {
        assert_eq!(time_to_list(&quiet().0).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn no_list_begins_between_the_preference_and_the_answer() {
        let (quiet, timing) = quiet();
        quiet.begin().await;
        let list = async {
            let waited = time_to_list(&quiet).await;
            assert_eq!(waited, Duration::from_millis(300) + timing.admission_rest);
        };
        let admit = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let in_hand = quiet.allocates(Vec::new());
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(in_hand);
        };
        tokio::join!(list, admit);
    }

    #[tokio::test(start_paused = true)]
    async fn no_list_begins_while_we_answer_however_long_that_takes() {
        let (quiet, timing) = quiet();
        quiet.begin().await;
        let long = 5 * (timing.admission_timeout + timing.list_patience);
        let list = async {
            assert_eq!(time_to_list(&quiet).await, long + timing.admission_rest);
        };
        let answer = async {
            let in_hand = quiet.allocates(Vec::new());
            assert!(matches!(quiet.try_leave_to_list(), Occupied::Waiting));
            tokio::time::sleep(long).await;
            drop(in_hand);
            assert!(matches!(quiet.try_leave_to_list(), Occupied::Busy));
        };
        tokio::join!(list, answer);
        assert!(matches!(quiet.try_leave_to_list(), Occupied::Idle(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_starts_with_the_devices_ends_the_quiet() {
        let (quiet, timing) = quiet();
        let start = Instant::now();
        drop(quiet.allocates(vec!["a".to_owned(), "b".to_owned()]));
        quiet.starts(&["c".to_owned()]);
        assert_eq!(time_to_list(&quiet).await, timing.admission_rest);
        drop(quiet.allocates(vec!["a".to_owned(), "b".to_owned()]));
        quiet.starts(&["b".to_owned()]);
        assert_eq!(time_to_list(&quiet).await, Duration::ZERO);
        assert_eq!(start.elapsed(), timing.admission_rest);
    }

    #[tokio::test(start_paused = true)]
    async fn the_start_of_an_earlier_pod_does_not_end_a_later_ones_quiet() {
        let (quiet, timing) = quiet();
        drop(quiet.allocates(vec!["a".to_owned()]));
        quiet.begin().await;
        quiet.starts(&["a".to_owned()]);
        assert_eq!(time_to_list(&quiet).await, timing.admission_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_begins_when_the_list_under_way_has_ended() {
        let (quiet, _) = quiet();
        let leave = quiet.leave_to_list().await;
        let start = Instant::now();
        let list = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(leave);
        };
        tokio::join!(quiet.begin(), list);
        assert_eq!(start.elapsed(), Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_hangs_holds_an_admission_up_only_so_long() {
        let (quiet, timing) = quiet();
        let _leave = quiet.leave_to_list().await;
        let start = Instant::now();
        quiet.begin().await;
        assert_eq!(start.elapsed(), timing.admission_wait);
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_that_comes_to_nothing_is_over_after_a_while() {
        let (quiet, timing) = quiet();
        quiet.begin().await;
        assert_eq!(time_to_list(&quiet).await, timing.admission_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn admissions_without_a_gap_do_not_keep_lists_away_for_ever() {
        let (quiet, timing) = quiet();
        let admitting = std::cell::Cell::new(false);
        let admit = async {
            loop {
                quiet.begin().await;
                admitting.set(true);
                tokio::time::sleep(Duration::from_millis(70)).await;
                drop(quiet.allocates(vec!["a".to_owned()]));
                admitting.set(false);
                quiet.starts(&["a".to_owned()]);
            }
        };
        let list = async {
            tokio::task::yield_now().await;
            let start = Instant::now();
            let _leave = quiet.leave_to_list().await;
            assert!(!admitting.get(), "not in the middle of one");
            start.elapsed()
        };
        tokio::select! {
            waited = list => {
                assert!(waited <= timing.list_patience + Duration::from_millis(70), "{waited:?}");
            }
            () = admit => {}
        }
    }
}

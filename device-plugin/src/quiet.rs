//! Keeps our questions to podresources out of the admission of pods.
//!
//! The kubelet marks devices as taken, calls Allocate without its lock, and only after the answer
//! remembers whose they are. If a List in between frees what another pod had, the kubelet computes
//! the marks anew from what it remembers (dm/manager.go, `UpdateAllocatedDevices`), and the marks of
//! the admission under way are lost: it may refuse the pod for want of the devices just granted, or
//! give them to another one as well. Others may ask List, too, but nobody asks as often as we do.
//!
//! `GetPreferredAllocation` comes before the marks, so that is where the quiet begins.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Timing;

/// The admission under way.
#[derive(Debug, Default)]
struct Admission {
    /// Over by then at the latest; none if it is over.
    until: Option<Instant>,
    /// What was granted in it. A container that starts with one of these is proof that the kubelet
    /// remembers.
    granted: Vec<String>,
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
        self.goes_on();
    }

    /// The admission has come further.
    pub(crate) fn goes_on(&self) {
        self.set(self.timing.admission_timeout, Vec::new());
    }

    /// Allocate is being answered.
    pub(crate) fn answered(&self, granted: Vec<String>) {
        self.set(self.timing.admission_rest, granted);
    }

    /// A container starts with these devices.
    pub(crate) fn starts(&self, ids: &[String]) {
        self.admission.send_if_modified(|admission| {
            let known = admission.granted.iter().any(|id| ids.contains(id));
            if known {
                *admission = Admission::default();
            }
            known
        });
    }

    fn set(&self, time: Duration, granted: Vec<String>) {
        self.admission.send_replace(Admission {
            until: Some(Instant::now() + time),
            granted,
        });
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
            let until = changes.borrow_and_update().until;
            let Some(mut until) = until.filter(|until| *until > now) else {
                return leave;
            };
            if now < patience {
                drop(leave);
                until = until.min(patience);
            } else {
                kept = Some(leave);
            }
            // Looked at again when the time is over, or is another one.
            let _ = timeout_at(until, changes.changed()).await;
        }
    }
}

#[cfg(test)]
mod tests {
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
            quiet.goes_on();
            tokio::time::sleep(Duration::from_millis(200)).await;
            quiet.answered(Vec::new());
        };
        tokio::join!(list, admit);
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_starts_with_the_devices_ends_the_quiet() {
        let (quiet, timing) = quiet();
        let start = Instant::now();
        quiet.answered(vec!["a".to_owned(), "b".to_owned()]);
        quiet.starts(&["c".to_owned()]);
        assert_eq!(time_to_list(&quiet).await, timing.admission_rest);
        quiet.answered(vec!["a".to_owned(), "b".to_owned()]);
        quiet.starts(&["b".to_owned()]);
        assert_eq!(time_to_list(&quiet).await, Duration::ZERO);
        assert_eq!(start.elapsed(), timing.admission_rest);
    }

    #[tokio::test(start_paused = true)]
    async fn the_start_of_an_earlier_pod_does_not_end_a_later_ones_quiet() {
        let (quiet, timing) = quiet();
        quiet.answered(vec!["a".to_owned()]);
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
                quiet.answered(vec!["a".to_owned()]);
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

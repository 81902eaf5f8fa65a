//! Keeps our questions to podresources out of the admission of pods.
//!
//! The kubelet marks devices as taken, calls Allocate without its lock, and only after the answer
//! remembers whose they are. If a List in between frees what another pod had, the kubelet computes
//! the marks anew from what it remembers (dm/manager.go, `UpdateAllocatedDevices`), and the marks of
//! the admission under way are lost: it may refuse the pod for want of the devices just granted, or
//! give them to another one as well. Others may ask List, too, but nobody asks as often as we do.
//!
//! `GetPreferredAllocation` comes before the marks, so that is where an admission begins at the latest.
//! A List that is on its way by then cannot be called back, and its end is waited for. That has a price:
//! kubelets without the change of kubernetes#119560 (`devicesToAllocate`) have made room for the marks before
//! they ask for the preference, and end with a panic if that List finds that a pod with devices has ended
//! since, and no other pod has devices of this resource. Why it is waited for all the same:
//! - An answer at once leaves room for the panic as well, and for the lost marks besides. When the List
//!   gets the kubelet's lock does not depend on us; a wait moves that from after the marks to before them,
//!   where it does no harm unless the panic comes of it.
//! - 1.20 looks at which pods are active before it takes the lock. A List that began before the pod was
//!   known and is carried out after Allocate takes the pod for one that has ended and forgets its grant.
//! - An error in place of an answer fails the pod for good, also where no panic would come. The List's answer
//!   does not help to choose: that it shows no pod with such devices does not tell that one ended meanwhile.
//! - A kubelet that panics is started again, its checkpoint has every grant that was answered, and running
//!   pods go on. A device that two pods have breaks what we promise.
//!
//! So Lists must not be on their way in the first place. As soon as a pod is known to be bound, its
//! admission is expected: no List begins until the kubelet has asked for its devices, or half a second has
//! passed. Nothing waits for anything then, so a kubelet that never asks holds nobody up for long.

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Timing;
use crate::expected::{Expectations, Expected};

/// The admission under way, and those to come.
#[derive(Debug)]
struct Admissions {
    /// Calls to Allocate that we have not answered: while there are any, it is not over.
    in_hand: u32,
    /// Over by then at the latest; none if it is over.
    until: Option<Instant>,
    /// What was granted in it. A container that starts with one of these is proof that the kubelet
    /// remembers.
    granted: Vec<String>,
    expected: Expectations,
}

/// When a List may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Now,
    At(Instant),
    /// When we have answered.
    Untold,
}

impl Admissions {
    fn new(timing: &Timing) -> Self {
        Self {
            in_hand: 0,
            until: None,
            granted: Vec::new(),
            expected: Expectations::new(timing.admission_expected, timing.admission_matched),
        }
    }

    /// When the one under way is over.
    fn over(&self, now: Instant) -> Over {
        match self.until.filter(|until| *until > now) {
            _ if self.in_hand > 0 => Over::Untold,
            Some(until) => Over::At(until),
            None => Over::Now,
        }
    }

    /// When that one and those to come are over.
    fn all_over(&self, now: Instant) -> Over {
        match (self.over(now), self.expected.over(now)) {
            (Over::Now, Some(come)) => Over::At(come),
            (Over::At(until), Some(come)) => Over::At(until.max(come)),
            (over, _) => over,
        }
    }
}

/// What a kubelet is doing.
#[derive(Debug)]
pub(crate) enum Occupied<'a> {
    /// It admits no pod, nor will it while this is kept, unless it is kept for long.
    Idle(MutexGuard<'a, ()>),
    /// It waits for our answer to Allocate.
    Waiting,
    /// It admits a pod or is about to, or answers a List.
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
        self.quiet.admissions.send_modify(|admissions| {
            admissions.in_hand = admissions.in_hand.saturating_sub(1);
            admissions.until = Some(Instant::now() + rest);
            admissions.granted = granted;
        });
    }
}

/// Whether List may be called.
#[derive(Debug)]
pub(crate) struct Quiet {
    timing: Timing,
    admissions: watch::Sender<Admissions>,
    listing: Mutex<()>,
}

impl Quiet {
    /// No admission is under way or to come.
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            admissions: watch::Sender::new(Admissions::new(&timing)),
            timing,
            listing: Mutex::default(),
        }
    }

    /// These pods were bound to the node, and those are gone or have ended.
    pub(crate) fn expect(&self, came: &[Expected], gone: &[String]) {
        let now = Instant::now();
        self.admissions.send_modify(|admissions| {
            for pod in gone {
                admissions.expected.gone(pod);
            }
            for pod in came {
                admissions.expected.announced(pod, now);
            }
        });
    }

    /// The kubelet is about to take devices: no List begins from now on, and none is under way when
    /// this returns.
    pub(crate) async fn begin(&self) {
        // A kubelet that does not answer List must not keep its pods waiting for ever.
        let _turn = timeout(self.timing.admission_wait, self.listing.lock()).await;
        let until = Instant::now() + self.timing.admission_timeout;
        self.admissions.send_modify(|admissions| {
            admissions.until = Some(until);
            admissions.granted.clear();
        });
    }

    /// The kubelet calls Allocate for the devices of these containers, and waits until this is dropped.
    pub(crate) fn allocates(&self, resource: &str, containers: &[Vec<String>]) -> InHand<'_> {
        let now = Instant::now();
        self.admissions.send_modify(|admissions| {
            admissions.in_hand += 1;
            admissions.granted.clear();
            for ids in containers {
                admissions.expected.called(resource, ids.len(), now);
            }
        });
        InHand {
            quiet: self,
            ids: containers.concat(),
        }
    }

    /// A container starts with these devices.
    pub(crate) fn starts(&self, ids: &[String]) {
        self.admissions.send_if_modified(|admissions| {
            let known = admissions.granted.iter().any(|id| ids.contains(id));
            if known {
                admissions.until = None;
                admissions.granted.clear();
            }
            known
        });
    }

    /// Leave to call List now, or why not.
    pub(crate) fn try_leave_to_list(&self) -> Occupied<'_> {
        let Ok(leave) = self.listing.try_lock() else {
            return Occupied::Busy;
        };
        match self.admissions.borrow().all_over(Instant::now()) {
            Over::Untold => Occupied::Waiting,
            Over::At(_) => Occupied::Busy,
            Over::Now => Occupied::Idle(leave),
        }
    }

    /// Leave to call List, until it is dropped. At first admissions go before, those to come included; in
    /// the end the next one waits.
    pub(crate) async fn leave_to_list(&self) -> MutexGuard<'_, ()> {
        let mut changes = self.admissions.subscribe();
        let patience = Instant::now() + self.timing.list_patience;
        let mut kept = None;
        loop {
            let leave = match kept.take() {
                Some(leave) => leave,
                None => self.listing.lock().await,
            };
            let now = Instant::now();
            let patient = now < patience;
            let over = {
                let admissions = changes.borrow_and_update();
                if patient {
                    admissions.all_over(now)
                } else {
                    // One to come would wait for this leave as this would for it.
                    admissions.over(now)
                }
            };
            let mut over = match over {
                Over::Now => return leave,
                Over::At(over) => Some(over),
                Over::Untold => None,
            };
            if patient {
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
mod tests;

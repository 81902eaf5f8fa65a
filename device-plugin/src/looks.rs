//! Looks at the kubelet through podresources, and what follows from them.
//!
//! podresources tells nothing by itself. It is looked at right after something that should change
//! its answer, then after pauses that double, and now and then for safety.

use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::device::{Held, Seen, Table, Tick};
use crate::directory::Directory;
use crate::journal::{JournalError, Line};
use crate::pace::Pace;
use crate::shared::Shared;
use crate::{Holder, Listing};
use crate::{checkpoint, contest};

/// Holds that are put to the proofs at the same time.
pub(crate) const PROOFS_AT_ONCE: usize = 8;

/// When to look next: soon after a wish, later and later after that, or never without reason.
struct Timer {
    pace: Pace,
    due: Option<Instant>,
}

impl Timer {
    /// Waits for the time or for a wish that makes it sooner.
    async fn wait(&mut self, wanted: &Notify) {
        loop {
            let due = self.due;
            let time = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time => return,
                () = wanted.notified() => {
                    self.pace.restart();
                    let soon = Instant::now() + self.pace.pause(std::time::Duration::MAX);
                    self.due = Some(due.map_or(soon, |due| due.min(soon)));
                }
            }
        }
    }
}

/// Confirms offers and withdrawals for ever.
pub(crate) async fn allocatable(shared: Arc<Shared>, directory: watch::Receiver<Directory>) {
    let timing = &shared.config.timing;
    let mut timer = Timer {
        pace: Pace::new(timing.allocatable_pause),
        due: None,
    };
    // The kubelet that cannot say what is allocatable; its successor may be a newer version.
    let mut silent = None;
    loop {
        timer.wait(&shared.allocatable_wanted).await;
        let kubelet = directory.borrow().kubelet;
        if silent.is_none_or(|silent| silent != kubelet) {
            silent = None;
            shared.set_silent(false);
            let begun = shared.begin_observation();
            match shared.pod_resources.allocatable().await {
                Ok(Some(seen)) => {
                    shared.change(|table| table.saw_allocatable(begun, &seen));
                    shared.set_pod_resources_problem(None);
                    revive(&shared);
                }
                Ok(None) => {
                    tracing::info!(
                        "The kubelet cannot say what is allocatable; reading its checkpoint"
                    );
                    silent = Some(kubelet);
                    shared.set_silent(true);
                }
                Err(error) => shared.set_pod_resources_problem(Some(error.to_string())),
            }
        }
        if silent.is_some() {
            read_checkpoint(&shared).await;
            if shared.read(Table::unsettled) {
                round_trip(&shared).await;
            }
        }
        let (unsettled, listed) = shared.read(|table| (table.unsettled(), table.any_listed()));
        let pause = if unsettled && shared.anyone_waits() {
            Some(timer.pace.pause(timing.allocatable_pause_max))
        } else if unsettled {
            Some(timer.pace.pause(timing.safety_interval))
        } else if listed {
            Some(timing.safety_interval)
        } else {
            None
        };
        timer.due = pause.map(|pause| Instant::now() + pause);
    }
}

/// Has resources register again of which the kubelet shows nothing for long.
fn revive(shared: &Shared) {
    for resource in shared.read(|table| table.starved(Instant::now())) {
        tracing::warn!(%resource, "The kubelet shows none of our devices; registering again");
        shared.starve(&resource);
    }
}

/// Reads what a kubelet that cannot say what is allocatable writes down; nothing at other kubelets.
///
/// To be called before anything is asked of the kubelet, too: only what the file says then can tell
/// whether it says something new later. (The kubelet may write an older state last, where two of its
/// threads write at once. Then a proof is none, and the fence keeps the device from whoever gets it.)
pub(crate) async fn read_checkpoint(shared: &Shared) {
    if !shared.is_silent() {
        return;
    }
    let begun = shared.begin_observation();
    if let Some(seen) = checkpoint::read(&shared.config.plugin_dir).await {
        shared.change(|table| table.saw_checkpoint(begun, seen));
    }
}

/// Asks a kubelet that cannot say what is allocatable something else.
async fn round_trip(shared: &Shared) {
    let begun = shared.begin_observation();
    let clock = || shared.begin_observation();
    match shared.pod_resources.round_trip(clock).await {
        Ok(true) => shared.change(|table| table.saw_round_trip(begun, Instant::now())),
        Ok(false) => {}
        Err(error) => shared.set_pod_resources_problem(Some(error.to_string())),
    }
}

/// Follows who holds what, and ends holds, for ever. May be dropped at any point: what the journal does
/// not say goes on.
pub(crate) async fn holders(shared: Arc<Shared>) {
    let timing = &shared.config.timing;
    let mut timer = Timer {
        pace: Pace::new(timing.list_pause),
        due: Some(Instant::now()),
    };
    loop {
        timer.wait(&shared.list_wanted).await;
        let clock = || shared.begin_observation();
        let looked = match shared.pod_resources.list(clock).await {
            (begun, Ok(listing)) => {
                let now = Instant::now();
                let seen = shared.change(|table| table.saw_list(begun, &listing, now));
                shared.holders_known.cancel();
                shared.set_pod_resources_problem(None);
                follow(&shared, seen, begun, &listing).await;
                contest::settle_all(&shared).await;
                true
            }
            (_, Err(error)) => {
                shared.set_pod_resources_problem(Some(error.to_string()));
                false
            }
        };
        let again = !looked || shared.read(Table::any_held);
        timer.due = again.then(|| Instant::now() + timer.pace.pause(timing.safety_interval));
    }
}

/// Writes down what is new and puts quiet holds to the other proofs.
async fn follow(shared: &Shared, seen: Seen, begun: Tick, listing: &Arc<Listing>) {
    if write_down(shared, seen.found, seen.named).await {
        // Not earlier: who was seen with a device must be known to whoever is asked about it.
        shared.change(|table| table.looked(begun, Arc::clone(listing)));
    }
    // Together, because one device whose evidence hangs must not keep the others held.
    futures::stream::iter(seen.quiet)
        .for_each_concurrent(PROOFS_AT_ONCE, |held| async move {
            end(shared, &held, listing).await;
        })
        .await;
}

/// Writes down holds that were found and containers that were seen. What fails is tried again after
/// the next look, for podresources may never again show a pod that is deleted by force. Returns whether
/// all is written.
async fn write_down(
    shared: &Shared,
    found: Vec<(String, String)>,
    named: Vec<(String, String, Holder)>,
) -> bool {
    let found = found.into_iter().map(|(resource, id)| {
        tracing::info!(
            resource,
            id,
            "A pod has a device that the journal does not have"
        );
        let line = Line::Grant {
            resource: resource.clone(),
            ids: vec![id.clone()],
        };
        (resource, id, true, line)
    });
    let found: Vec<_> = found.collect();
    let named = named.into_iter().map(|(resource, id, holder)| {
        let line = Line::HeldBy {
            resource: resource.clone(),
            id: id.clone(),
            holder,
        };
        (resource, id, false, line)
    });
    let mut failed = false;
    for (resource, id, whole, line) in found.into_iter().chain(named) {
        if !failed && let Err(error) = shared.journal.write(line).await {
            tracing::error!(%error, resource, id, "Failed to write a hold to the journal");
            failed = true;
        }
        if failed || whole {
            shared.change(|table| table.journaled(&resource, &id, !failed));
        }
    }
    !failed
}

/// Ends the hold if every proof is given.
async fn end(shared: &Shared, quiet: &Held, listing: &Listing) {
    let hold = &quiet.hold;
    if let Some(why) = doubt(shared, hold, listing).await {
        tracing::debug!(resource = hold.resource, id = hold.id, why, "Still held");
        shared.change(|table| table.doubt(quiet, why));
        return;
    }
    match release(shared, quiet).await {
        Ok(true) => tracing::info!(resource = hold.resource, id = hold.id, "Released"),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(%error, resource = hold.resource, id = hold.id, "Failed to write a release");
            shared.change(|table| table.doubt(quiet, format!("the journal failed: {error}")));
        }
    }
}

/// Writes that a proven hold ended, then ends it; false if a grant came between.
async fn release(shared: &Shared, quiet: &Held) -> Result<bool, JournalError> {
    let turn = shared.journal.turn().await?;
    if !shared.read(|table| table.unchanged(quiet)) {
        return Ok(false);
    }
    let line = Line::Release {
        resource: quiet.hold.resource.clone(),
        id: quiet.hold.id.clone(),
    };
    // A grant that begins meanwhile is written after this line, and keeps the hold.
    turn.write(line).await?;
    shared.change(|table| table.release(quiet));
    Ok(true)
}

/// What the agent has against the device being free; no answer in time is doubt, too.
pub(crate) async fn doubt(
    shared: &Shared,
    device: &crate::Hold,
    listing: &Listing,
) -> Option<String> {
    let limit = shared.config.timing.evidence_timeout;
    match tokio::time::timeout(limit, shared.evidence.still_held(device, listing)).await {
        Ok(doubt) => doubt,
        Err(_) => Some(format!("no proof that it is free within {limit:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FIRST: Duration = Duration::from_millis(10);

    fn timer(due: Option<Duration>) -> Timer {
        Timer {
            pace: Pace::new(FIRST),
            due: due.map(|due| Instant::now() + due),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_brings_the_next_look_near() {
        let mut timer = timer(Some(Duration::from_hours(1)));
        let wanted = Notify::new();
        wanted.notify_one();
        let start = Instant::now();
        timer.wait(&wanted).await;
        assert_eq!(start.elapsed(), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn wishes_do_not_put_a_look_off() {
        let mut timer = timer(Some(FIRST / 2));
        let wanted = Notify::new();
        wanted.notify_one();
        let start = Instant::now();
        timer.wait(&wanted).await;
        assert_eq!(start.elapsed(), FIRST / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_or_a_wish_there_is_no_look() {
        let mut timer = timer(None);
        let wanted = Notify::new();
        let day = Duration::from_hours(24);
        assert!(
            tokio::time::timeout(day, timer.wait(&wanted))
                .await
                .is_err()
        );
    }
}

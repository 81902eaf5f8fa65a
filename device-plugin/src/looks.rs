//! Looks at the kubelet through podresources, and what follows from them.
//!
//! podresources tells nothing by itself. It is looked at right after something that should change
//! its answer, then after pauses that double, and now and then for safety.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::Listing;
use crate::device::{Held, Seen, Table};
use crate::directory::Directory;
use crate::pace::Pace;
use crate::shared::Shared;

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

/// Confirms offers and withdrawals until shutdown.
pub(crate) async fn allocatable(shared: Arc<Shared>, directory: watch::Receiver<Directory>) {
    let timing = &shared.config.timing;
    let mut timer = Timer {
        pace: Pace::new(timing.allocatable_pause),
        due: None,
    };
    // The kubelet that cannot say what is allocatable; its successor may be a newer version.
    let mut silent = None;
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = timer.wait(&shared.allocatable_wanted) => {}
        }
        let kubelet = directory.borrow().kubelet;
        if silent.is_none_or(|silent| silent != kubelet) {
            silent = None;
            let begun = shared.change(Table::begin_observation);
            match shared.pod_resources.allocatable().await {
                Ok(Some(seen)) => {
                    shared.change(|table| table.saw_allocatable(begun, &seen));
                    shared.set_pod_resources_problem(None);
                }
                Ok(None) => {
                    tracing::info!("The kubelet cannot say what is allocatable; waiting instead");
                    silent = Some(kubelet);
                }
                Err(error) => shared.set_pod_resources_problem(Some(error.to_string())),
            }
        }
        if silent.is_some() && shared.read(Table::unsettled) {
            round_trip(&shared).await;
        }
        for resource in shared.read(|table| table.starved(Instant::now())) {
            tracing::warn!(%resource, "The kubelet shows none of our devices; registering again");
            shared.starve(&resource);
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

/// Asks a kubelet that cannot say what is allocatable something else.
async fn round_trip(shared: &Shared) {
    let begun = shared.change(Table::begin_observation);
    match shared.pod_resources.list().await {
        Ok(_) => shared.change(|table| table.saw_round_trip(begun, Instant::now())),
        Err(error) => shared.set_pod_resources_problem(Some(error.to_string())),
    }
}

/// Follows who holds what, and ends holds, until shutdown.
pub(crate) async fn holders(shared: Arc<Shared>) {
    let timing = &shared.config.timing;
    let mut timer = Timer {
        pace: Pace::new(timing.list_pause),
        due: Some(Instant::now()),
    };
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = timer.wait(&shared.list_wanted) => {}
        }
        let begun = shared.change(Table::begin_observation);
        let looked = match shared.pod_resources.list().await {
            Ok(listing) => {
                let now = Instant::now();
                let seen = shared.change(|table| table.saw_list(begun, &listing, now));
                shared.holders_known.cancel();
                shared.set_pod_resources_problem(None);
                follow(&shared, seen, &listing).await;
                true
            }
            Err(error) => {
                shared.set_pod_resources_problem(Some(error.to_string()));
                false
            }
        };
        let again = !looked || shared.read(Table::any_held);
        timer.due = again.then(|| Instant::now() + timer.pace.pause(timing.safety_interval));
    }
}

/// Writes down what is new and puts quiet holds to the other proofs.
async fn follow(shared: &Shared, seen: Seen, listing: &Listing) {
    for (resource, id) in seen.found {
        tracing::info!(
            resource,
            id,
            "A pod has this device without a grant of ours"
        );
        let _alone = shared.journal.lock().await;
        if let Err(error) = shared
            .ledger
            .grant(&resource, std::slice::from_ref(&id))
            .await
        {
            // podresources shows it again after a restart, so nothing is lost yet.
            tracing::error!(%error, resource, id, "Failed to write a hold to the journal");
        }
    }
    for (resource, id, holder) in seen.named {
        let _alone = shared.journal.lock().await;
        if let Err(error) = shared.ledger.held_by(&resource, &id, &holder).await {
            tracing::error!(%error, resource, id, %holder, "Failed to write a holder to the journal");
        }
    }
    for held in seen.quiet {
        end(shared, &held, listing).await;
    }
}

/// Ends the hold if every proof is given.
async fn end(shared: &Shared, quiet: &Held, listing: &Listing) {
    let hold = &quiet.hold;
    if let Some(why) = doubt(shared, hold, listing).await {
        tracing::debug!(resource = hold.resource, id = hold.id, why, "Still held");
        shared.change(|table| table.doubt(quiet, why));
        return;
    }
    let _alone = shared.journal.lock().await;
    if !shared.read(|table| table.unchanged(quiet)) {
        return;
    }
    match shared.ledger.release(&hold.resource, &hold.id).await {
        // A grant that began meanwhile is written after this one, and keeps the hold.
        Ok(()) => shared.change(|table| table.release(quiet)),
        Err(error) => {
            tracing::error!(%error, resource = hold.resource, id = hold.id, "Failed to write a release");
            shared.change(|table| table.doubt(quiet, format!("the journal failed: {error}")));
            return;
        }
    }
    tracing::info!(resource = hold.resource, id = hold.id, "Released");
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

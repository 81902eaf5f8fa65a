//! Devices that the kubelet gave to a pod while processes of a former one may still use them.
//!
//! A pod that is deleted by force leaves the kubelet's books at once and its containers run on. Its
//! devices are granted anew (`device/grant.rs` tells why), but no container starts with them before
//! the agent has proven that the former holders are gone, which is then written down. The journal does
//! not say which holders are former ones, so after a start of ours every hold is put to that proof once.

use futures::StreamExt;
use tokio::time::Instant;

use crate::device::{Contest, GrantError, Table};
use crate::journal::{JournalError, Line};
use crate::looks::PROOFS_AT_ONCE;
use crate::pace::Pace;
use crate::shared::Shared;

/// Lets a container start with the devices, or says why not. Waits for the end of contests, not for
/// long: the kubelet tries a refused container again.
pub(crate) async fn start(
    shared: &Shared,
    resource: &str,
    ids: &[String],
) -> Result<(), GrantError> {
    let timing = &shared.config.timing;
    let over = Instant::now() + timing.contest_wait;
    let mut pace = Pace::new(timing.contest_pause);
    let mut last = None;
    loop {
        let contests = shared.change(|table| table.begin_start(resource, ids))?;
        let Some(contest) = contests.first() else {
            return Ok(());
        };
        let now = Instant::now();
        if now >= over {
            let id = contest.held.hold.id.clone();
            let late = || format!("no proof of its end within {:?}", timing.contest_wait);
            let why = last.unwrap_or_else(late);
            return Err(GrantError::Contested { id, why });
        }
        match tokio::time::timeout_at(over, settle(shared, contest)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(why)) => {
                if last.replace(why).is_none() {
                    // To tell the new pod from former ones, should it not be shown yet.
                    shared.list_wanted.notify_one();
                }
                let next = now + pace.pause(timing.contest_wait);
                tokio::time::sleep_until(next.min(over)).await;
            }
        }
    }
}

/// Ends the contests that can be ended, so that the next start finds none.
pub(crate) async fn settle_all(shared: &Shared) {
    let contests = shared.read(Table::contests);
    let limit = shared.config.timing.evidence_timeout;
    futures::stream::iter(contests)
        .for_each_concurrent(PROOFS_AT_ONCE, |contest| async move {
            // What hangs is asked again after the next look.
            let _ = tokio::time::timeout(limit, settle(shared, &contest)).await;
        })
        .await;
}

/// Ends the contest, or says why it goes on.
async fn settle(shared: &Shared, contest: &Contest) -> Result<(), String> {
    let hold = &contest.held.hold;
    let present = contest.present.as_ref();
    if let Some(why) = shared.evidence.contested(hold, present).await {
        tracing::debug!(resource = hold.resource, id = hold.id, why, "Contested");
        return Err(why);
    }
    if !shared.change(|table| table.settle_contest(contest)) {
        return Err("it is being granted anew".to_owned());
    }
    let (resource, id) = (&hold.resource, &hold.id);
    tracing::debug!(resource, id, "Free of former pods");
    if let Err(error) = write_down(shared, contest).await {
        // The next start of ours asks for the proof again; this one has it.
        tracing::warn!(%error, resource, id, "Failed to write down that former pods are gone");
    }
    Ok(())
}

/// Writes that the former holders are gone, unless a grant came between, which has others.
async fn write_down(shared: &Shared, contest: &Contest) -> Result<(), JournalError> {
    let turn = shared.journal.turn().await?;
    if !shared.read(|table| table.unchanged(&contest.held)) {
        return Ok(());
    }
    let hold = &contest.held.hold;
    // A grant that begins meanwhile is written after this line.
    turn.write(Line::Settled {
        resource: hold.resource.clone(),
        id: hold.id.clone(),
        present: contest.present.clone(),
    })
    .await
}

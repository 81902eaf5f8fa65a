//! Devices that the kubelet gave to a pod while a former one may still use them.
//!
//! A pod that is deleted by force leaves the kubelet's books at once and its containers run on. Its
//! devices are granted anew (`device/grant.rs` tells why), but no container starts with them before
//! the agent has proven that the former holders are gone, which is then written down. The journal does
//! not say which holders are former ones, so after a start of ours every hold is put to that proof once.
//!
//! Before that, the kubelet itself is asked whose the device is now: it may have given it to two pods.

use futures::StreamExt;
use tokio::time::Instant;

use crate::Claim;
use crate::device::{Contest, GrantError, Table, Tick, Unclear};
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
    let asked = shared.begin_observation();
    let timing = &shared.config.timing;
    look(shared, resource, ids, asked).await?;
    let over = Instant::now() + timing.contest_wait;
    let mut pace = Pace::new(timing.contest_pause);
    let mut last = None;
    loop {
        let contests = shared.change(|table| table.begin_start(resource, ids, asked))?;
        let Some(contest) = contests.first() else {
            return Ok(());
        };
        let now = Instant::now();
        if let Some(why) = &contest.unclear {
            if now >= over {
                let (id, why) = (contest.held.hold.id.clone(), why.clone());
                return Err(GrantError::Unclear { id, why });
            }
            // Only the kubelet can tell.
            shared.list_wanted.notify_one();
            let next = now + pace.pause(timing.contest_wait);
            tokio::time::sleep_until(next.min(over)).await;
            continue;
        }
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

/// Waits until podresources has been asked since `asked`, if these devices need it. Not for ever: who called
/// for the start is told why it is refused.
async fn look(
    shared: &Shared,
    resource: &str,
    ids: &[String],
    asked: Tick,
) -> Result<(), GrantError> {
    let mut changes = shared.progress();
    let untold = || {
        let contests = shared.read(|table| table.before_start(resource, ids, asked))?;
        let mut unclear = contests
            .iter()
            .filter_map(|contest| contest.unclear.as_ref());
        Ok(unclear.any(|why| *why == Unclear::Untold))
    };
    if !untold()? {
        return Ok(());
    }
    shared.list_wanted.notify_one();
    let over = tokio::time::sleep(shared.config.timing.contest_look);
    tokio::pin!(over);
    while untold()? {
        tokio::select! {
            () = &mut over => break,
            _ = changes.changed() => {}
        }
    }
    Ok(())
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
    if let Some(why) = &contest.unclear {
        return Err(why.to_string());
    }
    let hold = &contest.held.hold;
    let shown = shared.read(Table::listing);
    let claim = Claim {
        present: contest.present.as_ref(),
        unseen: contest.unseen,
        shown: &shown,
    };
    if let Some(why) = shared.evidence.contested(hold, claim).await {
        tracing::debug!(resource = hold.resource, id = hold.id, why, "Contested");
        return Err(why);
    }
    if !shared.change(|table| table.settle_contest(contest)) {
        return Err("its holders changed just now".to_owned());
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

//! Slices that are kept free for pods that waited long for room.
//!
//! The planner chooses them and gives them to nobody else. That is not enough: the stock scheduler sends the
//! next small pod to a device as soon as the one that had it ends. So the node's status leaves out what
//! stands on those slices (`node_status.rs`), and what is idle there is given up.

use std::{sync::Arc, time::Duration};

use mig::SliceMask;
use planner::Window;
use tokio::time::Instant;

use super::World;
use crate::{names::PodKey, pods::PodRow};

/// When pods have waited long enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    after: Option<Duration>,
    /// The present, in seconds of Unix time.
    time: i64,
    now: Instant,
}

impl Patience {
    /// The name under which slices are kept free for a pod that has waited long enough; else when it will have.
    pub(super) fn key(&self, key: &PodKey, row: &PodRow) -> Result<Arc<str>, Option<Instant>> {
        let Some(after) = self.after else {
            return Err(None);
        };
        // The creation time has a grain of a second.
        let waited = self.time.saturating_sub(row.created().as_second());
        let waited = Duration::from_secs(u64::try_from(waited).unwrap_or(0));
        match after.checked_sub(waited) {
            None | Some(Duration::ZERO) => Ok(key.to_string().into()),
            Some(rest) => Err(Some(self.now + rest)),
        }
    }
}

impl World {
    pub(super) fn patience(&self, now: Instant) -> Patience {
        let since = now.saturating_duration_since(self.started).as_secs();
        Patience {
            after: self.config.window_after,
            time: self.config.started + i64::try_from(since).unwrap_or(i64::MAX),
            now,
        }
    }

    /// Slices of a node's GPUs that are kept free, by uuid.
    pub(super) fn kept_free(&self, node: &str) -> impl Iterator<Item = (&str, SliceMask)> {
        let windows = self.board.planner.windows().iter();
        windows
            .filter(move |window| window.node == node)
            .flat_map(|window| &window.parts)
            .map(|part| (part.uuid.as_str(), part.slices))
    }

    /// For whom slices of a GPU are kept free.
    pub(super) fn keeps_for(&self, uuid: &str) -> impl Iterator<Item = (&str, SliceMask)> {
        let windows = self.board.planner.windows().iter();
        windows.flat_map(move |window| {
            let parts = window.parts.iter().filter(move |part| part.uuid == uuid);
            parts.map(|part| (&*window.key, part.slices))
        })
    }

    /// A pass is over, before which these slices were kept free: the status of nodes changes with them.
    pub(super) fn note_windows(&mut self, before: &[Window]) {
        let windows = self.board.planner.windows();
        let (new, gone) = (without(windows, before), without(before, windows));
        for window in &new {
            tracing::info!(pod = &*window.key, node = window.node, slices = ?window.parts, "keeping slices free");
        }
        for window in &gone {
            tracing::info!(
                pod = &*window.key,
                node = window.node,
                "keeping no slices free any more"
            );
        }
        let nodes = new.into_iter().chain(gone).map(|window| &window.node);
        self.dirty.extend(nodes.cloned());
        self.metrics.kept_free(self.board.planner.windows());
    }
}

fn without<'a>(windows: &'a [Window], others: &[Window]) -> Vec<&'a Window> {
    windows
        .iter()
        .filter(|window| !others.contains(window))
        .collect()
}

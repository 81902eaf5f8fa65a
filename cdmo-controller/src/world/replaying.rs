//! Choosing the placement table by the pods that came and went: what is told to [`Arrivals`], when it gets
//! time to work, and what follows.

use std::{sync::Arc, time::Duration};

use cdmo_proto::agent::MigMode;
use mig::GpuModel;
use tokio::time::Instant;

use super::{World, alarms::Alarm};
use crate::{
    arrivals::{Arrivals, News, Stage},
    names::PodKey,
    snapshot::SnapshotRow,
};

/// From when there is something to replay to the first piece of work, and between pieces, of which one takes
/// two milliseconds: a small part of one core, and only while there is something to do.
const PAUSE: Duration = Duration::from_millis(50);

/// GPUs of a node that count: those that can be cut now.
pub(super) fn counted(snapshot: Option<&SnapshotRow>) -> impl Iterator<Item = &Arc<GpuModel>> {
    let gpus = snapshot.into_iter().flat_map(|snapshot| &snapshot.gpus);
    gpus.filter(|gpu| gpu.mode == MigMode::On && gpu.consistent && !gpu.left_alone)
        .filter_map(|gpu| gpu.model.as_ref())
}

impl World {
    /// What is known of a pod, for [`World::note_arrival`] once more is known.
    pub(super) fn before(&self, key: Option<&PodKey>) -> Option<(String, Stage)> {
        self.arrivals.as_ref()?;
        let row = self.pods.get(key?)?;
        Some((row.uid.clone(), Stage::of(row)))
    }

    /// Something was heard of a pod, or a new list of them all was complete.
    pub(super) fn note_arrival(
        &mut self,
        key: Option<&PodKey>,
        before: Option<&(String, Stage)>,
        listed: bool,
        now: Instant,
    ) {
        let Some(arrivals) = &mut self.arrivals else {
            return;
        };
        let at = now.saturating_duration_since(self.started);
        if listed {
            let pods = &self.pods;
            let is_there = |key: &PodKey, uid: &str| pods.get(key).is_some_and(|r| r.uid == uid);
            arrivals.relisted(is_there, at);
        }
        if let Some(key) = key {
            let before = before.map(|(uid, stage)| (uid.as_str(), *stage));
            arrivals.heard(key, before, self.pods.get(key), at);
        }
        self.set_replay(now);
    }

    fn set_replay(&mut self, now: Instant) {
        let is_due = self.arrivals.as_ref().is_some_and(Arrivals::is_due);
        if is_due && !self.replay_set {
            self.replay_set = true;
            self.alarms.set(now + PAUSE, Alarm::Replay);
        }
    }

    /// Does one piece of work, unless a pass is due.
    pub(super) fn replay(&mut self, now: Instant) {
        self.replay_set = false;
        if self.plan_at.is_none()
            && let Some(news) = self.arrivals.as_mut().and_then(Arrivals::work)
        {
            self.use_table(&news, now);
        }
        self.set_replay(now);
    }

    fn use_table(&mut self, news: &News, now: Instant) {
        if let Some(switch) = &news.switch {
            tracing::info!(
                geometry = news.kind,
                table = news.table,
                before = switch.from,
                points = format_args!("{}.{:02}", switch.gain / 10_000, switch.gain / 100 % 100),
                windows = switch.windows,
                "placing by another table: it accepts more of the pods that came to this cluster"
            );
            if let Some(arrivals) = &self.arrivals {
                self.metrics.tables(arrivals.tables());
            }
        }
        self.board.planner.set_values(&news.geometry, &news.values);
        self.request_plan(now);
    }
}

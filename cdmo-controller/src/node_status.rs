//! Level-triggered node status: what the kubelet has confirmed, minus what is being withdrawn.
//!
//! The kubelet copies its own counts into the node's status only every ten seconds, and patches from
//! a cached node, so that it can undo a patch of ours. Therefore nothing here is a one-time write:
//! on every change of the node, of the agent's report or of an operation the wanted counts are
//! compared with the shown ones. Each patch carries the node's resource version; a refused one is
//! tried again when the node's next version is seen.

use std::{collections::BTreeMap, time::Duration};

use cdmo_proto::agent::instance::State;
use mig::SliceMask;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    nodes::NodeRow,
    operation::{self, Operation},
    requests::Amounts,
    snapshot::{Counts, InstanceRow, SnapshotRow},
};

/// How long to wait for a newer version of a node whose patch was refused.
const CONFLICT_PATIENCE: Duration = Duration::from_secs(1);
/// First delay after a failed patch; doubles up to 32 times that.
const FAILURE_DELAY: Duration = Duration::from_millis(500);

/// The counts that a node's status should show. What stands on slices that are kept free (by GPU) is not counted,
/// in use or not: the scheduler would send the next pod there as soon as the one that has it ends. Only of what pods may
/// be getting at this moment, by resource, there are as many as they were shown.
pub fn wanted<'a>(
    snapshot: &SnapshotRow,
    operations: impl Iterator<Item = &'a Operation>,
    kept_free: &[(&str, SliceMask)],
    reserved: &BTreeMap<String, u32>,
) -> BTreeMap<String, Counts> {
    let operations: Vec<&Operation> = operations.collect();
    // A node has few resources: looking through them is quicker than comparing names in order.
    let mut tallies: Vec<(&str, Tally)> = Vec::new();
    for gpu in &snapshot.gpus {
        let plans = operations.iter().copied().flat_map(|op| {
            let plans = op.gpus.iter().filter(|plan| plan.uuid == gpu.uuid);
            plans.map(move |plan| (op, plan))
        });
        let touching: Vec<Touching<'_>> = plans.collect();
        let kept_free = kept_free.iter().filter(|(uuid, _)| *uuid == gpu.uuid);
        let kept_free = kept_free.fold(SliceMask::EMPTY, |all, (_, slices)| all.union(*slices));
        for device in gpu.instances.iter().chain(&gpu.whole) {
            let Some(resource) = &device.resource else {
                continue;
            };
            let known = tallies
                .iter()
                .position(|(known, _)| *known == resource.as_ref());
            let known = known.unwrap_or_else(|| {
                tallies.push((resource, Tally::default()));
                tallies.len() - 1
            });
            let tally = &mut tallies[known].1;
            let is_kept = device.placement.mask().overlaps(kept_free);
            match device.state {
                // Also if it was granted at the last moment: when it is released it must not be
                // what the scheduler sends the next pod to.
                State::Held | State::Idle if is_leaving(device, &touching) => {}
                State::Held if is_kept => {}
                State::Idle if is_new(device, &touching) => tally.hidden += 1,
                State::Idle if is_kept => tally.kept += 1,
                State::Idle => tally.idle += 1,
                State::Held => tally.held += 1,
                _ => {}
            }
        }
    }
    let wanted = snapshot.resources.iter().map(|(resource, confirmed)| {
        let mut known = tallies.iter();
        let tally = known.find_map(|(known, tally)| (known == resource).then_some(*tally));
        let tally = tally.unwrap_or_default();
        let promised = reserved.get(resource).copied().unwrap_or(0);
        let kept = tally.kept.min(promised.saturating_sub(tally.idle));
        let allocatable = (tally.held + tally.idle + kept).min(confirmed.allocatable);
        let capacity = confirmed.capacity.saturating_sub(tally.hidden);
        let counts = Counts {
            capacity: capacity.max(allocatable),
            allocatable,
        };
        (resource.clone(), counts)
    });
    wanted.collect()
}

/// Devices of one resource.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    held: u32,
    idle: u32,
    /// Idle on slices that are kept free.
    kept: u32,
    /// Not to be shown yet.
    hidden: u32,
}

type Touching<'a> = (&'a Operation, &'a planner::GpuPlan);

/// Made, or brought to this name, by an operation that is not complete.
fn is_new(device: &InstanceRow, touching: &[Touching<'_>]) -> bool {
    let resource = device.resource.as_deref();
    touching.iter().any(|(operation, gpu)| {
        let made = gpu
            .create
            .iter()
            .any(|new| new.placement == device.placement && Some(&*new.resource) == resource)
            && !operation::withdrawn(gpu).any(|gone| gone.is(device));
        let moved = gpu.expose.iter().any(|moved| {
            (moved.gi_id, moved.placement) == (device.gi_id, device.placement)
                && Some(&*moved.to) == resource
        });
        operation.hides() && (made || moved)
    })
}

/// About to be given up, or to go by another name.
fn is_leaving(device: &InstanceRow, touching: &[Touching<'_>]) -> bool {
    touching.iter().any(|(operation, gpu)| {
        operation.lowers() && operation::withdrawn(gpu).any(|gone| gone.is(device))
    })
}

/// Whether the status counts no more than wanted of these resources.
pub fn is_down<'a>(
    row: &NodeRow,
    wanted: &BTreeMap<String, Counts>,
    mut resources: impl Iterator<Item = &'a str>,
) -> bool {
    resources.all(|resource| {
        let most = wanted.get(resource).map_or(0, |counts| counts.allocatable);
        shown(&row.allocatable, resource) <= i64::from(most)
    })
}

/// Whether the status counts at least as much as wanted of these resources.
pub fn is_up<'a>(
    row: &NodeRow,
    wanted: &BTreeMap<String, Counts>,
    mut resources: impl Iterator<Item = &'a str>,
) -> bool {
    resources.all(|resource| {
        let least = wanted.get(resource).map_or(0, |counts| counts.allocatable);
        shown(&row.allocatable, resource) >= i64::from(least)
    })
}

fn shown(amounts: &Amounts, resource: &str) -> i64 {
    amounts.get(resource).copied().unwrap_or(0)
}

/// What became of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was applied.
    Written,
    /// The node had changed.
    Conflict,
    /// Anything else.
    Failed,
}

impl Answer {
    /// Bounded word for metrics.
    pub fn category(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

/// Keeps one node's status as it should be; at most one patch is under way.
#[derive(Debug, Default)]
pub struct StatusKeeper {
    under_way: Option<UnderWay>,
    assert: bool,
    refused: Option<(String, Instant)>,
    failures: u32,
}

#[derive(Debug)]
struct UnderWay {
    resource_version: String,
    asserts: bool,
}

impl StatusKeeper {
    /// Write the status at the next opportunity even if it seems right. A patch under way does not
    /// count: the kubelet may have undone it before it is answered.
    pub fn assert(&mut self) {
        self.assert = true;
        if let Some(under_way) = &mut self.under_way {
            under_way.asserts = false;
        }
    }

    /// Whether a patch is under way, so that what the node shows is about to change.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// When to ask again although nothing happened.
    pub fn wake_at(&self) -> Option<Instant> {
        self.refused.as_ref().map(|(_, at)| *at)
    }

    /// The patch to send now, if any. `calm`: no operation is under way on the node, so that also a
    /// mere difference in capacity is worth a patch.
    pub fn next(
        &mut self,
        row: &NodeRow,
        wanted: &BTreeMap<String, Counts>,
        calm: bool,
        now: Instant,
    ) -> Option<Value> {
        if self.under_way.is_some() {
            return None;
        }
        if let Some((version, until)) = &self.refused
            && *version == row.resource_version
            && now < *until
        {
            return None;
        }
        let differs = wanted.iter().any(|(resource, counts)| {
            shown(&row.allocatable, resource) != i64::from(counts.allocatable)
                || (calm && shown(&row.capacity, resource) != i64::from(counts.capacity))
        });
        if !differs && !self.assert {
            return None;
        }
        self.refused = None;
        let version = row.resource_version.clone();
        self.under_way = Some(UnderWay {
            resource_version: version,
            asserts: self.assert,
        });
        Some(patch(row, wanted))
    }

    /// A patch was answered; returns whether that fulfils a wish to [`Self::assert`].
    pub fn answered(&mut self, answer: Answer, now: Instant) -> bool {
        let Some(UnderWay {
            resource_version,
            asserts,
        }) = self.under_way.take()
        else {
            return false;
        };
        match answer {
            Answer::Written => {
                self.failures = 0;
                if asserts {
                    self.assert = false;
                }
                asserts
            }
            Answer::Conflict => {
                self.refused = Some((resource_version, now + CONFLICT_PATIENCE));
                false
            }
            Answer::Failed => {
                let delay = FAILURE_DELAY * 2u32.pow(self.failures.min(5));
                self.failures += 1;
                self.refused = Some((resource_version, now + delay));
                false
            }
        }
    }
}

/// The merge patch; its resource version makes it fail if the node has changed.
fn patch(row: &NodeRow, wanted: &BTreeMap<String, Counts>) -> Value {
    let of = |count: fn(&Counts) -> u32| -> BTreeMap<&str, String> {
        wanted
            .iter()
            .map(|(name, counts)| (name.as_str(), count(counts).to_string()))
            .collect()
    };
    json!({
        "metadata": {"resourceVersion": row.resource_version},
        "status": {
            "capacity": of(|counts| counts.capacity),
            "allocatable": of(|counts| counts.allocatable),
        },
    })
}

#[cfg(test)]
mod tests;

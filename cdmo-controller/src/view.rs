//! One node as the planner sees it: the agent's report, overlaid with what operations under way
//! will make of it.

use std::collections::{BTreeMap, HashSet};

use cdmo_proto::agent::{MigMode, instance::State};
use planner::{Gpu, Instance, Node, Usage};
use tokio::time::Instant;

use crate::{
    agents::AgentState,
    grants,
    names::PodKey,
    nodes::NodeRow,
    operation::Operation,
    pods::{NodeLoad, PodRow},
    requests,
    snapshot::{GpuRow, InstanceRow, SnapshotRow},
    takeover,
};

/// What decides about a GPU besides the agent's report.
pub trait Marks {
    /// Whether the GPU's reported state is known to be out of date, so that a plan would be refused.
    fn is_outdated(&self, gpu: &GpuRow, now: Instant) -> bool;
    /// Whether the GPU is left alone for a while after a failure.
    fn is_resting(&self, gpu: &str, now: Instant) -> bool;
}

/// Everything known about one node.
pub struct Facts<'a> {
    /// The node itself.
    pub row: &'a NodeRow,
    /// What its pods add up to.
    pub load: Option<&'a NodeLoad>,
    /// Its agent.
    pub agent: Option<&'a AgentState>,
    /// Operations under way on it.
    pub operations: &'a [&'a Operation],
    /// The bound pods that ask for our devices, sorted by their keys.
    pub bound: &'a [(&'a PodKey, &'a PodRow)],
    /// The present.
    pub now: Instant,
}

/// The planner's view of the node.
pub fn node(facts: &Facts<'_>, marks: &impl Marks) -> Node {
    let mut view = Node {
        name: facts.row.name.clone(),
        ..Node::default()
    };
    match facts
        .agent
        .and_then(|agent| Some((agent, agent.snapshot.as_ref()?)))
    {
        Some((agent, snapshot)) => {
            // What a node on its way back has idle is given up, not given out.
            let serves = agent.serves(facts.now) && facts.row.managed;
            let changeable = serves && agent.up && !takeover::is_upgrading(facts.row);
            let missing = grants::missing(snapshot, facts.bound);
            let grants = &agent.grants;
            let unseen = grants.unseen(snapshot, facts.bound, &missing, facts.now);
            let seen = Seen {
                serves,
                changeable,
                unseen: &unseen,
            };
            view.gpus = snapshot
                .gpus
                .iter()
                .filter_map(|g| gpu(facts, g, &seen, marks))
                .collect();
            view.fixed = whole_gpus(snapshot, serves);
            view.claimed = without_unnamed(snapshot, missing);
        }
        // Devices that somebody else's plugin offers: whatever node status has left.
        None if !facts.row.managed => view.fixed = unclaimed(facts.row, facts.load),
        None => {}
    }
    view
}

/// What holds for all GPUs of the node.
struct Seen<'a> {
    serves: bool,
    changeable: bool,
    /// Devices just granted to a pod that is not seen bound yet.
    unseen: &'a HashSet<&'a str>,
}

fn gpu(facts: &Facts<'_>, gpu: &GpuRow, seen: &Seen<'_>, marks: &impl Marks) -> Option<Gpu> {
    let model = gpu.model.clone()?;
    let plans: Vec<_> = facts
        .operations
        .iter()
        .flat_map(|op| {
            op.gpus
                .iter()
                .filter(|g| g.uuid == gpu.uuid)
                .map(move |g| (*op, g))
        })
        .collect();
    let outdated = marks.is_outdated(gpu, facts.now);
    let mut instances: Vec<_> = gpu
        .instances
        .iter()
        .filter_map(|row| {
            let leaving = plans.iter().any(|(op, plan)| {
                op.lowers() && plan.give_up.iter().any(|gone| gone.gi_id == row.gi_id)
            });
            let exposure = plans.iter().find_map(|(op, plan)| {
                let mut all = plan.expose.iter();
                let under_way = op.lowers() || outdated;
                all.find(|exposure| under_way && exposure.gi_id == row.gi_id)
            });
            let own = usage(row, leaving, seen);
            let own = match own {
                // For the pod that it was made for, who is not shown it yet: not to be given up for another.
                Usage::Idle if plans.iter().any(|(op, plan)| op.shows(plan, row)) => {
                    Usage::Arriving
                }
                own => own,
            };
            let (resource, usage) = match exposure {
                // Parked: to be used again once the plan is over.
                Some(moved) if own != Usage::Held && moved.to.is_empty() => (None, Usage::Idle),
                // Of its old name there is one less, and of the new one there will be one more.
                Some(moved) if own != Usage::Held => {
                    (Some(moved.to.as_str().into()), Usage::Arriving)
                }
                _ => (row.resource.clone(), own),
            };
            let since = match usage {
                Usage::Held => held_since(row, facts.bound),
                _ => 0,
            };
            Some(Instance {
                gi_id: row.gi_id,
                profile: row.profile?,
                placement: row.placement,
                resource,
                usage,
                since,
            })
        })
        .collect();
    // What an operation makes and the agent has not reported yet.
    for (op, new) in plans
        .iter()
        .flat_map(|(op, p)| p.create.iter().map(move |new| (op, new)))
    {
        let reported = gpu.instances.iter().any(|row| {
            row.placement == new.placement && row.resource.as_deref() == Some(&new.resource)
        });
        let Some((profile, _)) = model.find(&new.profile) else {
            continue;
        };
        if !reported && (op.hides() || outdated) {
            instances.push(Instance {
                gi_id: u32::MAX,
                profile,
                placement: new.placement,
                resource: Some(new.resource.as_str().into()),
                usage: Usage::Arriving,
                since: 0,
            });
        }
    }
    let planned = plans.iter().any(|(op, _)| op.hides());
    Some(Gpu {
        uuid: gpu.uuid.clone(),
        version: gpu.version,
        model,
        changeable: seen.changeable
            && gpu.mode == MigMode::On
            && gpu.consistent
            && !gpu.left_alone
            && !marks.is_resting(&gpu.uuid, facts.now),
        busy: planned || outdated,
        instances,
    })
}

fn usage(row: &InstanceRow, leaving: bool, seen: &Seen<'_>) -> Usage {
    let serves = seen.serves;
    match row.state {
        State::Held if seen.unseen.contains(row.device_id.as_str()) => Usage::Arriving,
        State::Held => Usage::Held,
        _ if leaving => Usage::Leaving,
        // Not a whole MIG device: somebody divides it by hand.
        State::Parked if row.device_id.is_empty() => Usage::Stuck,
        State::Idle | State::Parked if serves => Usage::Idle,
        State::Offering if serves => Usage::Arriving,
        _ => Usage::Stuck,
    }
}

/// When the first of its holders was bound, which the API remembers when the agent and we are new; else what the agent
/// says.
fn held_since(row: &InstanceRow, bound: &[(&PodKey, &PodRow)]) -> i64 {
    let started = row
        .holders
        .iter()
        .filter_map(|holder| Some(bound.get(grants::position(bound, holder)?)?.1.started));
    started
        .filter(|second| *second != 0)
        .min()
        .unwrap_or(row.since)
}

/// Free whole GPUs of an agent's node.
fn whole_gpus(snapshot: &SnapshotRow, serves: bool) -> BTreeMap<String, u32> {
    let mut fixed = BTreeMap::new();
    for whole in snapshot.gpus.iter().filter_map(|gpu| gpu.whole.as_ref()) {
        if let Some(resource) = &whole.resource {
            let free = serves && whole.state == State::Idle;
            *fixed.entry(resource.to_string()).or_insert(0) += u32::from(free);
        }
    }
    fixed
}

/// Devices that bound pods, sorted by their keys, ask for but do not hold yet, by resource.
pub fn claimed(snapshot: &SnapshotRow, bound: &[(&PodKey, &PodRow)]) -> BTreeMap<String, u32> {
    without_unnamed(snapshot, grants::missing(snapshot, bound))
}

/// What [`grants::missing`] says, without what grants to somebody without a name yet explain.
fn without_unnamed(
    snapshot: &SnapshotRow,
    mut claimed: BTreeMap<String, u32>,
) -> BTreeMap<String, u32> {
    // A grant is known before its holder's name is; it is one of these pods' or a departing one's.
    for device in snapshot
        .devices()
        .filter(|d| d.state == State::Held && d.holders.is_empty())
    {
        if let Some(count) = device.resource.as_deref().and_then(|r| claimed.get_mut(r)) {
            *count = count.saturating_sub(1);
        }
    }
    claimed.retain(|_, count| *count > 0);
    claimed
}

fn unclaimed(row: &NodeRow, load: Option<&NodeLoad>) -> BTreeMap<String, u32> {
    let used = |name: &str| load.and_then(|l| l.used.get(name)).copied().unwrap_or(0);
    row.allocatable
        .iter()
        .filter(|(name, _)| requests::is_ours(name))
        .map(|(name, all)| {
            (
                name.clone(),
                u32::try_from((all - used(name)).max(0)).unwrap_or(u32::MAX),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests;

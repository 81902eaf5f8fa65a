//! Taking nodes over and giving them back: labels and annotations (decided in [`takeover`]), what their
//! agents are told, and the plans that give up idle instances of a node on its way back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cdmo_proto::agent::{
    MigMode, NodeIntent, controller_message::Message as ToAgent, instance::State,
};
use planner::{GivenUp, GpuPlan};
use tokio::time::Instant;

use super::{Action, World, alarms::Alarm, board::Board};
use crate::{
    names::PodKey,
    node_status::{self, Answer},
    nodes::NodeRow,
    objects::NodeLite,
    operation::Operation,
    snapshot::{Counts, GpuRow, InstanceRow, SnapshotRow},
    takeover::{self, Standing},
    view::Marks as _,
};

/// Delay after a failed write.
const RETRY: Duration = Duration::from_secs(10);
/// A write refused because the node has changed is made again when its newest version is seen, or after
/// this.
const CONFLICT_PATIENCE: Duration = Duration::from_secs(1);
/// A node without an agent is taken for one that no agent comes to after this.
pub(super) const NO_AGENT: Duration = Duration::from_mins(1);

/// Keeps one node's labels; at most one write is under way.
#[derive(Debug, Default)]
pub(super) struct TakeoverKeeper {
    under_way: bool,
    retry_at: Option<Instant>,
    /// Version of the node that the last write was refused or made over.
    written_over: String,
    agentless_since: Option<Instant>,
    /// What the agent was told, and in which of its lives.
    told: Option<(u64, NodeIntent)>,
    /// Since when the node's status has not counted what the next intent takes off the kubelet's list.
    down_since: Option<Instant>,
}

impl World {
    pub(super) fn keep_takeover(&mut self, node: &str, now: Instant) {
        self.keep_labels(node, now);
        self.tell_intent(node, now);
        self.give_up_idle(node, now);
    }

    pub(super) fn standing(&self, node: &str) -> Standing {
        let row = self.nodes.get(node);
        row.map_or(Standing::Theirs, takeover::standing)
    }

    fn keep_labels(&mut self, node: &str, now: Instant) {
        let Some(row) = self.nodes.get(node) else {
            self.takeovers.remove(node);
            return;
        };
        let absent = self.agents.get(node).is_none() && self.agents.ailing(node).is_none();
        // While the driver is replaced the DaemonSet keeps the agent away, which says nothing of what stands there.
        let agentless = absent && self.agents.is_synced() && !takeover::is_upgrading(row);
        let keeper = self.takeovers.entry(node.to_owned()).or_default();
        keeper.agentless_since = agentless.then(|| keeper.agentless_since.unwrap_or(now));
        let lonely = keeper.agentless_since.map(|since| since + NO_AGENT);
        let returning = takeover::standing(row) == Standing::Returning;
        if let Some(at) = lonely.filter(|at| returning && now < *at) {
            self.alarms.set(at, Alarm::Node(node.to_owned()));
        }
        let lonely = lonely.is_some_and(|at| now >= at);
        let patch = takeover::patch(row, returning && self.is_cleared(row, lonely));
        let Some(keeper) = self.takeovers.get_mut(node) else {
            return;
        };
        let Some(patch) = patch.filter(|_| !keeper.under_way) else {
            return;
        };
        let same = keeper.written_over == row.resource_version;
        if let Some(at) = keeper.retry_at.filter(|at| same && now < *at) {
            self.alarms.set(at, Alarm::Node(node.to_owned()));
            return;
        }
        keeper.under_way = true;
        keeper.written_over.clone_from(&row.resource_version);
        tracing::info!(node, %patch, "labelling the node");
        self.actions.push(Action::PatchNode {
            node: node.to_owned(),
            patch,
        });
    }

    /// Nothing of ours is left on the node, as far as anybody can tell.
    fn is_cleared(&self, row: &NodeRow, lonely: bool) -> bool {
        let node = row.name.as_str();
        let busy = self.operations.is_busy(node);
        let agent = self.agents.get(node).filter(|agent| agent.up);
        let snapshot = agent.and_then(|agent| agent.snapshot.as_ref());
        match snapshot {
            Some(snapshot) => {
                let ours = snapshot.resources.keys().map(String::as_str);
                let wanted = self.wanted_counts(node);
                !busy && snapshot.given_back && node_status::is_down(row, &wanted, ours)
            }
            // No agent ever comes here; whoever has a device keeps it from being given to another.
            None => lonely && self.pods.is_synced() && self.pods.bound(node).next().is_none(),
        }
    }

    pub(super) fn hear_takeover_answer(
        &mut self,
        node: &str,
        answer: Answer,
        written: Option<Box<NodeLite>>,
        now: Instant,
    ) {
        if let Some(keeper) = self.takeovers.get_mut(node) {
            keeper.under_way = false;
            let pause = match answer {
                Answer::Failed => RETRY,
                Answer::Written | Answer::Conflict => CONFLICT_PATIENCE,
            };
            keeper.retry_at = Some(now + pause);
        }
        if let Some(written) = written {
            let changes = self.nodes.put_written(*written);
            self.hear_nodes(changes, now);
        }
        self.dirty.insert(node.to_owned());
    }

    /// What is meant to become of the node.
    fn intent(&self, row: &NodeRow) -> NodeIntent {
        let ours = takeover::standing(row) == Standing::Ours;
        NodeIntent {
            give_back: !ours,
            turn_mig_on: ours && self.config.turn_mig_on,
            leave_alone: takeover::leave_alone(row),
            paused: takeover::is_upgrading(row),
        }
    }

    /// Tells the agent, once in a session and at every change. What it is to take off the kubelet's list
    /// is taken out of the node's status before, and pods under way get a moment to arrive.
    fn tell_intent(&mut self, node: &str, now: Instant) {
        let Some(row) = self.nodes.get(node) else {
            return;
        };
        let Some(agent) = self.agents.get(node).filter(|agent| agent.up) else {
            return;
        };
        let (serial, intent) = (agent.session, self.intent(row));
        let told = self.takeovers.get(node).and_then(|k| k.told.as_ref());
        let known = told.filter(|(session, _)| *session == serial);
        if known.is_some_and(|(_, known)| *known == intent) {
            return;
        }
        let takes_away = agent
            .snapshot
            .as_ref()
            .is_some_and(|snapshot| withheld(snapshot, &intent).next().is_some());
        let wanted = self.wanted_counts(node);
        let down = node_status::is_down(row, &wanted, wanted.keys().map(String::as_str));
        let keeper = self.takeovers.entry(node.to_owned()).or_default();
        if takes_away && self.config.status_patch {
            keeper.down_since = down.then(|| keeper.down_since.unwrap_or(now));
            let at = keeper.down_since.map(|since| since + self.config.settle);
            match at {
                Some(at) if now >= at => {}
                Some(at) => return self.alarms.set(at, Alarm::Node(node.to_owned())),
                // The node's next version shows it.
                None => return,
            }
        }
        keeper.down_since = None;
        keeper.told = Some((serial, intent.clone()));
        tracing::info!(node, ?intent, "telling the agent");
        self.send(node, ToAgent::Intent(intent));
    }

    /// Leaves devices out of the counts that a node's status shall show: those that nobody may get any more.
    pub(super) fn hold_back(&self, node: &str, wanted: &mut BTreeMap<String, Counts>) {
        let (Some(row), Some(snapshot)) = (
            self.nodes.get(node),
            self.agents.get(node).and_then(|a| a.snapshot.as_ref()),
        ) else {
            return;
        };
        let intent = self.intent(row);
        let leaving: Vec<&InstanceRow> = if intent.give_back {
            let all = snapshot.devices();
            all.filter(|device| device.state == State::Idle).collect()
        } else {
            withheld(snapshot, &intent).collect()
        };
        if leaving.is_empty() {
            return;
        }
        for (resource, counts) in wanted {
            let is_of = |device: &&InstanceRow| device.resource.as_deref() == Some(resource);
            let offered = |device: &&InstanceRow| {
                is_of(device) && matches!(device.state, State::Held | State::Idle)
            };
            let all = snapshot.devices().filter(offered).count();
            let gone = leaving.iter().filter(|device| is_of(device)).count();
            let most = u32::try_from(all.saturating_sub(gone)).unwrap_or(u32::MAX);
            counts.allocatable = counts.allocatable.min(most);
        }
    }

    /// Begins to give up what is idle on a node on its way back, each GPU by a plan of its own.
    fn give_up_idle(&mut self, node: &str, now: Instant) {
        if self.standing(node) != Standing::Returning || !self.pods.is_synced() {
            return;
        }
        let Some(row) = self
            .nodes
            .get(node)
            .filter(|row| !takeover::is_upgrading(row))
        else {
            return;
        };
        let agent = self.agents.get(node).filter(|agent| agent.up);
        let Some(snapshot) = agent.and_then(|agent| agent.snapshot.as_ref()) else {
            return;
        };
        let alone = takeover::leave_alone(row);
        let busy: BTreeSet<&str> = self
            .operations
            .of_node(node)
            .flat_map(|operation| &operation.gpus)
            .map(|plan| plan.uuid.as_str())
            .collect();
        let plans: Vec<GpuPlan> = snapshot
            .gpus
            .iter()
            .filter(|gpu| !is_named(gpu, &alone) && !busy.contains(gpu.uuid.as_str()))
            .filter_map(|gpu| to_give_up(gpu, &self.board, now))
            .collect();
        for plan in plans {
            self.clear(node, plan, now);
        }
    }

    /// Begins to give up what is idle on a GPU, or to take it off offer, for no pod.
    pub(super) fn clear(&mut self, node: &str, plan: GpuPlan, now: Instant) {
        self.operation_count += 1;
        let id = format!("{}-{}", self.config.plan_prefix, self.operation_count);
        let does = if plan.give_up.is_empty() {
            "parking what is idle"
        } else {
            "giving up what is idle"
        };
        tracing::info!(node, plan = id, gpu = plan.uuid, "{does}");
        let nobody = (PodKey::nobody(), String::new());
        let (operation, output) = Operation::new(
            id.clone(),
            node.to_owned(),
            vec![plan],
            nobody,
            self.config.settle,
            now,
        );
        self.operations.insert(operation);
        self.touch(node, now);
        self.follow(&id, output, now);
    }
}

/// Idle devices that the intent takes off the kubelet's list without a plan.
fn withheld<'a>(
    snapshot: &'a SnapshotRow,
    intent: &'a NodeIntent,
) -> impl Iterator<Item = &'a InstanceRow> {
    snapshot
        .gpus
        .iter()
        .flat_map(|gpu| {
            let alone = is_named(gpu, &intent.leave_alone);
            let instances = gpu.instances.iter().filter(move |_| alone);
            let give_back = intent.give_back;
            let whole = gpu.whole.iter().filter(move |_| alone || give_back);
            instances.chain(whole)
        })
        .filter(|device| device.state == State::Idle)
}

fn is_named(gpu: &GpuRow, entries: &[String]) -> bool {
    let named = |entry: &String| *entry == gpu.uuid || entry.parse() == Ok(gpu.index);
    entries.iter().any(named)
}

fn to_give_up(gpu: &GpuRow, board: &Board, now: Instant) -> Option<GpuPlan> {
    let model = gpu.model.as_ref()?;
    let rests = board.is_outdated(gpu, now) || board.is_resting(&gpu.uuid, now);
    if gpu.mode != MigMode::On || !gpu.consistent || rests {
        return None;
    }
    let idle = gpu.instances.iter().filter(|device| {
        let free = matches!(device.state, State::Idle | State::Unhealthy | State::Parked);
        free && !device.device_id.is_empty()
    });
    let give_up: Vec<GivenUp> = idle
        .filter_map(|device| {
            Some(GivenUp {
                gi_id: device.gi_id,
                profile: model.profile(device.profile?)?.name,
                placement: device.placement,
                resource: device.resource.as_deref().map(str::to_owned),
            })
        })
        .collect();
    (!give_up.is_empty()).then(|| GpuPlan {
        gpu: 0,
        uuid: gpu.uuid.clone(),
        version: gpu.version,
        give_up,
        expose: Vec::new(),
        create: Vec::new(),
    })
}

//! What the world knows, as the document that people and scripts read.
//!
//! Made on request only, from the rows that decisions rest on, so that nothing has to be kept for
//! it.

use std::sync::Arc;

use cdmo_proto::agent::{self, instance::State};
use jiff::{SignedDuration, Timestamp, Unit};
use mig::{Placement, ProfileName};
use planner::{GpuPlan, Wants};
use status_report::{
    API_VERSION, Agent, AgentState, Controller, Gpu, Instance, InstanceState, KeptFree, MigMode,
    Move, Node, Piece, PodRef, Report, Rest, Stage, WaitingPod,
};
use tokio::time::Instant;

use super::{World, demand::Standing};
use crate::{
    names::PodKey,
    nodes::NodeRow,
    operation::{self, Operation},
    pods::PodRow,
    slices,
    snapshot::{GpuRow, InstanceRow},
    words,
};

/// The present, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// As everything is kept.
    pub now: Instant,
    /// As people read it.
    pub time: Timestamp,
}

impl Clock {
    /// The present.
    pub fn now() -> Self {
        Self {
            now: Instant::now(),
            time: Timestamp::now(),
        }
    }

    pub(super) fn at(&self, at: Instant) -> Timestamp {
        let distance = if at <= self.now {
            SignedDuration::try_from(self.now - at).map(|past| -past)
        } else {
            SignedDuration::try_from(at - self.now)
        };
        let moved = distance.ok().and_then(|d| self.time.checked_add(d).ok());
        let moved = moved.unwrap_or(self.time);
        // Nobody needs more than seconds, and fractions would fill the page.
        moved.round(Unit::Second).unwrap_or(moved)
    }
}

impl World {
    /// Rises whenever something may have changed that [`World::report`] shows.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Everything there is to tell, or only of the nodes with these names.
    pub fn report(&mut self, controller: &str, only: Option<&[String]>, clock: Clock) -> Report {
        let refusals = self.explainer().all_waiting(clock.now);
        let mut waiting: Vec<_> = self
            .pods
            .pending()
            .map(|(key, row)| (row.age, self.waiting(key, row, refusals.get(key))))
            .collect();
        waiting.sort_by_key(|(age, _)| *age);
        let wanted = |name: &str| only.is_none_or(|names| names.iter().any(|n| n == name));
        let nodes = self.nodes.iter().filter(|row| wanted(&row.name));
        Report {
            api_version: API_VERSION.to_owned(),
            revision: self.revision,
            time: clock.at(clock.now),
            controller: Controller {
                name: controller.to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                since: clock.at(self.started),
            },
            nodes: nodes.filter_map(|row| self.node(row, clock)).collect(),
            waiting: waiting.into_iter().map(|(_, pod)| pod).collect(),
        }
    }

    fn node(&self, row: &NodeRow, clock: Clock) -> Option<Node> {
        let agent = self.agents.get(&row.name);
        if !row.managed && agent.is_none() && !row.offers_devices() {
            return None;
        }
        let state = match agent {
            None => AgentState::Absent,
            Some(agent) if agent.up => AgentState::Up,
            Some(agent) if agent.problem.is_none() => AgentState::Connecting,
            Some(_) => AgentState::Down,
        };
        let reason = agent
            .filter(|agent| !agent.up)
            .and_then(|agent| agent.problem.as_ref());
        let snapshot = agent.and_then(|agent| agent.snapshot.as_ref());
        let gpus = snapshot.into_iter().flat_map(|snapshot| &snapshot.gpus);
        let mut operations: Vec<_> = self.operations.of_node(&row.name).collect();
        operations.sort_by_key(|operation| operation.times.planned);
        Some(Node {
            name: row.name.clone(),
            managed: row.managed,
            agent: Agent {
                state,
                since: agent.map(|agent| clock.at(agent.since)),
                reason: reason.map(|problem| problem.sentence.clone()),
            },
            gpus: gpus.map(|gpu| self.gpu(gpu, clock)).collect(),
            operations: operations
                .into_iter()
                .map(|operation| under_way(operation, clock))
                .collect(),
            problems: self.problem_sentences(&row.name, clock.now).0,
        })
    }

    fn gpu(&self, gpu: &GpuRow, clock: Clock) -> Gpu {
        let (free, reachable) = slices::free(gpu);
        let out_of_reach = free.without(reachable);
        let slices = gpu.model.as_ref().map_or(0, |model| model.slices);
        let rest = self.board.resting_for(&gpu.uuid, clock.now);
        let mut instances: Vec<_> = gpu.instances.iter().map(|row| instance(gpu, row)).collect();
        instances.sort_by_key(|instance| instance.start);
        Gpu {
            index: gpu.index,
            uuid: gpu.uuid.clone(),
            product: gpu.product.to_string(),
            slices,
            mig: mode(gpu.mode),
            instances,
            whole: gpu.whole.as_ref().map(|row| instance(gpu, row)),
            out_of_reach: match gpu.whole {
                None => (0..slices).filter(|n| out_of_reach.contains(*n)).collect(),
                Some(_) => Vec::new(),
            },
            rest: rest.map(|rest| Rest {
                until: clock.at(rest.until),
                failures: rest.failures,
                reason: rest.why.to_string(),
            }),
            kept_free: self
                .keeps_for(&gpu.uuid)
                .map(|(pod, mask)| KeptFree {
                    slices: (0..slices).filter(|n| mask.contains(*n)).collect(),
                    pod: pod.to_owned(),
                })
                .collect(),
        }
    }

    /// A pod that waits; `words` are those for a refusal.
    fn waiting(&self, key: &PodKey, row: &PodRow, words: Option<&Arc<str>>) -> WaitingPod {
        let standing = self.demands.get(key).map(|demand| &demand.standing);
        let (reason, message) = match standing {
            None | Some(Standing::New) => ("New", words::NEW.to_owned()),
            Some(Standing::Covered) => ("Ready", words::COVERED.to_owned()),
            Some(Standing::Planned) => {
                let own = self.operations.of_pod(key);
                let operation = own.min_by(|a, b| a.id.cmp(&b.id));
                let node = operation.map(|operation| operation.node.as_str());
                ("Planned", words::being_made(node))
            }
            Some(Standing::Waiting) => ("Waiting", words::WAITING.to_owned()),
            Some(Standing::Refused { kind, text, .. }) => {
                let text = words.unwrap_or(text).to_string();
                (words::reason(*kind), text)
            }
        };
        WaitingPod {
            pod: pod(key),
            since: row.created(),
            wants: Wants::clone(&row.wants),
            reason: reason.to_owned(),
            message,
        }
    }
}

fn pod(key: &PodKey) -> PodRef {
    PodRef {
        namespace: key.namespace().to_owned(),
        name: key.name().to_owned(),
    }
}

fn instance(gpu: &GpuRow, row: &InstanceRow) -> Instance {
    let model = gpu.model.as_deref();
    let profile = row
        .profile
        .and_then(|index| model.and_then(|model| model.profile(index)));
    Instance {
        profile: profile.map(|p| p.name.to_string()).unwrap_or_default(),
        start: row.placement.start,
        size: row.placement.size,
        gpu_instance_id: row.gi_id,
        device_id: row.device_id.clone(),
        resource: row.resource.as_deref().map(str::to_owned),
        state: match row.state {
            State::Unspecified => InstanceState::Unknown,
            State::Offering => InstanceState::Offering,
            State::Idle => InstanceState::Idle,
            State::Held => InstanceState::Held,
            State::Withdrawing => InstanceState::Withdrawing,
            State::Stuck => InstanceState::Stuck,
            State::Unhealthy => InstanceState::Unhealthy,
            State::Parked => InstanceState::Parked,
        },
        since: Some(row.since)
            .filter(|since| *since > 0)
            .and_then(|since| Timestamp::from_second(since).ok()),
        holders: row.holders.iter().map(pod).collect(),
        reason: Some(row.reason.to_string()).filter(|reason| !reason.is_empty()),
    }
}

fn mode(mode: agent::MigMode) -> MigMode {
    match mode {
        agent::MigMode::Unspecified => MigMode::Unknown,
        agent::MigMode::NotCapable => MigMode::NotCapable,
        agent::MigMode::Off => MigMode::Off,
        agent::MigMode::On => MigMode::On,
        agent::MigMode::PendingOn => MigMode::PendingOn,
        agent::MigMode::PendingOff => MigMode::PendingOff,
    }
}

fn under_way(operation: &Operation, clock: Clock) -> status_report::Operation {
    let stage = match operation.stage() {
        operation::Stage::Lowering => Stage::Lowering,
        operation::Stage::Settling => Stage::Settling,
        operation::Stage::Arriving => Stage::Arriving,
        operation::Stage::Withdrawing => Stage::Withdrawing,
        operation::Stage::Asserting => Stage::Asserting,
        operation::Stage::Looking => Stage::Looking,
        operation::Stage::Making => Stage::Making,
        operation::Stage::Aborting => Stage::Aborting,
        operation::Stage::Showing => Stage::Showing,
        operation::Stage::Over => Stage::Unknown,
    };
    let (makes, gives_up, moves) = pieces(&operation.gpus);
    status_report::Operation {
        id: operation.id.clone(),
        stage,
        since: clock.at(operation.entered()),
        planned: clock.at(operation.times.planned),
        pod: pod(&operation.pod.0),
        makes,
        gives_up,
        moves,
    }
}

/// What a plan makes, gives up and moves.
pub(super) fn pieces(gpus: &[GpuPlan]) -> (Vec<Piece>, Vec<Piece>, Vec<Move>) {
    let piece = |gpu: &GpuPlan, profile: ProfileName, placement: Placement| Piece {
        gpu: gpu.uuid.clone(),
        profile: profile.to_string(),
        start: placement.start,
        size: placement.size,
    };
    let mut all = (Vec::new(), Vec::new(), Vec::new());
    for gpu in gpus {
        let makes = gpu.create.iter();
        all.0
            .extend(makes.map(|new| piece(gpu, new.profile, new.placement)));
        let gives_up = gpu.give_up.iter();
        all.1
            .extend(gives_up.map(|gone| piece(gpu, gone.profile, gone.placement)));
        all.2.extend(gpu.expose.iter().map(|moved| Move {
            gpu: gpu.uuid.clone(),
            profile: moved.profile.to_string(),
            start: moved.placement.start,
            size: moved.placement.size,
            from: moved.from.clone(),
            to: moved.to.clone(),
        }));
    }
    all
}

//! Tending one node: its operations, its status, its annotation, its agent's pod table.

use std::{collections::BTreeMap, time::Duration};

use cdmo_proto::agent::{PodTable, controller_message::Message as ToAgent, instance::State};
use tokio::time::Instant;

use super::{Action, World, alarms::Alarm};
use crate::{
    agents::{Ailing, Ailment},
    names::PodKey,
    node_status::{self, Answer},
    objects::NodeLite,
    operation::{self, Operation, Stage},
    pods::PodRow,
    snapshot::{Counts, SnapshotRow},
    takeover::{self, Standing},
    words,
};

/// How long a session may be down before the node's annotation says so.
const UNREACHABLE: Duration = Duration::from_secs(10);
/// How long a labelled node may be without an agent before its annotation says so: images must be
/// pulled first.
const NO_AGENT: Duration = Duration::from_mins(1);
/// How long an agent's pod may take to start before the annotation says so: longer than its images
/// take to be pulled, as a rule.
const STARTING: Duration = Duration::from_secs(30);
/// Delay after a failed write of the annotation.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps one node's annotation about problems; at most one write is under way.
#[derive(Debug, Default)]
pub(super) struct ProblemKeeper {
    under_way: bool,
    retry_at: Option<Instant>,
    agentless_since: Option<Instant>,
}

impl World {
    pub(super) fn tend(&mut self, node: &str, now: Instant) {
        self.send_table_if_due(node);
        if self.nodes.get(node).is_none() {
            self.statuses.remove(node);
            self.beats.remove(node);
            self.problems.remove(node);
            self.takeovers.remove(node);
            if self.agents.get(node).is_none() {
                self.tables.remove(node);
            }
            return;
        }
        let wanted = self.advance_operations(node, now);
        self.keep_status(node, wanted, now);
        self.keep_problems(node, now);
        self.keep_takeover(node, now);
    }

    /// Operations that wait for the node's status to show something. Returns what that is to show if none of them went
    /// on.
    fn advance_operations(&mut self, node: &str, now: Instant) -> Option<BTreeMap<String, Counts>> {
        let busy_here = self.operations.is_busy(node);
        let row = self.nodes.get(node).filter(|_| busy_here)?;
        let wanted = self.wanted_counts(node);
        let busy = self
            .statuses
            .get(node)
            .is_some_and(node_status::StatusKeeper::is_busy);
        let writes = self.config.status_patch;
        let is_down = |operation: &Operation| {
            let resources = operation.withdrawn().filter_map(|gone| gone.resource);
            node_status::is_down(row, &wanted, resources)
        };
        let reached = |operation: &Operation| match operation.stage() {
            _ if !operation.is_sent() && self.is_taken(operation) => Some(operation::Input::Taken),
            // While a patch is under way its effect is not known.
            Stage::Lowering => {
                let down = !busy && is_down(operation);
                (down || !writes).then_some(operation::Input::Lowered)
            }
            Stage::Settling | Stage::Arriving => {
                let up = !is_down(operation) && writes;
                up.then_some(operation::Input::Raised)
            }
            Stage::Asserting if !writes => Some(operation::Input::Asserted),
            Stage::Showing => {
                let made = operation.made.iter().map(|made| made.resource.as_str());
                let up = node_status::is_up(row, &wanted, made) && self.shows_made(operation);
                up.then_some(operation::Input::Shown)
            }
            _ => None,
        };
        let steps: Vec<_> = self
            .operations
            .of_node(node)
            .filter_map(|operation| Some((operation.id.clone(), reached(operation)?)))
            .collect();
        let went_on = !steps.is_empty();
        for (id, input) in steps {
            self.step_operation(&id, input, now);
        }
        (!went_on).then_some(wanted)
    }

    /// Whether the agent reports a pod on what is to be withdrawn.
    fn is_taken(&self, operation: &Operation) -> bool {
        let snapshot = self
            .agents
            .get(&operation.node)
            .and_then(|agent| agent.snapshot.as_ref());
        let held = |gpu: &planner::GpuPlan| {
            let now = snapshot.and_then(|snapshot| snapshot.gpu(&gpu.uuid));
            now.is_some_and(|now| {
                let gone = |gi_id| operation::withdrawn(gpu).any(|gone| gone.gi_id == gi_id);
                let mut devices = now.instances.iter();
                devices.any(|device| device.state == State::Held && gone(device.gi_id))
            })
        };
        operation.gpus.iter().any(held)
    }

    /// Whether the agent's report contains what it says it made; until then the wanted counts lack it.
    fn shows_made(&self, operation: &Operation) -> bool {
        let snapshot = self
            .agents
            .get(&operation.node)
            .and_then(|agent| agent.snapshot.as_ref());
        snapshot.is_some_and(|snapshot| {
            operation.made.iter().all(|made| {
                let gpu = snapshot.gpu(&made.gpu_uuid).into_iter();
                let mut devices = gpu.flat_map(|gpu| &gpu.instances);
                // Under its new name: a device that moved was there before.
                devices.any(|device| {
                    device.device_id == made.device_id
                        && device.resource.as_deref() == Some(&made.resource)
                })
            })
        })
    }

    pub(super) fn wanted_counts(&self, node: &str) -> BTreeMap<String, Counts> {
        let snapshot = self
            .agents
            .get(node)
            .filter(|a| a.up)
            .and_then(|a| a.snapshot.as_ref());
        let on_node = self.operations.of_node(node);
        let kept_free: Vec<_> = self.kept_free(node).collect();
        let reserved = self.reserved(node);
        let wanted = snapshot.map(|s| node_status::wanted(s, on_node, &kept_free, reserved));
        let mut wanted = wanted.unwrap_or_default();
        self.hold_back(node, &mut wanted);
        wanted
    }

    fn keep_status(&mut self, node: &str, wanted: Option<BTreeMap<String, Counts>>, now: Instant) {
        // Without a live session nothing is known, so nothing is written.
        let live = self.agents.get(node).is_some_and(|agent| agent.up);
        if !live || !self.config.status_patch {
            return;
        }
        let wanted = wanted.unwrap_or_else(|| self.wanted_counts(node));
        let calm = !self.operations.is_busy(node);
        let Some(row) = self.nodes.get(node) else {
            return;
        };
        let keeper = self.statuses.entry(node.to_owned()).or_default();
        if let Some(patch) = keeper.next(row, &wanted, calm, now) {
            self.actions.push(Action::PatchStatus {
                node: node.to_owned(),
                patch,
            });
        } else if let Some(at) = keeper.wake_at().filter(|at| *at > now) {
            self.alarms.set(at, Alarm::Node(node.to_owned()));
        }
    }

    pub(super) fn hear_status_answer(
        &mut self,
        node: &str,
        answer: Answer,
        written: Option<Box<NodeLite>>,
        now: Instant,
    ) {
        self.metrics.status_patch(answer.category());
        let asserted = self
            .statuses
            .get_mut(node)
            .is_some_and(|keeper| keeper.answered(answer, now));
        if let Some(written) = written {
            let changes = self.nodes.put_written(*written);
            self.hear_nodes(changes, now);
        }
        if asserted {
            let waiting: Vec<_> = self
                .operations
                .of_node(node)
                .filter(|op| op.stage() == Stage::Asserting)
                .map(|op| op.id.clone())
                .collect();
            for id in waiting {
                self.step_operation(&id, operation::Input::Asserted, now);
            }
        }
        self.dirty.insert(node.to_owned());
    }

    fn keep_problems(&mut self, node: &str, now: Instant) {
        let Some(row) = self.nodes.get(node) else {
            return;
        };
        let agent = self.agents.get(node);
        let keeper = self.problems.entry(node.to_owned()).or_default();
        let ours = takeover::standing(row) != Standing::Theirs;
        let agentless = ours && agent.is_none() && self.agents.is_synced();
        keeper.agentless_since = agentless.then(|| keeper.agentless_since.unwrap_or(now));
        let (sentences, later) = self.problem_sentences(node, now);
        let Some(keeper) = self.problems.get_mut(node) else {
            return;
        };
        if let Some(at) = later {
            self.alarms.set(at, Alarm::Node(node.to_owned()));
        }
        // While nothing is known of an agent that exists, the old sentences stand.
        let unknown = agent.is_some_and(|agent| {
            if agent.up {
                agent.snapshot.is_none()
            } else {
                agent.problem.is_none()
            }
        });
        let text = words::problems(&sentences);
        if unknown || text == row.problems || keeper.under_way {
            return;
        }
        if let Some(at) = keeper.retry_at.filter(|at| now < *at) {
            self.alarms.set(at, Alarm::Node(node.to_owned()));
            return;
        }
        keeper.under_way = true;
        if let Some(text) = &text {
            tracing::warn!(node, "{text}");
        }
        self.actions.push(Action::PatchProblems {
            node: node.to_owned(),
            text,
        });
    }

    /// What an administrator should know of the node now, and when there may be more to say.
    pub(super) fn problem_sentences(
        &self,
        node: &str,
        now: Instant,
    ) -> (Vec<String>, Option<Instant>) {
        let mut sentences = Vec::new();
        let mut later = None;
        let up = self.agents.get(node).is_some_and(|agent| agent.up);
        let ailing = self.agents.ailing(node).filter(|_| !up);
        let agentless = self.problems.get(node).and_then(|k| k.agentless_since);
        let (why, at) = match (ailing, agentless) {
            (Some(ailing), _) => {
                let (why, patience) = trouble(ailing);
                (Some(why), Some(ailing.since + patience))
            }
            (None, Some(since)) => {
                let why = words::no_agent(&self.config.namespace);
                (Some(why), Some(since + NO_AGENT))
            }
            (None, None) => (None, None),
        };
        if at.is_some_and(|at| now >= at) {
            sentences.extend(why);
        } else {
            later = at;
        }
        if self.standing(node) == Standing::Returning {
            let snapshot = self.agents.get(node).and_then(|a| a.snapshot.as_ref());
            let devices = snapshot.into_iter().flat_map(SnapshotRow::devices);
            let held = devices.filter(|device| device.state == State::Held);
            sentences.push(words::returning(held.count()));
        }
        if let Some(agent) = self.agents.get(node) {
            match &agent.problem {
                // Then it is clear why nobody answers.
                Some(_) if !sentences.is_empty() => {}
                Some(problem) if problem.lasting || now >= agent.since + UNREACHABLE => {
                    sentences.push(words::unreachable(&problem.sentence));
                }
                Some(_) => later = later.into_iter().chain([agent.since + UNREACHABLE]).min(),
                None => {}
            }
            if let (Some(snapshot), true) = (&agent.snapshot, agent.up) {
                sentences.extend(snapshot.problems.iter().cloned());
            }
        }
        (sentences, later)
    }

    pub(super) fn hear_problems_answer(&mut self, node: &str, written: bool, now: Instant) {
        if let Some(keeper) = self.problems.get_mut(node) {
            keeper.under_way = false;
            // A written annotation shows up with the node's next event; do not write it again until
            // then, but neither wait for ever.
            keeper.retry_at = Some(
                now + if written {
                    Duration::from_secs(1)
                } else {
                    RETRY
                },
            );
        }
        self.dirty.insert(node.to_owned());
    }

    /// An agent takes a pod that the table lacks for one that is gone, so none is sent before all pods
    /// are listed.
    fn send_table_if_due(&mut self, node: &str) {
        if !self.pods.is_synced() {
            return;
        }
        if self.agents.get(node).is_some_and(|agent| agent.up) && self.tables.remove(node) {
            self.send_table(node, &[]);
        }
    }

    /// Sends the node's pods, `more` included; returns the table's revision.
    pub(super) fn send_table(&mut self, node: &str, more: &[(PodKey, PodRow)]) -> u64 {
        let pods = self.pods.table(node, more);
        let Some(serial) = self.agents.get(node).map(|agent| agent.serial) else {
            return 0;
        };
        let Some(agent) = self.agents.get_mut(node, serial) else {
            return 0;
        };
        agent.revision += 1;
        let revision = agent.revision;
        self.send(node, ToAgent::Pods(PodTable { revision, pods }));
        revision
    }

    /// Sends a node's agent a message.
    pub(super) fn send(&mut self, node: &str, message: ToAgent) {
        if let Some(agent) = self.agents.get(node).filter(|agent| agent.up) {
            let (node, serial) = (node.to_owned(), agent.serial);
            self.actions.push(Action::Send {
                node,
                serial,
                message: Box::new(message),
            });
        }
    }
}

/// Why an agent does not come up, and how long it may take to until that is worth a word.
fn trouble(ailing: &Ailing) -> (String, Duration) {
    match &ailing.ailment {
        Ailment::Fails { why } => (words::agent_fails(&ailing.pod, why), UNREACHABLE),
        Ailment::Waits { reason } => (words::agent_waits(&ailing.pod, reason), STARTING),
    }
}

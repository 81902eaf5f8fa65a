//! Everything the controller knows, and what follows from it; without I/O and without a clock.
//!
//! Shells feed [`Input`]s in and carry [`Action`]s out. Between the two, [`World::decide`] looks at
//! what changed: each node that something happened to is tended (operations, node status, problems,
//! pod table), and if anything changed that a plan depends on, one planning pass runs over the
//! waiting pods a few milliseconds later, so that a burst of events makes one pass.

mod absent;
mod alarms;
mod board;
mod demand;
mod explaining;
mod gates;
mod kinds;
mod laps;
mod operating;
mod operations;
mod planning;
mod replaying;
mod report;
mod taking;
mod telling;
mod tending;
mod what_if;
mod windows;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    time::Duration,
};

use cdmo_proto::agent::controller_message::Message as ToAgent;
use kube::runtime::watcher::Event;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    agents::{self, AgentTable},
    arrivals::Arrivals,
    grants,
    kubelet_beat::Beat,
    metrics::Metrics,
    names::PodKey,
    node_status::{Answer, StatusKeeper},
    nodes::{NodeChange, NodeIndex, Wrote},
    notes::Budget,
    objects::{NodeLite, PodLite},
    pods::{self, PodIndex, PodRow, key_of},
    session::{Report, Said},
    slices,
    snapshot::Models,
    words::Note,
};

pub use report::Clock;
pub use what_if::{Supposed, read as read_supposed};

use alarms::{Alarm, Alarms};
use board::Board;
use demand::DemandState;
use operations::Operations;
use taking::TakeoverKeeper;
use tending::ProblemKeeper;

/// How long a burst of events is gathered before a planning pass.
const COALESCE: Duration = Duration::from_millis(2);
/// Longest that passes are put off because they take long.
const LONGEST_BREAK: Duration = Duration::from_millis(250);
/// How long a new controller waits for agents before it plans without some of them.
const GATHER: Duration = Duration::from_secs(3);

/// What can be chosen.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Config {
    /// Namespace of the agents, for words.
    pub namespace: String,
    /// Name of the agents' gRPC port.
    pub agent_port_name: String,
    /// Starts the ids of all plans; unique per epoch.
    pub plan_prefix: String,
    /// How long pods under way may take to show up once node status is down.
    pub settle: Duration,
    /// Whether node status is written.
    pub status_patch: bool,
    /// Whether waiting pods are annotated.
    pub pod_annotation: bool,
    /// Whether a pod that has to wait is told the names of pods that are in its way.
    pub name_holders: bool,
    /// Whether agents turn MIG mode on where it is off and nobody uses the GPU.
    pub turn_mig_on: bool,
    /// What becomes of idle instances.
    pub idle: planner::Idle,
    /// Whether the pods that come decide which placement table counts.
    pub portfolio: bool,
    /// After how long slices are kept free for a pod that waits for room; never if none.
    pub window_after: Option<Duration>,
    /// Seconds of Unix time at the start.
    pub started: i64,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The watch of pods.
    Pod(Box<Event<PodLite>>),
    /// The watch of nodes.
    Node(Box<Event<NodeLite>>),
    /// The watch of agent pods.
    AgentPod(Box<Event<PodLite>>),
    /// A session with an agent.
    Report(Report),
    /// An [`Action::PatchStatus`] was answered.
    StatusAnswer {
        /// The node.
        node: String,
        /// How.
        answer: Answer,
        /// The node as written.
        written: Option<Box<NodeLite>>,
    },
    /// An [`Action::PatchProblems`] was answered.
    ProblemsAnswer {
        /// The node.
        node: String,
        /// Whether it was applied.
        written: bool,
    },
    /// An [`Action::PatchNode`] was answered.
    TakeoverAnswer {
        /// The node.
        node: String,
        /// How.
        answer: Answer,
        /// The node as written.
        written: Option<Box<NodeLite>>,
    },
    /// An [`Action::ListBound`] was answered.
    Bound {
        /// The operation.
        operation: String,
        /// The pods bound to its node, or why they are not known.
        pods: Result<Vec<PodLite>, String>,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Keep sessions with this agent.
    Connect {
        /// Its node.
        node: String,
        /// Its number.
        serial: u64,
        /// Where it listens.
        address: SocketAddr,
    },
    /// Stop doing so.
    Disconnect {
        /// Its node.
        node: String,
        /// Its number.
        serial: u64,
    },
    /// Send an agent a message.
    Send {
        /// Its node.
        node: String,
        /// Its number.
        serial: u64,
        /// The message.
        message: Box<ToAgent>,
    },
    /// Merge-patch a node's status, and answer.
    PatchStatus {
        /// The node.
        node: String,
        /// The patch.
        patch: Value,
    },
    /// Write the annotation about problems, or remove it, and answer.
    PatchProblems {
        /// The node.
        node: String,
        /// The value.
        text: Option<String>,
    },
    /// Merge-patch a node's labels and annotations, and answer.
    PatchNode {
        /// The node.
        node: String,
        /// The patch.
        patch: Value,
    },
    /// Read the pods bound to a node from the API, and answer.
    ListBound {
        /// The operation that asks.
        operation: String,
        /// The node.
        node: String,
    },
    /// Write the plan annotation of a pod.
    AnnotatePod {
        /// The pod.
        pod: PodKey,
        /// Its uid: another pod of that name is not meant.
        uid: String,
        /// The annotation's value.
        plan: Value,
    },
    /// Take our scheduling gate off a pod.
    OpenGate {
        /// The pod.
        pod: PodKey,
        /// Its uid: another pod of that name is not meant.
        uid: String,
        /// Which of the pod's gates it is.
        at: usize,
    },
    /// Send an Event.
    Publish(Note),
}

/// Everything the controller knows.
#[derive(Debug)]
pub struct World {
    config: Config,
    metrics: Metrics,
    started: Instant,
    pods: PodIndex,
    nodes: NodeIndex,
    agents: AgentTable,
    models: Models,
    operations: Operations,
    operation_count: u64,
    /// Pods of a node as the API listed them just now, by operation.
    listed: HashMap<String, Vec<(PodKey, PodRow)>>,
    statuses: HashMap<String, StatusKeeper>,
    beats: HashMap<String, Beat>,
    problems: HashMap<String, ProblemKeeper>,
    takeovers: HashMap<String, TakeoverKeeper>,
    /// Of the pods that wait.
    demands: BTreeMap<PodKey, DemandState>,
    /// A list was heard in full; it may have dropped pods without an event each.
    relisted: bool,
    board: Board,
    budget: Budget,
    /// Memory slices by use, as last counted, by node.
    slices: HashMap<String, slices::Counts>,
    /// Pods that came and went, unless the first table stays whatever comes.
    arrivals: Option<Arrivals>,
    /// A look at them is due at some alarm.
    replay_set: bool,
    alarms: Alarms,
    /// Nodes to tend.
    dirty: BTreeSet<String>,
    /// Nodes whose agents must get a new pod table.
    tables: BTreeSet<String>,
    plan_at: Option<Instant>,
    /// Rises whenever something may have changed that a report shows.
    revision: u64,
    /// A pass was made in the last decision.
    passed: bool,
    /// No pass is made before.
    rests_until: Instant,
    actions: Vec<Action>,
    /// What is to be done about sessions once everything was listed.
    early: Vec<Action>,
}

impl World {
    /// A world of which nothing is known.
    pub fn new(config: Config, metrics: Metrics, now: Instant) -> Self {
        let mut alarms = Alarms::default();
        alarms.set(now + GATHER, Alarm::Plan);
        Self {
            agents: AgentTable::new(config.agent_port_name.clone()),
            board: Board::new(config.idle),
            arrivals: config.portfolio.then(Arrivals::default),
            replay_set: false,
            config,
            metrics,
            started: now,
            pods: PodIndex::default(),
            nodes: NodeIndex::default(),
            models: Models::default(),
            operations: Operations::default(),
            operation_count: 0,
            listed: HashMap::new(),
            statuses: HashMap::new(),
            beats: HashMap::new(),
            problems: HashMap::new(),
            takeovers: HashMap::new(),
            demands: BTreeMap::new(),
            relisted: false,
            budget: Budget::new(now),
            slices: HashMap::new(),
            alarms,
            dirty: BTreeSet::new(),
            tables: BTreeSet::new(),
            plan_at: None,
            revision: 0,
            passed: false,
            rests_until: now,
            actions: Vec::new(),
            early: Vec::new(),
        }
    }

    /// Whether all watches have listed what there is.
    pub fn is_synced(&self) -> bool {
        self.pods.is_synced() && self.nodes.is_synced() && self.agents.is_synced()
    }

    /// When [`World::decide`] wants to be called though nothing happened.
    pub fn wake_at(&self) -> Option<Instant> {
        self.plan_at.into_iter().chain(self.alarms.next()).min()
    }

    /// Says that the last [`World::decide`] is over, and how long it took. For a quarter of that time no other pass is made,
    /// so that what comes is taken in. Not for longer: a pass costs what changed since the last one, and pods wait for it.
    pub fn took(&mut self, time: Duration, now: Instant) {
        if std::mem::take(&mut self.passed) {
            self.rests_until = now + (time / 4).min(LONGEST_BREAK);
            self.plan_at = self.plan_at.map(|at| at.max(self.rests_until));
        }
    }

    /// Takes in what happened.
    pub fn apply(&mut self, input: Input, now: Instant) {
        self.revision += 1;
        match input {
            Input::Pod(event) => self.hear_pod(*event, now),
            Input::Node(event) => {
                let listed = matches!(*event, Event::InitDone);
                let changes = self.nodes.apply(*event);
                self.hear_nodes(changes, now);
                if listed {
                    self.request_plan(now);
                }
            }
            Input::AgentPod(event) => self.hear_agent_pod(*event, now),
            Input::Report(report) => self.hear_report(report, now),
            Input::StatusAnswer {
                node,
                answer,
                written,
            } => {
                self.hear_status_answer(&node, answer, written, now);
            }
            Input::ProblemsAnswer { node, written } => {
                self.hear_problems_answer(&node, written, now);
            }
            Input::TakeoverAnswer {
                node,
                answer,
                written,
            } => {
                self.hear_takeover_answer(&node, answer, written, now);
            }
            Input::Bound { operation, pods } => self.hear_bound(&operation, pods, now),
        }
    }

    /// Says what to do now.
    pub fn decide(&mut self, now: Instant) -> Vec<Action> {
        let mut replay = false;
        while let Some(alarm) = self.alarms.due(now) {
            self.revision += 1;
            match alarm {
                Alarm::Plan => self.request_plan(now),
                Alarm::Node(node) => self.touch(&node, now),
                Alarm::Operation(id) => self.tick(&id, now),
                Alarm::Tell(pod) => self.tell_refusal(&pod, now),
                Alarm::Remind(pod) => self.remind(&pod, now),
                Alarm::Gate(pod) => self.tend_gate(&pod, now),
                Alarm::Replay => replay = true,
            }
        }
        loop {
            while let Some(node) = self.dirty.pop_first() {
                self.tend(&node, now);
            }
            if self.plan_at.is_none_or(|at| now < at) {
                break;
            }
            self.plan_at = None;
            self.revision += 1;
            self.plan(now);
        }
        if replay {
            self.replay(now);
        }
        let actions = std::mem::take(&mut self.actions);
        if self.is_synced() {
            let mut due = std::mem::take(&mut self.early);
            due.extend(actions);
            return due;
        }
        // A session takes the agent over from the controller before us, which can go on with its work
        // until we can begin with ours.
        let sessions =
            |action: &Action| matches!(action, Action::Connect { .. } | Action::Disconnect { .. });
        let (early, now) = actions.into_iter().partition(sessions);
        self.early.extend::<Vec<_>>(early);
        now
    }

    fn hear_pod(&mut self, event: Event<PodLite>, now: Instant) {
        let key = match &event {
            Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod) => Some(key_of(pod)),
            Event::Init | Event::InitDone => None,
        };
        let gated = match &event {
            Event::Apply(pod) | Event::InitApply(pod) => pods::gate(&pod.spec).map(|_| pod.clone()),
            Event::Delete(_) | Event::Init | Event::InitDone => None,
        };
        let listed = matches!(event, Event::InitDone);
        self.relisted |= listed;
        let was_synced = self.pods.is_synced();
        let before = self.before(key.as_ref());
        let changed = self.pods.apply(event);
        if was_synced {
            self.note_arrival(key.as_ref(), before.as_ref(), listed, now);
        }
        if let Some(pod) = gated {
            self.open_stray_gate(&pod);
        }
        if !was_synced && self.pods.is_synced() {
            // Tables wait for this.
            self.dirty.extend(self.tables.iter().cloned());
        }
        if let Some(key) = key {
            self.note_demand(&key, now);
        }
        for node in changed.tables {
            self.dirty.insert(node.to_string());
            self.tables.insert(node.to_string());
        }
        for node in changed.nodes {
            self.touch(&node, now);
        }
        if changed.pending {
            self.request_plan(now);
        }
    }

    fn hear_nodes(&mut self, changes: Vec<NodeChange>, now: Instant) {
        for NodeChange {
            name,
            matters,
            wrote,
        } in changes
        {
            if let Some(beat) = wrote.and_then(|wrote| self.beat(wrote, now)) {
                self.beats.insert(name.clone(), beat);
            }
            if matters {
                self.touch(&name, now);
            } else {
                self.dirty.insert(name);
            }
        }
    }

    fn beat(&self, wrote: Wrote, now: Instant) -> Option<Beat> {
        match wrote {
            Wrote::Now => Some(Beat::seen(now)),
            // A node's clock may be ahead.
            Wrote::At(second) => Some(Beat::told(self.moment(second)?.min(now))),
        }
    }

    fn hear_agent_pod(&mut self, event: Event<PodLite>, now: Instant) {
        for change in self.agents.apply(event, now) {
            match change {
                agents::Change::Connect {
                    node,
                    serial,
                    address,
                } => {
                    self.touch(&node, now);
                    self.actions.push(Action::Connect {
                        node,
                        serial,
                        address,
                    });
                }
                agents::Change::Ails { node } => self.touch(&node, now),
                agents::Change::Disconnect { node, serial } => {
                    self.lose_session(&node, now);
                    self.count_slices(&node);
                    self.actions.push(Action::Disconnect { node, serial });
                    self.count_sessions();
                }
            }
        }
        self.request_plan(now);
    }

    fn hear_report(&mut self, report: Report, now: Instant) {
        let Report { node, serial, said } = report;
        let Some(agent) = self.agents.get_mut(&node, serial) else {
            return;
        };
        match said {
            Said::Up => {
                agent.revision = 0;
                agent.session += 1;
                agent.problem = None;
            }
            Said::Snapshot(snapshot) => {
                let is_new = !agent.up;
                if is_new {
                    agent.up = true;
                    agent.since = now;
                    self.tables.insert(node.clone());
                    tracing::info!(node, "session with the agent stands");
                }
                if agent.report(self.models.read(snapshot), now) {
                    let over = now + grants::SHOWN;
                    self.alarms.set(over, Alarm::Node(node.clone()));
                }
                if is_new {
                    self.count_sessions();
                }
                self.forget_outdated(&node);
                self.count_slices(&node);
            }
            Said::Progress(progress) => {
                self.hear_progress(&node, progress, now);
            }
            Said::Down(problem) => {
                self.metrics.session_failure(problem.category);
                if agent.up || agent.problem.as_ref() != Some(&problem) {
                    tracing::warn!(node, category = problem.category, "{}", problem.sentence);
                }
                let was_up = std::mem::replace(&mut agent.up, false);
                agent.problem = Some(problem);
                if was_up {
                    agent.since = now;
                    self.alarms
                        .set(now + agents::GRACE, Alarm::Node(node.clone()));
                    self.count_sessions();
                    self.lose_session(&node, now);
                }
            }
        }
        self.touch(&node, now);
    }

    fn count_sessions(&self) {
        let standing = self.agents.iter().filter(|(_, agent)| agent.up);
        self.metrics.sessions(standing.count());
    }

    fn count_slices(&mut self, node: &str) {
        let snapshot = self
            .agents
            .get(node)
            .and_then(|agent| agent.snapshot.as_ref());
        let new = snapshot.map(slices::count).unwrap_or_default();
        if let Some(arrivals) = &mut self.arrivals
            && arrivals.node(node, replaying::counted(snapshot))
        {
            self.metrics.tables(arrivals.tables());
        }
        let old = self.slices.remove(node).unwrap_or_default();
        if new != old {
            self.metrics.slices(node, &old, &new);
        }
        if !new.is_empty() {
            self.slices.insert(node.to_owned(), new);
        }
    }

    /// Something happened to a node that a plan may depend on.
    fn touch(&mut self, node: &str, now: Instant) {
        self.dirty.insert(node.to_owned());
        self.board.mark_stale(node);
        self.request_plan(now);
    }

    fn request_plan(&mut self, now: Instant) {
        let at = (now + COALESCE).max(self.rests_until);
        self.plan_at.get_or_insert(at);
    }
}

#[cfg(test)]
mod tests;

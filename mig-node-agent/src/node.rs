//! What the agent decides: a state machine without I/O, clock or threads.
//!
//! Inputs are what NVML, the device plugins, the controller and the clock say; actions are what the
//! shell shall do about it, each answered by an [`Input::Done`]. The rules it keeps, whatever the
//! order of inputs:
//!
//! - Nothing is destroyed that was not withdrawn and fenced before (or never offered), and nothing
//!   at all while no controller listens.
//! - One NVML change at a time on a GPU; on a GPU, a plan gives up before it makes.
//! - Every plan ends, in exactly one of its final stages.
//! - Any doubt: the device is offered again.

mod beside;
mod gpu;
mod intake;
mod intent;
mod mode;
mod outcome;
mod plans;
mod run;
mod snapshot;
mod specs;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cdmo_proto::agent as api;
use device_plugin::PluginState;
use mig::{GpuModel, Placement, ProfileName};
use nvml_mig::{Activation, GpuInfo, GpuInstance, MigMode};

use crate::journal::{Intent, Record, Recorded};
pub use gpu::{Attempt, Gpu, Life, Slot, Unit};
pub use plans::COMMIT_PATIENCE;

/// Correlates an action with its answer; unique for the life of the journal.
pub type OpId = u64;

/// When an input happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic time since some fixed moment.
    pub tick: Duration,
    /// Seconds since the Unix epoch, for people.
    pub unix: i64,
}

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Bounded word for metrics and Events.
    pub category: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl Failure {
    /// A failure of a category, in words.
    pub fn new(category: &'static str, message: impl Into<String>) -> Self {
        Self {
            category,
            message: message.into(),
        }
    }
}

/// What NVML says of one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// MIG mode, now and pending.
    pub mode: MigMode,
    /// Every GPU instance, also those without compute instances.
    pub instances: Vec<GpuInstance>,
}

/// One GPU as found at start.
#[derive(Clone, Debug)]
pub struct Found {
    /// Who it is.
    pub info: GpuInfo,
    /// What it can be cut into; none if it cannot do MIG.
    pub model: Option<GpuModel>,
    /// What is there.
    pub view: View,
}

/// How far a destroy that failed had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Everything is as it was.
    Whole,
    /// The compute instances are gone, the GPU instance is not.
    Bare,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A controller of a sufficient epoch is connected.
    SessionOpened,
    /// It is not any more, or another one is about to take its place.
    SessionClosed,
    /// The controller's pod table of this revision is in force.
    Pods(u64),
    /// The controller wants this.
    Plan(api::Plan),
    /// Go on with a withdrawn plan.
    Commit(api::Commit),
    /// Do not.
    Abort(api::Abort),
    /// What the controller means to do with the node as a whole.
    Intent(Intent),
    /// What the device plugins know.
    Plugins(Arc<PluginState>),
    /// An action ended.
    Done(OpId, Outcome),
    /// An NVML call takes longer than any should; its [`Input::Done`] is still to come.
    Late(OpId),
    /// The driver reported a fault of a GPU, or of one instance if it can tell.
    Fault {
        /// GPU uuid.
        gpu: String,
        /// GPU instance id.
        instance: Option<u32>,
        /// One sentence.
        reason: String,
    },
    /// Something outside this machine that an administrator should know; none: no longer.
    Problem(&'static str, Option<String>),
    /// Time passed; see [`Node::deadline`].
    Tick,
}

/// How an action ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of [`Action::Read`].
    Read(Result<View, Failure>),
    /// Of [`Action::Create`] and [`Action::Complete`].
    Made(Result<GpuInstance, Failure>),
    /// Of [`Action::Destroy`].
    Destroyed(Result<(), (Remains, Failure)>),
    /// Of [`Action::TurnOn`].
    TurnedOn(Result<Activation, Failure>),
    /// Of [`Action::TurnOff`].
    TurnedOff(Result<Activation, Failure>),
    /// Of [`Action::ProveFree`].
    Free(Result<(), Failure>),
    /// Of [`Action::Offer`]; a failure of category `unconfirmed` leaves the device listed.
    Offered(Result<(), Failure>),
    /// Of [`Action::Withdraw`]; after a failure the device is offered as before.
    Withdrawn(Result<(), Failure>),
    /// Of [`Action::Fence`]; after a failure the device is offered as before.
    Fenced(Result<(), Failure>),
    /// Of [`Action::Reinstate`].
    Reinstated,
    /// Of [`Action::Forget`] and [`Action::Lose`].
    Forgotten,
    /// Of [`Action::Undescribe`].
    Undescribed,
}

/// What the shell shall do. Those with an `op` are answered by an [`Input::Done`] of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Serve this resource name, at zero devices too.
    Ensure(String),
    /// Look at a GPU.
    Read {
        /// Key of the answer.
        op: OpId,
        /// GPU uuid.
        gpu: String,
    },
    /// Make an instance.
    Create {
        /// Key of the answer.
        op: OpId,
        /// GPU uuid.
        gpu: String,
        /// NVML's profile id.
        profile_id: u32,
        /// The profile.
        profile: ProfileName,
        /// Where.
        placement: Placement,
    },
    /// Give an instance its compute instance.
    Complete {
        /// Key of the answer.
        op: OpId,
        /// GPU uuid.
        gpu: String,
        /// GPU instance id.
        instance: u32,
    },
    /// Destroy an instance with its compute instances.
    Destroy {
        /// Key of the answer.
        op: OpId,
        /// GPU uuid.
        gpu: String,
        /// GPU instance id.
        instance: u32,
        /// Its profile.
        profile: ProfileName,
        /// Its first slice.
        start: u8,
    },
    /// Turn MIG mode on.
    TurnOn {
        /// Key of the answer.
        op: OpId,
        /// GPU uuid.
        gpu: String,
        /// It is off now, so whoever turns it on may turn it off again.
        from_off: bool,
    },
    /// Turn MIG mode off.
    TurnOff {
        /// Key of the answer.
        op: OpId,
        /// GPU uuid.
        gpu: String,
    },
    /// Prove that nobody uses a whole GPU that is not offered.
    ProveFree {
        /// Key of the answer.
        op: OpId,
        /// GPU uuid.
        gpu: String,
    },
    /// Offer a device to the kubelet and wait for its confirmation. Its CDI spec file, where those
    /// are wanted, is written before.
    Offer {
        /// Key of the answer.
        op: OpId,
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
        /// GPU uuid.
        gpu: String,
        /// GPU instance and compute instance; none for a whole GPU.
        instance: Option<(u32, u32)>,
    },
    /// Steps 4 and 5 of Withdraw.
    Withdraw {
        /// Key of the answer.
        op: OpId,
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
    },
    /// Steps 7 and 8 of Withdraw.
    Fence {
        /// Key of the answer.
        op: OpId,
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
    },
    /// Offer a withdrawn or fenced device again.
    Reinstate {
        /// Key of the answer.
        op: OpId,
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
    },
    /// Drop a fenced device from the kubelet's list.
    Forget {
        /// Key of the answer.
        op: OpId,
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
    },
    /// The device vanished without our doing.
    Lose {
        /// Key of the answer.
        op: OpId,
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
    },
    /// Remove the CDI spec file of a device that is gone and that nobody holds.
    Undescribe {
        /// Key of the answer.
        op: OpId,
        /// Device id.
        id: String,
    },
    /// Show a device as unhealthy, or as healthy again.
    Health {
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
        /// What is wrong; none: nothing any more.
        sick: Option<String>,
    },
    /// End every registration with the kubelet, or take them up again.
    StandDown(bool),
    /// Write this down; nothing waits for it.
    Note(Record),
    /// Tell the controller.
    Progress(api::PlanProgress),
}

/// The node's state machine.
#[derive(Debug)]
pub struct Node {
    now: Now,
    gpus: Vec<Gpu>,
    models: Vec<GpuModel>,
    plans: BTreeMap<String, plans::PlanRun>,
    plugins: Arc<PluginState>,
    session: bool,
    pods_revision: u64,
    /// Whole GPUs are offered when this has passed without a controller, and instances if none ever came.
    whole_patience: Duration,
    /// What the controller means to do with the node; none if none ever said.
    intent: Option<Intent>,
    /// Every registration with the kubelet was ended.
    stood_down: bool,
    /// Uuids of GPUs whose MIG mode the agent turned on.
    turned_on: std::collections::BTreeSet<String>,
    problems: BTreeMap<&'static str, String>,
    ops: BTreeMap<OpId, outcome::Pending>,
    next_op: OpId,
    ensured: std::collections::BTreeSet<String>,
    specs: specs::Specs,
    actions: Vec<Action>,
}

impl Node {
    /// Adopts what is there. The journal's hardware records must be of this boot.
    ///
    /// State versions start at `versions`, which must be above every version an earlier process
    /// gave out; milliseconds since the Unix epoch are.
    pub fn adopt(found: Vec<Found>, recorded: &Recorded, versions: u64, now: Now) -> Self {
        let mut node = Self {
            now,
            gpus: Vec::new(),
            models: Vec::new(),
            plans: BTreeMap::new(),
            plugins: Arc::default(),
            session: false,
            pods_revision: 0,
            whole_patience: now.tick + upkeep::WHOLE_PATIENCE,
            intent: recorded.intent.clone(),
            stood_down: false,
            turned_on: recorded.turned_on.clone(),
            problems: BTreeMap::new(),
            ops: BTreeMap::new(),
            next_op: recorded.half_done.keys().max().copied().unwrap_or(0) + 1,
            ensured: std::collections::BTreeSet::new(),
            specs: specs::Specs::default(),
            actions: Vec::new(),
        };
        if found.is_empty() {
            let problem = "NVML knows no GPU on this node; take the label off it, or see why the driver finds none.";
            node.problems.insert("gpus", problem.into());
        }
        for found in found {
            node.adopt_gpu(found, recorded, versions);
        }
        node.settle_leftovers(recorded);
        node.name_those_left_alone();
        node.keep_up();
        node
    }

    /// Takes an input and returns what to do about it.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Action> {
        self.now = now;
        match input {
            Input::SessionOpened => {
                self.session = true;
                self.pods_revision = 0;
            }
            Input::SessionClosed => self.session_closed(),
            Input::Pods(revision) => self.pods_revision = revision,
            Input::Plan(plan) => self.take_plan(plan),
            Input::Commit(commit) => self.commit(&commit),
            Input::Abort(abort) => self.abort(&abort.plan_id),
            Input::Intent(intent) => self.intend(intent),
            Input::Plugins(state) => {
                self.plugins = state;
                self.specs.plugins_seen();
                self.follow_holders();
            }
            Input::Done(op, outcome) => self.done(op, outcome),
            Input::Late(op) => self.late(op),
            Input::Fault {
                gpu,
                instance,
                reason,
            } => self.fault(&gpu, instance, &reason),
            Input::Problem(key, Some(problem)) => {
                self.problems.insert(key, problem);
            }
            Input::Problem(key, None) => {
                self.problems.remove(key);
            }
            Input::Tick => {}
        }
        self.advance_plans();
        self.keep_up();
        self.remove_specs();
        self.date_states();
        std::mem::take(&mut self.actions)
    }

    /// Something that was found while starting, and stays so.
    pub fn note_problem(&mut self, key: &'static str, problem: String) {
        self.problems.insert(key, problem);
    }

    /// CDI spec files are kept from now on; those of `known` devices are there already.
    pub fn keep_specs(&mut self, known: Vec<String>) {
        let offered: Vec<String> = self
            .units()
            .filter_map(|(_, unit)| Some(unit.listed.as_ref()?.1.clone()))
            .collect();
        self.specs.keep(known.into_iter().chain(offered));
    }

    /// Actions that adopting asked for.
    pub fn take_actions(&mut self) -> Vec<Action> {
        self.date_states();
        std::mem::take(&mut self.actions)
    }

    /// When to come back with an [`Input::Tick`], if nothing else happens before.
    pub fn deadline(&self) -> Option<Duration> {
        let plans = self.plans.values().filter_map(plans::PlanRun::deadline);
        let gpus = self.gpus.iter().filter_map(|gpu| self.gpu_deadline(gpu));
        plans.chain(gpus).min().map(|at| at.max(self.now.tick))
    }

    /// The GPUs and what is on them.
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// The unit that a device id names, with its GPU.
    pub fn units(&self) -> impl Iterator<Item = (&Gpu, &Unit)> {
        self.gpus
            .iter()
            .flat_map(|gpu| gpu.units.values().map(move |unit| (gpu, unit)))
    }

    fn op(&mut self, pending: outcome::Pending) -> OpId {
        let op = self.next_op;
        self.next_op += 1;
        self.ops.insert(op, pending);
        op
    }

    fn ensure(&mut self, resource: &str) {
        if self.ensured.insert(resource.to_owned()) {
            self.actions.push(Action::Ensure(resource.to_owned()));
        }
    }

    fn holds(&self, resource: &str, id: &str) -> Option<&device_plugin::HoldState> {
        self.plugins.device(resource, id)?.hold.as_ref()
    }
}

#[cfg(test)]
mod tests;

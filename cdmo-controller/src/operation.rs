//! The life of one plan on the controller's side, without I/O.
//!
//! A plan that gives nothing up and moves nothing to another name is sent at once. One that does goes
//! through Withdraw, for a device that moves is withdrawn from its old name: the node's
//! status is lowered first, so that the scheduler sends no more pods to the devices; after a moment
//! for pods under way the bound pods are read; then the plan is sent. When the agent has withdrawn
//! the devices from the kubelet, the status is asserted once more (the kubelet may have undone the
//! first patch), the bound pods are read again, and only if none counts on the devices is the plan
//! committed. Any doubt aborts it, and the devices are offered again.
//!
//! Both times the pods are read from the API itself. A watch that is behind would miss a pod just
//! bound: at the second time its device would be lost, and at the first the kubelet would fail it
//! for good, for it finds the device withdrawn.

use std::time::Duration;

use cdmo_proto::agent::{self, Made, plan_progress::Stage as Reported};
use planner::{GivenUp, GpuPlan};
use tokio::time::Instant;

use crate::{names::PodKey, snapshot::InstanceRow};

/// Time for the node's status to be lowered.
const LOWERING: Duration = Duration::from_secs(30);
/// Time for the kubelet to take devices back.
const WITHDRAWING: Duration = Duration::from_mins(1);
/// Time to be sure that nobody counts on withdrawn devices.
const CHECKING: Duration = Duration::from_secs(15);
/// Time for the driver to destroy and make instances, and the kubelet to confirm them. A destroy
/// takes a second or two each, and busy instances are retried.
const MAKING: Duration = Duration::from_mins(3);
/// Time for the agent to offer withdrawn devices again.
const ABORTING: Duration = Duration::from_mins(1);
/// Time for the node's status to show what was made.
const SHOWING: Duration = Duration::from_mins(1);

/// Why an agent refuses a plan that was right a moment ago: the state that it reports next tells
/// what has changed, and nobody needs to be told.
const FLEETING: [&str; 3] = ["stale", "held", "busy"];

/// What happens to an operation.
#[derive(Clone, Debug)]
pub enum Input {
    /// The node's status no longer counts what is withdrawn.
    Lowered,
    /// It does again: the kubelet has written what it knew before.
    Raised,
    /// A pod holds what is to be withdrawn.
    Taken,
    /// Time passed.
    Tick,
    /// Bound pods were read; `Err` says who counts on a device, or why that is not known.
    Looked(Result<(), String>),
    /// The node's status was written after the last [`Output::Assert`].
    Asserted,
    /// The agent reports.
    Progress(agent::PlanProgress),
    /// The node's status counts what was made.
    Shown,
}

/// What an operation wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send the plan.
    Send,
    /// Write the node's status, whatever it seems to be.
    Assert,
    /// Read the node's bound pods from the API, and answer with [`Input::Looked`].
    List,
    /// Send the pods, then the commit.
    Commit,
    /// Send the abort.
    Abort,
    /// Everything was made.
    Made(Vec<Made>),
    /// All done.
    Ready,
    /// It ends without having served anybody.
    Failed {
        /// Bounded word for metrics.
        category: String,
        /// One sentence.
        message: String,
        /// Whether the GPU should be left alone for a while.
        blame: bool,
    },
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The node's status is being lowered.
    Lowering,
    /// Pods under way get a moment to arrive.
    Settling,
    /// The API is asked for pods that have arrived.
    Arriving,
    /// The agent has the plan and takes the devices back from the kubelet.
    Withdrawing,
    /// The node's status is asserted again.
    Asserting,
    /// The API is asked for bound pods.
    Looking,
    /// The agent destroys and makes instances.
    Making,
    /// The agent offers the devices again.
    Aborting,
    /// The devices are there; the node's status must show them.
    Showing,
    /// Nothing is left to do.
    Over,
}

/// When an operation reached what, for histograms and for the pod's Event.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The plan was made.
    pub planned: Instant,
    /// The node's status no longer counted what is withdrawn.
    pub lowered: Option<Instant>,
    /// The commit was sent, if there was one.
    pub committed: Option<Instant>,
    /// The agent reported that everything is there.
    pub made: Option<Instant>,
}

/// A device that is withdrawn from the name it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawn<'a> {
    /// Its GPU.
    pub gpu: &'a str,
    /// NVML's GPU-instance id.
    pub gi_id: u32,
    /// Where it stands.
    pub placement: mig::Placement,
    /// The name; `None` if it had none.
    pub resource: Option<&'a str>,
}

impl Withdrawn<'_> {
    /// Whether it is this instance of the GPU, under the name that it is withdrawn from.
    pub fn is(&self, row: &InstanceRow) -> bool {
        self.gi_id == row.gi_id
            && self.placement == row.placement
            && self.resource == row.resource.as_deref()
    }
}

/// What a plan withdraws on one GPU.
pub fn withdrawn(gpu: &GpuPlan) -> impl Iterator<Item = Withdrawn<'_>> {
    let given_up = gpu.give_up.iter().map(|gone| Withdrawn {
        gpu: &gpu.uuid,
        gi_id: gone.gi_id,
        placement: gone.placement,
        resource: gone.resource.as_deref(),
    });
    let moved = gpu.expose.iter().map(|moved| Withdrawn {
        gpu: &gpu.uuid,
        gi_id: moved.gi_id,
        placement: moved.placement,
        resource: moved.from.as_deref(),
    });
    given_up.chain(moved)
}

/// One plan under way.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The plan's id.
    pub id: String,
    /// The node.
    pub node: String,
    /// What is to be done.
    pub gpus: Vec<GpuPlan>,
    /// The pod it was made for, and its uid.
    pub pod: (PodKey, String),
    /// When what was reached.
    pub times: Times,
    /// What was made, once it is.
    pub made: Vec<Made>,
    stage: Stage,
    entered: Instant,
    settle: Duration,
    sent: bool,
    /// Answers to come from before the status went up again.
    stale_looks: u32,
}

impl Operation {
    /// A plan just made, and the first thing to do about it.
    pub fn new(
        id: String,
        node: String,
        gpus: Vec<GpuPlan>,
        pod: (PodKey, String),
        settle: Duration,
        now: Instant,
    ) -> (Self, Option<Output>) {
        let takes_away = |gpu: &GpuPlan| !gpu.give_up.is_empty() || !gpu.expose.is_empty();
        let withdraws = gpus.iter().any(takes_away);
        let stage = if withdraws {
            Stage::Lowering
        } else {
            Stage::Making
        };
        let times = Times {
            planned: now,
            lowered: None,
            committed: None,
            made: None,
        };
        let new = Self {
            id,
            node,
            gpus,
            pod,
            times,
            made: Vec::new(),
            stage,
            entered: now,
            settle,
            sent: !withdraws,
            stale_looks: 0,
        };
        (new, (!withdraws).then_some(Output::Send))
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// When it got there.
    pub fn entered(&self) -> Instant {
        self.entered
    }

    /// What is withdrawn from the name it has, over all GPUs: given up, or moved to another.
    pub fn withdrawn(&self) -> impl Iterator<Item = Withdrawn<'_>> {
        self.gpus.iter().flat_map(withdrawn)
    }

    /// Whether node status must leave out what is withdrawn.
    pub fn lowers(&self) -> bool {
        // Once aborted, the agent's word decides what is offered.
        !matches!(self.stage, Stage::Aborting | Stage::Showing | Stage::Over)
    }

    /// Whether node status must not count yet what is made: it is raised once, when all is there.
    pub fn hides(&self) -> bool {
        !matches!(self.stage, Stage::Showing | Stage::Over)
    }

    /// Whether this is what its part for the GPU has made or moved, and the node's status is about to show it.
    pub fn shows(&self, gpu: &GpuPlan, row: &InstanceRow) -> bool {
        let is_it = |placement, resource: &String| {
            placement == row.placement && Some(resource.as_str()) == row.resource.as_deref()
        };
        let made = || {
            gpu.create
                .iter()
                .any(|new| is_it(new.placement, &new.resource))
        };
        let moved = || {
            gpu.expose
                .iter()
                .any(|moved| is_it(moved.placement, &moved.to))
        };
        self.stage == Stage::Showing && (made() || moved())
    }

    /// Whether the agent knows of it.
    pub fn is_sent(&self) -> bool {
        self.sent
    }

    /// When it wants a [`Input::Tick`].
    pub fn wake_at(&self) -> Option<Instant> {
        let patience = match self.stage {
            Stage::Lowering => LOWERING,
            Stage::Settling => self.settle,
            Stage::Withdrawing => WITHDRAWING,
            Stage::Arriving | Stage::Asserting | Stage::Looking => CHECKING,
            Stage::Making => MAKING,
            Stage::Aborting => ABORTING,
            Stage::Showing => SHOWING,
            Stage::Over => return None,
        };
        Some(self.entered + patience)
    }

    /// Takes in what happened; says what to do.
    pub fn step(&mut self, now: Instant, input: Input) -> Option<Output> {
        match (self.stage, input) {
            (Stage::Over, _) => None,
            (_, Input::Progress(progress)) => self.hear(now, progress),
            (_, Input::Looked(_)) if self.stale_looks > 0 => {
                self.stale_looks -= 1;
                None
            }
            (Stage::Lowering, Input::Lowered) => {
                self.times.lowered = Some(now);
                self.enter(now, Stage::Settling, None)
            }
            (Stage::Lowering | Stage::Settling | Stage::Arriving, Input::Taken) => {
                let why = "a pod got a device that was to be withdrawn".into();
                self.fail(now, "held", why, false)
            }
            (Stage::Settling, Input::Raised) => self.enter(now, Stage::Lowering, None),
            (Stage::Arriving, Input::Raised) => {
                self.stale_looks += 1;
                self.enter(now, Stage::Lowering, None)
            }
            (Stage::Settling, Input::Tick) if self.is_late(now) => {
                self.enter(now, Stage::Arriving, Some(Output::List))
            }
            (Stage::Arriving, Input::Looked(Ok(()))) => {
                self.sent = true;
                self.enter(now, Stage::Withdrawing, Some(Output::Send))
            }
            (Stage::Arriving, Input::Looked(Err(who))) => self.fail(now, "counted_on", who, false),
            (Stage::Asserting, Input::Asserted) => {
                self.enter(now, Stage::Looking, Some(Output::List))
            }
            (Stage::Looking, Input::Looked(Ok(()))) => {
                self.times.committed = Some(now);
                self.enter(now, Stage::Making, Some(Output::Commit))
            }
            (Stage::Looking, Input::Looked(Err(_))) => {
                self.enter(now, Stage::Aborting, Some(Output::Abort))
            }
            (Stage::Showing, Input::Shown) => self.enter(now, Stage::Over, Some(Output::Ready)),
            (_, Input::Tick) if self.is_late(now) => self.run_late(now),
            _ => None,
        }
    }

    fn hear(&mut self, now: Instant, progress: agent::PlanProgress) -> Option<Output> {
        match progress.stage() {
            Reported::Withdrawn => match self.stage {
                Stage::Withdrawing => self.enter(now, Stage::Asserting, Some(Output::Assert)),
                // Nothing is given up, so nobody can count on it.
                Stage::Making if self.times.committed.is_none() => {
                    self.times.committed = Some(now);
                    Some(Output::Commit)
                }
                _ => None,
            },
            Reported::Done => {
                self.times.made = Some(now);
                self.made.clone_from(&progress.made);
                self.enter(now, Stage::Showing, Some(Output::Made(progress.made)))
            }
            Reported::Aborted => {
                let why = "a pod was still on its way to a device that was to be withdrawn".into();
                self.fail(now, "aborted", why, false)
            }
            Reported::Refused | Reported::Failed => {
                let blame = !FLEETING.contains(&progress.category.as_str());
                let category = progress.category;
                self.stage = Stage::Over;
                Some(Output::Failed {
                    category,
                    message: progress.message,
                    blame,
                })
            }
            Reported::Unspecified => None,
        }
    }

    fn run_late(&mut self, now: Instant) -> Option<Output> {
        let node = &self.node;
        match self.stage {
            Stage::Lowering => {
                let why = format!("the status of node {node} could not be written in time");
                self.fail(now, "status", why, true)
            }
            Stage::Arriving => {
                let why = format!("the pods on node {node} could not be read in time");
                self.fail(now, "timed_out", why, false)
            }
            Stage::Withdrawing | Stage::Asserting | Stage::Looking => {
                self.enter(now, Stage::Aborting, Some(Output::Abort))
            }
            Stage::Making | Stage::Aborting => {
                let why = format!("the agent on node {node} did not finish in time");
                self.fail(now, "timed_out", why, true)
            }
            Stage::Showing => {
                let why = format!("the status of node {node} does not show the new devices");
                self.fail(now, "not_shown", why, false)
            }
            Stage::Settling | Stage::Over => None,
        }
    }

    fn is_late(&self, now: Instant) -> bool {
        self.wake_at().is_some_and(|at| now >= at)
    }

    fn enter(&mut self, now: Instant, stage: Stage, output: Option<Output>) -> Option<Output> {
        self.stage = stage;
        self.entered = now;
        output
    }

    fn fail(&mut self, now: Instant, word: &str, message: String, blame: bool) -> Option<Output> {
        let failed = Output::Failed {
            category: word.to_owned(),
            message,
            blame,
        };
        self.enter(now, Stage::Over, Some(failed))
    }

    /// The plan as the agent is sent it.
    pub fn to_proto(&self) -> agent::Plan {
        let reference = |gone: &GivenUp| agent::InstanceRef {
            gpu_instance_id: gone.gi_id,
            profile: gone.profile.to_string(),
            start: gone.placement.start.into(),
        };
        let expose = |moved: &planner::Exposure| agent::Expose {
            instance: Some(agent::InstanceRef {
                gpu_instance_id: moved.gi_id,
                profile: moved.profile.to_string(),
                start: moved.placement.start.into(),
            }),
            resource: moved.to.clone(),
        };
        let create = |new: &planner::Creation| agent::Create {
            profile: new.profile.to_string(),
            start: new.placement.start.into(),
            resource: new.resource.clone(),
        };
        let gpu = |gpu: &GpuPlan| agent::GpuPlan {
            gpu_uuid: gpu.uuid.clone(),
            state_version: gpu.version,
            give_up: gpu.give_up.iter().map(reference).collect(),
            create: gpu.create.iter().map(create).collect(),
            expose: gpu.expose.iter().map(expose).collect(),
        };
        agent::Plan {
            id: self.id.clone(),
            gpus: self.gpus.iter().map(gpu).collect(),
        }
    }
}

#[cfg(test)]
mod tests;

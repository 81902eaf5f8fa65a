//! What becomes of a unit when an action on it ends, whoever asked for the action.

use cdmo_proto::agent as api;
use mig::{Placement, ProfileName};
use nvml_mig::{Activation, GpuInstance, MigMode};

use super::gpu::{Attempt, Life, Slot, Unit};
use super::upkeep::pause;
use super::{Action, Failure, Node, OpId, Outcome, Remains, View};
use crate::journal::Record;

/// Category of failures with CDI spec files; nothing is offered without one where they are wanted.
pub(super) const CDI: &str = "cdi";

/// What an action under way is for.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    Read,
    Create(Making),
    Complete,
    Destroy,
    TurnOn,
    ProveFree,
    TurnOff,
    /// [`Doing::ProveFree`] of a GPU in MIG mode that nothing stands on.
    ProveEmpty,
    Offer,
    Withdraw,
    Fence,
    Reinstate,
    Forget,
    /// The unit is gone already.
    ForgetGone,
}

/// An instance that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Making {
    pub(super) profile: ProfileName,
    pub(super) profile_id: u32,
    pub(super) placement: Placement,
    pub(super) resource: String,
}

#[derive(Clone, Debug)]
pub(super) struct Pending {
    at: usize,
    slot: Slot,
    doing: Doing,
}

impl Pending {
    pub(super) fn gpu(at: usize, doing: Doing) -> Self {
        Self::unit(at, Slot::Whole, doing)
    }

    pub(super) fn unit(at: usize, slot: Slot, doing: Doing) -> Self {
        Self { at, slot, doing }
    }
}

impl Node {
    pub(super) fn unit(&mut self, at: usize, slot: Slot) -> Option<&mut Unit> {
        self.gpus.get_mut(at)?.units.get_mut(&slot)
    }

    pub(super) fn done(&mut self, op: OpId, outcome: Outcome) {
        if matches!(outcome, Outcome::Undescribed) {
            self.specs.removed(op);
            return;
        }
        let Some(Pending { at, slot, doing }) = self.ops.remove(&op) else {
            return;
        };
        if self.gpus[at].busy == Some(op) {
            self.gpus[at].busy = None;
            if std::mem::take(&mut self.gpus[at].late) {
                self.gpu_answers(at);
            }
        }
        if doing.is_motion() {
            // The unit can have been lost and found since; then this is about its former self.
            match self.unit(at, slot) {
                Some(unit) if unit.motion == Some(op) => unit.motion = None,
                _ => return,
            }
        }
        match (doing, outcome) {
            (Doing::Read, Outcome::Read(result)) => self.read_done(at, result),
            (Doing::Create(making), Outcome::Made(result)) => self.created(op, at, &making, result),
            (Doing::Complete, Outcome::Made(result)) => self.completed(at, slot, result),
            (Doing::Destroy, Outcome::Destroyed(result)) => self.destroyed(op, at, slot, result),
            (Doing::TurnOn, Outcome::TurnedOn(result)) => self.turned_on(at, result),
            (Doing::ProveFree, Outcome::Free(Ok(()))) => self.start_turning_on(at),
            (Doing::ProveFree, Outcome::Free(Err(failure))) => self.not_turned_on(at, failure),
            (Doing::TurnOff, Outcome::TurnedOff(result)) => self.turned_off(at, result),
            (Doing::ProveEmpty, Outcome::Free(Ok(()))) => self.start_turning_off(at),
            (Doing::ProveEmpty, Outcome::Free(Err(failure))) => {
                self.not_turned_off(at, &failure);
            }
            (Doing::Offer, Outcome::Offered(result)) => self.offered(at, slot, result),
            (Doing::Withdraw, Outcome::Withdrawn(result)) => {
                self.stepped(at, slot, result, Life::Withdrawn);
            }
            (Doing::Fence, Outcome::Fenced(result)) => {
                self.stepped(at, slot, result, Life::Fenced);
            }
            (Doing::Reinstate, _) => {
                if let Some(unit) = self.unit(at, slot) {
                    unit.life = Life::Offered;
                    self.gpus[at].changed();
                }
            }
            (Doing::Forget, _) => {
                if let Some(unit) = self.unit(at, slot) {
                    unit.listed = None;
                    unit.life = Life::Unlisted;
                    self.gpus[at].changed();
                }
            }
            (Doing::ForgetGone, _) => self.gpus[at].forgetting -= 1,
            (doing, outcome) => {
                tracing::error!(
                    ?doing,
                    ?outcome,
                    "An action ended with another one's outcome"
                );
            }
        }
    }

    fn read_done(&mut self, at: usize, result: Result<View, Failure>) {
        match result {
            // What was seen before a plan began says nothing about what it did since.
            Ok(_) if self.gpus[at].plan.is_some() || self.is_moving_something(at) => {
                self.gpus[at].read_at = self.now.tick;
            }
            Ok(view) => {
                self.gpus[at].read_tries = 0;
                if self.gpus[at].fault.is_some() {
                    self.gpu_answers(at);
                }
                self.reconcile(at, &view);
            }
            Err(failure) => {
                let gpu = &mut self.gpus[at];
                gpu.read_tries += 1;
                gpu.read_at = self.now.tick + pause(gpu.read_tries);
                if gpu.read_tries >= 3 && gpu.fault.is_none() {
                    self.gpu_fails(at, &failure.message);
                }
            }
        }
    }

    fn created(
        &mut self,
        op: OpId,
        at: usize,
        making: &Making,
        result: Result<GpuInstance, Failure>,
    ) {
        let failure = match result {
            Ok(found) if found.device_uuid().is_some() => {
                let mut unit = Unit::instance(&found);
                unit.resource = Some(making.resource.clone());
                let slot = unit.slot;
                self.note_exposure(at, &unit);
                self.gpus[at].units.insert(slot, unit);
                self.gpus[at].changed();
                if let Some(run) = self.run_of(at) {
                    run.made.push(slot);
                }
                self.offer(at, slot);
                return;
            }
            Ok(found) => Failure::new(
                "incomplete",
                format!(
                    "{} at {} of GPU {} was made without a whole compute instance.",
                    making.profile, found.placement, self.gpus[at].info.index
                ),
            ),
            Err(failure) => failure,
        };
        let gpu = &mut self.gpus[at];
        gpu.attempted.push(Attempt {
            op,
            profile: making.profile,
            placement: making.placement,
        });
        gpu.unsure = true;
        gpu.read_at = self.now.tick;
        gpu.changed();
        self.fail(at, failure);
    }

    /// Remembers an exposure that is not the profile's own.
    pub(super) fn note_exposure(&mut self, at: usize, unit: &Unit) {
        let (Slot::Instance(instance), Some(profile)) = (unit.slot, unit.profile) else {
            return;
        };
        self.actions.push(Action::Note(Record::Exposed {
            gpu: self.gpus[at].info.uuid.clone(),
            instance,
            profile: profile.to_string(),
            start: unit.placement.start,
            resource: unit.resource.clone(),
        }));
    }

    fn completed(&mut self, at: usize, slot: Slot, result: Result<GpuInstance, Failure>) {
        let now = self.now.tick;
        let Some(unit) = self.unit(at, slot) else {
            return;
        };
        match result {
            Ok(found) if found.device_uuid().is_some() => {
                // Another compute instance has other device nodes; those were given with the offer.
                let same_nodes = unit.compute == found.compute.first().map_or(0, |c| c.ci_id);
                unit.refresh(&found);
                unit.tries = 0;
                unit.life = Life::Unlisted;
                let settled = Unit {
                    debts: std::mem::take(&mut unit.debts),
                    ..unit.clone()
                };
                let (device, listed) = (unit.device.clone(), unit.listed.clone());
                self.settle(&settled);
                match listed {
                    Some((_, id)) if Some(&id) == device.as_ref() && same_nodes => {
                        self.reinstate(at, slot);
                    }
                    Some(_) => self.forget(at, slot),
                    None => {}
                }
            }
            Ok(_) => unit.bare_again(now, "The new compute instance is not a whole one.".into()),
            Err(failure) => unit.bare_again(now, failure.message),
        }
        self.gpus[at].changed();
    }

    fn destroyed(
        &mut self,
        op: OpId,
        at: usize,
        slot: Slot,
        result: Result<(), (Remains, Failure)>,
    ) {
        let now = self.now.tick;
        match result {
            Ok(()) => {
                if let Some(unit) = self.gpus[at].units.remove(&slot) {
                    self.settle(&unit);
                    self.forget_gone(at, unit);
                }
            }
            Err((remains, failure)) => {
                let Some(unit) = self.unit(at, slot) else {
                    return;
                };
                if remains == Remains::Whole && unit.device.is_some() {
                    unit.life = match unit.listed {
                        Some(_) => Life::Fenced,
                        None => Life::Unlisted,
                    };
                    unit.reason.clone_from(&failure.message);
                    self.fail(at, failure);
                } else {
                    unit.debts.push(op);
                    unit.device = None;
                    unit.bare_again(now, failure.message);
                }
            }
        }
        self.gpus[at].changed();
    }

    /// Drops what is gone from the kubelet's list. Nothing is made on the GPU before that is done,
    /// because its uuid may come back.
    fn forget_gone(&mut self, at: usize, unit: Unit) {
        if let Some((resource, id)) = unit.listed {
            self.gpus[at].forgetting += 1;
            let op = self.op(Pending::unit(at, unit.slot, Doing::ForgetGone));
            self.actions.push(Action::Forget { op, resource, id });
        }
    }

    fn start_turning_on(&mut self, at: usize) {
        // The intent may have turned round meanwhile.
        if !self.may_turn_on(&self.gpus[at]) {
            return;
        }
        let op = self.start(at, Pending::gpu(at, Doing::TurnOn));
        let gpu = &self.gpus[at];
        let (from_off, gpu) = (gpu.mode == MigMode::Off, gpu.info.uuid.clone());
        self.actions.push(Action::TurnOn { op, gpu, from_off });
    }

    fn turned_on(&mut self, at: usize, result: Result<Activation, Failure>) {
        if result.is_ok() && self.gpus[at].mode == MigMode::Off {
            // The journal was told with the end of the call.
            let gpu = self.gpus[at].info.uuid.clone();
            self.turned_on.insert(gpu);
        }
        match result {
            Ok(Activation::Done) => {
                let gpu = &mut self.gpus[at];
                gpu.mode = MigMode::On;
                gpu.turn_on_problem = None;
                gpu.turn_on_tries = 0;
                gpu.read_at = self.now.tick;
                gpu.changed();
                if let Some(whole) = gpu.units.remove(&Slot::Whole) {
                    self.forget_gone(at, whole);
                }
            }
            Ok(Activation::Pending { reason }) => {
                self.gpus[at].mode = MigMode::PendingOn;
                self.not_turned_on(at, Failure::new("reset_required", reason));
            }
            Err(failure) => self.not_turned_on(at, failure),
        }
    }

    fn not_turned_on(&mut self, at: usize, failure: Failure) {
        let gpu = &mut self.gpus[at];
        gpu.turn_on_tries += 1;
        gpu.turn_on_at = self.now.tick + pause(gpu.turn_on_tries + 3);
        gpu.turn_on_problem = Some(failure.message);
        gpu.changed();
        let life = gpu.units.get(&Slot::Whole).map(|whole| whole.life);
        if matches!(life, Some(Life::Withdrawn | Life::Fenced)) {
            self.reinstate(at, Slot::Whole);
        }
    }

    fn offered(&mut self, at: usize, slot: Slot, result: Result<(), Failure>) {
        let now = self.now.tick;
        let Some(unit) = self.unit(at, slot) else {
            return;
        };
        unit.life = Life::Offered;
        match result {
            Ok(()) => {
                unit.tries = 0;
                unit.reason.clear();
                self.problems.remove(CDI);
            }
            Err(failure) => {
                unit.reason.clone_from(&failure.message);
                if failure.category != "unconfirmed" {
                    unit.listed = None;
                    unit.life = Life::Unlisted;
                    unit.tries += 1;
                    unit.retry_at = now + pause(unit.tries);
                }
                if failure.category == CDI {
                    self.problems.insert(CDI, failure.message.clone());
                }
                self.fail(at, failure);
            }
        }
    }

    /// A step of Withdraw ended. If it failed, the device is offered as before.
    fn stepped(&mut self, at: usize, slot: Slot, result: Result<(), Failure>, reached: Life) {
        let Some(unit) = self.unit(at, slot) else {
            return;
        };
        match result {
            Ok(()) => unit.life = reached,
            Err(failure) => {
                unit.life = Life::Offered;
                let withheld = self.withheld(&self.gpus[at], slot).is_some();
                if withheld && self.gpus[at].plan.is_none() {
                    self.not_retired(at, slot);
                } else if slot == Slot::Whole && self.gpus[at].plan.is_none() {
                    self.not_turned_on(at, failure);
                } else {
                    self.gpus[at].changed();
                    self.fail(at, failure);
                }
            }
        }
    }

    pub(super) fn late(&mut self, op: OpId) {
        let Some(Pending { at, doing, .. }) = self.ops.get(&op) else {
            return;
        };
        let (at, doing) = (*at, doing.clone());
        let index = self.gpus[at].info.index;
        let message = format!(
            "The driver does not answer on GPU {index} ({}); look at its kernel log, the node may need a reboot.",
            doing.noun()
        );
        self.gpus[at].late = true;
        self.gpu_fails(at, &message);
        self.fail(at, Failure::new("driver_stuck", message));
    }

    fn gpu_fails(&mut self, at: usize, why: &str) {
        self.gpus[at].fault = Some(why.to_owned());
        self.gpus[at].changed();
        self.show_health(at);
    }

    fn gpu_answers(&mut self, at: usize) {
        self.gpus[at].unsure = true;
        self.gpus[at].fault = None;
        self.gpus[at].changed();
        self.gpus[at].read_at = self.now.tick;
        self.show_health(at);
    }

    fn show_health(&mut self, at: usize) {
        let gpu = &self.gpus[at];
        for unit in gpu.units.values() {
            if let Some((resource, id)) = unit.listed.clone() {
                self.actions.push(Action::Health {
                    resource,
                    id,
                    sick: unit.sick.clone().or_else(|| gpu.fault.clone()),
                });
            }
        }
    }

    pub(super) fn fault(&mut self, gpu: &str, instance: Option<u32>, reason: &str) {
        let Some(at) = self.gpus.iter().position(|g| g.info.uuid == gpu) else {
            return;
        };
        for unit in self.gpus[at].units.values_mut() {
            let hit = instance.is_none_or(|id| unit.slot == Slot::Instance(id));
            if hit {
                unit.sick = Some(reason.to_owned());
            }
        }
        self.gpus[at].changed();
        self.show_health(at);
    }

    /// A plan's part on this GPU cannot go on.
    pub(super) fn fail(&mut self, at: usize, failure: Failure) {
        if let Some(run) = self.run_of(at) {
            run.failure.get_or_insert(failure);
        }
    }

    pub(super) fn progress(&mut self, progress: api::PlanProgress) {
        self.actions.push(Action::Progress(progress));
    }
}

impl Unit {
    fn bare_again(&mut self, now: std::time::Duration, reason: String) {
        self.life = Life::Bare;
        self.tries += 1;
        self.retry_at = now + pause(self.tries);
        self.reason = reason;
    }
}

impl Doing {
    /// Moves a unit towards the kubelet or away from it.
    fn is_motion(&self) -> bool {
        matches!(
            self,
            Self::Offer | Self::Withdraw | Self::Fence | Self::Reinstate | Self::Forget
        )
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Create(_) => "making an instance",
            Self::Complete => "making a compute instance",
            Self::Destroy => "destroying an instance",
            Self::TurnOn => "turning MIG mode on",
            Self::TurnOff => "turning MIG mode off",
            _ => "looking at its instances",
        }
    }
}

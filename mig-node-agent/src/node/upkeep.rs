//! What is done without being asked: offering what exists, mending what is half done, turning MIG
//! mode on, looking again.

use std::time::Duration;

use mig::fraction;
use nvml_mig::MigMode;

use super::gpu::{Gpu, Life, Slot, Unit};
use super::outcome::{Doing, Pending};
use super::{Action, Node, OpId};

/// Whole GPUs wait this long for a controller to say that nobody needs them whole, and on a node of which no
/// controller ever said anything, instances for it to say which GPUs to leave alone.
pub(super) const WHOLE_PATIENCE: Duration = Duration::from_secs(30);
/// How often a GPU is looked at without a cause, for what others may have done to it.
pub(super) const READ_EVERY: Duration = Duration::from_mins(5);
/// Pause after a first failure; doubles up to [`SLOWEST`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two attempts.
pub(super) const SLOWEST: Duration = Duration::from_mins(5);

/// Pause after so many failures in a row.
pub(super) fn pause(tries: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << tries.saturating_sub(1).min(16))
        .min(SLOWEST)
}

impl Node {
    pub(super) fn keep_up(&mut self) {
        self.ensure_resources();
        for at in 0..self.gpus.len() {
            self.prepare_whole(at);
            if self.gpus[at].plan.is_none() {
                self.retire(at);
                self.return_stranded(at);
                self.offer_unlisted(at);
            }
            if self.gpus[at].is_at_rest() {
                self.mend(at);
            }
            if self.gpus[at].is_at_rest() {
                self.turn_on(at);
            }
            if self.gpus[at].is_at_rest() {
                self.turn_off(at);
            }
            let due = self.gpus[at].read_at <= self.now.tick;
            if self.gpus[at].is_at_rest() && due && !self.is_moving_something(at) {
                self.read(at);
            }
        }
        self.stand_down();
    }

    /// Names of all profiles, and of all fractions that they serve, stay registered at zero devices:
    /// the kubelet lets a pod through without a device if it never heard of the resource.
    fn ensure_resources(&mut self) {
        if self.ensured.is_empty() && !self.gpus.is_empty() {
            let profiles = self.models.iter().flat_map(|model| {
                let indices = model.indices();
                indices.flat_map(move |(profile, _)| fraction::exposures(model, profile))
            });
            for name in profiles.collect::<Vec<_>>() {
                self.ensure(&name);
            }
            self.ensure(mig::GPU_RESOURCE);
        }
    }

    pub(super) fn offer_unlisted(&mut self, at: usize) {
        let slots: Vec<Slot> = self.gpus[at].units.keys().copied().collect();
        for slot in slots {
            self.offer(at, slot);
        }
    }

    /// Offers again what was withdrawn for something that will not happen any more: a change that
    /// failed after its plan had ended, or turning MIG mode on after the controller went.
    fn return_stranded(&mut self, at: usize) {
        let gpu = &self.gpus[at];
        let turning_on = gpu.busy.is_some() || self.may_turn_on(gpu);
        let stranded = gpu.units.values().filter(|unit| {
            matches!(unit.life, Life::Withdrawn | Life::Fenced)
                && !(unit.slot == Slot::Whole && turning_on)
                && !self.is_retiring(gpu, unit)
        });
        for slot in stranded.map(|unit| unit.slot).collect::<Vec<_>>() {
            self.reinstate(at, slot);
        }
    }

    /// Offers a unit if it can be offered now.
    pub(super) fn offer(&mut self, at: usize, slot: Slot) {
        let now = self.now.tick;
        let gpu = &self.gpus[at];
        let Some(unit) = gpu.units.get(&slot) else {
            return;
        };
        let ready = unit.life == Life::Unlisted
            && unit.listed.is_none()
            && self.withheld(gpu, slot).is_none()
            && !self.awaits_intent(unit)
            && unit.sick.is_none()
            && gpu.fault.is_none()
            // A whole GPU is not given out while its mode is being changed.
            && (slot != Slot::Whole || gpu.busy.is_none())
            // Its uuid may be one that is still being dropped.
            && gpu.forgetting == 0
            && !unit.device.as_ref().is_some_and(|id| self.specs.is_leaving(id))
            && unit.retry_at <= now;
        let (true, Some(resource), Some(id)) = (ready, unit.resource.clone(), unit.device.clone())
        else {
            return;
        };
        let instance = match slot {
            Slot::Whole => None,
            Slot::Instance(id) => Some((id, unit.compute)),
        };
        let gpu = gpu.info.uuid.clone();
        self.ensure(&resource);
        self.specs.offered(&id);
        let op = self.op(Pending::unit(at, slot, Doing::Offer));
        if let Some(unit) = self.unit(at, slot) {
            unit.life = Life::Offering;
            unit.motion = Some(op);
            unit.listed = Some((resource.clone(), id.clone()));
        }
        self.actions.push(Action::Offer {
            op,
            resource,
            id,
            gpu,
            instance,
        });
    }

    /// A whole GPU that could do MIG is kept back until it is known whether MIG can be turned on.
    fn prepare_whole(&mut self, at: usize) {
        // What another plugin gives out whole says nothing about MIG mode.
        let alone = self.plugins.rivals.is_empty();
        let paused = self.session && self.is_paused();
        let patience_over = alone && !paused && self.now.tick >= self.whole_patience;
        let forbidden = self.intent.is_some() && !self.may_turn_mig_on();
        let gpu = &mut self.gpus[at];
        let kept_back = match gpu.mode {
            MigMode::Off | MigMode::PendingOn => {
                !(patience_over || forbidden || gpu.turn_on_problem.is_some())
            }
            MigMode::NotCapable | MigMode::On | MigMode::PendingOff => false,
        };
        let Some(whole) = gpu.units.get_mut(&Slot::Whole) else {
            return;
        };
        if whole.resource.is_none() && !kept_back {
            whole.resource = whole.default_resource();
            gpu.changed();
        }
    }

    /// Gives half-made and half-destroyed instances their compute instance again, or destroys them.
    fn mend(&mut self, at: usize) {
        let now = self.now.tick;
        let due = |unit: &&Unit| unit.life == Life::Bare && unit.retry_at <= now;
        let Some(unit) = self.gpus[at].units.values().find(due) else {
            return;
        };
        let (slot, tries) = (unit.slot, unit.tries);
        // Destroying needs a controller that listens; making whole again never hurts.
        if tries % 2 == 1 && self.session {
            self.destroy(at, slot);
        } else {
            self.complete(at, slot);
        }
    }

    pub(super) fn complete(&mut self, at: usize, slot: Slot) {
        let Slot::Instance(instance) = slot else {
            return;
        };
        let op = self.start(at, Pending::unit(at, slot, Doing::Complete));
        if let Some(unit) = self.unit(at, slot) {
            unit.life = Life::Completing;
        }
        let gpu = self.gpus[at].info.uuid.clone();
        self.actions.push(Action::Complete { op, gpu, instance });
    }

    pub(super) fn destroy(&mut self, at: usize, slot: Slot) {
        let Some(unit) = self.unit(at, slot) else {
            return;
        };
        let (Slot::Instance(instance), Some(profile)) = (slot, unit.profile) else {
            return;
        };
        unit.life = Life::Destroying;
        let start = unit.placement.start;
        let op = self.start(at, Pending::unit(at, slot, Doing::Destroy));
        let gpu = self.gpus[at].info.uuid.clone();
        self.actions.push(Action::Destroy {
            op,
            gpu,
            instance,
            profile,
            start,
        });
    }

    pub(super) fn read(&mut self, at: usize) {
        let op = self.start(at, Pending::gpu(at, Doing::Read));
        let gpu = self.gpus[at].info.uuid.clone();
        self.gpus[at].read_at = self.now.tick + READ_EVERY;
        self.actions.push(Action::Read { op, gpu });
    }

    pub(super) fn may_turn_on(&self, gpu: &Gpu) -> bool {
        matches!(gpu.mode, MigMode::Off | MigMode::PendingOn)
            && gpu.model.is_some()
            && gpu.fault.is_none()
            && gpu.turn_on_at <= self.now.tick
            && !gpu.left_alone
            && self.may_turn_mig_on()
            && !self.is_paused()
            && self.is_commanded()
    }

    /// MIG mode goes on where it is off and the GPU is proven free.
    fn turn_on(&mut self, at: usize) {
        let gpu = &self.gpus[at];
        let Some(whole) = gpu.units.get(&Slot::Whole) else {
            return;
        };
        if !self.may_turn_on(gpu) {
            return;
        }
        let (gpu_uuid, from_off) = (gpu.info.uuid.clone(), gpu.mode == MigMode::Off);
        match (whole.life, whole.listed.clone()) {
            (Life::Unlisted, None) => {
                let op = self.start(at, Pending::gpu(at, Doing::ProveFree));
                self.actions.push(Action::ProveFree { op, gpu: gpu_uuid });
            }
            (Life::Offered, Some((resource, id))) if self.holds(&resource, &id).is_none() => {
                self.withdraw(at, Slot::Whole);
            }
            (Life::Withdrawn, Some(_)) => self.fence(at, Slot::Whole),
            (Life::Fenced, Some(_)) => {
                let op = self.start(at, Pending::gpu(at, Doing::TurnOn));
                self.actions.push(Action::TurnOn {
                    op,
                    gpu: gpu_uuid,
                    from_off,
                });
            }
            _ => {}
        }
    }

    pub(super) fn withdraw(&mut self, at: usize, slot: Slot) {
        self.listed_op(
            at,
            slot,
            Doing::Withdraw,
            Life::Withdrawing,
            |op, resource, id| Action::Withdraw { op, resource, id },
        );
    }

    pub(super) fn fence(&mut self, at: usize, slot: Slot) {
        self.listed_op(at, slot, Doing::Fence, Life::Fencing, |op, resource, id| {
            Action::Fence { op, resource, id }
        });
    }

    pub(super) fn reinstate(&mut self, at: usize, slot: Slot) {
        self.listed_op(
            at,
            slot,
            Doing::Reinstate,
            Life::Returning,
            |op, resource, id| Action::Reinstate { op, resource, id },
        );
    }

    /// Drops a fenced unit from the kubelet's list; the unit stays.
    pub(super) fn forget(&mut self, at: usize, slot: Slot) {
        self.listed_op(
            at,
            slot,
            Doing::Forget,
            Life::Forgetting,
            |op, resource, id| Action::Forget { op, resource, id },
        );
    }

    fn listed_op(
        &mut self,
        at: usize,
        slot: Slot,
        doing: Doing,
        life: Life,
        action: impl FnOnce(OpId, String, String) -> Action,
    ) {
        let Some(unit) = self.unit(at, slot) else {
            return;
        };
        let Some((resource, id)) = unit.listed.clone() else {
            return;
        };
        unit.life = life;
        let op = self.op(Pending::unit(at, slot, doing));
        if let Some(unit) = self.unit(at, slot) {
            unit.motion = Some(op);
        }
        self.actions.push(action(op, resource, id));
    }

    /// Registers an NVML call as the one under way on its GPU.
    pub(super) fn start(&mut self, at: usize, pending: Pending) -> OpId {
        let op = self.op(pending);
        self.gpus[at].busy = Some(op);
        op
    }

    pub(super) fn gpu_deadline(&self, gpu: &Gpu) -> Option<Duration> {
        let retries = gpu
            .units
            .values()
            .filter(|u| match u.life {
                Life::Bare => true,
                Life::Unlisted => u.resource.is_some(),
                Life::Offered => self.withheld(gpu, u.slot).is_some(),
                _ => false,
            })
            .map(|u| u.retry_at);
        let turn_off = (gpu.is_at_rest() && self.wants_mig_off(gpu)).then_some(gpu.turn_off.0);
        let turn_on = (gpu.is_at_rest() && self.session && gpu.units.contains_key(&Slot::Whole))
            .then_some(gpu.turn_on_at);
        let waits = gpu.units.contains_key(&Slot::Whole) || self.intent.is_none();
        let patience = waits.then_some(self.whole_patience);
        retries
            .chain(turn_on)
            .chain(turn_off)
            .chain(patience)
            .chain([gpu.read_at])
            .filter(|due| *due > self.now.tick)
            .min()
    }
}

//! What the controller means to do with the node as a whole: which GPUs an administrator wants left alone,
//! whether MIG mode may be turned on, and whether the node is given back.
//!
//! A device that is not to be offered any more goes through the whole of Withdraw, like one that is
//! destroyed: a pod may be on its way to it. What pods hold they keep until they have ended.

use device_plugin::Registration;
use nvml_mig::MigMode;

use super::gpu::{Gpu, Life, Slot, Unit};
use super::plans::Phase;
use super::upkeep::{WHOLE_PATIENCE, pause};
use super::{Action, Failure, Node};
use crate::journal::{Intent, Record};

/// Why an idle device is not offered.
pub(super) const LEFT_ALONE: &str =
    "The GPU is left alone, as the node's annotation cdmo.clear.ml/leave-alone says.";
const GIVEN_BACK: &str = "The node is being given back.";
const STAYS: &str = "The node is being given back, and this stays: cdmo does not know what it is.";

impl Node {
    pub(super) fn intend(&mut self, intent: Intent) {
        if self.intent.as_ref() == Some(&intent) {
            return;
        }
        self.note_intent(&intent);
        let gave_back = self.gives_back();
        self.intent = Some(intent);
        let turns = gave_back != self.gives_back();
        let alone: Vec<bool> = self.gpus.iter().map(|gpu| gpu.left_alone).collect();
        self.whole_patience = self.now.tick + WHOLE_PATIENCE;
        self.name_those_left_alone();
        self.spare_those_left_alone(&alone);
        for (gpu, was_alone) in self.gpus.iter_mut().zip(alone) {
            // What was tried under another intent says nothing about this one. A whole GPU waits again for
            // its MIG mode to be turned on, if it may be.
            gpu.turn_on_problem = None;
            (gpu.turn_on_at, gpu.turn_on_tries) = (self.now.tick, 0);
            gpu.turn_off = (self.now.tick, 0);
            for unit in gpu.units.values_mut() {
                if unit.life == Life::Offered {
                    (unit.retry_at, unit.tries) = (self.now.tick, 0);
                }
                if unit.slot == Slot::Whole && unit.listed.is_none() && gpu.mode == MigMode::Off {
                    unit.resource = None;
                }
            }
            if turns || gpu.left_alone != was_alone {
                // A plan made under the other intent is refused.
                gpu.changed();
            }
        }
    }

    /// Plans that nothing irrevocable was done for give way.
    fn spare_those_left_alone(&mut self, before: &[bool]) {
        for plan in self.plans.values_mut() {
            if plan.phase == Phase::Going {
                continue;
            }
            let spared = plan.runs.iter().find_map(|run| {
                let known = before.get(run.at).copied().unwrap_or(false);
                Self::left_alone(&self.gpus[run.at]).filter(|_| !known)
            });
            if let Some(spared) = spared {
                plan.failure.get_or_insert(spared);
            }
        }
    }

    fn note_intent(&mut self, intent: &Intent) {
        let intent = intent.clone();
        self.actions.push(Action::Note(Record::Intended { intent }));
    }

    pub(super) fn name_those_left_alone(&mut self) {
        let entries = self.intent.as_ref().map(|i| i.leave_alone.clone());
        let entries = entries.unwrap_or_default();
        for gpu in &mut self.gpus {
            gpu.left_alone = entries.iter().any(|entry| names(entry, gpu));
        }
        let unknown: Vec<&String> = entries
            .iter()
            .filter(|entry| !self.gpus.iter().any(|gpu| names(entry, gpu)))
            .collect();
        self.problems.remove("leave_alone");
        if !unknown.is_empty() {
            let all = unknown.iter().map(|entry| format!("{entry:?}"));
            let all = all.collect::<Vec<_>>().join(", ");
            let problem = format!(
                "The annotation cdmo.clear.ml/leave-alone names {all}, which no GPU of this node is called; \
                 write indices or uuids as nvidia-smi -L prints them, separated by commas."
            );
            self.problems.insert("leave_alone", problem);
        }
    }

    pub(super) fn gives_back(&self) -> bool {
        self.intent.as_ref().is_some_and(|intent| intent.give_back)
    }

    pub(super) fn may_turn_mig_on(&self) -> bool {
        let intent = self.intent.as_ref();
        intent.is_some_and(|intent| intent.turn_mig_on && !intent.give_back)
    }

    /// No MIG mode is changed for now.
    pub(super) fn is_paused(&self) -> bool {
        self.intent.as_ref().is_some_and(|intent| intent.paused)
    }

    /// No controller ever said anything of this node, so this unit may be of a GPU to be left alone. What a
    /// pod has is offered all the same, under whatever intent.
    pub(super) fn awaits_intent(&self, unit: &Unit) -> bool {
        let soon = self.now.tick < self.whole_patience;
        self.intent.is_none() && soon && unit.slot != Slot::Whole && !self.is_held(unit)
    }

    /// Whether a controller that listens may have something changed here.
    pub(super) fn is_commanded(&self) -> bool {
        self.is_listened_to() && self.is_alone()
    }

    /// A controller listens, and has said which pods there are.
    fn is_listened_to(&self) -> bool {
        self.session && self.pods_revision > 0
    }

    /// Nobody else serves the node's devices.
    fn is_alone(&self) -> bool {
        self.plugins.rivals.is_empty()
    }

    /// Why an administrator's GPU is not for a plan.
    pub(super) fn left_alone(gpu: &Gpu) -> Option<Failure> {
        let index = gpu.info.index;
        gpu.left_alone.then(|| {
            let message = format!("GPU {index} is left alone: the node's annotation cdmo.clear.ml/leave-alone names it.");
            Failure::new("left_alone", message)
        })
    }

    /// Why the unit is not to be offered, if so.
    pub(super) fn withheld(&self, gpu: &Gpu, slot: Slot) -> Option<&'static str> {
        if gpu.left_alone {
            Some(LEFT_ALONE)
        } else if slot == Slot::Whole && self.gives_back() {
            Some(GIVEN_BACK)
        } else if slot != Slot::Whole && self.gives_back() && !self.knows_all(gpu) {
            Some(STAYS)
        } else {
            None
        }
    }

    /// Takes off the kubelet's list what is not to be offered any more and nobody holds.
    pub(super) fn retire(&mut self, at: usize) {
        if !self.is_commanded() {
            return;
        }
        let gpu = &self.gpus[at];
        let steps: Vec<(Slot, Life)> = gpu
            .units
            .values()
            .filter(|unit| self.withheld(gpu, unit.slot).is_some() && self.is_due(unit))
            // Its mode may be changing at this moment.
            .filter(|unit| unit.slot != Slot::Whole || gpu.busy.is_none())
            .map(|unit| (unit.slot, unit.life))
            .collect();
        for (slot, life) in steps {
            match life {
                Life::Offered => self.withdraw(at, slot),
                Life::Withdrawn => self.fence(at, slot),
                Life::Fenced => self.forget(at, slot),
                _ => {}
            }
        }
    }

    fn is_due(&self, unit: &Unit) -> bool {
        unit.listed.is_some() && !self.is_held(unit) && unit.retry_at <= self.now.tick
    }

    /// Whether a withdrawn unit is on its way off the list, so that it is not to be offered again.
    pub(super) fn is_retiring(&self, gpu: &Gpu, unit: &Unit) -> bool {
        self.is_commanded() && self.withheld(gpu, unit.slot).is_some()
    }

    /// Something is on its way off the list, or back: what is seen meanwhile is out of date.
    pub(super) fn is_moving_something(&self, at: usize) -> bool {
        self.gpus[at].units.values().any(|unit| {
            matches!(
                unit.life,
                Life::Withdrawing
                    | Life::Withdrawn
                    | Life::Fencing
                    | Life::Fenced
                    | Life::Returning
                    | Life::Forgetting
            )
        })
    }

    /// A step of that failed: the device is offered as before, and tried again later.
    pub(super) fn not_retired(&mut self, at: usize, slot: Slot) {
        let now = self.now.tick;
        if let Some(unit) = self.unit(at, slot) {
            unit.tries += 1;
            unit.retry_at = now + pause(unit.tries);
        }
        self.gpus[at].changed();
    }

    /// Ends all registrations when there is nothing left to serve: whoever serves the devices next must not
    /// register beside ours.
    pub(super) fn stand_down(&mut self) {
        let down = self.is_cleared();
        if down != self.stood_down {
            self.stood_down = down;
            self.actions.push(Action::StandDown(down));
        }
    }

    /// Nothing of ours is left: see the protocol's `Snapshot.given_back`.
    pub(super) fn is_given_back(&self) -> bool {
        // It does not yield before podresources has told who holds what.
        let mut resources = self.plugins.resources.values();
        let ended = resources.all(|r| r.registration == Registration::Yielding);
        let known = !self.plugins.resources.is_empty() || self.gpus.is_empty();
        self.is_cleared() && self.stood_down && known && ended
    }

    fn is_cleared(&self) -> bool {
        let mut listed = self.plugins.resources.values().flat_map(|r| &r.devices);
        let empty = listed.next().is_none() && self.gpus.iter().all(|gpu| self.is_bare(gpu));
        self.gives_back() && self.plans.is_empty() && (empty || self.is_handed_over())
    }

    /// Whom the node is given back to has come early: nothing is changed any more, and what stands is theirs.
    fn is_handed_over(&self) -> bool {
        let mut listed = self.plugins.resources.values().flat_map(|r| &r.devices);
        let unused = listed.all(|device| device.hold.is_none());
        let at_rest = self.gpus.iter().all(Gpu::is_at_rest);
        self.is_listened_to() && !self.is_alone() && unused && at_rest
    }

    /// Whether a plan could give up this instance. The controller plans nothing where it does not know a
    /// profile.
    fn can_go(&self, gpu: &Gpu, unit: &Unit) -> bool {
        (unit.device.is_some() || unit.life != Life::Unlisted) && self.knows_all(gpu)
    }

    fn knows_all(&self, gpu: &Gpu) -> bool {
        let model = gpu.model.and_then(|model| self.models.get(model));
        let known = |name| model.is_some_and(|model| model.find(&name).is_some());
        gpu.units
            .values()
            .filter(|unit| unit.slot != Slot::Whole)
            .all(|unit| unit.profile.is_some_and(known))
    }

    /// Instances stand here that nobody may give up, and no others.
    pub(super) fn is_stuck_with(&self, gpu: &Gpu) -> bool {
        let mut instances = gpu
            .units
            .values()
            .filter(|unit| unit.slot != Slot::Whole)
            .peekable();
        instances.peek().is_some() && instances.all(|unit| !self.can_go(gpu, unit))
    }

    /// What giving the node back leaves behind.
    pub(super) fn what_stays(&self, gpu: &Gpu) -> Option<String> {
        let instances = gpu.units.values().filter(|unit| unit.slot != Slot::Whole);
        let stays = instances.filter(|unit| !self.can_go(gpu, unit)).count();
        let told = self.gives_back() && !gpu.left_alone && stays > 0;
        let index = gpu.info.index;
        told.then(|| {
            format!(
                "GPU {index} is given back in MIG mode: instances that cdmo did not make, or does not know, \
                 stay on it ({stays}). Destroy them with nvidia-smi mig -dci and -dgi to have the whole GPU."
            )
        })
    }

    fn is_bare(&self, gpu: &Gpu) -> bool {
        let ours = |unit: &Unit| {
            let stands = !gpu.left_alone
                && unit.slot != Slot::Whole
                && unit.device.is_some()
                && self.can_go(gpu, unit);
            stands || unit.listed.is_some() || unit.life != Life::Unlisted
        };
        gpu.busy.is_none()
            && gpu.forgetting == 0
            && !gpu.units.values().any(ours)
            && !self.wants_mig_off(gpu)
    }
}

fn names(entry: &str, gpu: &Gpu) -> bool {
    entry == gpu.info.uuid || entry.parse() == Ok(gpu.info.index)
}

//! Turning MIG mode off again when the node is given back, where the agent turned it on. Turning it on is
//! part of the upkeep.

use nvml_mig::{Activation, MigMode};

use super::gpu::{Gpu, Slot};
use super::outcome::{Doing, Pending};
use super::upkeep::pause;
use super::{Action, Failure, Node};
use crate::journal::{Change, HalfDone, Record, Recorded};

/// Attempts after which the GPU is given back in MIG mode: what is in the way then (monitoring, mostly)
/// does not go by itself, and whoever takes the node over can set the mode, too.
const TRIES: u32 = 3;

impl Node {
    /// A mode that was being turned on when the agent died was turned on by it.
    pub(super) fn adopt_mode(&mut self, gpu: &str, mode: MigMode, recorded: &Recorded) {
        let begun = |done: &HalfDone| done.gpu == gpu && done.change == Change::TurnOn;
        let came = matches!(mode, MigMode::On | MigMode::PendingOn);
        if came && recorded.half_done.values().any(begun) {
            self.own_mode(gpu);
        } else if mode == MigMode::Off {
            // A driver that was loaded anew does not know it any more.
            self.disown_mode(gpu);
        }
    }

    pub(super) fn own_mode(&mut self, gpu: &str) {
        if self.turned_on.insert(gpu.to_owned()) {
            let gpu = gpu.to_owned();
            self.actions.push(Action::Note(Record::TurnedOn { gpu }));
        }
    }

    pub(super) fn disown_mode(&mut self, gpu: &str) {
        if self.turned_on.remove(gpu) {
            let gpu = gpu.to_owned();
            self.actions.push(Action::Note(Record::TurnedOff { gpu }));
        }
    }

    /// Whether giving the node back takes turning MIG mode off here.
    pub(super) fn wants_mig_off(&self, gpu: &Gpu) -> bool {
        let on = matches!(gpu.mode, MigMode::On | MigMode::PendingOn);
        self.gives_back() && on && !gpu.left_alone && self.turned_on.contains(&gpu.info.uuid)
    }

    pub(super) fn turn_off(&mut self, at: usize) {
        let gpu = &self.gpus[at];
        if self.wants_mig_off(gpu) && self.is_stuck_with(gpu) && self.is_commanded() {
            let (gpu, index) = (gpu.info.uuid.clone(), gpu.info.index);
            tracing::warn!(
                gpu = index,
                "MIG mode stays on under instances that are not ours"
            );
            self.disown_mode(&gpu);
            return;
        }
        let empty = gpu.units.values().all(|unit| unit.slot == Slot::Whole);
        let whole_listed = gpu.units.values().any(|unit| unit.listed.is_some());
        let sure = gpu.fault.is_none() && gpu.forgetting == 0 && !gpu.unsure;
        let due = gpu.turn_off.0 <= self.now.tick && sure && !self.is_paused();
        if !(self.wants_mig_off(gpu) && empty && !whole_listed && due && self.is_commanded()) {
            return;
        }
        let gpu = gpu.info.uuid.clone();
        let op = self.start(at, Pending::gpu(at, Doing::ProveEmpty));
        self.actions.push(Action::ProveFree { op, gpu });
    }

    pub(super) fn start_turning_off(&mut self, at: usize) {
        // The intent may have turned round meanwhile, the controller gone, or somebody made an instance.
        let gpu = &self.gpus[at];
        let empty = gpu.units.values().all(|unit| unit.slot == Slot::Whole);
        let may = self.wants_mig_off(gpu) && self.is_commanded() && !self.is_paused();
        if !(may && empty && gpu.plan.is_none()) {
            return;
        }
        let gpu = self.gpus[at].info.uuid.clone();
        let op = self.start(at, Pending::gpu(at, Doing::TurnOff));
        self.actions.push(Action::TurnOff { op, gpu });
    }

    pub(super) fn turned_off(&mut self, at: usize, result: Result<Activation, Failure>) {
        match result {
            Ok(activation) => {
                let gpu = &mut self.gpus[at];
                gpu.mode = match activation {
                    Activation::Done => MigMode::Off,
                    Activation::Pending { .. } => MigMode::PendingOff,
                };
                gpu.read_at = self.now.tick;
                gpu.changed();
                // The journal was told with the end of the call.
                let gpu = self.gpus[at].info.uuid.clone();
                self.turned_on.remove(&gpu);
            }
            Err(failure) => self.not_turned_off(at, &failure),
        }
    }

    pub(super) fn not_turned_off(&mut self, at: usize, failure: &Failure) {
        let now = self.now.tick;
        let gpu = &mut self.gpus[at];
        gpu.turn_off.1 += 1;
        gpu.turn_off.0 = now + pause(gpu.turn_off.1 + 1);
        gpu.changed();
        if gpu.turn_off.1 >= TRIES {
            let index = gpu.info.index;
            tracing::warn!(gpu = index, why = failure.message, "MIG mode stays on");
            let gpu = gpu.info.uuid.clone();
            self.disown_mode(&gpu);
        }
    }
}

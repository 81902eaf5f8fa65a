//! Taking over what NVML shows: at start, and whenever it is looked at again.

use std::time::Duration;

use mig::{ProfileName, fraction};
use nvml_mig::{GpuInstance, MigMode};

use super::gpu::{Attempt, Gpu, Life, Slot, Unit};
use super::outcome::{Doing, Pending};
use super::{Action, Found, Node, View, upkeep};
use crate::journal::{Change, HalfDone, Record, Recorded};

impl Node {
    pub(super) fn adopt_gpu(&mut self, found: Found, recorded: &Recorded, versions: u64) {
        let model = found.model.map(|model| {
            if let Some(known) = self.models.iter().position(|m| *m == model) {
                return known;
            }
            self.models.push(model);
            self.models.len() - 1
        });
        let mut gpu = Gpu {
            info: found.info,
            model,
            mode: found.view.mode,
            version: versions,
            units: std::collections::BTreeMap::new(),
            busy: None,
            plan: None,
            fault: None,
            late: false,
            attempted: Vec::new(),
            forgetting: 0,
            unsure: false,
            read_tries: 0,
            read_at: self.now.tick + upkeep::READ_EVERY,
            turn_on_at: Duration::ZERO,
            turn_on_problem: None,
            turn_on_tries: 0,
            left_alone: false,
            turn_off: (Duration::ZERO, 0),
        };
        for instance in &found.view.instances {
            let mut unit = Unit::instance(instance);
            unit.resource = exposure(&gpu.info.uuid, &unit, recorded);
            own_half_done(&gpu.info.uuid, &mut unit, recorded);
            gpu.units.insert(unit.slot, unit);
        }
        set_whole(&mut gpu, recorded);
        self.adopt_mode(&gpu.info.uuid.clone(), gpu.mode, recorded);
        self.gpus.push(gpu);
    }

    /// The journal's half-done changes that left nothing behind have ended.
    pub(super) fn settle_leftovers(&mut self, recorded: &Recorded) {
        let owed: Vec<_> = self
            .units()
            .flat_map(|(_, unit)| unit.debts.clone())
            .collect();
        for op in recorded.half_done.keys().filter(|op| !owed.contains(op)) {
            self.actions.push(Action::Note(Record::End { op: *op }));
        }
    }

    /// Compares a GPU with what NVML shows now. Only while nothing is under way on it.
    pub(super) fn reconcile(&mut self, at: usize, view: &View) {
        let gpu = &mut self.gpus[at];
        if gpu.mode != view.mode {
            gpu.mode = view.mode;
            gpu.changed();
        }
        if view.mode == MigMode::Off {
            let gpu = gpu.info.uuid.clone();
            self.disown_mode(&gpu);
        }
        let gpu = &mut self.gpus[at];
        let gone: Vec<Slot> = gpu
            .units
            .values()
            .filter(|unit| unit.slot != Slot::Whole && !view.instances.iter().any(|i| unit.is(i)))
            .map(|unit| unit.slot)
            .collect();
        for slot in gone {
            self.lost(at, slot);
        }
        for found in &view.instances {
            self.found(at, found);
        }
        let gpu = &mut self.gpus[at];
        for attempt in std::mem::take(&mut gpu.attempted) {
            if !view.instances.iter().any(|found| attempt.made(found)) {
                self.actions
                    .push(Action::Note(Record::End { op: attempt.op }));
            }
        }
        if std::mem::take(&mut gpu.unsure) {
            gpu.changed();
        }
        set_whole(gpu, &Recorded::default());
        if view.mode.is_on()
            && let Some(whole) = self.gpus[at].units.remove(&Slot::Whole)
        {
            self.gpus[at].changed();
            self.lose_listing(at, whole.listed);
        }
    }

    fn found(&mut self, at: usize, found: &GpuInstance) {
        let gpu = &mut self.gpus[at];
        let slot = Slot::Instance(found.gi_id);
        let Some(unit) = gpu.units.get_mut(&slot) else {
            let mut unit = Unit::instance(found);
            unit.resource = unit.default_resource();
            let ours = |attempt: &&Attempt| attempt.made(found);
            if unit.device.is_none()
                && !unit.foreign
                && let Some(attempt) = gpu.attempted.iter().find(ours)
            {
                unit.life = Life::Bare;
                unit.debts.push(attempt.op);
            }
            gpu.units.insert(slot, unit);
            gpu.changed();
            return;
        };
        let before = unit.device.clone();
        if before.as_deref() == found.device_uuid() {
            return;
        }
        unit.refresh(found);
        let mut listing = None;
        if unit.listed.is_some() {
            // It lost its compute instance, or got another, without our doing.
            listing = unit.listed.take();
            unit.life = Life::Unlisted;
            unit.motion = None;
        } else if unit.life == Life::Bare && unit.device.is_some() {
            unit.life = Life::Unlisted;
        }
        gpu.changed();
        self.lose_listing(at, listing);
    }

    /// An instance is gone that nobody here destroyed.
    fn lost(&mut self, at: usize, slot: Slot) {
        if let Some(unit) = self.gpus[at].units.remove(&slot) {
            self.gpus[at].changed();
            self.settle(&unit);
            self.lose_listing(at, unit.listed);
        }
    }

    fn lose_listing(&mut self, at: usize, listed: Option<(String, String)>) {
        if let Some((resource, id)) = listed {
            self.gpus[at].forgetting += 1;
            let op = self.op(Pending::gpu(at, Doing::ForgetGone));
            self.actions.push(Action::Lose { op, resource, id });
        }
    }

    /// Takes devices over under the names that pods have them under, where the journal does not tell that
    /// they had moved there. Under another name their containers could not be started again.
    pub(super) fn follow_holders(&mut self) {
        for at in 0..self.gpus.len() {
            let gpu = &self.gpus[at];
            if gpu.plan.is_some() {
                continue;
            }
            let moved = gpu
                .units
                .values()
                .filter_map(|unit| Some((unit.slot, self.held_as(gpu, unit)?)));
            for (slot, resource) in moved.collect::<Vec<_>>() {
                let Some(unit) = self.unit(at, slot) else {
                    continue;
                };
                let listing = unit.listed.take();
                unit.resource = Some(resource);
                unit.life = Life::Unlisted;
                unit.tries = 0;
                unit.retry_at = Duration::ZERO;
                let unit = unit.clone();
                self.note_exposure(at, &unit);
                self.gpus[at].changed();
                self.lose_listing(at, listing);
            }
        }
    }

    /// The other name under which a pod has the unit, if that is one it may be offered under.
    fn held_as(&self, gpu: &Gpu, unit: &Unit) -> Option<String> {
        let id = unit.device.as_ref()?;
        let own = unit.resource.as_ref();
        let settled = matches!(unit.life, Life::Unlisted | Life::Offered);
        if !settled || own.is_some_and(|own| self.holds(own, id).is_some()) {
            return None;
        }
        let shown = |name: &&String| {
            let hold = self.holds(name, id);
            Some(*name) != own && hold.is_some_and(|hold| hold.shown)
        };
        let name = self.plugins.resources.keys().find(shown)?;
        let model = self.models.get(gpu.model?)?;
        let (profile, _) = model.find(&unit.profile?)?;
        fraction::exposures(model, profile).find(|known| known == name)
    }

    /// A unit is whole or gone: the journal need not remember that it was neither.
    pub(super) fn settle(&mut self, unit: &Unit) {
        let ends = unit.debts.iter().map(|op| Record::End { op: *op });
        self.actions.extend(ends.map(Action::Note));
    }
}

/// The resource name an adopted instance has: what the journal says of this very instance, else its
/// profile's own. A hold tells nothing: its device id may name another instance by now.
fn exposure(gpu: &str, unit: &Unit, recorded: &Recorded) -> Option<String> {
    let (Slot::Instance(instance), Some(profile)) = (unit.slot, unit.profile) else {
        return None;
    };
    match recorded.exposures.get(&(gpu.to_owned(), instance)) {
        Some(exposed)
            if exposed.profile == profile.to_string() && exposed.start == unit.placement.start =>
        {
            exposed.resource.clone()
        }
        _ => unit.default_resource(),
    }
}

/// An instance without compute instance is ours if the journal says that we stopped halfway.
fn own_half_done(gpu: &str, unit: &mut Unit, recorded: &Recorded) {
    if unit.device.is_some() || unit.foreign {
        return;
    }
    let debts = recorded
        .half_done
        .iter()
        .filter(|(_, half_done)| half_done.gpu == gpu && names(&half_done.change, unit))
        .map(|(op, HalfDone { .. })| *op);
    unit.debts = debts.collect();
    if !unit.debts.is_empty() {
        unit.life = Life::Bare;
        unit.reason = "The agent was stopped while it was being made or destroyed.".into();
    }
}

fn names(change: &Change, unit: &Unit) -> bool {
    let profile = unit.profile.map(|p: ProfileName| p.to_string());
    match change {
        Change::Create { profile: p, start } => {
            Some(p) == profile.as_ref() && *start == unit.placement.start
        }
        Change::Complete { instance } => unit.slot == Slot::Instance(*instance),
        Change::Destroy {
            instance,
            profile: p,
            start,
        } => {
            unit.slot == Slot::Instance(*instance)
                && Some(p) == profile.as_ref()
                && *start == unit.placement.start
        }
        Change::TurnOn | Change::TurnOff => false,
    }
}

/// A GPU that is not in MIG mode is a device itself.
fn set_whole(gpu: &mut Gpu, recorded: &Recorded) {
    if gpu.mode.is_on() || gpu.units.contains_key(&Slot::Whole) {
        return;
    }
    let mut whole = Unit::whole(&gpu.info);
    let held = (mig::GPU_RESOURCE.to_owned(), gpu.info.uuid.clone());
    let offered_anyway = gpu.mode == MigMode::NotCapable || recorded.holds.contains_key(&held);
    if offered_anyway {
        whole.resource = whole.default_resource();
    }
    gpu.units.insert(Slot::Whole, whole);
}

//! Plans as a whole: accepting or refusing them, Commit and Abort, and their one final word.

use std::collections::VecDeque;
use std::time::Duration;

use cdmo_proto::agent as api;
use cdmo_proto::agent::plan_progress::Stage;
use device_plugin::HoldState;
use mig::{GpuModel, ProfileName, fraction};
use nvml_mig::MigMode;

use super::gpu::{Gpu, Life, Slot, Unit};
use super::outcome::Making;
use super::run::{GpuRun, Step};
use super::{Failure, Node};

/// A withdrawn plan is given up if the controller says nothing for so long.
pub const COMMIT_PATIENCE: Duration = Duration::from_mins(1);

/// A plan being carried out.
#[derive(Debug)]
pub(super) struct PlanRun {
    pub(super) id: String,
    pub(super) runs: Vec<GpuRun>,
    pub(super) phase: Phase,
    pub(super) aborted: bool,
    /// A failure that is no GPU's own.
    pub(super) failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Devices are becoming unhealthy for the kubelet.
    Withdrawing,
    /// Waiting for Commit or Abort.
    Waiting(Duration),
    /// The GPUs go on by themselves.
    Going,
}

impl PlanRun {
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting(until) => Some(until),
            _ => None,
        }
    }

    fn cannot_go_on(&self) -> bool {
        self.aborted || self.failure.is_some() || self.runs.iter().any(|r| r.failure.is_some())
    }
}

impl Node {
    pub(super) fn take_plan(&mut self, plan: api::Plan) {
        match self.check_plan(&plan) {
            Ok(runs) => {
                for run in &runs {
                    let gpu = &mut self.gpus[run.at];
                    gpu.plan = Some(plan.id.clone());
                    gpu.changed();
                }
                for run in &runs {
                    for slot in run.withdrawn_first() {
                        self.withdraw(run.at, slot);
                    }
                }
                let run = PlanRun {
                    id: plan.id.clone(),
                    runs,
                    phase: Phase::Withdrawing,
                    aborted: false,
                    failure: None,
                };
                self.plans.insert(plan.id, run);
            }
            Err(failure) => self.progress(api::PlanProgress {
                plan_id: plan.id,
                stage: Stage::Refused.into(),
                category: failure.category.into(),
                message: failure.message,
                made: Vec::new(),
            }),
        }
    }

    pub(super) fn commit(&mut self, commit: &api::Commit) {
        let known = self.pods_revision;
        let Some(plan) = self.plans.get_mut(&commit.plan_id) else {
            return;
        };
        if !matches!(plan.phase, Phase::Waiting(_)) {
            return;
        }
        if commit.pods_revision > known {
            plan.failure = Some(Failure::new(
                "pods_missing",
                format!(
                    "The commit rests on pod table {} but the agent was only sent table {known}.",
                    commit.pods_revision
                ),
            ));
            return;
        }
        plan.phase = Phase::Going;
        for run in &mut plan.runs {
            run.step = Step::Committed;
        }
    }

    pub(super) fn abort(&mut self, plan_id: &str) {
        if let Some(plan) = self.plans.get_mut(plan_id)
            && plan.phase != Phase::Going
        {
            plan.aborted = true;
        }
    }

    pub(super) fn session_closed(&mut self) {
        self.session = false;
        self.pods_revision = 0;
        for plan in self.plans.values_mut() {
            if plan.phase != Phase::Going {
                plan.failure.get_or_insert_with(session_lost);
            }
        }
    }

    pub(super) fn advance_plans(&mut self) {
        let ids: Vec<String> = self.plans.keys().cloned().collect();
        for id in ids {
            let Some(mut plan) = self.plans.remove(&id) else {
                continue;
            };
            for run in &mut plan.runs {
                self.advance_run(run);
            }
            self.advance_phase(&mut plan);
            if plan.runs.iter().all(|run| run.step == Step::Ended) {
                self.end_plan(plan);
            } else {
                self.plans.insert(id, plan);
            }
        }
    }

    fn advance_phase(&mut self, plan: &mut PlanRun) {
        match plan.phase {
            Phase::Withdrawing => {
                if plan.runs.iter().any(|run| run.step == Step::Withdrawing) {
                    return;
                }
                if !plan.cannot_go_on() && plan.runs.iter().any(GpuRun::takes_away) {
                    plan.phase = Phase::Waiting(self.now.tick + COMMIT_PATIENCE);
                    self.progress(api::PlanProgress {
                        plan_id: plan.id.clone(),
                        stage: Stage::Withdrawn.into(),
                        ..Default::default()
                    });
                    return;
                }
            }
            Phase::Waiting(until) => {
                if self.now.tick >= until {
                    plan.failure.get_or_insert_with(|| {
                        let seconds = COMMIT_PATIENCE.as_secs();
                        let message = format!("Neither commit nor abort came within {seconds} s.");
                        Failure::new("commit_timeout", message)
                    });
                }
                if !plan.cannot_go_on() {
                    return;
                }
            }
            Phase::Going => return,
        }
        let undo = plan.cannot_go_on();
        plan.phase = Phase::Going;
        for run in &mut plan.runs {
            run.step = if undo { Step::Undoing } else { Step::Committed };
            self.advance_run(run);
        }
    }

    fn end_plan(&mut self, plan: PlanRun) {
        let failure = plan
            .failure
            .or_else(|| plan.runs.iter().find_map(|run| run.failure.clone()));
        let stage = match (&failure, plan.aborted) {
            (_, true) => Stage::Aborted,
            (Some(_), false) => Stage::Failed,
            (None, false) => Stage::Done,
        };
        let made = plan.runs.iter().flat_map(|run| self.made(run)).collect();
        let failure = failure.unwrap_or_else(|| Failure::new("", ""));
        self.progress(api::PlanProgress {
            plan_id: plan.id,
            stage: stage.into(),
            category: failure.category.into(),
            message: failure.message,
            made,
        });
    }

    /// What a run made or exposed, and is still there.
    fn made(&self, run: &GpuRun) -> Vec<api::Made> {
        let gpu = &self.gpus[run.at];
        let exposed = run.expose.iter().map(|(slot, _)| slot);
        let units = run.made.iter().chain(exposed);
        let units = units.filter_map(|slot| gpu.units.get(slot));
        units
            .filter(|unit| unit.listed.is_some() && unit.life == Life::Offered)
            .map(|unit| api::Made {
                gpu_uuid: gpu.info.uuid.clone(),
                profile: unit.profile.map(|p| p.to_string()).unwrap_or_default(),
                start: unit.placement.start.into(),
                device_id: unit.device.clone().unwrap_or_default(),
                resource: unit.resource.clone().unwrap_or_default(),
            })
            .collect()
    }

    pub(super) fn run_of(&mut self, at: usize) -> Option<&mut GpuRun> {
        let plan = self.gpus.get(at)?.plan.as_ref()?;
        let plan = self.plans.get_mut(plan)?;
        plan.runs.iter_mut().find(|run| run.at == at)
    }

    fn check_plan(&self, plan: &api::Plan) -> Result<Vec<GpuRun>, Failure> {
        if self.plans.contains_key(&plan.id) {
            let id = &plan.id;
            return Err(bad(format!("Plan {id:?} is being worked on already.")));
        }
        if let Some(failure) = self.other_plugin() {
            return Err(failure);
        }
        if plan.id.is_empty() || plan.gpus.is_empty() {
            return Err(bad("A plan needs an id and a GPU.".into()));
        }
        let mut runs: Vec<GpuRun> = Vec::new();
        for part in &plan.gpus {
            let run = self.check_gpu(part)?;
            if runs.iter().any(|other| other.at == run.at) {
                return Err(bad(format!("The plan names GPU {} twice.", part.gpu_uuid)));
            }
            runs.push(run);
        }
        Ok(runs)
    }

    fn check_gpu(&self, part: &api::GpuPlan) -> Result<GpuRun, Failure> {
        let position = self.gpus.iter().position(|g| g.info.uuid == part.gpu_uuid);
        let Some(at) = position else {
            let uuid = &part.gpu_uuid;
            return Err(Failure::new(
                "no_such_gpu",
                format!("This node has no GPU {uuid}."),
            ));
        };
        let gpu = &self.gpus[at];
        let index = gpu.info.index;
        if let Some(failure) = Self::left_alone(gpu) {
            return Err(failure);
        }
        if part.state_version != gpu.version {
            return Err(Failure::new(
                "stale",
                format!(
                    "The plan was made from version {} of GPU {index}, which is at {} now.",
                    part.state_version, gpu.version
                ),
            ));
        }
        if gpu.plan.is_some() {
            let message = format!("Another plan is being worked on on GPU {index}.");
            return Err(Failure::new("busy", message));
        }
        if gpu.unsure {
            let message = format!("A change of GPU {index} failed, and it is being looked at.");
            return Err(Failure::new("busy", message));
        }
        if let Some(fault) = &gpu.fault {
            return Err(Failure::new("gpu_fault", fault.clone()));
        }
        let model = gpu.model.and_then(|model| self.models.get(model));
        let (Some(model), MigMode::On) = (model, gpu.mode) else {
            let message = format!("GPU {index} is not in MIG mode.");
            return Err(Failure::new("mig_off", message));
        };
        let mut give_up = Vec::new();
        for reference in &part.give_up {
            give_up.push(self.removable(gpu, Some(reference))?.slot);
        }
        let mut expose = Vec::new();
        for change in &part.expose {
            let unit = self.removable(gpu, change.instance.as_ref())?;
            if unit.device.is_none() || unit.sick.is_some() {
                let message = format!("{} cannot be offered: {}", unit.title(gpu), unit.reason);
                return Err(Failure::new("no_device", message));
            }
            let resource = Some(change.resource.clone()).filter(|name| !name.is_empty());
            if let (Some(resource), Some(profile)) = (&resource, unit.profile) {
                check_resource(model, profile, resource)?;
            }
            expose.push((unit.slot, resource));
        }
        let mut named: Vec<Slot> = give_up.clone();
        named.extend(expose.iter().map(|(slot, _)| *slot));
        named.sort_unstable();
        if named.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(bad(format!(
                "The plan names an instance of GPU {index} twice."
            )));
        }
        let create = check_creates(gpu, model, &give_up, &part.create)?;
        Ok(GpuRun::new(at, give_up, expose, create))
    }

    /// The instance that is meant, if it is free to be changed.
    fn removable<'a>(
        &self,
        gpu: &'a Gpu,
        reference: Option<&api::InstanceRef>,
    ) -> Result<&'a Unit, Failure> {
        let reference = reference.ok_or_else(|| bad("An instance is not named.".into()))?;
        let slot = Slot::Instance(reference.gpu_instance_id);
        let same = |unit: &&Unit| {
            unit.profile
                .is_some_and(|p| p.to_string() == reference.profile)
                && u32::from(unit.placement.start) == reference.start
        };
        let unit = gpu.units.get(&slot).filter(same).ok_or_else(|| {
            let api::InstanceRef {
                gpu_instance_id,
                profile,
                start,
            } = reference;
            Failure::new(
                "no_such_instance",
                format!(
                    "GPU {} has no instance {gpu_instance_id} of {profile} at slice {start}.",
                    gpu.info.index
                ),
            )
        })?;
        let title = unit.title(gpu);
        if unit.foreign {
            return Err(Failure::new("foreign", format!("{title}: {}", unit.reason)));
        }
        if self.is_held(unit) {
            return Err(Failure::new("held", format!("{title} is held by a pod.")));
        }
        let about_to_be_offered =
            unit.life == Life::Unlisted && unit.resource.is_some() && unit.sick.is_none();
        if unit.in_motion() || (about_to_be_offered && unit.device.is_some()) {
            let message = format!("{title} is just being offered or mended.");
            return Err(Failure::new("offering", message));
        }
        Ok(unit)
    }

    pub(super) fn is_held(&self, unit: &Unit) -> bool {
        self.hold_on(unit).is_some()
    }

    /// Under any name: a uuid outlives the instance that had it, and a device that had moved may be
    /// held under a name that the journal does not tell.
    pub(super) fn hold_on(&self, unit: &Unit) -> Option<&HoldState> {
        let listed = unit.listed.as_ref();
        if let Some(hold) = listed.and_then(|(resource, id)| self.holds(resource, id)) {
            return Some(hold);
        }
        let ids = [unit.device.as_ref(), listed.map(|(_, id)| id)];
        self.plugins
            .resources
            .values()
            .flat_map(|resource| &resource.devices)
            .filter(|device| ids.contains(&Some(&device.id)))
            .find_map(|device| device.hold.as_ref())
    }
}

impl Unit {
    fn title(&self, gpu: &Gpu) -> String {
        let profile = self.profile.map(|p| p.to_string()).unwrap_or_default();
        let (index, start) = (gpu.info.index, self.placement.start);
        format!("{profile} at slice {start} of GPU {index}")
    }
}

fn check_creates(
    gpu: &Gpu,
    model: &GpuModel,
    give_up: &[Slot],
    creates: &[api::Create],
) -> Result<VecDeque<Making>, Failure> {
    let mut layout = gpu.layout(model, give_up);
    let mut makings = VecDeque::new();
    for create in creates {
        let api::Create {
            profile,
            start,
            resource,
        } = create;
        let unknown = || {
            let model = &model.name;
            Failure::new(
                "no_such_profile",
                format!("{model} has no profile {profile:?}."),
            )
        };
        let name: ProfileName = profile.parse().map_err(|_| unknown())?;
        let (index, found) = model.find(&name).ok_or_else(unknown)?;
        let placement = found
            .placements
            .iter()
            .find(|placement| u32::from(placement.start) == *start)
            .copied();
        let conflict = |why: &str| {
            let gpu = gpu.info.index;
            let message = format!("{profile} cannot be made at slice {start} of GPU {gpu}: {why}.");
            Failure::new("bad_placement", message)
        };
        let placement =
            placement.ok_or_else(|| conflict("the profile cannot start at that memory slice"))?;
        layout
            .place(model, index, placement)
            .map_err(|error| conflict(&error.to_string()))?;
        let resource = match resource.as_str() {
            "" => name.resource_name(),
            other => {
                check_resource(model, name, other)?;
                other.to_owned()
            }
        };
        makings.push_back(Making {
            profile: name,
            profile_id: found.id,
            placement,
            resource,
        });
    }
    Ok(makings)
}

/// Only names that say what the instance is: its profile's, and those of the fractions that this
/// profile serves on this GPU. Any other could take over another plugin's resource, or give a pod
/// something else than it asked for.
fn check_resource(model: &GpuModel, profile: ProfileName, resource: &str) -> Result<(), Failure> {
    let says_it = model
        .find(&profile)
        .is_some_and(|(index, _)| fraction::exposures(model, index).any(|name| name == resource));
    if says_it {
        return Ok(());
    }
    let model = &model.name;
    let message = format!("A {profile} of {model} cannot be offered as {resource:?}.");
    Err(Failure::new("bad_resource", message))
}

fn bad(message: String) -> Failure {
    Failure::new("bad_plan", message)
}

pub(super) fn session_lost() -> Failure {
    let message = "The controller went away; nothing is destroyed without it.";
    Failure::new("session_lost", message)
}

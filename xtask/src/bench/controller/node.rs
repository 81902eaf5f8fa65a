//! A simulated node: what its agent reports, what it does for plans, and the devices that its pods have.
//!
//! No I/O: plans and grants in, messages out. Layouts are those of the real model, so that a plan that
//! a real GPU would refuse is refused here, too. Making and destroying takes no time.

use std::collections::BTreeMap;
use std::sync::Arc;

use cdmo_proto::agent::{
    self, AgentMessage, Holder, Made, MigMode, PlanProgress, ResourceState, Snapshot,
    agent_message::Message as FromAgent, controller_message::Message as ToAgent,
    instance::State as Doing, plan_progress::Stage,
};
use mig::{GpuModel, Layout, Placement, ProfileIndex};

/// An instance on a GPU.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    id: u32,
    profile: ProfileIndex,
    placement: Placement,
    resource: String,
    doing: Doing,
    /// Namespace and name of the pod that has it.
    holder: Option<(String, String)>,
}

#[derive(Debug, Default)]
struct Gpu {
    version: u64,
    last_id: u32,
    layout: Layout,
    instances: Vec<Instance>,
}

/// A node with GPUs of one model.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    product: String,
    model: Arc<GpuModel>,
    gpus: Vec<Gpu>,
    /// Plans that wait for their commit.
    waiting: BTreeMap<String, agent::Plan>,
}

impl Node {
    pub(super) fn new(name: &str, product: &str, model: Arc<GpuModel>, gpus: usize) -> Self {
        let gpu = || Gpu {
            version: 1,
            ..Gpu::default()
        };
        Self {
            name: name.to_owned(),
            product: product.to_owned(),
            model,
            gpus: (0..gpus).map(|_| gpu()).collect(),
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn model(&self) -> &GpuModel {
        &self.model
    }

    /// Puts a held instance into the first place where one of the profile fits; the resource it is held under,
    /// or none if it fits nowhere.
    pub(super) fn fill(
        &mut self,
        profile: ProfileIndex,
        holder: (String, String),
    ) -> Option<String> {
        let model = Arc::clone(&self.model);
        let resource = model.profile(profile)?.name.resource_name();
        for gpu in &mut self.gpus {
            let place = gpu.layout.free_placements(&model, profile).next();
            if let Some(placement) = place
                && gpu.make(&model, profile, placement, &resource)
                && let Some(new) = gpu.instances.last_mut()
            {
                new.doing = Doing::Held;
                new.holder = Some(holder);
                return Some(resource);
            }
        }
        None
    }

    /// Devices by resource, as the kubelet counts them.
    pub(super) fn counts(&self) -> BTreeMap<String, (u32, u32)> {
        let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for one in self.gpus.iter().flat_map(|gpu| &gpu.instances) {
            let (capacity, allocatable) = counts.entry(one.resource.clone()).or_default();
            *capacity += 1;
            *allocatable += u32::from(one.doing != Doing::Withdrawing);
        }
        counts
    }

    /// Gives a pod idle devices, as the kubelet would; whether there were enough.
    pub(super) fn grant(&mut self, pod: (&str, &str), resource: &str, count: u32) -> bool {
        let mut left = count;
        for gpu in &mut self.gpus {
            for one in &mut gpu.instances {
                if left > 0 && one.doing == Doing::Idle && one.resource == resource {
                    one.doing = Doing::Held;
                    one.holder = Some((pod.0.to_owned(), pod.1.to_owned()));
                    gpu.version += 1;
                    left -= 1;
                }
            }
        }
        left == 0
    }

    /// A pod has ended: what it had is idle.
    pub(super) fn release(&mut self, namespace: &str, pod: &str) {
        for gpu in &mut self.gpus {
            for one in &mut gpu.instances {
                let holds = |(ns, name): &(String, String)| ns == namespace && name == pod;
                if one.holder.as_ref().is_some_and(holds) {
                    one.doing = Doing::Idle;
                    one.holder = None;
                    gpu.version += 1;
                }
            }
        }
    }

    /// What the controller says; the answers, in order.
    pub(super) fn hear(&mut self, message: ToAgent) -> Vec<AgentMessage> {
        match message {
            ToAgent::Plan(plan) => self.take(plan),
            ToAgent::Commit(commit) => match self.waiting.remove(&commit.plan_id) {
                Some(plan) => self.carry_out(&plan),
                None => Vec::new(),
            },
            ToAgent::Abort(abort) => match self.waiting.remove(&abort.plan_id) {
                Some(plan) => {
                    self.withdraw(&plan, Doing::Idle);
                    self.answer(&plan.id, Stage::Aborted, "", Vec::new())
                }
                None => Vec::new(),
            },
            ToAgent::Hello(_) | ToAgent::Pods(_) | ToAgent::Intent(_) => Vec::new(),
        }
    }

    fn take(&mut self, plan: agent::Plan) -> Vec<AgentMessage> {
        if let Err(why) = self.check(&plan) {
            return self.answer(&plan.id, Stage::Refused, why, Vec::new());
        }
        let takes_away = |gpu: &agent::GpuPlan| !gpu.give_up.is_empty() || !gpu.expose.is_empty();
        if !plan.gpus.iter().any(takes_away) {
            return self.carry_out(&plan);
        }
        self.withdraw(&plan, Doing::Withdrawing);
        let id = plan.id.clone();
        self.waiting.insert(id.clone(), plan);
        self.answer(&id, Stage::Withdrawn, "", Vec::new())
    }

    fn check(&mut self, plan: &agent::Plan) -> Result<(), &'static str> {
        for part in &plan.gpus {
            let gpu = self.gpu(&part.gpu_uuid).ok_or("bad_plan")?;
            if gpu.version != part.state_version {
                return Err("stale");
            }
            let is_idle = |id: u32| {
                let one = gpu.instances.iter().find(|one| one.id == id);
                one.is_some_and(|one| one.doing == Doing::Idle)
            };
            if !gone(part).all(is_idle) {
                return Err("held");
            }
        }
        Ok(())
    }

    /// What the plan takes away from its name becomes this.
    fn withdraw(&mut self, plan: &agent::Plan, doing: Doing) {
        for part in &plan.gpus {
            if let Some(gpu) = self.gpu(&part.gpu_uuid) {
                gpu.version += 1;
                for id in gone(part) {
                    let one = gpu.instances.iter_mut().find(|one| one.id == id);
                    if let Some(one) = one {
                        one.doing = doing;
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, plan: &agent::Plan) -> Vec<AgentMessage> {
        let model = Arc::clone(&self.model);
        let mut made = Vec::new();
        for part in &plan.gpus {
            let Some(gpu) = self.gpu(&part.gpu_uuid) else {
                return self.answer(&plan.id, Stage::Failed, "bad_plan", Vec::new());
            };
            for id in part.give_up.iter().map(|gone| gone.gpu_instance_id) {
                gpu.destroy(id);
            }
            for moved in &part.expose {
                let id = moved.instance.as_ref().map(|one| one.gpu_instance_id);
                if let Some(one) = gpu.instances.iter_mut().find(|one| Some(one.id) == id) {
                    one.resource.clone_from(&moved.resource);
                    one.doing = Doing::Idle;
                }
            }
            for new in &part.create {
                let found = new.profile.parse().ok();
                let found = found.and_then(|name| model.find(&name));
                let fits = found.is_some_and(|(profile, known)| {
                    let start = u8::try_from(new.start).unwrap_or(u8::MAX);
                    let placement = Placement::new(start, known.size());
                    gpu.make(&model, profile, placement, &new.resource)
                });
                if !fits {
                    return self.answer(&plan.id, Stage::Failed, "bad_placement", Vec::new());
                }
                made.push(Made {
                    gpu_uuid: part.gpu_uuid.clone(),
                    profile: new.profile.clone(),
                    start: new.start,
                    device_id: format!("MIG-{}-{}", part.gpu_uuid, gpu.last_id),
                    resource: new.resource.clone(),
                });
            }
            gpu.version += 1;
        }
        self.answer(&plan.id, Stage::Done, "", made)
    }

    /// The state, then the news: what a report speaks of must be known before it.
    fn answer(&self, id: &str, stage: Stage, why: &str, made: Vec<Made>) -> Vec<AgentMessage> {
        let progress = FromAgent::Progress(PlanProgress {
            plan_id: id.to_owned(),
            stage: stage.into(),
            category: why.to_owned(),
            message: why.to_owned(),
            made,
        });
        let progress = AgentMessage {
            message: Some(progress),
        };
        vec![self.report(), progress]
    }

    /// The state of the node.
    pub(super) fn report(&self) -> AgentMessage {
        let gpus = self.gpus.iter().enumerate();
        let snapshot = Snapshot {
            models: vec![wire_model(&self.model)],
            gpus: gpus.map(|(at, gpu)| self.wire_gpu(at, gpu)).collect(),
            resources: self.counts().into_iter().map(wire_counts).collect(),
            plans: self.waiting.keys().cloned().collect(),
            ..Snapshot::default()
        };
        AgentMessage {
            message: Some(FromAgent::Snapshot(snapshot)),
        }
    }

    fn uuid(&self, at: usize) -> String {
        format!("GPU-12345678-1234-1234-1234-{}-{at}", self.name)
    }

    fn gpu(&mut self, uuid: &str) -> Option<&mut Gpu> {
        let at = (0..self.gpus.len()).find(|at| self.uuid(*at) == uuid)?;
        self.gpus.get_mut(at)
    }

    fn wire_gpu(&self, at: usize, gpu: &Gpu) -> agent::Gpu {
        let uuid = self.uuid(at);
        let number = u32::try_from(at).unwrap_or(0);
        let wire = |one: &Instance| self.wire_instance(&uuid, one);
        agent::Gpu {
            index: number,
            minor: number,
            mig_mode: MigMode::On.into(),
            state_version: gpu.version,
            instances: gpu.instances.iter().map(wire).collect(),
            name: self.product.clone(),
            uuid: uuid.clone(),
            ..agent::Gpu::default()
        }
    }

    fn wire_instance(&self, uuid: &str, one: &Instance) -> agent::Instance {
        let name = self.model.profile(one.profile).map(|p| p.name.to_string());
        let holder = one.holder.as_ref().map(|(namespace, pod)| Holder {
            namespace: namespace.clone(),
            pod: pod.clone(),
            container: "main".to_owned(),
            ..Holder::default()
        });
        agent::Instance {
            gpu_instance_id: one.id,
            profile: name.unwrap_or_default(),
            start: one.placement.start.into(),
            size: one.placement.size.into(),
            device_id: format!("MIG-{uuid}-{}", one.id),
            resource: one.resource.clone(),
            state: one.doing.into(),
            holders: holder.into_iter().collect(),
            ..agent::Instance::default()
        }
    }
}

impl Gpu {
    fn make(
        &mut self,
        model: &GpuModel,
        profile: ProfileIndex,
        placement: Placement,
        resource: &str,
    ) -> bool {
        let fits = self.layout.place(model, profile, placement).is_ok();
        if fits {
            self.last_id += 1;
            self.instances.push(Instance {
                id: self.last_id,
                profile,
                placement,
                resource: resource.to_owned(),
                doing: Doing::Idle,
                holder: None,
            });
        }
        fits
    }

    fn destroy(&mut self, id: u32) {
        if let Some(at) = self.instances.iter().position(|one| one.id == id) {
            let gone = self.instances.remove(at);
            self.layout.remove(gone.placement);
        }
    }
}

/// Ids of the instances that a plan takes away from their names.
fn gone(part: &agent::GpuPlan) -> impl Iterator<Item = u32> {
    let moved = part.expose.iter().filter_map(|one| one.instance.as_ref());
    part.give_up
        .iter()
        .chain(moved)
        .map(|one| one.gpu_instance_id)
}

fn wire_counts((resource, (capacity, allocatable)): (String, (u32, u32))) -> ResourceState {
    ResourceState {
        resource,
        capacity,
        allocatable,
    }
}

fn wire_model(model: &GpuModel) -> agent::Model {
    let profile = |p: &mig::Profile| agent::Profile {
        name: p.name.to_string(),
        id: p.id,
        starts: p.placements.iter().map(|p| p.start.into()).collect(),
        size: p.size().into(),
        max_instances: p.max_instances.into(),
        multiprocessors: p.multiprocessors,
        memory_mib: p.memory_mib,
    };
    agent::Model {
        name: model.name.clone(),
        slices: model.slices.into(),
        profiles: model.profiles.iter().map(profile).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: &str = "NVIDIA A100-SXM4-40GB";

    fn node() -> Node {
        let model = GpuModel::known(PRODUCT).unwrap();
        Node::new("n", PRODUCT, Arc::new(model), 1)
    }

    fn plan(version: u64, give_up: &[u32], create: &[(&str, u32)]) -> ToAgent {
        let gone = give_up.iter().map(|id| agent::InstanceRef {
            gpu_instance_id: *id,
            ..agent::InstanceRef::default()
        });
        let new = create.iter().map(|(profile, start)| agent::Create {
            profile: (*profile).to_owned(),
            start: *start,
            resource: format!("nvidia.com/mig-{profile}"),
        });
        let gpu = agent::GpuPlan {
            gpu_uuid: node().uuid(0),
            state_version: version,
            give_up: gone.collect(),
            create: new.collect(),
            expose: Vec::new(),
        };
        ToAgent::Plan(agent::Plan {
            id: "p".into(),
            gpus: vec![gpu],
        })
    }

    fn stage(answers: &[AgentMessage]) -> (Stage, String) {
        match answers.last().and_then(|last| last.message.clone()) {
            Some(FromAgent::Progress(news)) => (news.stage(), news.category),
            other => panic!("no progress: {other:?}"),
        }
    }

    #[test]
    fn what_is_idle_is_given_up_only_after_the_commit() {
        let mut node = node();
        let done = node.hear(plan(1, &[], &[("3g.20gb", 0)]));
        assert_eq!(stage(&done).0, Stage::Done);
        let asked = node.hear(plan(2, &[1], &[("7g.40gb", 0)]));
        assert_eq!(stage(&asked).0, Stage::Withdrawn);
        assert_eq!(node.counts()["nvidia.com/mig-3g.20gb"], (1, 0));
        let commit = agent::Commit {
            plan_id: "p".into(),
            pods_revision: 1,
        };
        assert_eq!(stage(&node.hear(ToAgent::Commit(commit))).0, Stage::Done);
        assert_eq!(node.counts()["nvidia.com/mig-7g.40gb"], (1, 1));
    }

    #[test]
    fn a_plan_for_what_is_held_or_has_changed_is_refused() {
        let mut node = node();
        node.hear(plan(1, &[], &[("3g.20gb", 0)]));
        assert!(node.grant(("d", "pod"), "nvidia.com/mig-3g.20gb", 1));
        let stale = node.hear(plan(2, &[1], &[]));
        assert_eq!(stage(&stale), (Stage::Refused, "stale".into()));
        let held = node.hear(plan(3, &[1], &[]));
        assert_eq!(stage(&held), (Stage::Refused, "held".into()));
        node.release("d", "pod");
        assert_eq!(stage(&node.hear(plan(4, &[1], &[]))).0, Stage::Withdrawn);
    }

    #[test]
    fn what_does_not_fit_is_not_made() {
        let mut node = node();
        node.hear(plan(1, &[], &[("3g.20gb", 0)]));
        let made = node.hear(plan(2, &[], &[("7g.40gb", 0)]));
        assert_eq!(stage(&made), (Stage::Failed, "bad_placement".into()));
    }
}

use std::{collections::BTreeMap, sync::Arc};

use mig::{GpuModel, Layout, Placement};

use crate::{
    Cluster, Demand, Eligibilities, Eligibility, Gpu, Instance, Node, NodePlan, Outcome, Refusal,
    RefusalKind, Usage, plan,
};

mod agreement;
mod blockers;
pub(crate) mod exactness;
mod fractions;
mod parking;
mod promises;
mod turns;
mod windows;
mod words;

pub(super) fn mk_gpu(product: &str, instances: &[(&str, u8, Usage)]) -> Gpu {
    let model = Arc::new(GpuModel::known(product).unwrap());
    let instances = instances
        .iter()
        .zip(1..)
        .map(|(&(name, start, usage), gi_id)| {
            let name = name.parse().unwrap();
            let (profile, p) = model.find(&name).unwrap();
            let placement = Placement::new(start, p.size());
            assert!(
                p.placements.contains(&placement),
                "{name} cannot start at {start}"
            );
            let resource = Some(name.resource_name().into());
            Instance {
                gi_id,
                profile,
                placement,
                resource,
                usage,
                since: 0,
            }
        })
        .collect();
    Gpu {
        uuid: "GPU-0".to_owned(),
        version: 7,
        model,
        changeable: true,
        busy: false,
        instances,
    }
}

pub(crate) fn a100(instances: &[(&str, u8, Usage)]) -> Gpu {
    mk_gpu("NVIDIA A100-SXM4-40GB", instances)
}

pub(super) fn h100(instances: &[(&str, u8, Usage)]) -> Gpu {
    mk_gpu("NVIDIA H100 80GB HBM3", instances)
}

pub(crate) fn mk_node(gpus: Vec<Gpu>) -> Node {
    Node {
        name: "a".to_owned(),
        gpus,
        ..Node::default()
    }
}

pub(crate) fn mk_cluster(nodes: Vec<Node>) -> Cluster {
    Cluster { nodes }
}

pub(crate) fn mk_demand(cluster: &Cluster, wants: &[(&str, u32)]) -> Demand {
    Demand {
        id: "pod".to_owned(),
        priority: 0,
        created: 0,
        window: None,
        group: None,
        wants: wants
            .iter()
            .map(|(name, n)| (resource(name), *n))
            .collect::<BTreeMap<_, _>>()
            .into(),
        nodes: allowed(cluster.nodes.len()),
    }
}

/// That many nodes, all of which a pod could run on.
pub(super) fn allowed(nodes: usize) -> Arc<Eligibilities> {
    Arc::new(std::iter::repeat_n(Eligibility::Allowed, nodes).collect())
}

fn resource(name: &str) -> String {
    if name.contains('/') {
        name.to_owned()
    } else {
        format!("nvidia.com/mig-{name}")
    }
}

pub(super) fn plan_one(cluster: &Cluster, wants: &[(&str, u32)]) -> Outcome {
    plan(cluster, &[mk_demand(cluster, wants)]).remove(0)
}

#[track_caller]
pub(super) fn planned(outcome: &Outcome) -> &NodePlan {
    match outcome {
        Outcome::Plan(plan) => plan,
        other => panic!("expected a plan, got {other:?}"),
    }
}

#[track_caller]
pub(super) fn refused(outcome: &Outcome) -> &Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Carries a plan out on the state, checking that every step is possible and harmless.
#[track_caller]
pub(super) fn apply(cluster: &mut Cluster, plan: &NodePlan) {
    for gpu_plan in &plan.gpus {
        let gpu = &mut cluster.nodes[plan.node].gpus[gpu_plan.gpu];
        assert_eq!((&gpu_plan.uuid, gpu_plan.version), (&gpu.uuid, gpu.version));
        for gone in &gpu_plan.give_up {
            let at = gpu
                .instances
                .iter()
                .position(|i| i.gi_id == gone.gi_id)
                .unwrap();
            assert_eq!(
                gpu.instances[at].usage,
                Usage::Idle,
                "only idle instances are given up"
            );
            gpu.instances.remove(at);
        }
        for moved in &gpu_plan.expose {
            let model = Arc::clone(&gpu.model);
            let at = gpu.instances.iter().position(|i| i.gi_id == moved.gi_id);
            let instance = &mut gpu.instances[at.unwrap()];
            assert_eq!(instance.usage, Usage::Idle, "only idle instances are moved");
            assert_eq!(instance.resource.as_deref(), moved.from.as_deref());
            assert_ne!(instance.resource.as_deref(), Some(&*moved.to));
            let mut names = mig::fraction::exposures(&model, instance.profile);
            assert!(names.any(|name| name == moved.to), "{moved:?}");
            instance.resource = Some(moved.to.as_str().into());
        }
        for (creation, n) in gpu_plan.create.iter().zip(100..) {
            let (profile, _) = gpu.model.find(&creation.profile).unwrap();
            let mut names = mig::fraction::exposures(&gpu.model, profile);
            assert!(names.any(|name| name == creation.resource), "{creation:?}");
            let instance = Instance {
                gi_id: n + u32::from(creation.placement.start),
                profile,
                placement: creation.placement,
                resource: Some(creation.resource.as_str().into()),
                usage: Usage::Idle,
                since: 0,
            };
            gpu.instances.push(instance);
        }
        let mut layout = Layout::default();
        for instance in &gpu.instances {
            layout
                .place(&gpu.model, instance.profile, instance.placement)
                .unwrap();
        }
    }
}

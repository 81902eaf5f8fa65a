//! From the controller's report to pictures of GPUs.

use gpu_picture::{Cell, Gpu, Kind, Node, Tenant};
use status_report::{Instance, InstanceState};

/// Domain of the resource names of fractions.
const FRACTIONS: &str = "cdmo.clear.ml/";

/// A node, ready to be drawn.
pub fn node(node: &status_report::Node) -> Node {
    Node {
        name: node.name.clone(),
        gpus: node.gpus.iter().map(gpu).collect(),
    }
}

fn gpu(gpu: &status_report::Gpu) -> Gpu {
    let (index, name) = (gpu.index, gpu.product.clone());
    match &gpu.whole {
        Some(whole) => Gpu::whole(index, name, gpu.slices, tenant(whole)),
        None if gpu.slices == 0 => Gpu::whole(index, name, 0, Tenant::Faulty("not offered")),
        None => {
            let pieces = gpu.instances.iter().map(|instance| Cell {
                start: instance.start,
                size: instance.size,
                kind: Kind::Instance {
                    profile: profile(instance).to_owned(),
                    tenant: tenant(instance),
                },
            });
            Gpu::row(index, name, gpu.slices, pieces.collect(), |slice| {
                !gpu.out_of_reach.contains(&slice)
            })
        }
    }
}

/// What an instance is called: its profile, or that it is a whole GPU.
pub fn profile(instance: &Instance) -> &str {
    match (instance.profile.as_str(), instance.size) {
        ("", 0) => "whole",
        ("", _) => "unknown",
        (profile, _) => profile,
    }
}

/// What an instance is, and the fraction that it is offered as where it is offered as one.
pub fn offered(instance: &Instance) -> String {
    let profile = profile(instance);
    let resource = instance.resource.as_deref().unwrap_or_default();
    match resource.strip_prefix(FRACTIONS) {
        Some(fraction) => format!("{profile} as {fraction}"),
        None => profile.to_owned(),
    }
}

/// A resource name without the domain: `3g.20gb`, `fraction-0.500`.
pub fn short(resource: &str) -> &str {
    let profile = resource.strip_prefix("nvidia.com/mig-");
    let fraction = || resource.strip_prefix(FRACTIONS);
    profile.or_else(fraction).unwrap_or(resource)
}

/// The state of an instance, in a word.
pub fn state(instance: &Instance) -> &'static str {
    match instance.state {
        InstanceState::Offering => "offering",
        InstanceState::Idle => "idle",
        InstanceState::Held => "held",
        InstanceState::Withdrawing => "withdrawing",
        InstanceState::Stuck => "stuck",
        InstanceState::Unhealthy => "unhealthy",
        InstanceState::Parked => "parked",
        InstanceState::Unknown => "unknown",
    }
}

/// Words here are short: the smallest instance leaves room for seven letters.
fn tenant(instance: &Instance) -> Tenant {
    match instance.state {
        InstanceState::Held => {
            let holder = instance.holders.first();
            Tenant::Pod(holder.map_or_else(|| "held".to_owned(), |pod| pod.name.clone()))
        }
        InstanceState::Idle => Tenant::Nobody,
        InstanceState::Offering => Tenant::Changing("coming"),
        InstanceState::Withdrawing => Tenant::Changing("going"),
        InstanceState::Stuck => Tenant::Faulty("stuck"),
        InstanceState::Unhealthy => Tenant::Faulty("faulty"),
        InstanceState::Parked if instance.reason.is_none() => Tenant::Nobody,
        InstanceState::Parked => Tenant::Faulty("parked"),
        InstanceState::Unknown => Tenant::Faulty("unknown"),
    }
}

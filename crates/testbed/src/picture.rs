//! The simulated GPUs as a picture: what the driver has, with the pods that hold it.

use fake_nvml::control::{GpuState, HostState, InstanceState};
use gpu_picture::{Cell, Gpu, Kind, Node, Tenant};
use mig::{GpuModel, Layout, Placement, SliceMask};

use crate::driver::{device_id, narrow};
use crate::journey::{Journey, Stage};

/// The map of one node.
pub fn node(name: &str, state: &HostState, journeys: &[Journey]) -> Node {
    let holder = |id: &str| {
        journeys
            .iter()
            .filter(|j| j.reached.contains_key(&Stage::Allocated) && j.ended.is_none())
            .find(|j| j.grants.iter().any(|grant| grant.device_id == id))
            .map(|journey| journey.pod.name.clone())
    };
    Node {
        name: name.to_owned(),
        gpus: state.gpus.iter().map(|gpu| draw(gpu, &holder)).collect(),
    }
}

fn draw(gpu: &GpuState, holder: &dyn Fn(&str) -> Option<String>) -> Gpu {
    let index = u32::try_from(gpu.index).unwrap_or(u32::MAX);
    let (name, slices) = (gpu.name.to_owned(), narrow(gpu.memory_slices));
    if !gpu.mig_mode {
        return Gpu::whole(index, name, slices, Tenant::of(holder(&gpu.uuid)));
    }
    let cell = |instance: &InstanceState| Cell {
        start: narrow(instance.start),
        size: narrow(instance.size),
        kind: Kind::Instance {
            profile: instance.profile.to_owned(),
            tenant: Tenant::of(device_id(instance).and_then(holder)),
        },
    };
    let reachable = reachable(gpu);
    let pieces = gpu.instances.iter().map(cell).collect();
    Gpu::row(index, name, slices, pieces, |slice| {
        reachable.contains(slice)
    })
}

/// Slices that some further instance could cover. Without a table of the GPU's profiles, all.
fn reachable(gpu: &GpuState) -> SliceMask {
    let Some(model) = GpuModel::known(gpu.name) else {
        return SliceMask::from_bits(u16::MAX);
    };
    let mut layout = Layout::default();
    for instance in &gpu.instances {
        let placement = Placement::new(narrow(instance.start), narrow(instance.size));
        let profile = instance
            .profile
            .parse()
            .ok()
            .and_then(|name| model.find(&name));
        if let Some((profile, _)) = profile {
            // What the driver shows stands there; the table need not agree for a picture.
            let _ = layout.place(&model, profile, placement);
        }
    }
    layout.reachable(&model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fake_nvml::control::ComputeState;

    fn gpu(instances: &[(&'static str, u32, u32)]) -> GpuState {
        let instances = instances
            .iter()
            .zip(1..)
            .map(|(&(profile, start, size), gi)| {
                let compute = ComputeState {
                    ci: 0,
                    uuid: format!("MIG-{gi}"),
                    full: true,
                };
                InstanceState {
                    gi,
                    serial: gi.into(),
                    profile,
                    start,
                    size,
                    compute: vec![compute],
                }
            });
        GpuState {
            index: 0,
            uuid: "GPU-0".to_owned(),
            name: "NVIDIA A100-SXM4-40GB",
            minor: 0,
            memory_slices: 8,
            mig_mode: true,
            pending_mig_mode: true,
            instances: instances.collect(),
            processes: Vec::new(),
        }
    }

    fn drawn(state: GpuState) -> String {
        let host = HostState { gpus: vec![state] };
        let cells = node("a", &host, &[]).gpus.remove(0).cells;
        cells
            .iter()
            .map(|cell| match &cell.kind {
                Kind::Instance { profile, .. } => format!("[{profile}]"),
                Kind::Free => ".".to_owned(),
                Kind::Wasted => "x".to_owned(),
                Kind::Whole { .. } => "whole".to_owned(),
            })
            .collect()
    }

    #[test]
    fn the_last_slice_is_out_of_reach_when_small_instances_stand_before_it() {
        let seven: Vec<_> = (0..7).map(|start| ("1g.5gb", start, 1)).collect();
        assert_eq!(drawn(gpu(&seven)), "[1g.5gb]".repeat(7) + "x");
        assert_eq!(drawn(gpu(&[("3g.20gb", 0, 4)])), "[3g.20gb]....");
    }

    #[test]
    fn a_gpu_without_mig_is_one_piece() {
        let state = GpuState {
            mig_mode: false,
            ..gpu(&[])
        };
        assert_eq!(drawn(state), "whole");
    }
}

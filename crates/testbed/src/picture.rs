//! What a map of the GPUs shows: instances with their holders, and the memory slices between
//! them, free or out of reach.

use fake_nvml::control::{GpuState, HostState};
use mig::{GpuModel, Layout, Placement};

use crate::driver::{device_id, narrow};
use crate::journey::{Journey, Stage};

/// The GPUs of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name of the node.
    pub name: String,
    /// Its GPUs, by index.
    pub gpus: Vec<Gpu>,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Index on the node.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// Memory slices; 0 on a GPU without MIG.
    pub slices: u8,
    /// What is on its row of slices, from the left, without gaps.
    pub cells: Vec<Cell>,
}

/// A piece of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// First memory slice.
    pub start: u8,
    /// Memory slices.
    pub size: u8,
    /// What is there.
    pub kind: Kind,
}

/// What a piece of a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A GPU instance.
    Instance {
        /// Its profile.
        profile: String,
        /// The pod that holds it, if one does.
        holder: Option<String>,
    },
    /// A free slice that some instance could still use.
    Free,
    /// A free slice that no instance can use as the GPU is laid out now.
    Wasted,
    /// The whole GPU: MIG is off.
    Whole {
        /// The pod that holds it, if one does.
        holder: Option<String>,
    },
}

/// The map of one node.
pub fn node(name: &str, state: &HostState, journeys: &[Journey]) -> Node {
    let holder = |id: &str| {
        journeys
            .iter()
            .filter(|j| j.reached.contains_key(&Stage::Allocated) && j.ended.is_none())
            .find(|j| j.grants.iter().any(|grant| grant.device_id == id))
            .map(|journey| journey.pod.name.clone())
    };
    let gpus = state.gpus.iter().map(|gpu| Gpu {
        index: u32::try_from(gpu.index).unwrap_or(u32::MAX),
        name: gpu.name.to_owned(),
        slices: narrow(gpu.memory_slices),
        cells: cells(gpu, &holder),
    });
    Node {
        name: name.to_owned(),
        gpus: gpus.collect(),
    }
}

fn cells(gpu: &GpuState, holder: &dyn Fn(&str) -> Option<String>) -> Vec<Cell> {
    let slices = narrow(gpu.memory_slices);
    if !gpu.mig_mode {
        let kind = Kind::Whole {
            holder: holder(&gpu.uuid),
        };
        return vec![Cell {
            start: 0,
            size: slices.max(1),
            kind,
        }];
    }
    let reachable = reachable(gpu);
    let mut cells = Vec::new();
    let mut at = 0;
    while at < slices {
        let here = gpu
            .instances
            .iter()
            .find(|instance| narrow(instance.start) == at);
        let cell = if let Some(instance) = here {
            let kind = Kind::Instance {
                profile: instance.profile.to_owned(),
                holder: device_id(instance).and_then(holder),
            };
            Cell {
                start: at,
                size: narrow(instance.size).max(1),
                kind,
            }
        } else {
            let kind = if reachable[usize::from(at)] {
                Kind::Free
            } else {
                Kind::Wasted
            };
            Cell {
                start: at,
                size: 1,
                kind,
            }
        };
        at += cell.size;
        cells.push(cell);
    }
    cells
}

/// Per slice, whether some further instance could cover it. Without a table of the GPU's
/// profiles, every slice counts as reachable.
fn reachable(gpu: &GpuState) -> Vec<bool> {
    let slices = usize::from(narrow(gpu.memory_slices));
    let Some(model) = GpuModel::known(gpu.name) else {
        return vec![true; slices];
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
    let mut reachable = vec![false; slices];
    for (profile, _) in model.indices() {
        for placement in layout.free_placements(&model, profile) {
            let covered =
                usize::from(placement.start)..usize::from(placement.start + placement.size);
            reachable[covered].fill(true);
        }
    }
    reachable
}

#[cfg(test)]
mod tests {
    use super::*;
    use fake_nvml::control::{ComputeState, InstanceState};

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

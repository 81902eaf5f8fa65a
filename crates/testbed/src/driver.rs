//! The simulated driver of a node as the witness: what really stands on its GPUs, whatever the
//! agent or the kubelet say.

use std::path::Path;

pub use fake_nvml::control::{Error, HostState};
use fake_nvml::control::{GpuState, Host, InstanceState};

use crate::journey::Device;
use crate::names;

/// The driver of one node.
#[derive(Debug)]
pub struct Driver {
    host: Host,
}

impl Driver {
    /// The driver that this configuration file describes.
    pub fn open(config: &Path) -> Result<Self, Error> {
        Ok(Self {
            host: Host::open(config)?,
        })
    }

    /// To change the hardware from outside: processes, errors, reboots.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// All GPUs as they are now.
    pub fn state(&self) -> Result<HostState, Error> {
        self.host.state()
    }

    /// The device of that id, if there is one now.
    pub fn device(&self, id: &str) -> Result<Option<Device>, Error> {
        Ok(find(&self.state()?, id))
    }
}

/// The device of that id in a state of the host.
pub fn find(state: &HostState, id: &str) -> Option<Device> {
    state.gpus.iter().find_map(|gpu| {
        if gpu.uuid == id && !gpu.mig_mode {
            return Some(whole(gpu));
        }
        let instance = gpu
            .instances
            .iter()
            .find(|instance| device_id(instance) == Some(id))?;
        Some(Device {
            gpu_uuid: gpu.uuid.clone(),
            gpu_index: index(gpu),
            profile: instance.profile.to_owned(),
            start: narrow(instance.start),
            size: narrow(instance.size),
            serial: instance.serial,
            resources: names::of_instance(gpu, instance),
        })
    })
}

/// The id of an instance as a device: the uuid of its only compute instance, if that is whole.
pub fn device_id(instance: &InstanceState) -> Option<&str> {
    match instance.compute.as_slice() {
        [only] if only.full => Some(&only.uuid),
        _ => None,
    }
}

fn whole(gpu: &GpuState) -> Device {
    Device {
        gpu_uuid: gpu.uuid.clone(),
        gpu_index: index(gpu),
        profile: String::new(),
        start: 0,
        size: narrow(gpu.memory_slices.max(1)),
        serial: 0,
        resources: vec![mig::GPU_RESOURCE.to_owned()],
    }
}

fn index(gpu: &GpuState) -> u32 {
    u32::try_from(gpu.index).unwrap_or(u32::MAX)
}

pub(crate) fn narrow(slices: u32) -> u8 {
    u8::try_from(slices).unwrap_or(u8::MAX)
}

//! GPU instances and compute instances: list, create, read, destroy.

use std::{mem::zeroed, ptr::null_mut};

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t,
    nvmlGpuInstancePlacement_t,
};

use mig::Placement;

use super::{Device, Library, function, profiles::placement};
use crate::error::Failure;

const _: () = assert!(size_of::<nvmlGpuInstanceInfo_t>() == 24);
const _: () = assert!(size_of::<nvmlComputeInstanceInfo_t>() == 32);

/// Least room for a list of instances. The calls take no length but rely on the profile's count;
/// no GPU has more slices than this, should a driver's count ever be too small.
const LEAST_ROOM: usize = 32;

/// A GPU instance; only good until somebody destroys it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instance(pub(super) nvmlGpuInstance_t);

/// A compute instance; only good until somebody destroys it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compute(nvmlComputeInstance_t);

/// What a GPU instance says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InstanceInfo {
    pub(crate) gi_id: u32,
    pub(crate) profile_id: u32,
    pub(crate) placement: Placement,
}

/// What a compute instance says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ComputeInfo {
    pub(crate) ci_id: u32,
    pub(crate) profile_id: u32,
    /// The MIG device.
    pub(crate) device: Device,
}

fn room(most: u32) -> usize {
    (most as usize).max(LEAST_ROOM)
}

impl Library {
    pub(crate) fn create_instance(
        &self,
        device: Device,
        profile_id: u32,
        at: Placement,
    ) -> Result<Instance, Failure> {
        let call = function!(self, nvmlDeviceCreateGpuInstanceWithPlacement)?;
        let at = nvmlGpuInstancePlacement_t {
            start: at.start.into(),
            size: at.size.into(),
        };
        let mut instance = null_mut();
        // SAFETY: see the module's header.
        call.check(unsafe {
            (call.function)(device.0, profile_id, &raw const at, &raw mut instance)
        })?;
        Ok(Instance(instance))
    }

    pub(crate) fn destroy_instance(&self, instance: Instance) -> Result<(), Failure> {
        let call = function!(self, nvmlGpuInstanceDestroy)?;
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(instance.0) })
    }

    /// The instances of one profile; `most` is what the profile says there can be.
    pub(crate) fn instances(
        &self,
        device: Device,
        profile_id: u32,
        most: u32,
    ) -> Result<Vec<Instance>, Failure> {
        let call = function!(self, nvmlDeviceGetGpuInstances)?;
        let mut buffer = vec![null_mut(); room(most)];
        let mut count = 0;
        // SAFETY: see the module's header; the buffer has room for as many as the profile allows.
        call.check(unsafe {
            (call.function)(device.0, profile_id, buffer.as_mut_ptr(), &raw mut count)
        })?;
        buffer.truncate(count as usize);
        Ok(buffer.into_iter().map(Instance).collect())
    }

    pub(crate) fn instance(&self, device: Device, gi_id: u32) -> Result<Instance, Failure> {
        let call = function!(self, nvmlDeviceGetGpuInstanceById)?;
        let mut instance = null_mut();
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(device.0, gi_id, &raw mut instance) })?;
        Ok(Instance(instance))
    }

    pub(crate) fn instance_info(&self, instance: Instance) -> Result<InstanceInfo, Failure> {
        let call = function!(self, nvmlGpuInstanceGetInfo)?;
        // SAFETY: a plain C struct of numbers and a pointer.
        let mut info: nvmlGpuInstanceInfo_t = unsafe { zeroed() };
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(instance.0, &raw mut info) })?;
        Ok(InstanceInfo {
            gi_id: info.id,
            profile_id: info.profileId,
            placement: placement(call.name, info.placement)?,
        })
    }

    pub(crate) fn create_compute(
        &self,
        instance: Instance,
        profile_id: u32,
    ) -> Result<Compute, Failure> {
        let call = function!(self, nvmlGpuInstanceCreateComputeInstance)?;
        let mut compute = null_mut();
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(instance.0, profile_id, &raw mut compute) })?;
        Ok(Compute(compute))
    }

    pub(crate) fn destroy_compute(&self, compute: Compute) -> Result<(), Failure> {
        let call = function!(self, nvmlComputeInstanceDestroy)?;
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(compute.0) })
    }

    /// The compute instances of one profile; `most` is what the profile says there can be.
    pub(crate) fn computes(
        &self,
        instance: Instance,
        profile_id: u32,
        most: u32,
    ) -> Result<Vec<Compute>, Failure> {
        let call = function!(self, nvmlGpuInstanceGetComputeInstances)?;
        let mut buffer = vec![null_mut(); room(most)];
        let mut count = 0;
        // SAFETY: see the module's header; the buffer has room for as many as the profile allows.
        call.check(unsafe {
            (call.function)(instance.0, profile_id, buffer.as_mut_ptr(), &raw mut count)
        })?;
        buffer.truncate(count as usize);
        Ok(buffer.into_iter().map(Compute).collect())
    }

    pub(crate) fn compute_info(&self, compute: Compute) -> Result<ComputeInfo, Failure> {
        let call = function!(self, nvmlComputeInstanceGetInfo_v2)?;
        // SAFETY: a plain C struct of numbers and pointers.
        let mut info: nvmlComputeInstanceInfo_t = unsafe { zeroed() };
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(compute.0, &raw mut info) })?;
        if info.device.is_null() {
            return Err(Failure::answer(
                call.name,
                "a compute instance without a device",
            ));
        }
        Ok(ComputeInfo {
            ci_id: info.id,
            profile_id: info.profileId,
            device: Device(info.device),
        })
    }
}

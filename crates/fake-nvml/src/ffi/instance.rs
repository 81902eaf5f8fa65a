//! The life of GPU instances.

use crate::ffi::abi::{GpuInstanceInfo, Placement};
use crate::ffi::guard::exports;
use crate::ffi::pointers::{Array, DeviceHandle, InOut, OpaqueHandle, Out};
use crate::handle::Handle;
use crate::model::{Code, Placement as Place};
use crate::session::Call;

fn create(
    call: &Call,
    device: DeviceHandle,
    profile: u32,
    place: Option<Placement>,
    handle: &Out<u64>,
) -> Result<(), Code> {
    let gpu = device.gpu()?;
    handle.given()?;
    let place = place.map(|Placement { start, size }| Place { start, size });
    let serial = call.write(gpu, |hardware, state| {
        let chip = &hardware.board(gpu)?.chip;
        let serial = state.serial();
        state
            .gpu_mut(gpu)?
            .create_instance(chip, profile, place, serial)?;
        Ok(serial)
    })?;
    handle.set(Handle::Instance(gpu, serial).encode())
}

exports! {
    fn nvmlDeviceCreateGpuInstance(
        call,
        device: DeviceHandle,
        profile_id: u32,
        gpu_instance: Out<u64>,
    ) {
        create(call, device, profile_id, None, &gpu_instance)
    }

    fn nvmlDeviceCreateGpuInstanceWithPlacement(
        call,
        device: DeviceHandle,
        profile_id: u32,
        placement: InOut<Placement>,
        gpu_instance: Out<u64>,
    ) {
        create(call, device, profile_id, Some(placement.get()?), &gpu_instance)
    }

    fn nvmlGpuInstanceDestroy(call, gpu_instance: OpaqueHandle) {
        let (gpu, serial) = gpu_instance.instance()?;
        call.write(gpu, |_, state| state.gpu_mut(gpu)?.destroy_instance(serial))
    }

    fn nvmlDeviceGetGpuInstances(
        call,
        device: DeviceHandle,
        profile_id: u32,
        gpu_instances: Array<u64>,
        count: Out<u32>,
    ) {
        let gpu = device.gpu()?;
        count.given()?;
        let handles: Vec<u64> = call.read_privileged(gpu, |hardware, state| {
            let board = hardware.board(gpu)?.chip.board;
            let instances = state.gpu(gpu)?;
            if !board.mig_capable() || !instances.mode.current {
                return Err(Code::NOT_SUPPORTED);
            }
            board.by_id(profile_id).ok_or(Code::INVALID_ARGUMENT)?;
            let of_it = instances.instances.iter().filter(|each| each.profile == profile_id);
            Ok(of_it.map(|each| Handle::Instance(gpu, each.serial).encode()).collect())
        })?;
        gpu_instances.fill(&handles)?;
        count.set(u32::try_from(handles.len()).unwrap_or(u32::MAX))
    }

    fn nvmlDeviceGetGpuInstanceById(
        call,
        device: DeviceHandle,
        id: u32,
        gpu_instance: Out<u64>,
    ) {
        let gpu = device.gpu()?;
        let serial = call.read_privileged(gpu, |hardware, state| {
            let instances = state.gpu(gpu)?;
            if !hardware.board(gpu)?.chip.board.mig_capable() || !instances.mode.current {
                return Err(Code::NOT_SUPPORTED);
            }
            let found = instances.instances.iter().find(|each| each.id == id);
            found.map(|each| each.serial).ok_or(Code::NOT_FOUND)
        })?;
        gpu_instance.set(Handle::Instance(gpu, serial).encode())
    }

    fn nvmlGpuInstanceGetInfo(call, gpu_instance: OpaqueHandle, info: Out<GpuInstanceInfo>) {
        let (gpu, serial) = gpu_instance.instance()?;
        let found = call.read(Some(gpu), |hardware, state| {
            let instance = state.gpu(gpu)?.instance(serial)?;
            let Place { start, size } = hardware.board(gpu)?.chip.grid.placement(instance.id);
            Ok(GpuInstanceInfo {
                device: Handle::Gpu(gpu).encode(),
                id: instance.id,
                profile_id: instance.profile,
                placement: Placement { start, size },
            })
        })?;
        info.set(found)
    }
}

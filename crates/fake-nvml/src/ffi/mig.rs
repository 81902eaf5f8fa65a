//! MIG mode and MIG devices.

use crate::ffi::guard::exports;
use crate::ffi::pointers::{DeviceHandle, Out};
use crate::handle::Handle;
use crate::host::{Hardware, State};
use crate::model::{Code, Gpu};

/// The state of a GPU that can be partitioned.
fn capable<'a>(hardware: &Hardware, state: &'a State, gpu: usize) -> Result<&'a Gpu, Code> {
    if hardware.board(gpu)?.chip.board.mig_capable() {
        state.gpu(gpu)
    } else {
        Err(Code::NOT_SUPPORTED)
    }
}

exports! {
    fn nvmlDeviceSetMigMode(call, device: DeviceHandle, mode: u32, activation: Out<u32>) {
        let gpu = device.gpu()?;
        activation.given()?;
        let status = call.write(gpu, |hardware, state| {
            capable(hardware, state, gpu)?;
            let on = match mode {
                0 => false,
                1 => true,
                _ => return Err(Code::INVALID_ARGUMENT),
            };
            let company = call.has_company();
            let chip = &hardware.board(gpu)?.chip;
            let gpu = state.gpu_mut(gpu)?;
            Ok(gpu.set_mode(chip, on, company).err().map_or(0, |code| code.0))
        })?;
        activation.set(status)
    }

    fn nvmlDeviceGetMigMode(
        call,
        device: DeviceHandle,
        current_mode: Out<u32>,
        pending_mode: Out<u32>,
    ) {
        let gpu = device.gpu()?;
        let mode = call.read(Some(gpu), |hardware, state| {
            Ok(capable(hardware, state, gpu)?.mode)
        })?;
        current_mode.set(mode.current.into())?;
        pending_mode.set(mode.pending.into())
    }

    fn nvmlDeviceIsMigDeviceHandle(call, device: DeviceHandle, is_mig_device: Out<u32>) {
        let device = device.get()?;
        call.read(Some(device.gpu), |hardware, state| {
            hardware.board(device.gpu)?;
            device.resolve(state).map(drop)
        })?;
        is_mig_device.set(device.mig.is_some().into())
    }

    fn nvmlDeviceGetGpuInstanceId(call, device: DeviceHandle, id: Out<u32>) {
        let device = device.get()?;
        let found = call.read(Some(device.gpu), |_, state| {
            let (instance, _) = device.resolve(state)?.1.ok_or(Code::NOT_SUPPORTED)?;
            Ok(instance.id)
        })?;
        id.set(found)
    }

    fn nvmlDeviceGetComputeInstanceId(call, device: DeviceHandle, id: Out<u32>) {
        let device = device.get()?;
        let found = call.read(Some(device.gpu), |_, state| {
            let (_, compute) = device.resolve(state)?.1.ok_or(Code::NOT_SUPPORTED)?;
            Ok(compute.id)
        })?;
        id.set(found)
    }

    fn nvmlDeviceGetMaxMigDeviceCount(call, device: DeviceHandle, count: Out<u32>) {
        let gpu = device.gpu()?;
        let most = call.read(Some(gpu), |hardware, state| {
            let on = state.gpu(gpu)?.mode.current;
            Ok(if on { hardware.board(gpu)?.chip.board.max_devices() } else { 0 })
        })?;
        count.set(most)
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(
        call,
        device: DeviceHandle,
        index: u32,
        mig_device: Out<u64>,
    ) {
        let gpu = device.gpu()?;
        let serial = call.read(Some(gpu), |hardware, state| {
            let now = capable(hardware, state, gpu)?.devices().map(|(_, compute)| compute.serial).collect();
            let listed = call.session.listed(gpu, now);
            listed.get(index as usize).copied().ok_or(Code::NOT_FOUND)
        })?;
        mig_device.set(Handle::Mig(gpu, serial).encode())
    }

    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
        call,
        mig_device: DeviceHandle,
        device: Out<u64>,
    ) {
        let mig = mig_device.get()?;
        call.read(Some(mig.gpu), |_, state| {
            mig.resolve(state)?.1.map(drop).ok_or(Code::INVALID_ARGUMENT)
        })?;
        device.set(Handle::Gpu(mig.gpu).encode())
    }
}

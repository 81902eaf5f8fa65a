//! Processes on GPUs and MIG devices.

use crate::ffi::abi::{NO_INSTANCE, ProcessInfo};
use crate::ffi::guard::exports;
use crate::ffi::pointers::{Array, DeviceHandle, InOut};
use crate::model::Code;
use crate::model::gpu::ProcessKind;
use crate::session::Call;

fn list(
    call: &Call,
    device: DeviceHandle,
    kind: ProcessKind,
    count: &InOut<u32>,
    infos: &Array<ProcessInfo>,
) -> Result<(), Code> {
    let device = device.get()?;
    let room = count.get()?;
    let found: Vec<ProcessInfo> = call.read(Some(device.gpu), |_, state| {
        let (gpu, mig) = device.resolve(state)?;
        let own = mig.map(|(instance, compute)| (Some(instance.id), Some(compute.id)));
        let listed = gpu.processes.iter().filter(|process| {
            process.kind == kind && own.is_none_or(|own| own == (process.gi, process.ci))
        });
        let info = listed.map(|process| ProcessInfo {
            pid: process.pid,
            used_gpu_memory: process.memory_mib << 20,
            gpu_instance_id: process.gi.unwrap_or(NO_INSTANCE),
            compute_instance_id: process.ci.unwrap_or(NO_INSTANCE),
        });
        Ok(info.collect())
    })?;
    let needed = u32::try_from(found.len()).unwrap_or(u32::MAX);
    count.set(needed)?;
    if needed > room {
        return Err(Code::INSUFFICIENT_SIZE);
    }
    infos.fill(&found)
}

exports! {
    fn nvmlDeviceGetComputeRunningProcesses_v3(
        call,
        device: DeviceHandle,
        info_count: InOut<u32>,
        infos: Array<ProcessInfo>,
    ) {
        list(call, device, ProcessKind::Compute, &info_count, &infos)
    }

    fn nvmlDeviceGetGraphicsRunningProcesses_v3(
        call,
        device: DeviceHandle,
        info_count: InOut<u32>,
        infos: Array<ProcessInfo>,
    ) {
        list(call, device, ProcessKind::Graphics, &info_count, &infos)
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
        call,
        device: DeviceHandle,
        info_count: InOut<u32>,
        infos: Array<ProcessInfo>,
    ) {
        list(call, device, ProcessKind::Mps, &info_count, &infos)
    }
}

//! GPUs and MIG devices: finding them and reading what they are.

use std::ffi::c_int;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::ffi::abi::{
    DeviceAttributes, FieldValue, Memory, MemoryV2, PciInfo, Utilization, field, version,
};
use crate::ffi::guard::exports;
use crate::ffi::pointers::{Array, DeviceHandle, InOut, Out, TextIn, TextOut};
use crate::handle::{Device, Handle};
use crate::host::{Hardware, State};
use crate::model::gpu::{Compute, Instance};
use crate::model::{Board, Code};
use crate::session::Call;

/// `NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED`
const FIELD_RESETLESS: u32 = 184;
/// `NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE`
const FIELD_QUERY_WITHOUT_MIG: u32 = 199;
/// `NVML_VALUE_TYPE_UNSIGNED_INT`
const UNSIGNED_INT: u32 = 1;
/// `NVML_TOPOLOGY_NODE`: all GPUs of a simulated host hang on one NUMA node.
const TOPOLOGY_NODE: u32 = 40;
/// NVIDIA's PCI vendor id.
const VENDOR: u32 = 0x10DE;
const MIB: u64 = 1 << 20;

fn count(call: &Call, count: &Out<u32>) -> Result<(), Code> {
    let gpus = call.read(None, |hardware, _| Ok(hardware.gpus.len()))?;
    count.set(u32::try_from(gpus).unwrap_or(u32::MAX))
}

fn by_index(call: &Call, index: u32, device: &Out<u64>) -> Result<(), Code> {
    let gpu = index as usize;
    call.read(Some(gpu), |hardware, _| hardware.board(gpu).map(drop))?;
    device.set(Handle::Gpu(gpu).encode())
}

fn by_uuid(hardware: &Hardware, state: &State, uuid: &str) -> Result<Handle, Code> {
    let of_gpu = |text: &str| {
        hardware
            .gpus
            .iter()
            .position(|board| board.uuid().eq_ignore_ascii_case(text))
    };
    if let Some(gpu) = of_gpu(uuid) {
        return Ok(Handle::Gpu(gpu));
    }
    // The form of drivers before R470, still accepted: MIG-GPU-<uuid>/<gi>/<ci>.
    let mut old = uuid
        .strip_prefix("MIG-")
        .into_iter()
        .flat_map(|rest| rest.split('/'));
    if let (Some(gpu), Some(gi), Some(ci), None) = (
        old.next().and_then(of_gpu),
        old.next(),
        old.next(),
        old.next(),
    ) {
        let id = |text: &str| text.parse::<u32>().map_err(|_| Code::NOT_FOUND);
        let (gi, ci) = (id(gi)?, id(ci)?);
        let wanted =
            |(instance, compute): &(&Instance, &Compute)| instance.id == gi && compute.id == ci;
        let found = state.gpu(gpu)?.devices().find(wanted);
        return found
            .map(|(_, it)| Handle::Mig(gpu, it.serial))
            .ok_or(Code::NOT_FOUND);
    }
    for (index, gpu) in state.gpus.iter().enumerate() {
        for (instance, compute) in gpu.devices() {
            if hardware
                .mig_uuid(index, instance, compute)
                .eq_ignore_ascii_case(uuid)
            {
                return Ok(Handle::Mig(index, compute.serial));
            }
        }
    }
    Err(Code::NOT_FOUND)
}

fn by_bus(call: &Call, bus: &TextIn, device: &Out<u64>) -> Result<(), Code> {
    let wanted = bus.get()?.to_ascii_uppercase();
    let gpu = call.read(None, |hardware, _| {
        let same = |full: String| full == wanted || full[4..] == wanted || full[9..] == wanted;
        hardware
            .gpus
            .iter()
            .position(|board| same(board.bus_id()))
            .ok_or(Code::NOT_FOUND)
    })?;
    device.set(Handle::Gpu(gpu).encode())
}

/// Reads what belongs to a GPU as a whole; MIG devices do not have it.
fn of_gpu<T>(
    call: &Call,
    device: DeviceHandle,
    job: impl FnOnce(&crate::host::Board) -> T,
) -> Result<T, Code> {
    let gpu = device.get()?.whole(Code::NOT_SUPPORTED)?;
    call.read(Some(gpu), |hardware, _| hardware.board(gpu).map(job))
}

fn pci(call: &Call, device: DeviceHandle, pci: &Out<PciInfo>) -> Result<(), Code> {
    let info = of_gpu(call, device, |board| PciInfo {
        bus_id_legacy: field(&board.bus_id()[4..]),
        domain: 0,
        bus: board.bus,
        device: 0,
        pci_device_id: (board.chip.board.pci_device << 16) | VENDOR,
        pci_sub_system_id: (0x1463 << 16) | VENDOR,
        bus_id: field(&board.bus_id()),
    })?;
    pci.set(info)
}

/// Name that a MIG device has in front of its parent's.
pub(super) fn mig_name(board: &Board, instance: &Instance, compute: &Compute) -> String {
    let Some(profile) = board.by_id(instance.profile) else {
        return String::new();
    };
    let profiles = instance.compute_profiles(board);
    let own = profiles.iter().find(|each| each.id == compute.profile);
    match own {
        Some(part) if !part.full => format!("MIG {}c.{}", part.slices, profile.plain_name()),
        _ => format!("MIG {}", profile.plain_name()),
    }
}

fn name(hardware: &Hardware, state: &State, device: Device) -> Result<String, Code> {
    let board = hardware.board(device.gpu)?.chip.board;
    let name = board.name;
    Ok(match device.resolve(state)?.1 {
        None => name.to_owned(),
        Some((instance, compute)) => format!("{name} {}", mig_name(board, instance, compute)),
    })
}

/// Total and used memory in bytes.
fn memory(hardware: &Hardware, state: &State, device: Device) -> Result<Memory, Code> {
    let board = hardware.board(device.gpu)?.chip.board;
    let (gpu, mig) = device.resolve(state)?;
    let of_instance = |instance: &Instance| {
        let running: u64 = gpu
            .processes
            .iter()
            .filter(|process| process.gi == Some(instance.id))
            .map(|process| process.memory_mib)
            .sum();
        let profile = board.by_id(instance.profile);
        let idle = profile.map_or(0, |profile| board.idle_mib(profile));
        (
            profile.map_or(0, |profile| profile.memory_mib),
            idle + running,
        )
    };
    let (total, used) = if let Some((instance, _)) = mig {
        of_instance(instance)
    } else {
        let whole = gpu.processes.iter().filter(|process| process.gi.is_none());
        let whole: u64 = whole.map(|process| process.memory_mib).sum();
        let parts: u64 = gpu
            .instances
            .iter()
            .map(|instance| of_instance(instance).1)
            .sum();
        (board.memory_mib, whole + parts)
    };
    let used = used.min(total);
    Ok(Memory {
        total: total * MIB,
        free: (total - used) * MIB,
        used: used * MIB,
    })
}

fn attributes(
    call: &Call,
    device: DeviceHandle,
    attributes: &Out<DeviceAttributes>,
) -> Result<(), Code> {
    let device = device.get()?;
    let info = call.read(Some(device.gpu), |hardware, state| {
        let board = hardware.board(device.gpu)?.chip.board;
        let (instance, compute) = device.resolve(state)?.1.ok_or(Code::NOT_SUPPORTED)?;
        let profile = board.by_id(instance.profile).ok_or(Code::UNKNOWN)?;
        let profiles = instance.compute_profiles(board);
        let part = profiles.iter().find(|each| each.id == compute.profile);
        let part = part.ok_or(Code::UNKNOWN)?;
        Ok(DeviceAttributes {
            multiprocessor_count: part.multiprocessors,
            shared_copy_engine_count: profile.copy_engines,
            shared_decoder_count: profile.engines.decoder,
            shared_encoder_count: profile.engines.encoder,
            shared_jpeg_count: profile.engines.jpeg,
            shared_ofa_count: profile.engines.ofa,
            gpu_instance_slice_count: profile.slices,
            compute_instance_slice_count: part.slices,
            memory_size_mb: profile.memory_mib,
        })
    })?;
    attributes.set(info)
}

exports! {
    fn nvmlDeviceGetCount(call, device_count: Out<u32>) {
        count(call, &device_count)
    }

    fn nvmlDeviceGetCount_v2(call, device_count: Out<u32>) {
        count(call, &device_count)
    }

    fn nvmlDeviceGetHandleByIndex(call, index: u32, device: Out<u64>) {
        by_index(call, index, &device)
    }

    fn nvmlDeviceGetHandleByIndex_v2(call, index: u32, device: Out<u64>) {
        by_index(call, index, &device)
    }

    fn nvmlDeviceGetHandleByUUID(call, uuid: TextIn, device: Out<u64>) {
        let uuid = uuid.get()?;
        let handle = call.read(None, |hardware, state| by_uuid(hardware, state, &uuid))?;
        device.set(handle.encode())
    }

    fn nvmlDeviceGetHandleByPciBusId(call, bus_id: TextIn, device: Out<u64>) {
        by_bus(call, &bus_id, &device)
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(call, bus_id: TextIn, device: Out<u64>) {
        by_bus(call, &bus_id, &device)
    }

    fn nvmlDeviceGetIndex(call, device: DeviceHandle, index: Out<u32>) {
        let device = device.get()?;
        let found = call.read(Some(device.gpu), |hardware, state| {
            hardware.board(device.gpu)?;
            let (gpu, _) = device.resolve(state)?;
            let own = |(_, compute): (&Instance, &Compute)| Some(compute.serial) == device.mig;
            Ok(gpu.devices().position(own).unwrap_or(device.gpu))
        })?;
        index.set(u32::try_from(found).unwrap_or(u32::MAX))
    }

    fn nvmlDeviceGetUUID(call, device: DeviceHandle, uuid: TextOut, length: u32) {
        let device = device.get()?;
        let found = call.read(Some(device.gpu), |hardware, state| {
            Ok(match device.resolve(state)?.1 {
                None => hardware.board(device.gpu)?.uuid(),
                Some((instance, compute)) => hardware.mig_uuid(device.gpu, instance, compute),
            })
        })?;
        uuid.set(length, &found)
    }

    fn nvmlDeviceGetName(call, device: DeviceHandle, text: TextOut, length: u32) {
        let device = device.get()?;
        let found = call.read(Some(device.gpu), |hardware, state| name(hardware, state, device))?;
        text.set(length, &found)
    }

    fn nvmlDeviceGetBrand(call, device: DeviceHandle, brand: Out<u32>) {
        brand.set(of_gpu(call, device, |board| board.chip.board.brand)?)
    }

    fn nvmlDeviceGetSerial(call, device: DeviceHandle, serial: TextOut, length: u32) {
        let number = of_gpu(call, device, |board| board.uuid.as_u128() % 10_000_000_000_000)?;
        serial.set(length, &format!("{number:013}"))
    }

    fn nvmlDeviceGetMinorNumber(call, device: DeviceHandle, minor_number: Out<u32>) {
        minor_number.set(of_gpu(call, device, |board| board.minor)?)
    }

    fn nvmlDeviceGetPciInfo(call, device: DeviceHandle, info: Out<PciInfo>) {
        pci(call, device, &info)
    }

    fn nvmlDeviceGetPciInfo_v2(call, device: DeviceHandle, info: Out<PciInfo>) {
        pci(call, device, &info)
    }

    fn nvmlDeviceGetPciInfo_v3(call, device: DeviceHandle, info: Out<PciInfo>) {
        pci(call, device, &info)
    }

    fn nvmlDeviceGetMemoryInfo(call, device: DeviceHandle, info: Out<Memory>) {
        let device = device.get()?;
        info.set(call.read(Some(device.gpu), |hardware, state| memory(hardware, state, device))?)
    }

    fn nvmlDeviceGetMemoryInfo_v2(call, device: DeviceHandle, info: InOut<MemoryV2>) {
        let device = device.get()?;
        let asked = info.get()?.version;
        if asked != version::<MemoryV2>(2) {
            return Err(Code::INVALID_ARGUMENT);
        }
        let Memory { total, free, used } =
            call.read(Some(device.gpu), |hardware, state| memory(hardware, state, device))?;
        info.set(MemoryV2 { version: asked, total, reserved: 0, free, used })
    }

    fn nvmlDeviceGetArchitecture(call, device: DeviceHandle, arch: Out<u32>) {
        let gpu = device.get()?.gpu;
        let number = |hardware: &Hardware, _: &State| {
            Ok(hardware.board(gpu)?.chip.board.architecture as u32)
        };
        arch.set(call.read(Some(gpu), number)?)
    }

    fn nvmlDeviceGetCudaComputeCapability(
        call,
        device: DeviceHandle,
        major: Out<c_int>,
        minor: Out<c_int>,
    ) {
        let gpu = device.get()?.gpu;
        let (first, second) = call.read(Some(gpu), |hardware, _| {
            Ok(hardware.board(gpu)?.chip.board.compute_capability)
        })?;
        major.set(first)?;
        minor.set(second)
    }

    fn nvmlDeviceGetAttributes(call, device: DeviceHandle, info: Out<DeviceAttributes>) {
        attributes(call, device, &info)
    }

    fn nvmlDeviceGetAttributes_v2(call, device: DeviceHandle, info: Out<DeviceAttributes>) {
        attributes(call, device, &info)
    }

    fn nvmlDeviceGetFieldValues(
        call,
        device: DeviceHandle,
        values_count: c_int,
        values: Array<FieldValue>,
    ) {
        let count = usize::try_from(values_count).map_err(|_| Code::INVALID_ARGUMENT)?;
        if count == 0 {
            return Err(Code::INVALID_ARGUMENT);
        }
        let gpu = device.get()?.gpu;
        let (capable, resetless) = call.read(Some(gpu), |hardware, _| {
            let host = hardware.board(gpu)?;
            let board = host.chip.board;
            Ok((board.mig_capable() && !hardware.capacity_needs_mig_mode, board.resetless()))
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        values.change_each(count, |value| {
            value.timestamp = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
            value.latency_usec = 1;
            value.value_type = UNSIGNED_INT;
            value.nvml_return = 0;
            match value.field_id {
                FIELD_RESETLESS => value.value = u64::from(resetless),
                FIELD_QUERY_WITHOUT_MIG => value.value = u64::from(capable),
                _ => value.nvml_return = Code::NOT_SUPPORTED.0,
            }
        })
    }

    fn nvmlDeviceGetPersistenceMode(call, device: DeviceHandle, mode: Out<u32>) {
        mode.set(of_gpu(call, device, |_| 1)?)
    }

    fn nvmlDeviceGetVirtualizationMode(call, device: DeviceHandle, mode: Out<u32>) {
        mode.set(of_gpu(call, device, |_| 0)?)
    }

    fn nvmlDeviceGetUtilizationRates(call, device: DeviceHandle, rates: Out<Utilization>) {
        let gpu = device.get()?.whole(Code::NOT_SUPPORTED)?;
        let busy = call.read(Some(gpu), |_, state| {
            let gpu = state.gpu(gpu)?;
            if gpu.mode.current { Err(Code::NOT_SUPPORTED) } else { Ok(!gpu.processes.is_empty()) }
        })?;
        let percent = if busy { 100 } else { 0 };
        rates.set(Utilization { gpu: percent, memory: percent })
    }

    fn nvmlDeviceGetNumaNodeId(call, device: DeviceHandle, node: Out<u32>) {
        node.set(of_gpu(call, device, |_| 0)?)
    }

    fn nvmlDeviceGetMemoryAffinity(
        call,
        device: DeviceHandle,
        node_set_size: u32,
        node_set: Array<u64>,
        _scope: u32,
    ) {
        of_gpu(call, device, |_| ())?;
        if node_set_size == 0 {
            return Err(Code::INVALID_ARGUMENT);
        }
        node_set.change_each(node_set_size as usize, |word| *word = 0)?;
        node_set.fill(&[1])
    }

    fn nvmlDeviceGetGpuFabricInfoV(call, device: DeviceHandle, _info: InOut<u32>) {
        of_gpu(call, device, |_| ())?;
        Err(Code::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetTopologyCommonAncestor(
        call,
        one: DeviceHandle,
        other: DeviceHandle,
        level: Out<u32>,
    ) {
        let other = other.gpu()?;
        call.session.hardware.board(other)?;
        of_gpu(call, one, |_| ())?;
        level.set(TOPOLOGY_NODE)
    }
}

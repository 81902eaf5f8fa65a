//! Structs of `nvml.h` with their sizes.

use std::ffi::c_char;

/// Not attributable to an instance.
pub(super) const NO_INSTANCE: u32 = u32::MAX;

/// A fixed string field: `text` cut to fit, then zeros.
pub(super) fn field<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    for (to, from) in field[..N - 1].iter_mut().zip(text.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    field
}

/// Version number of a struct as NVML builds it.
pub(super) const fn version<T>(number: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "sizes are below 200")]
    let size = size_of::<T>() as u32;
    size | (number << 24)
}

/// `nvmlGpuInstancePlacement_t`, `nvmlComputeInstancePlacement_t`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Placement {
    pub(super) start: u32,
    pub(super) size: u32,
}

/// `nvmlGpuInstanceProfileInfo_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct GpuInstanceProfileInfo {
    pub(super) id: u32,
    pub(super) is_p2p_supported: u32,
    pub(super) slice_count: u32,
    pub(super) instance_count: u32,
    pub(super) multiprocessor_count: u32,
    pub(super) copy_engine_count: u32,
    pub(super) decoder_count: u32,
    pub(super) encoder_count: u32,
    pub(super) jpeg_count: u32,
    pub(super) ofa_count: u32,
    pub(super) memory_size_mb: u64,
}

/// `nvmlGpuInstanceProfileInfo_v2_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct GpuInstanceProfileInfoV2 {
    pub(super) version: u32,
    pub(super) id: u32,
    pub(super) is_p2p_supported: u32,
    pub(super) slice_count: u32,
    pub(super) instance_count: u32,
    pub(super) multiprocessor_count: u32,
    pub(super) copy_engine_count: u32,
    pub(super) decoder_count: u32,
    pub(super) encoder_count: u32,
    pub(super) jpeg_count: u32,
    pub(super) ofa_count: u32,
    pub(super) memory_size_mb: u64,
    pub(super) name: [c_char; 96],
}

/// `nvmlGpuInstanceProfileInfo_v3_t`: as large as version 2, but laid out differently.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct GpuInstanceProfileInfoV3 {
    pub(super) version: u32,
    pub(super) id: u32,
    pub(super) slice_count: u32,
    pub(super) instance_count: u32,
    pub(super) multiprocessor_count: u32,
    pub(super) copy_engine_count: u32,
    pub(super) decoder_count: u32,
    pub(super) encoder_count: u32,
    pub(super) jpeg_count: u32,
    pub(super) ofa_count: u32,
    pub(super) memory_size_mb: u64,
    pub(super) name: [c_char; 96],
    pub(super) capabilities: u32,
}

/// `nvmlGpuInstanceInfo_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct GpuInstanceInfo {
    pub(super) device: u64,
    pub(super) id: u32,
    pub(super) profile_id: u32,
    pub(super) placement: Placement,
}

/// `nvmlComputeInstanceProfileInfo_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ComputeInstanceProfileInfo {
    pub(super) id: u32,
    pub(super) slice_count: u32,
    pub(super) instance_count: u32,
    pub(super) multiprocessor_count: u32,
    pub(super) shared_copy_engine_count: u32,
    pub(super) shared_decoder_count: u32,
    pub(super) shared_encoder_count: u32,
    pub(super) shared_jpeg_count: u32,
    pub(super) shared_ofa_count: u32,
}

/// `nvmlComputeInstanceProfileInfo_v2_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ComputeInstanceProfileInfoV2 {
    pub(super) version: u32,
    pub(super) info: ComputeInstanceProfileInfo,
    pub(super) name: [c_char; 96],
}

/// `nvmlComputeInstanceProfileInfo_v3_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ComputeInstanceProfileInfoV3 {
    pub(super) version: u32,
    pub(super) info: ComputeInstanceProfileInfo,
    pub(super) name: [c_char; 96],
    pub(super) capabilities: u32,
}

/// `nvmlComputeInstanceInfo_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ComputeInstanceInfo {
    pub(super) device: u64,
    pub(super) gpu_instance: u64,
    pub(super) id: u32,
    pub(super) profile_id: u32,
    pub(super) placement: Placement,
}

/// `nvmlDeviceAttributes_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct DeviceAttributes {
    pub(super) multiprocessor_count: u32,
    pub(super) shared_copy_engine_count: u32,
    pub(super) shared_decoder_count: u32,
    pub(super) shared_encoder_count: u32,
    pub(super) shared_jpeg_count: u32,
    pub(super) shared_ofa_count: u32,
    pub(super) gpu_instance_slice_count: u32,
    pub(super) compute_instance_slice_count: u32,
    pub(super) memory_size_mb: u64,
}

/// `nvmlProcessInfo_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ProcessInfo {
    pub(super) pid: u32,
    pub(super) used_gpu_memory: u64,
    pub(super) gpu_instance_id: u32,
    pub(super) compute_instance_id: u32,
}

/// `nvmlEventData_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct EventData {
    pub(super) device: u64,
    pub(super) kind: u64,
    pub(super) data: u64,
    pub(super) gpu_instance_id: u32,
    pub(super) compute_instance_id: u32,
}

/// `nvmlMemory_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) used: u64,
}

/// `nvmlMemory_v2_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct MemoryV2 {
    pub(super) version: u32,
    pub(super) total: u64,
    pub(super) reserved: u64,
    pub(super) free: u64,
    pub(super) used: u64,
}

/// `nvmlPciInfo_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct PciInfo {
    pub(super) bus_id_legacy: [c_char; 16],
    pub(super) domain: u32,
    pub(super) bus: u32,
    pub(super) device: u32,
    pub(super) pci_device_id: u32,
    pub(super) pci_sub_system_id: u32,
    pub(super) bus_id: [c_char; 32],
}

/// `nvmlFieldValue_t`; the value is a union, of which only the unsigned integer is used.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FieldValue {
    pub(super) field_id: u32,
    pub(super) scope_id: u32,
    pub(super) timestamp: i64,
    pub(super) latency_usec: i64,
    pub(super) value_type: u32,
    pub(super) nvml_return: u32,
    pub(super) value: u64,
}

/// `nvmlUtilization_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Utilization {
    pub(super) gpu: u32,
    pub(super) memory: u32,
}

// Sizes and offsets as a C compiler computes them from `nvml.h`.
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Placement>() == 8);
    assert!(size_of::<GpuInstanceProfileInfo>() == 48);
    assert!(version::<GpuInstanceProfileInfoV2>(2) == 0x0200_0098);
    assert!(offset_of!(GpuInstanceProfileInfoV2, name) == 56);
    assert!(version::<GpuInstanceProfileInfoV3>(3) == 0x0300_0098);
    assert!(offset_of!(GpuInstanceProfileInfoV3, memory_size_mb) == 40);
    assert!(offset_of!(GpuInstanceProfileInfoV3, name) == 48);
    assert!(offset_of!(GpuInstanceProfileInfoV3, capabilities) == 144);
    assert!(size_of::<GpuInstanceInfo>() == 24);
    assert!(size_of::<ComputeInstanceProfileInfo>() == 36);
    assert!(version::<ComputeInstanceProfileInfoV2>(2) == 0x0200_0088);
    assert!(version::<ComputeInstanceProfileInfoV3>(3) == 0x0300_008c);
    assert!(offset_of!(ComputeInstanceProfileInfoV3, name) == 40);
    assert!(offset_of!(ComputeInstanceProfileInfoV3, capabilities) == 136);
    assert!(size_of::<ComputeInstanceInfo>() == 32);
    assert!(size_of::<DeviceAttributes>() == 40);
    assert!(offset_of!(DeviceAttributes, memory_size_mb) == 32);
    assert!(size_of::<ProcessInfo>() == 24);
    assert!(size_of::<EventData>() == 32);
    assert!(size_of::<Memory>() == 24);
    assert!(version::<MemoryV2>(2) == 0x0200_0028);
    assert!(size_of::<PciInfo>() == 68);
    assert!(size_of::<FieldValue>() == 40);
    assert!(size_of::<Utilization>() == 8);
};

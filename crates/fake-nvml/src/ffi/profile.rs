//! GPU-instance profiles, their possible placements and what is left of them.

use crate::ffi::abi::{
    GpuInstanceProfileInfo, GpuInstanceProfileInfoV2, GpuInstanceProfileInfoV3, Placement, field,
    version,
};
use crate::ffi::guard::exports;
use crate::ffi::pointers::{Array, DeviceHandle, Out, Versioned};
use crate::model::board::Profile;
use crate::model::{Code, Placement as Place};
use crate::session::Call;

/// `NVML_GPU_INSTANCE_PROFILE_COUNT`: enums from here on are an invalid argument.
const PROFILE_COUNT: u32 = 0x12;
/// `NVML_GPU_INSTANCE_PROFILE_CAPS_GFX`
const CAPABILITY_GRAPHICS: u32 = 0x2;

/// The profile of an enum. Whether MIG mode is on does not matter.
fn by_index(call: &Call, device: DeviceHandle, index: u32) -> Result<&'static Profile, Code> {
    let gpu = device.gpu()?;
    call.read(Some(gpu), |hardware, _| {
        if index >= PROFILE_COUNT {
            return Err(Code::INVALID_ARGUMENT);
        }
        hardware
            .board(gpu)?
            .chip
            .board
            .by_index(index)
            .ok_or(Code::NOT_SUPPORTED)
    })
}

fn fill(info: &Versioned, profile: &Profile) -> Result<(), Code> {
    let asked = info.version()?;
    let name = field(&format!("MIG {}", profile.name));
    if asked == version::<GpuInstanceProfileInfoV2>(2) {
        return info.set(GpuInstanceProfileInfoV2 {
            version: asked,
            id: profile.id,
            is_p2p_supported: 0,
            slice_count: profile.slices,
            instance_count: profile.max_instances,
            multiprocessor_count: profile.multiprocessors,
            copy_engine_count: profile.copy_engines,
            decoder_count: profile.engines.decoder,
            encoder_count: profile.engines.encoder,
            jpeg_count: profile.engines.jpeg,
            ofa_count: profile.engines.ofa,
            memory_size_mb: profile.memory_mib,
            name,
        });
    }
    if asked != version::<GpuInstanceProfileInfoV3>(3) {
        return Err(Code::INVALID_ARGUMENT);
    }
    info.set(GpuInstanceProfileInfoV3 {
        version: asked,
        id: profile.id,
        slice_count: profile.slices,
        instance_count: profile.max_instances,
        multiprocessor_count: profile.multiprocessors,
        copy_engine_count: profile.copy_engines,
        decoder_count: profile.engines.decoder,
        encoder_count: profile.engines.encoder,
        jpeg_count: profile.engines.jpeg,
        ofa_count: profile.engines.ofa,
        memory_size_mb: profile.memory_mib,
        name,
        capabilities: if profile.graphics() {
            CAPABILITY_GRAPHICS
        } else {
            0
        },
    })
}

/// All placements of a profile, whatever is occupied. The caller's array holds them all.
fn placements(
    call: &Call,
    device: DeviceHandle,
    profile: u32,
    array: &Array<Placement>,
    count: &Out<u32>,
) -> Result<(), Code> {
    let gpu = device.gpu()?;
    count.given()?;
    let mut places: Vec<Place> = call.read_privileged(gpu, |hardware, _| {
        let chip = &hardware.board(gpu)?.chip;
        let profile = chip.board.by_id(profile).ok_or(Code::NOT_SUPPORTED)?;
        Ok(chip
            .grid
            .candidates(profile.shape)
            .map(|id| chip.grid.placement(id))
            .collect())
    })?;
    places.sort_unstable();
    let places: Vec<_> = places
        .into_iter()
        .map(|Place { start, size }| Placement { start, size })
        .collect();
    if !array.is_null() {
        array.fill(&places)?;
    }
    count.set(u32::try_from(places.len()).unwrap_or(u32::MAX))
}

exports! {
    fn nvmlDeviceGetGpuInstanceProfileInfo(
        call,
        device: DeviceHandle,
        index: u32,
        info: Out<GpuInstanceProfileInfo>,
    ) {
        let profile = by_index(call, device, index)?;
        info.set(GpuInstanceProfileInfo {
            id: profile.id,
            is_p2p_supported: 0,
            slice_count: profile.slices,
            instance_count: profile.max_instances,
            multiprocessor_count: profile.multiprocessors,
            copy_engine_count: profile.copy_engines,
            decoder_count: profile.engines.decoder,
            encoder_count: profile.engines.encoder,
            jpeg_count: profile.engines.jpeg,
            ofa_count: profile.engines.ofa,
            memory_size_mb: profile.memory_mib,
        })
    }

    fn nvmlDeviceGetGpuInstanceProfileInfoV(
        call,
        device: DeviceHandle,
        index: u32,
        info: Versioned,
    ) {
        fill(&info, by_index(call, device, index)?)
    }

    fn nvmlDeviceGetGpuInstanceProfileInfoByIdV(
        call,
        device: DeviceHandle,
        id: u32,
        info: Versioned,
    ) {
        let gpu = device.gpu()?;
        let profile = call.read(Some(gpu), |hardware, _| {
            hardware.board(gpu)?.chip.board.by_id(id).ok_or(Code::NOT_SUPPORTED)
        })?;
        fill(&info, profile)
    }

    fn nvmlDeviceGetGpuInstancePossiblePlacements(
        call,
        device: DeviceHandle,
        profile_id: u32,
        array: Array<Placement>,
        count: Out<u32>,
    ) {
        placements(call, device, profile_id, &array, &count)
    }

    fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(
        call,
        device: DeviceHandle,
        profile_id: u32,
        array: Array<Placement>,
        count: Out<u32>,
    ) {
        placements(call, device, profile_id, &array, &count)
    }

    fn nvmlDeviceGetGpuInstanceRemainingCapacity(
        call,
        device: DeviceHandle,
        profile_id: u32,
        count: Out<u32>,
    ) {
        let gpu = device.gpu()?;
        let left = call.read_privileged(gpu, |hardware, state| {
            let chip = &hardware.board(gpu)?.chip;
            let gpu = state.gpu(gpu)?;
            let blind = hardware.capacity_needs_mig_mode && !gpu.mode.current;
            if blind || !chip.board.mig_capable() {
                return Err(Code::NOT_SUPPORTED);
            }
            let profile = chip.board.by_id(profile_id).ok_or(Code::INVALID_ARGUMENT)?;
            Ok(gpu.remaining(chip, profile))
        })?;
        count.set(left)
    }
}

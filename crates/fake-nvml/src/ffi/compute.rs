//! The life of compute instances.

use crate::ffi::abi::{
    ComputeInstanceInfo, ComputeInstanceProfileInfo, ComputeInstanceProfileInfoV2,
    ComputeInstanceProfileInfoV3, Placement, field, version,
};
use crate::ffi::guard::exports;
use crate::ffi::pointers::{Array, InOut, OpaqueHandle, Out, Versioned};
use crate::handle::Handle;
use crate::model::compute::{ComputeProfile, PROFILE_COUNT, free};
use crate::model::gpu::Instance;
use crate::model::{Board, Code, Placement as Place};
use crate::session::Call;

/// Asks about one compute-instance profile of a GPU instance.
fn with_profile<T>(
    call: &Call,
    instance: OpaqueHandle,
    id: u32,
    job: impl FnOnce(&Board, &Instance, &ComputeProfile) -> Result<T, Code>,
) -> Result<T, Code> {
    let (gpu, serial) = instance.instance()?;
    call.read(Some(gpu), |hardware, state| {
        let board = hardware.board(gpu)?.chip.board;
        let instance = state.gpu(gpu)?.instance(serial)?;
        if id >= PROFILE_COUNT {
            return Err(Code::INVALID_ARGUMENT);
        }
        let profiles = instance.compute_profiles(board);
        let profile = profiles
            .iter()
            .find(|each| each.id == id)
            .ok_or(Code::NOT_SUPPORTED)?;
        job(board, instance, profile)
    })
}

/// Layout-independent facts and the name.
fn info(
    call: &Call,
    instance: OpaqueHandle,
    index: u32,
    engines: u32,
) -> Result<(ComputeInstanceProfileInfo, String), Code> {
    // The only engine profile is the shared one.
    if engines != 0 {
        return Err(Code::INVALID_ARGUMENT);
    }
    with_profile(call, instance, index, |board, instance, part| {
        let whole = board.by_id(instance.profile).ok_or(Code::UNKNOWN)?;
        let info = ComputeInstanceProfileInfo {
            id: part.id,
            slice_count: part.slices,
            instance_count: u32::try_from(part.starts.len()).unwrap_or(u32::MAX),
            multiprocessor_count: part.multiprocessors,
            shared_copy_engine_count: whole.copy_engines,
            shared_decoder_count: whole.engines.decoder,
            shared_encoder_count: whole.engines.encoder,
            shared_jpeg_count: whole.engines.jpeg,
            shared_ofa_count: whole.engines.ofa,
        };
        let prefix = if part.full {
            String::new()
        } else {
            format!("{}c.", part.slices)
        };
        Ok((info, format!("MIG {prefix}{}", whole.plain_name())))
    })
}

fn create(
    call: &Call,
    instance: OpaqueHandle,
    profile: u32,
    place: Option<Placement>,
    handle: &Out<u64>,
) -> Result<(), Code> {
    let (gpu, inside) = instance.instance()?;
    handle.given()?;
    let place = place.map(|Placement { start, size }| Place { start, size });
    let serial = call.write(gpu, |hardware, state| {
        let chip = &hardware.board(gpu)?.chip;
        let serial = state.serial();
        state
            .gpu_mut(gpu)?
            .create_compute(chip, inside, profile, place, serial)?;
        Ok(serial)
    })?;
    handle.set(Handle::Compute(gpu, serial).encode())
}

fn describe(
    call: &Call,
    compute: OpaqueHandle,
    out: &Out<ComputeInstanceInfo>,
) -> Result<(), Code> {
    let (gpu, serial) = compute.compute()?;
    let info = call.read(Some(gpu), |_, state| {
        let (instance, compute) = state.gpu(gpu)?.compute(serial)?;
        Ok(ComputeInstanceInfo {
            device: Handle::Mig(gpu, serial).encode(),
            gpu_instance: Handle::Instance(gpu, instance.serial).encode(),
            id: compute.id,
            profile_id: compute.profile,
            placement: Placement {
                start: compute.start,
                size: compute.size,
            },
        })
    })?;
    out.set(info)
}

exports! {
    fn nvmlGpuInstanceGetComputeInstanceProfileInfo(
        call,
        gpu_instance: OpaqueHandle,
        profile: u32,
        engine_profile: u32,
        out: Out<ComputeInstanceProfileInfo>,
    ) {
        out.set(info(call, gpu_instance, profile, engine_profile)?.0)
    }

    fn nvmlGpuInstanceGetComputeInstanceProfileInfoV(
        call,
        gpu_instance: OpaqueHandle,
        profile: u32,
        engine_profile: u32,
        out: Versioned,
    ) {
        let (info, name) = info(call, gpu_instance, profile, engine_profile)?;
        let (asked, name) = (out.version()?, field(&name));
        if asked == version::<ComputeInstanceProfileInfoV2>(2) {
            out.set(ComputeInstanceProfileInfoV2 { version: asked, info, name })
        } else if asked == version::<ComputeInstanceProfileInfoV3>(3) {
            out.set(ComputeInstanceProfileInfoV3 { version: asked, info, name, capabilities: 0 })
        } else {
            Err(Code::INVALID_ARGUMENT)
        }
    }

    fn nvmlGpuInstanceGetComputeInstanceRemainingCapacity(
        call,
        gpu_instance: OpaqueHandle,
        profile_id: u32,
        count: Out<u32>,
    ) {
        let left = with_profile(call, gpu_instance, profile_id, |_, instance, profile| {
            Ok(free(profile, &instance.compute_used()).count())
        })?;
        count.set(u32::try_from(left).unwrap_or(u32::MAX))
    }

    fn nvmlGpuInstanceGetComputeInstancePossiblePlacements(
        call,
        gpu_instance: OpaqueHandle,
        profile_id: u32,
        placements: Array<Placement>,
        count: Out<u32>,
    ) {
        count.given()?;
        let places = with_profile(call, gpu_instance, profile_id, |_, _, profile| {
            let size = profile.size;
            let places = profile.starts.iter().map(|&start| Placement { start, size });
            Ok(places.collect::<Vec<_>>())
        })?;
        if !placements.is_null() {
            placements.fill(&places)?;
        }
        count.set(u32::try_from(places.len()).unwrap_or(u32::MAX))
    }

    fn nvmlGpuInstanceCreateComputeInstance(
        call,
        gpu_instance: OpaqueHandle,
        profile_id: u32,
        compute_instance: Out<u64>,
    ) {
        create(call, gpu_instance, profile_id, None, &compute_instance)
    }

    fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(
        call,
        gpu_instance: OpaqueHandle,
        profile_id: u32,
        placement: InOut<Placement>,
        compute_instance: Out<u64>,
    ) {
        create(call, gpu_instance, profile_id, Some(placement.get()?), &compute_instance)
    }

    fn nvmlComputeInstanceDestroy(call, compute_instance: OpaqueHandle) {
        let (gpu, serial) = compute_instance.compute()?;
        call.write(gpu, |_, state| state.gpu_mut(gpu)?.destroy_compute(serial))
    }

    fn nvmlGpuInstanceGetComputeInstances(
        call,
        gpu_instance: OpaqueHandle,
        profile_id: u32,
        compute_instances: Array<u64>,
        count: Out<u32>,
    ) {
        let (gpu, _) = gpu_instance.instance()?;
        count.given()?;
        let handles = with_profile(call, gpu_instance, profile_id, |_, instance, profile| {
            let of_it = instance.compute.iter().filter(|each| each.profile == profile.id);
            let handles = of_it.map(|each| Handle::Compute(gpu, each.serial).encode());
            Ok(handles.collect::<Vec<_>>())
        })?;
        compute_instances.fill(&handles)?;
        count.set(u32::try_from(handles.len()).unwrap_or(u32::MAX))
    }

    fn nvmlGpuInstanceGetComputeInstanceById(
        call,
        gpu_instance: OpaqueHandle,
        id: u32,
        compute_instance: Out<u64>,
    ) {
        let (gpu, serial) = gpu_instance.instance()?;
        let found = call.read(Some(gpu), |_, state| {
            let instance = state.gpu(gpu)?.instance(serial)?;
            let found = instance.compute.iter().find(|each| each.id == id);
            found.map(|each| each.serial).ok_or(Code::NOT_FOUND)
        })?;
        compute_instance.set(Handle::Compute(gpu, found).encode())
    }

    fn nvmlComputeInstanceGetInfo(
        call,
        compute_instance: OpaqueHandle,
        info: Out<ComputeInstanceInfo>,
    ) {
        describe(call, compute_instance, &info)
    }

    fn nvmlComputeInstanceGetInfo_v2(
        call,
        compute_instance: OpaqueHandle,
        info: Out<ComputeInstanceInfo>,
    ) {
        describe(call, compute_instance, &info)
    }
}

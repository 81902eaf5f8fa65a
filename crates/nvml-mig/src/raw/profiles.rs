//! Profiles and placements.

use std::{mem::zeroed, ptr::null_mut};

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstanceProfileInfo_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlGpuInstanceProfileInfo_v3_t,
};

use mig::Placement;

use super::{Device, Instance, Library, function, text};
use crate::{code::Code, compute::ComputeProfile, error::Failure, profiles::ProfileInfo};

// Sizes from nvml.h; the versions below are a size and, in the highest byte, a number.
const _: () = assert!(size_of::<nvmlGpuInstanceProfileInfo_t>() == 48);
const _: () = assert!(size_of::<nvmlGpuInstanceProfileInfo_v2_t>() == 152);
const _: () = assert!(size_of::<nvmlGpuInstanceProfileInfo_v3_t>() == 152);
const _: () = assert!(size_of::<nvmlComputeInstanceProfileInfo_t>() == 36);
const _: () = assert!(size_of::<nvmlGpuInstancePlacement_t>() == 8);

/// `nvmlGpuInstanceProfileInfo_v2` of nvml.h.
const VERSION_2: u32 = 0x0200_0098;
/// `nvmlGpuInstanceProfileInfo_v3` of nvml.h.
const VERSION_3: u32 = 0x0300_0098;

/// `NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED`, the only one.
const SHARED_ENGINES: u32 = 0;

/// Room for placements where the driver does not say how many there are. No row has more slices.
const MOST_PLACEMENTS: usize = 64;

impl Library {
    /// The GPU-instance profile of an enum: the newest form of the call that the driver knows, since
    /// only version 2 and 3 tell the name. None if this board does not have it.
    ///
    /// `INVALID_ARGUMENT` of all forms means that the enum is beyond the last one.
    pub(crate) fn profile_info(
        &self,
        device: Device,
        enumerator: u32,
    ) -> Result<Option<ProfileInfo>, Failure> {
        let forms = [
            Self::profile_info_v3,
            Self::profile_info_v2,
            Self::profile_info_v1,
        ];
        let mut last = Failure::missing("nvmlDeviceGetGpuInstanceProfileInfo");
        for form in forms {
            match form(self, device, enumerator) {
                Ok(info) => return Ok(Some(info)),
                Err(failure) if failure.is(Code::NotSupported) => return Ok(None),
                Err(failure) if is_unknown_form(&failure) => last = failure,
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    fn profile_info_v3(&self, device: Device, enumerator: u32) -> Result<ProfileInfo, Failure> {
        let call = function!(self, nvmlDeviceGetGpuInstanceProfileInfoV)?;
        // SAFETY: a plain C struct of numbers.
        let mut info: nvmlGpuInstanceProfileInfo_v3_t = unsafe { zeroed() };
        info.version = VERSION_3;
        // SAFETY: see the module's header; the call is declared for version 2 and takes every
        // version that the first field names.
        call.check(unsafe { (call.function)(device.0, enumerator, (&raw mut info).cast()) })?;
        Ok(ProfileInfo {
            id: info.id,
            compute_slices: info.sliceCount,
            max_instances: info.instanceCount,
            multiprocessors: info.multiprocessorCount,
            memory_mib: info.memorySizeMB,
            name: Some(text(&info.name)),
        })
    }

    fn profile_info_v2(&self, device: Device, enumerator: u32) -> Result<ProfileInfo, Failure> {
        let call = function!(self, nvmlDeviceGetGpuInstanceProfileInfoV)?;
        // SAFETY: a plain C struct of numbers.
        let mut info: nvmlGpuInstanceProfileInfo_v2_t = unsafe { zeroed() };
        info.version = VERSION_2;
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(device.0, enumerator, &raw mut info) })?;
        Ok(ProfileInfo {
            id: info.id,
            compute_slices: info.sliceCount,
            max_instances: info.instanceCount,
            multiprocessors: info.multiprocessorCount,
            memory_mib: info.memorySizeMB,
            name: Some(text(&info.name)),
        })
    }

    fn profile_info_v1(&self, device: Device, enumerator: u32) -> Result<ProfileInfo, Failure> {
        let call = function!(self, nvmlDeviceGetGpuInstanceProfileInfo)?;
        // SAFETY: a plain C struct of numbers.
        let mut info: nvmlGpuInstanceProfileInfo_t = unsafe { zeroed() };
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(device.0, enumerator, &raw mut info) })?;
        Ok(ProfileInfo {
            id: info.id,
            compute_slices: info.sliceCount,
            max_instances: info.instanceCount,
            multiprocessors: info.multiprocessorCount,
            memory_mib: info.memorySizeMB,
            name: None,
        })
    }

    /// Where instances of a profile may stand, whatever stands there now.
    pub(crate) fn placements(
        &self,
        device: Device,
        profile_id: u32,
    ) -> Result<Vec<Placement>, Failure> {
        let call = function!(self, nvmlDeviceGetGpuInstancePossiblePlacements_v2)?;
        let mut count = 0;
        // SAFETY: see the module's header; without a buffer only the count is written.
        call.check(unsafe { (call.function)(device.0, profile_id, null_mut(), &raw mut count) })?;
        // The count is an output only (nvml.h), so the driver cannot see how much room there is.
        let room = (count as usize).max(MOST_PLACEMENTS);
        let mut buffer = vec![nvmlGpuInstancePlacement_t { start: 0, size: 0 }; room];
        let mut filled = u32::try_from(room).unwrap_or(u32::MAX);
        // SAFETY: see the module's header; the buffer holds more than the driver just announced.
        call.check(unsafe {
            (call.function)(device.0, profile_id, buffer.as_mut_ptr(), &raw mut filled)
        })?;
        buffer.truncate(filled as usize);
        buffer
            .into_iter()
            .map(|place| placement(call.name, place))
            .collect()
    }

    /// The compute-instance profile of an enum inside an instance. None if it does not fit there.
    pub(crate) fn compute_profile(
        &self,
        instance: Instance,
        enumerator: u32,
    ) -> Result<Option<ComputeProfile>, Failure> {
        let call = function!(self, nvmlGpuInstanceGetComputeInstanceProfileInfo)?;
        // SAFETY: a plain C struct of numbers.
        let mut info: nvmlComputeInstanceProfileInfo_t = unsafe { zeroed() };
        // SAFETY: see the module's header.
        let returned =
            unsafe { (call.function)(instance.0, enumerator, SHARED_ENGINES, &raw mut info) };
        match call.check(returned) {
            Ok(()) => Ok(Some(ComputeProfile {
                id: info.id,
                slices: info.sliceCount,
                max_instances: info.instanceCount,
                multiprocessors: info.multiprocessorCount,
            })),
            Err(failure) if failure.is(Code::NotSupported) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// Whether the driver may know an older form of the same call.
fn is_unknown_form(failure: &Failure) -> bool {
    *failure == Failure::missing(failure.call)
        || [
            Code::InvalidArgument,
            Code::ArgumentVersionMismatch,
            Code::FunctionNotFound,
        ]
        .into_iter()
        .any(|code| failure.is(code))
}

/// NVML's placement as ours.
pub(super) fn placement(
    call: &'static str,
    place: nvmlGpuInstancePlacement_t,
) -> Result<Placement, Failure> {
    match (u8::try_from(place.start), u8::try_from(place.size)) {
        (Ok(start), Ok(size)) if Placement::new(start, size).is_within(mig::MAX_SLICES) => {
            Ok(Placement::new(start, size))
        }
        _ => {
            let what = format!("a placement at {}:{}", place.start, place.size);
            Err(Failure::answer(call, what))
        }
    }
}

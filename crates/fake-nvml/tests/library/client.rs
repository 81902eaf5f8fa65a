//! NVML as the tests call it. Every call gives the return code as the error.

use std::ffi::{CStr, CString, c_char, c_uint};
use std::path::{Path, PathBuf};
use std::ptr;

use fake_nvml::control::Host;
use fake_nvml::testing::{CONFIG, install};
use nvml_wrapper_sys::bindings as sys;
pub(super) use sys::{nvmlComputeInstance_t, nvmlDevice_t, nvmlEventSet_t, nvmlGpuInstance_t};

/// NVML's return codes.
pub(super) const UNINITIALIZED: u32 = 1;
pub(super) const INVALID_ARGUMENT: u32 = 2;
pub(super) const NOT_SUPPORTED: u32 = 3;
pub(super) const NO_PERMISSION: u32 = 4;
pub(super) const NOT_FOUND: u32 = 6;
pub(super) const INSUFFICIENT_SIZE: u32 = 7;
pub(super) const DRIVER_NOT_LOADED: u32 = 9;
pub(super) const TIMEOUT: u32 = 10;
pub(super) const IN_USE: u32 = 19;
pub(super) const INSUFFICIENT_RESOURCES: u32 = 23;
pub(super) const UNKNOWN: u32 = 999;

/// A simulated host in a folder of its own.
pub(super) struct Machine {
    pub(super) folder: tempfile::TempDir,
    pub(super) library: PathBuf,
}

impl Machine {
    pub(super) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = install(folder.path(), config).unwrap();
        Self { folder, library }
    }

    /// An initialised client in this process.
    pub(super) fn client(&self) -> Client {
        let client = self.cold_client();
        client.init().unwrap();
        client
    }

    pub(super) fn cold_client(&self) -> Client {
        Client::load(&self.library)
    }

    pub(super) fn host(&self) -> Host {
        Host::open(&self.folder.path().join(CONFIG)).unwrap()
    }
}

/// Waits for something that other threads or processes bring about; far longer than it ever takes.
#[expect(clippy::disallowed_methods, reason = "real processes cannot be paused")]
pub(super) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !done() {
        assert!(
            std::time::Instant::now() < deadline,
            "still waiting: {what}"
        );
        std::thread::yield_now();
    }
}

pub(super) struct Client {
    pub(super) lib: sys::NvmlLib,
}

fn check(code: u32) -> Result<(), u32> {
    if code == 0 { Ok(()) } else { Err(code) }
}

fn out<T>(value: T, call: impl FnOnce(*mut T) -> u32) -> Result<T, u32> {
    let mut value = value;
    check(call(&raw mut value))?;
    Ok(value)
}

fn text(call: impl FnOnce(*mut c_char, c_uint) -> u32) -> Result<String, u32> {
    let mut buffer = [0 as c_char; 96];
    check(call(buffer.as_mut_ptr(), 96))?;
    // SAFETY: the call succeeded, so there is a string in the buffer.
    Ok(unsafe { CStr::from_ptr(buffer.as_ptr()) }
        .to_str()
        .unwrap()
        .to_owned())
}

/// Calls one function of the library.
macro_rules! nvml {
    ($client:expr, $name:ident($($arg:expr),*)) => {
        // SAFETY: the arguments have the types of `nvml.h` and point to live memory.
        unsafe { $client.lib.$name($($arg),*) }
    };
}
pub(super) use nvml;

impl Client {
    pub(super) fn load(library: &Path) -> Self {
        // SAFETY: loading the library runs no code of its own.
        let lib = unsafe { sys::NvmlLib::new(library) }.unwrap();
        Self { lib }
    }

    pub(super) fn init(&self) -> Result<(), u32> {
        check(nvml!(self, nvmlInit_v2()))
    }

    pub(super) fn shutdown(&self) -> Result<(), u32> {
        check(nvml!(self, nvmlShutdown()))
    }

    pub(super) fn count(&self) -> Result<u32, u32> {
        out(0, |to| nvml!(self, nvmlDeviceGetCount_v2(to)))
    }

    pub(super) fn gpu(&self, index: u32) -> Result<nvmlDevice_t, u32> {
        out(ptr::null_mut(), |to| {
            nvml!(self, nvmlDeviceGetHandleByIndex_v2(index, to))
        })
    }

    pub(super) fn by_uuid(&self, uuid: &str) -> Result<nvmlDevice_t, u32> {
        let uuid = CString::new(uuid).unwrap();
        out(ptr::null_mut(), |to| {
            nvml!(self, nvmlDeviceGetHandleByUUID(uuid.as_ptr(), to))
        })
    }

    pub(super) fn uuid(&self, device: nvmlDevice_t) -> Result<String, u32> {
        text(|to, length| nvml!(self, nvmlDeviceGetUUID(device, to, length)))
    }

    pub(super) fn name(&self, device: nvmlDevice_t) -> Result<String, u32> {
        text(|to, length| nvml!(self, nvmlDeviceGetName(device, to, length)))
    }

    pub(super) fn index(&self, device: nvmlDevice_t) -> Result<u32, u32> {
        out(0, |to| nvml!(self, nvmlDeviceGetIndex(device, to)))
    }

    pub(super) fn minor(&self, device: nvmlDevice_t) -> Result<u32, u32> {
        out(0, |to| nvml!(self, nvmlDeviceGetMinorNumber(device, to)))
    }

    pub(super) fn memory(&self, device: nvmlDevice_t) -> Result<(u64, u64), u32> {
        let empty = sys::nvmlMemory_t {
            total: 0,
            free: 0,
            used: 0,
        };
        let memory = out(empty, |to| nvml!(self, nvmlDeviceGetMemoryInfo(device, to)))?;
        assert_eq!(memory.total, memory.free + memory.used);
        Ok((memory.total >> 20, memory.used >> 20))
    }

    /// Current and pending mode.
    pub(super) fn mode(&self, device: nvmlDevice_t) -> Result<(u32, u32), u32> {
        let mut pending = 0;
        let current = out(0, |to| {
            nvml!(self, nvmlDeviceGetMigMode(device, to, &raw mut pending))
        })?;
        Ok((current, pending))
    }

    /// The activation status.
    pub(super) fn set_mode(&self, device: nvmlDevice_t, on: bool) -> Result<u32, u32> {
        out(0, |to| {
            nvml!(self, nvmlDeviceSetMigMode(device, on.into(), to))
        })
    }

    pub(super) fn max_devices(&self, device: nvmlDevice_t) -> Result<u32, u32> {
        out(0, |to| {
            nvml!(self, nvmlDeviceGetMaxMigDeviceCount(device, to))
        })
    }

    pub(super) fn mig(&self, device: nvmlDevice_t, index: u32) -> Result<nvmlDevice_t, u32> {
        out(ptr::null_mut(), |to| {
            nvml!(self, nvmlDeviceGetMigDeviceHandleByIndex(device, index, to))
        })
    }

    pub(super) fn remaining(&self, device: nvmlDevice_t, profile: u32) -> Result<u32, u32> {
        out(0, |to| {
            nvml!(
                self,
                nvmlDeviceGetGpuInstanceRemainingCapacity(device, profile, to)
            )
        })
    }

    pub(super) fn placements(
        &self,
        device: nvmlDevice_t,
        profile: u32,
    ) -> Result<Vec<(u32, u32)>, u32> {
        let mut places = [sys::nvmlGpuInstancePlacement_t { start: 0, size: 0 }; 16];
        let count = out(0, |to| {
            let places = places.as_mut_ptr();
            nvml!(
                self,
                nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile, places, to)
            )
        })?;
        Ok(places[..count as usize]
            .iter()
            .map(|place| (place.start, place.size))
            .collect())
    }

    pub(super) fn create(
        &self,
        device: nvmlDevice_t,
        profile: u32,
    ) -> Result<nvmlGpuInstance_t, u32> {
        out(ptr::null_mut(), |to| {
            nvml!(self, nvmlDeviceCreateGpuInstance(device, profile, to))
        })
    }

    pub(super) fn create_at(
        &self,
        device: nvmlDevice_t,
        profile: u32,
        start: u32,
        size: u32,
    ) -> Result<nvmlGpuInstance_t, u32> {
        let place = sys::nvmlGpuInstancePlacement_t { start, size };
        let place = &raw const place;
        out(ptr::null_mut(), |to| {
            nvml!(
                self,
                nvmlDeviceCreateGpuInstanceWithPlacement(device, profile, place, to)
            )
        })
    }

    pub(super) fn destroy(&self, instance: nvmlGpuInstance_t) -> Result<(), u32> {
        check(nvml!(self, nvmlGpuInstanceDestroy(instance)))
    }

    /// Id, profile id, start and size.
    pub(super) fn info(&self, instance: nvmlGpuInstance_t) -> Result<(u32, u32, u32, u32), u32> {
        let empty = sys::nvmlGpuInstanceInfo_t {
            device: ptr::null_mut(),
            id: 0,
            profileId: 0,
            placement: sys::nvmlGpuInstancePlacement_t { start: 0, size: 0 },
        };
        let info = out(empty, |to| {
            nvml!(self, nvmlGpuInstanceGetInfo(instance, to))
        })?;
        Ok((
            info.id,
            info.profileId,
            info.placement.start,
            info.placement.size,
        ))
    }

    pub(super) fn instances(
        &self,
        device: nvmlDevice_t,
        profile: u32,
    ) -> Result<Vec<nvmlGpuInstance_t>, u32> {
        let mut found = [ptr::null_mut(); 8];
        let count = out(0, |to| {
            nvml!(
                self,
                nvmlDeviceGetGpuInstances(device, profile, found.as_mut_ptr(), to)
            )
        })?;
        Ok(found[..count as usize].to_vec())
    }

    pub(super) fn computes(
        &self,
        instance: nvmlGpuInstance_t,
        profile: u32,
    ) -> Result<Vec<nvmlComputeInstance_t>, u32> {
        let mut found = [ptr::null_mut(); 8];
        let count = out(0, |to| {
            let found = found.as_mut_ptr();
            nvml!(
                self,
                nvmlGpuInstanceGetComputeInstances(instance, profile, found, to)
            )
        })?;
        Ok(found[..count as usize].to_vec())
    }

    pub(super) fn compute_profile(
        &self,
        instance: nvmlGpuInstance_t,
        index: u32,
    ) -> Result<sys::nvmlComputeInstanceProfileInfo_t, u32> {
        // SAFETY: a struct of integers.
        let empty = unsafe { std::mem::zeroed() };
        out(empty, |to| {
            nvml!(
                self,
                nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, index, 0, to)
            )
        })
    }

    pub(super) fn create_compute(
        &self,
        instance: nvmlGpuInstance_t,
        profile: u32,
    ) -> Result<nvmlComputeInstance_t, u32> {
        out(ptr::null_mut(), |to| {
            nvml!(
                self,
                nvmlGpuInstanceCreateComputeInstance(instance, profile, to)
            )
        })
    }

    pub(super) fn destroy_compute(&self, compute: nvmlComputeInstance_t) -> Result<(), u32> {
        check(nvml!(self, nvmlComputeInstanceDestroy(compute)))
    }

    pub(super) fn compute_info(
        &self,
        compute: nvmlComputeInstance_t,
    ) -> Result<sys::nvmlComputeInstanceInfo_t, u32> {
        // SAFETY: a struct of integers and null pointers.
        let empty = unsafe { std::mem::zeroed() };
        out(empty, |to| {
            nvml!(self, nvmlComputeInstanceGetInfo_v2(compute, to))
        })
    }

    /// A GPU instance with the compute instance of that profile; the MIG device too.
    pub(super) fn device(
        &self,
        gpu: nvmlDevice_t,
        profile: u32,
        compute: u32,
    ) -> (nvmlGpuInstance_t, nvmlComputeInstance_t, nvmlDevice_t) {
        let instance = self.create(gpu, profile).unwrap();
        let compute = self.create_compute(instance, compute).unwrap();
        let device = self.compute_info(compute).unwrap().device;
        (instance, compute, device)
    }

    /// Pid, GPU instance id and compute instance id.
    pub(super) fn processes(&self, device: nvmlDevice_t) -> Result<Vec<(u32, u32, u32)>, u32> {
        let mut count: c_uint = 0;
        match nvml!(
            self,
            nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, ptr::null_mut())
        ) {
            0 => return Ok(Vec::new()),
            INSUFFICIENT_SIZE => {}
            code => return Err(code),
        }
        // SAFETY: a struct of integers.
        let empty: sys::nvmlProcessInfo_t = unsafe { std::mem::zeroed() };
        let mut found = vec![empty; count as usize];
        check(nvml!(
            self,
            nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, found.as_mut_ptr())
        ))?;
        let row =
            |info: &sys::nvmlProcessInfo_t| (info.pid, info.gpuInstanceId, info.computeInstanceId);
        Ok(found[..count as usize].iter().map(row).collect())
    }

    pub(super) fn event_set(&self) -> Result<nvmlEventSet_t, u32> {
        out(ptr::null_mut(), |to| nvml!(self, nvmlEventSetCreate(to)))
    }

    pub(super) fn register(
        &self,
        device: nvmlDevice_t,
        types: u64,
        set: nvmlEventSet_t,
    ) -> Result<(), u32> {
        check(nvml!(self, nvmlDeviceRegisterEvents(device, types, set)))
    }

    pub(super) fn wait(
        &self,
        set: nvmlEventSet_t,
        timeout_ms: u32,
    ) -> Result<sys::nvmlEventData_t, u32> {
        // SAFETY: a struct of integers and a null pointer.
        let empty = unsafe { std::mem::zeroed() };
        out(empty, |to| {
            nvml!(self, nvmlEventSetWait_v2(set, to, timeout_ms))
        })
    }

    pub(super) fn free(&self, set: nvmlEventSet_t) -> Result<(), u32> {
        check(nvml!(self, nvmlEventSetFree(set)))
    }
}

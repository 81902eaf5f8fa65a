//! Processes on a GPU.

use std::ptr::null_mut;

use nvml_wrapper_sys::bindings::nvmlProcessInfo_t;

use super::{Device, Library, function};
use crate::{code::Code, error::Failure};

const _: () = assert!(size_of::<nvmlProcessInfo_t>() == 24);

/// How often the list may outgrow its buffer before that is an error.
const ATTEMPTS: usize = 8;

/// Processes that may start between asking for the number and asking for the list.
const SPARE: u32 = 8;

/// One of NVML's lists of processes; a process is in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    Compute,
    Mps,
    Graphics,
}

/// A process with the ids as NVML gives them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawProcess {
    pub(crate) pid: u32,
    pub(crate) gi_id: u32,
    pub(crate) ci_id: u32,
}

impl Library {
    pub(crate) fn processes(&self, device: Device, list: List) -> Result<Vec<RawProcess>, Failure> {
        let call = match list {
            List::Compute => function!(self, nvmlDeviceGetComputeRunningProcesses_v3)?,
            List::Mps => function!(self, nvmlDeviceGetMPSComputeRunningProcesses_v3)?,
            List::Graphics => function!(self, nvmlDeviceGetGraphicsRunningProcesses_v3)?,
        };
        let mut count = 0;
        // SAFETY: see the module's header; a length of 0 asks for the length alone.
        let returned = unsafe { (call.function)(device.0, &raw mut count, null_mut()) };
        match call.check(returned) {
            Ok(()) => return Ok(Vec::new()),
            Err(failure) if failure.is(Code::InsufficientSize) => {}
            Err(failure) => return Err(failure),
        }
        let none = nvmlProcessInfo_t {
            pid: 0,
            usedGpuMemory: 0,
            gpuInstanceId: 0,
            computeInstanceId: 0,
        };
        for _ in 0..ATTEMPTS {
            let mut length = count.saturating_add(SPARE);
            let mut buffer = vec![none; length as usize];
            // SAFETY: see the module's header; `length` is the buffer's.
            let returned =
                unsafe { (call.function)(device.0, &raw mut length, buffer.as_mut_ptr()) };
            match call.check(returned) {
                Ok(()) => {
                    buffer.truncate(length as usize);
                    let processes = buffer.into_iter().map(|each| RawProcess {
                        pid: each.pid,
                        gi_id: each.gpuInstanceId,
                        ci_id: each.computeInstanceId,
                    });
                    return Ok(processes.collect());
                }
                Err(failure) if failure.is(Code::InsufficientSize) => {
                    // Not every driver says how much it needs now.
                    count = length.max(count.saturating_mul(2));
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::code(call.name, Code::InsufficientSize))
    }
}

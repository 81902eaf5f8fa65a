//! Event sets. The wrapper's own drop the ids of instances.

use std::{mem::zeroed, ptr::null_mut, sync::Arc};

use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError};

use super::{Device, Library, function};
use crate::{code::Code, error::Failure};

const _: () = assert!(size_of::<nvmlEventData_t>() == 32);

/// A queue of events; freed when dropped.
pub(crate) struct EventSet {
    library: Arc<Library>,
    set: nvmlEventSet_t,
}

// SAFETY: the handle is only ever given back to NVML, which may be called from any thread.
unsafe impl Send for EventSet {}

/// An event as NVML gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawEvent {
    pub(crate) device: Device,
    pub(crate) is_xid: bool,
    pub(crate) data: u64,
    pub(crate) gi_id: u32,
    pub(crate) ci_id: u32,
}

impl EventSet {
    pub(crate) fn new(library: Arc<Library>) -> Result<Self, Failure> {
        // Freeing must work before anything is made that needs it.
        function!(library, nvmlEventSetFree)?;
        let call = function!(library, nvmlEventSetCreate)?;
        let mut set = null_mut();
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(&raw mut set) })?;
        Ok(Self { library, set })
    }

    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    /// Adds a GPU's XIDs. Returns whether it reports any.
    pub(crate) fn add_xids(&self, device: Device) -> Result<bool, Failure> {
        let xids = u64::from(nvmlEventTypeXidCriticalError);
        let supported = function!(self.library, nvmlDeviceGetSupportedEventTypes)?;
        let mut types = 0;
        // SAFETY: see the module's header.
        match supported.check(unsafe { (supported.function)(device.0, &raw mut types) }) {
            Ok(()) if types & xids == 0 => return Ok(false),
            Ok(()) => {}
            Err(failure) if failure.is(Code::NotSupported) => return Ok(false),
            Err(failure) => return Err(failure),
        }
        let register = function!(self.library, nvmlDeviceRegisterEvents)?;
        // SAFETY: see the module's header; the set lives until `self` is dropped.
        register.check(unsafe { (register.function)(device.0, xids, self.set) })?;
        Ok(true)
    }

    /// The next event, or none within the time.
    pub(crate) fn wait(&self, milliseconds: u32) -> Result<Option<RawEvent>, Failure> {
        let call = function!(self.library, nvmlEventSetWait_v2)?;
        // SAFETY: a plain C struct of numbers and a pointer.
        let mut data: nvmlEventData_t = unsafe { zeroed() };
        // SAFETY: see the module's header; the set lives until `self` is dropped.
        let returned = unsafe { (call.function)(self.set, &raw mut data, milliseconds) };
        match call.check(returned) {
            Ok(()) => Ok(Some(RawEvent {
                device: Device(data.device),
                is_xid: data.eventType & u64::from(nvmlEventTypeXidCriticalError) != 0,
                data: data.eventData,
                gi_id: data.gpuInstanceId,
                ci_id: data.computeInstanceId,
            })),
            Err(failure) if failure.is(Code::Timeout) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

impl Drop for EventSet {
    fn drop(&mut self) {
        let Ok(call) = function!(self.library, nvmlEventSetFree) else {
            return;
        };
        // SAFETY: see the module's header; nobody uses the set after this.
        if let Err(failure) = call.check(unsafe { (call.function)(self.set) }) {
            tracing::debug!(?failure, "failed to free an event set");
        }
    }
}

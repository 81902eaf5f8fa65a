//! The thin layer over the library: one safe function per NVML call.
//!
//! What makes the blocks here sound, once for all of them:
//! - functions come from a library that stays loaded as long as [`Library`] lives, with the types
//!   that `nvml-wrapper-sys` generated from nvml.h; one that is missing is an error, not a call;
//! - device handles stay valid until `nvmlShutdown`, which only dropping [`Library`] calls;
//! - NVML checks handles of instances: a stale one gives `INVALID_ARGUMENT`;
//! - whatever is written to is a local variable or a buffer whose size NVML is told or knows;
//! - NVML may be called from any thread (nvml.h: "NVML is thread-safe").

mod events;
mod instances;
mod processes;
mod profiles;

use std::{ffi::CStr, mem::forget, path::Path};

use nvml_wrapper::{Nvml, enums::device::SampleValue, error::NvmlError, structs::device::FieldId};
use nvml_wrapper_sys::bindings::{NvmlLib, nvmlDevice_t};

use crate::{
    code::Code,
    error::{Error, Failure},
    types::{GpuInfo, MigMode},
};

pub(crate) use events::{EventSet, RawEvent};
pub(crate) use instances::{Compute, ComputeInfo, Instance, InstanceInfo};
pub(crate) use processes::List;

/// Where the loader looks when no path is given.
const DEFAULT: &str = "libnvidia-ml.so.1";

/// `NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED` of nvml.h.
const RESETLESS_MIG: FieldId = FieldId(184);

/// A function of the library with its name, or the error that it has none.
macro_rules! function {
    ($library:expr, $name:ident) => {
        match &$library.functions().$name {
            Ok(function) => Ok($crate::raw::Function {
                name: stringify!($name),
                function: *function,
            }),
            Err(_) => Err($crate::error::Failure::missing(stringify!($name))),
        }
    };
}
pub(crate) use function;

pub(crate) struct Function<F> {
    name: &'static str,
    function: F,
}

impl<F> Function<F> {
    fn check(&self, returned: u32) -> Result<(), Failure> {
        match Code::from_raw(returned) {
            None => Ok(()),
            Some(code) => Err(Failure::code(self.name, code)),
        }
    }
}

/// The loaded and initialised library; shut down when dropped.
pub(crate) struct Library(Nvml);

/// A GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device(nvmlDevice_t);

// SAFETY: a handle is only ever given back to NVML, which may be called from any thread.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Library {
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, Error> {
        let path = path.unwrap_or(Path::new(DEFAULT));
        let nvml =
            Nvml::builder()
                .lib_path(path.as_os_str())
                .init()
                .map_err(|error| match error {
                    NvmlError::LibloadingError(error) => Error::Library {
                        path: path.display().to_string(),
                        reason: deepest(&error),
                    },
                    other => wrapped("nvmlInit_v2")(other).into_error(None),
                })?;
        // The wrapper's destructor calls this one unchecked and would panic.
        if nvml.lib().nvmlShutdown.is_err() {
            forget(nvml);
            return Err(Error::MissingFunction {
                call: "nvmlShutdown",
            });
        }
        Ok(Self(nvml))
    }

    fn functions(&self) -> &NvmlLib {
        self.0.lib()
    }

    pub(crate) fn driver_version(&self) -> Result<String, Failure> {
        self.0
            .sys_driver_version()
            .map_err(wrapped("nvmlSystemGetDriverVersion"))
    }

    pub(crate) fn count(&self) -> Result<u32, Failure> {
        self.0
            .device_count()
            .map_err(wrapped("nvmlDeviceGetCount_v2"))
    }

    /// The GPU of an index, and what does not change about it.
    pub(crate) fn gpu(&self, index: u32) -> Result<(Device, GpuInfo), Failure> {
        let gpu = self
            .0
            .device_by_index(index)
            .map_err(wrapped("nvmlDeviceGetHandleByIndex_v2"))?;
        let memory = match gpu.memory_info() {
            Ok(memory) => memory.total >> 20,
            Err(error) => {
                tracing::debug!(index, %error, "the driver does not tell the GPU's memory");
                0
            }
        };
        // SAFETY: the handle does not outlive the library, see the module's header.
        let device = Device(unsafe { gpu.handle() });
        let info = GpuInfo {
            uuid: gpu.uuid().map_err(wrapped("nvmlDeviceGetUUID"))?,
            index,
            minor: gpu
                .minor_number()
                .map_err(wrapped("nvmlDeviceGetMinorNumber"))?,
            name: gpu.name().map_err(wrapped("nvmlDeviceGetName"))?,
            pci_bus_id: gpu
                .pci_info()
                .map_err(wrapped("nvmlDeviceGetPciInfo_v3"))?
                .bus_id,
            memory_mib: memory,
            mig_capable: self.mig_mode(device)? != MigMode::NotCapable,
            resetless_mig: gpu
                .field_values_for(&[RESETLESS_MIG])
                .ok()
                .and_then(|values| values.into_iter().next()?.ok()?.value.ok())
                .is_some_and(|value| nonzero(&value)),
        };
        Ok((device, info))
    }

    /// The uuid of a GPU or of a MIG device.
    pub(crate) fn uuid(&self, device: Device) -> Result<String, Failure> {
        // SAFETY: the handle comes from this library.
        let device = unsafe { nvml_wrapper::Device::new(device.0, &self.0) };
        device.uuid().map_err(wrapped("nvmlDeviceGetUUID"))
    }

    pub(crate) fn mig_mode(&self, device: Device) -> Result<MigMode, Failure> {
        // SAFETY: the handle comes from this library.
        let device = unsafe { nvml_wrapper::Device::new(device.0, &self.0) };
        match device.mig_mode() {
            Ok(mode) => Ok(MigMode::of(mode.current != 0, mode.pending != 0)),
            // A driver without the function is older than MIG.
            Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => {
                Ok(MigMode::NotCapable)
            }
            Err(error) => Err(wrapped("nvmlDeviceGetMigMode")(error)),
        }
    }

    /// Asks for a mode. The code says why it is not in force yet, if it is not; only reading the
    /// mode again tells whether it is.
    pub(crate) fn set_mig_mode(&self, device: Device, on: bool) -> Result<Option<Code>, Failure> {
        let call = function!(self, nvmlDeviceSetMigMode)?;
        let mut activation = 0;
        // SAFETY: see the module's header.
        call.check(unsafe { (call.function)(device.0, u32::from(on), &raw mut activation) })?;
        Ok(Code::from_raw(activation))
    }
}

fn nonzero(value: &SampleValue) -> bool {
    match *value {
        SampleValue::U32(value) => value != 0,
        SampleValue::U64(value) => value != 0,
        SampleValue::I64(value) => value != 0,
        SampleValue::F64(value) => value != 0.0,
    }
}

/// The loader's own words, without the wrapping of `libloading`.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Text that NVML ended with a NUL, or that fills its buffer.
fn text(characters: &[std::ffi::c_char]) -> String {
    // `c_char` is signed on some platforms and not on others.
    let bytes: Vec<u8> = characters
        .iter()
        .map(|c| u8::from_ne_bytes(c.to_ne_bytes()))
        .collect();
    let text = CStr::from_bytes_until_nul(&bytes).map_or(bytes.as_slice(), CStr::to_bytes);
    String::from_utf8_lossy(text).into_owned()
}

/// An error of `nvml-wrapper` as ours.
fn wrapped(call: &'static str) -> impl Fn(NvmlError) -> Failure {
    move |error| {
        let code = match error {
            NvmlError::FailedToLoadSymbol(_) => return Failure::missing(call),
            NvmlError::Uninitialized => Code::Uninitialized,
            NvmlError::InvalidArg => Code::InvalidArgument,
            NvmlError::NotSupported => Code::NotSupported,
            NvmlError::NoPermission => Code::NoPermission,
            NvmlError::NotFound => Code::NotFound,
            NvmlError::InsufficientSize(_) => Code::InsufficientSize,
            NvmlError::InsufficientPower => Code::InsufficientPower,
            NvmlError::DriverNotLoaded => Code::DriverNotLoaded,
            NvmlError::Timeout => Code::Timeout,
            NvmlError::IrqIssue => Code::IrqIssue,
            NvmlError::LibraryNotFound => Code::LibraryNotFound,
            NvmlError::FunctionNotFound => Code::FunctionNotFound,
            NvmlError::CorruptedInfoROM => Code::CorruptedInforom,
            NvmlError::GpuLost => Code::GpuIsLost,
            NvmlError::ResetRequired => Code::ResetRequired,
            NvmlError::OperatingSystem => Code::OperatingSystem,
            NvmlError::LibRmVersionMismatch => Code::LibRmVersionMismatch,
            NvmlError::InUse => Code::InUse,
            NvmlError::InsufficientMemory => Code::Memory,
            NvmlError::NoData => Code::NoData,
            NvmlError::VgpuEccNotSupported => Code::VgpuEccNotSupported,
            NvmlError::Unknown => Code::Unknown,
            // The wrapper does not know the codes from 23 on.
            NvmlError::UnexpectedVariant(raw) => Code::from_raw(raw).unwrap_or(Code::Unknown),
            other => return Failure::answer(call, other.to_string()),
        };
        Failure::code(call, code)
    }
}

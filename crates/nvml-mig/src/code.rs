//! What NVML returns, by name and by meaning.
//!
//! Numbers are those of `nvmlReturn_t` in nvml.h. Wrapper crates know only some of them, and the
//! one that matters most here, `INSUFFICIENT_RESOURCES`, is among the missing.

use std::fmt;

macro_rules! codes {
    ($($raw:literal $name:ident $category:literal $meaning:literal)*) => {
        /// A return code of NVML other than success.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!($meaning, " (", stringify!($raw), ").")] $name,)*
            /// A number that this crate does not know.
            Other(u32),
        }

        impl Code {
            /// The code of an `nvmlReturn_t`; none for success.
            pub fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    0 => None,
                    $($raw => Some(Self::$name),)*
                    other => Some(Self::Other(other)),
                }
            }

            /// The `nvmlReturn_t`.
            pub fn raw(self) -> u32 {
                match self {
                    $(Self::$name => $raw,)*
                    Self::Other(raw) => raw,
                }
            }

            /// A bounded word for metrics and Events.
            pub fn category(self) -> &'static str {
                match self {
                    $(Self::$name => $category,)*
                    Self::Other(_) => "other",
                }
            }

            /// What it means, whatever the call was.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                    Self::Other(_) => "the driver returned a code that is not known here",
                }
            }
        }
    };
}

codes! {
    1 Uninitialized "uninitialized" "the driver was unloaded or restarted since the library was opened"
    2 InvalidArgument "invalid_argument" "the driver does not know what it was asked for"
    3 NotSupported "not_supported" "the GPU, its mode or the driver does not support this"
    4 NoPermission "no_permission" "this process may not do that"
    5 AlreadyInitialized "already_initialized" "the library is already initialised"
    6 NotFound "not_found" "there is no such thing"
    7 InsufficientSize "insufficient_size" "the answer kept growing while it was read"
    8 InsufficientPower "insufficient_power" "a power cable of the GPU is not attached"
    9 DriverNotLoaded "driver_not_loaded" "the NVIDIA driver is not loaded"
    10 Timeout "timeout" "the driver did not answer in time"
    11 IrqIssue "irq_issue" "the kernel found an interrupt problem with the GPU"
    12 LibraryNotFound "library_not_found" "a library of the driver is missing"
    13 FunctionNotFound "function_not_found" "the driver does not have this function"
    14 CorruptedInforom "corrupted_inforom" "the GPU's InfoROM is corrupted"
    15 GpuIsLost "gpu_is_lost" "the GPU has fallen off the bus"
    16 ResetRequired "reset_required" "the GPU must be reset before it can be used"
    17 OperatingSystem "operating_system" "the operating system or a cgroup blocks access to the GPU"
    18 LibRmVersionMismatch "version_mismatch" "the library and the kernel driver have different versions"
    19 InUse "in_use" "something still uses it"
    20 Memory "memory" "the driver is out of memory"
    21 NoData "no_data" "the driver has no data"
    22 VgpuEccNotSupported "vgpu_ecc_not_supported" "this is not possible while ECC is on"
    23 InsufficientResources "insufficient_resources" "the slices are not free"
    24 FreqNotSupported "freq_not_supported" "the clock frequency is not supported"
    25 ArgumentVersionMismatch "argument_version_mismatch" "the driver knows another version of this call"
    26 Deprecated "deprecated" "the driver no longer has this function"
    27 NotReady "not_ready" "the GPU is not ready yet"
    28 GpuNotFound "gpu_not_found" "the GPU is gone"
    29 InvalidState "invalid_state" "the GPU is in a state in which this is not possible"
    30 ResetTypeNotSupported "reset_type_not_supported" "the GPU does not support this kind of reset"
    999 Unknown "unknown" "the driver failed for a reason of its own"
}

impl Code {
    /// What to do about it, where the call tells.
    pub(crate) fn remedy(self, call: &str) -> Option<&'static str> {
        Some(match (self, call) {
            (Self::DriverNotLoaded, _) => "load it, then try again",
            (Self::LibRmVersionMismatch, _) => "finish the driver upgrade or reboot the node",
            (Self::NoPermission, _) => {
                "run privileged, as root, with NVIDIA_MIG_CONFIG_DEVICES=all"
            }
            (Self::GpuIsLost, _) => "reboot the node, and replace the GPU if it happens again",
            (Self::ResetRequired, _) => "reset the GPU or reboot the node",
            (Self::InUse, "nvmlDeviceSetMigMode") => {
                "stop all programs that use the GPU, monitoring too, then try again"
            }
            (Self::InUse, "nvmlDeviceCreateGpuInstanceWithPlacement") => {
                "stop the program that uses the whole GPU"
            }
            (Self::InUse, "nvmlComputeInstanceDestroy" | "nvmlGpuInstanceDestroy") => {
                "a process or a monitoring program such as DCGM holds it; try again later"
            }
            (Self::InsufficientResources, _) => {
                "another program may have created an instance there"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (NVML code {})", self.meaning(), self.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_as_itself() {
        assert_eq!(Code::from_raw(0), None);
        for raw in 1..2000 {
            assert_eq!(Code::from_raw(raw).unwrap().raw(), raw);
        }
        assert_eq!(Code::from_raw(23), Some(Code::InsufficientResources));
        assert_eq!(Code::from_raw(77), Some(Code::Other(77)));
    }

    #[test]
    fn the_same_code_calls_for_different_remedies_in_different_calls() {
        let set = Code::InUse.remedy("nvmlDeviceSetMigMode");
        let destroy = Code::InUse.remedy("nvmlGpuInstanceDestroy");
        assert!(set.is_some() && destroy.is_some() && set != destroy);
    }
}

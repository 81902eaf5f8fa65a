//! Destroying an instance, and the ways in which drivers do it by halves.

use crate::{
    code::Code,
    error::{Error, On},
    nvml::Nvml,
};

/// An instance that was not destroyed, by how far it came.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// Nothing was changed; the device works as before.
    #[error("failed to destroy GPU instance {gi_id}, it is as it was: {source}")]
    NothingDone {
        /// The GPU instance.
        gi_id: u32,
        /// Why.
        source: Error,
    },

    /// Compute instances are gone, the GPU instance (and maybe some compute instances) is not.
    /// Happens on idle instances, too, if another instance of the GPU is in use: try again later,
    /// or make the compute instance again.
    #[error(
        "failed to destroy GPU instance {gi_id}, of its compute instances {left} are left: {source}"
    )]
    Halfway {
        /// The GPU instance.
        gi_id: u32,
        /// Compute instances that are left.
        left: usize,
        /// Why.
        source: Error,
    },

    /// The driver reported success, and the GPU instance is still there.
    #[error(
        "failed to destroy GPU instance {gi_id} on {gpu}: the driver reports success, and the \
         instance is still there; reset the GPU if it does not go"
    )]
    StillThere {
        /// The GPU's uuid.
        gpu: String,
        /// The GPU instance.
        gi_id: u32,
    },

    /// What is left could not be read.
    #[error("failed to see what is left of GPU instance {gi_id}: {source}")]
    Unseen {
        /// The GPU instance.
        gi_id: u32,
        /// Why.
        source: Error,
    },
}

impl DestroyError {
    /// What NVML returned, if it is an NVML call that failed.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::NothingDone { source, .. }
            | Self::Halfway { source, .. }
            | Self::Unseen { source, .. } => source.code(),
            Self::StillThere { .. } => None,
        }
    }

    /// Whether there was no such instance to begin with.
    pub fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::NothingDone {
                source: Error::Call {
                    call: "nvmlDeviceGetGpuInstanceById",
                    code: Code::NotFound,
                    ..
                },
                ..
            }
        )
    }

    /// A bounded word for metrics and Events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NothingDone { source, .. }
            | Self::Halfway { source, .. }
            | Self::Unseen { source, .. } => source.category(),
            Self::StillThere { .. } => "still_there",
        }
    }
}

impl Nvml {
    /// Destroys a GPU instance with all compute instances in it, and looks whether it is gone.
    ///
    /// The driver refuses while a process runs there; that is the last guard, not the first: make
    /// sure beforehand that nobody holds the device.
    pub fn destroy(&self, gpu: &str, gi_id: u32) -> Result<(), DestroyError> {
        let untouched = |source| DestroyError::NothingDone { gi_id, source };
        let gpu = self.gpu(gpu).map_err(untouched)?;
        let instance = self.library.instance(gpu.device, gi_id);
        let instance = instance.on(&gpu.uuid).map_err(untouched)?;
        let computes = self.computes(gpu, instance).map_err(untouched)?;

        let count = computes.len();
        let destroyed = computes
            .into_iter()
            .try_for_each(|compute| self.library.destroy_compute(compute))
            .and_then(|()| self.library.destroy_instance(instance))
            .on(&gpu.uuid);
        // What the driver says of its success is not what counts, in either direction.
        let instance = match self.library.instance(gpu.device, gi_id) {
            Err(failure) if failure.is(Code::NotFound) => {
                if let Err(error) = destroyed {
                    tracing::warn!(gi_id, "the instance is gone, although: {error}");
                }
                return Ok(());
            }
            Err(failure) => {
                let source = failure.into_error(Some(&gpu.uuid));
                return Err(DestroyError::Unseen { gi_id, source });
            }
            Ok(instance) => instance,
        };
        let Err(source) = destroyed else {
            return Err(DestroyError::StillThere {
                gpu: gpu.uuid.clone(),
                gi_id,
            });
        };
        match self.computes(gpu, instance) {
            Ok(left) if left.len() == count && count > 0 => Err(untouched(source)),
            Ok(left) => Err(DestroyError::Halfway {
                gi_id,
                left: left.len(),
                source,
            }),
            Err(_) => Err(DestroyError::Unseen { gi_id, source }),
        }
    }
}

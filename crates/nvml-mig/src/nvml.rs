//! The library, its GPUs and their MIG modes.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use mig::GpuModel;

use crate::{
    code::Code,
    compute::ComputeProfile,
    error::{Error, On},
    profiles::{self, Row},
    raw::{Device, Library},
    types::{Activation, GpuInfo, MigMode},
};

/// The NVIDIA library, loaded and initialised. Dropping it shuts it down.
///
/// GPUs are named by their uuid everywhere.
pub struct Nvml {
    pub(crate) library: Arc<Library>,
    pub(crate) gpus: Vec<Gpu>,
    infos: Vec<GpuInfo>,
    unreadable: Vec<(u32, Error)>,
}

/// A GPU with what has been learnt of it; none of that changes while the driver is loaded.
pub(crate) struct Gpu {
    pub(crate) uuid: String,
    name: String,
    memory_mib: u64,
    pub(crate) device: Device,
    profiles: OnceLock<Vec<KnownProfile>>,
}

/// A GPU-instance profile, and the compute profiles inside it once an instance of it was seen.
pub(crate) struct KnownProfile {
    pub(crate) row: Row,
    pub(crate) compute: OnceLock<Vec<ComputeProfile>>,
}

impl Nvml {
    /// Loads the library from a path, or as `libnvidia-ml.so.1` by the loader's search, and
    /// enumerates the GPUs. One that cannot be read is left out, logged, and listed by
    /// [`Nvml::unreadable`].
    pub fn load(library: Option<&Path>) -> Result<Self, Error> {
        let library = Arc::new(Library::load(library)?);
        let count = library
            .count()
            .map_err(|failure| failure.into_error(None))?;
        let (mut gpus, mut infos, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..count {
            match library.gpu(index) {
                Ok((device, info)) => {
                    gpus.push(Gpu {
                        uuid: info.uuid.clone(),
                        name: info.name.clone(),
                        memory_mib: info.memory_mib,
                        device,
                        profiles: OnceLock::new(),
                    });
                    infos.push(info);
                }
                Err(failure) => {
                    let error = failure.into_error(Some(&format!("the GPU with index {index}")));
                    tracing::warn!(index, "a GPU is left out: {error}");
                    unreadable.push((index, error));
                }
            }
        }
        Ok(Self {
            library,
            gpus,
            infos,
            unreadable,
        })
    }

    /// The driver's version, for example `580.126.09`.
    pub fn driver_version(&self) -> Result<String, Error> {
        self.library
            .driver_version()
            .map_err(|failure| failure.into_error(None))
    }

    /// The GPUs, in the order of their indices, as they were when the library was loaded.
    pub fn gpus(&self) -> &[GpuInfo] {
        &self.infos
    }

    /// Indices of GPUs that the driver lists but that could not be read, and why.
    pub fn unreadable(&self) -> &[(u32, Error)] {
        &self.unreadable
    }

    /// The MIG mode, now and pending.
    pub fn mig_mode(&self, gpu: &str) -> Result<MigMode, Error> {
        let gpu = self.gpu(gpu)?;
        self.library.mig_mode(gpu.device).on(&gpu.uuid)
    }

    /// Turns MIG mode on or off, and reads it again: the driver's "success" says only that it has
    /// taken note.
    ///
    /// Ampere GPUs need a reset for it, which the driver tries itself unless a program uses the
    /// GPU; later ones switch at once, unless a program uses the GPU.
    pub fn set_mig_mode(&self, gpu: &str, on: bool) -> Result<Activation, Error> {
        let gpu = self.gpu(gpu)?;
        let why = self.library.set_mig_mode(gpu.device, on).on(&gpu.uuid)?;
        let now = self.library.mig_mode(gpu.device).on(&gpu.uuid)?;
        outcome(now, on, why).ok_or_else(|| match why {
            Some(code) => Error::Call {
                call: "nvmlDeviceSetMigMode",
                gpu: Some(gpu.uuid.clone()),
                code,
            },
            None => Error::ModeUnchanged {
                gpu: gpu.uuid.clone(),
                on,
            },
        })
    }

    /// What the GPU can be cut into, as its driver says: names, placements, sizes. Does not depend
    /// on what stands there now; drivers before R580 may need MIG mode on.
    pub fn model(&self, gpu: &str) -> Result<GpuModel, Error> {
        let gpu = self.gpu(gpu)?;
        let mut rows = Vec::new();
        for KnownProfile { row, .. } in self.profiles(gpu)? {
            let placements = self.library.placements(gpu.device, row.id).on(&gpu.uuid)?;
            rows.push((row.clone(), placements));
        }
        Ok(profiles::model(&gpu.name, rows))
    }

    pub(crate) fn gpu(&self, uuid: &str) -> Result<&Gpu, Error> {
        let found = self.gpus.iter().find(|gpu| gpu.uuid == uuid);
        found.ok_or_else(|| Error::UnknownGpu {
            gpu: uuid.to_owned(),
        })
    }

    /// The profiles of a GPU in the order of the driver's enum. Asked for once; a driver that has
    /// none to tell (MIG mode off, before R580) is asked again.
    pub(crate) fn profiles<'a>(&self, gpu: &'a Gpu) -> Result<&'a [KnownProfile], Error> {
        if let Some(known) = gpu.profiles.get() {
            return Ok(known);
        }
        let mut found = Vec::new();
        for enumerator in 0..profiles::ENUM_LIMIT {
            match self.library.profile_info(gpu.device, enumerator) {
                Ok(Some(info)) => found.push(KnownProfile {
                    row: info.into_row(enumerator, gpu.memory_mib),
                    compute: OnceLock::new(),
                }),
                Ok(None) => {}
                // The end of the enum, unless it is the first: then the call itself is refused.
                Err(failure) if failure.is(Code::InvalidArgument) && enumerator > 0 => break,
                Err(failure) => return Err(failure.into_error(Some(&gpu.uuid))),
            }
        }
        if found.is_empty() {
            return Ok(&[]);
        }
        Ok(gpu.profiles.get_or_init(|| found))
    }
}

/// Judges a mode that was read back after it had been asked for. None: nothing happened.
fn outcome(now: MigMode, on: bool, why: Option<Code>) -> Option<Activation> {
    match (now, on) {
        (MigMode::On, true) | (MigMode::Off, false) => Some(Activation::Done),
        (MigMode::PendingOn, true) | (MigMode::PendingOff, false) => {
            let reason = match why {
                Some(Code::InUse) => "a program uses the GPU; stop all of them, monitoring too, \
                                      then reset the GPU or reboot the node"
                    .to_owned(),
                Some(Code::NotSupported) => "the GPU cannot be reset from here, as in a virtual \
                                             machine; reboot the node"
                    .to_owned(),
                Some(Code::ResetRequired) | None => "reset the GPU or reboot the node".to_owned(),
                Some(other) => format!("{other}; reset the GPU or reboot the node"),
            };
            Some(Activation::Pending { reason })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mode_that_is_read_back_counts() {
        assert_eq!(
            outcome(MigMode::On, true, Some(Code::InUse)),
            Some(Activation::Done)
        );
        assert_eq!(outcome(MigMode::Off, true, None), None);
        assert_eq!(outcome(MigMode::Off, false, None), Some(Activation::Done));
        assert_eq!(outcome(MigMode::On, false, Some(Code::InUse)), None);
    }

    #[test]
    fn a_pending_mode_says_what_to_do() {
        let reason = |code| match outcome(MigMode::PendingOn, true, code) {
            Some(Activation::Pending { reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason(Some(Code::InUse)).contains("stop all of them"));
        assert!(reason(Some(Code::NotSupported)).contains("virtual"));
        assert!(reason(None).contains("reset the GPU or reboot"));
    }

    #[test]
    fn the_library_may_move_to_a_thread_of_its_own() {
        fn send<T: Send + Sync>() {}
        send::<Nvml>();
    }
}

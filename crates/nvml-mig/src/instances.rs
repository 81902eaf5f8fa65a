//! Instances: list, create at an exact place, complete.

use mig::Placement;

use crate::{
    code::Code,
    compute::{self, ComputeProfile},
    error::{Error, Failure, On},
    nvml::{Gpu, KnownProfile, Nvml},
    raw::{Compute, ComputeInfo, Instance, InstanceInfo},
    types::{ComputeInstance, GpuInstance},
};

impl Nvml {
    /// The GPU instances of a GPU in ascending order of ids, those without compute instance
    /// included (the driver's list of MIG devices hides them). None while MIG mode is off.
    pub fn instances(&self, gpu: &str) -> Result<Vec<GpuInstance>, Error> {
        let gpu = self.gpu(gpu)?;
        if !self.library.mig_mode(gpu.device).on(&gpu.uuid)?.is_on() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for profile in self.profiles(gpu)? {
            let most = profile.row.max_instances;
            match self.library.instances(gpu.device, profile.row.id, most) {
                Ok(instances) => {
                    for instance in instances {
                        found.extend(self.read_unless_gone(gpu, instance)?);
                    }
                }
                Err(failure) if failure.is(Code::NotSupported) => {
                    tracing::debug!(gpu = gpu.uuid, profile = %profile.row.name, "not listable");
                }
                Err(failure) => return Err(failure.into_error(Some(&gpu.uuid))),
            }
        }
        found.sort_by_key(|instance| instance.gi_id);
        Ok(found)
    }

    /// Creates a GPU instance of a profile (by NVML's id) at exactly this place, fills it with one
    /// compute instance, and reads both back. If any step fails, what was made is destroyed again;
    /// if that fails, too, the error is [`Error::Remains`].
    pub fn create(
        &self,
        gpu: &str,
        profile_id: u32,
        placement: Placement,
    ) -> Result<GpuInstance, Error> {
        let gpu = self.gpu(gpu)?;
        // Before anything is made: a profile that is unknown here could not be read back.
        self.profile(gpu, profile_id)?;
        let made = self
            .library
            .create_instance(gpu.device, profile_id, placement);
        let made = made.on(&gpu.uuid)?;
        let result = self.complete(gpu, made).and_then(|instance| {
            if instance.profile_id == profile_id && instance.placement == placement {
                return Ok(instance);
            }
            let found = format!("{} at {}", instance.profile_id, instance.placement);
            Err(Error::Different {
                gpu: gpu.uuid.clone(),
                profile_id,
                placement,
                found,
            })
        });
        result.map_err(|error| self.undo(gpu, made, error))
    }

    /// Fills a GPU instance that has no compute instance (a creation that was cut off, or a
    /// destruction that stopped half-way). One that is already filled is returned as it is.
    pub fn create_compute_instance(&self, gpu: &str, gi_id: u32) -> Result<GpuInstance, Error> {
        let gpu = self.gpu(gpu)?;
        let instance = self.library.instance(gpu.device, gi_id).on(&gpu.uuid)?;
        let found = self.read(gpu, instance)?;
        if found.device_uuid().is_some() {
            return Ok(found);
        }
        self.complete(gpu, instance)
    }

    fn complete(&self, gpu: &Gpu, instance: Instance) -> Result<GpuInstance, Error> {
        let info = self.library.instance_info(instance).on(&gpu.uuid)?;
        let profile = self.profile(gpu, info.profile_id)?;
        let inside = self.compute_profiles(gpu, profile, instance)?;
        let none = || Error::NoFullProfile {
            gpu: gpu.uuid.clone(),
            gi_id: info.gi_id,
        };
        let full = compute::full(inside, &profile.row).ok_or_else(none)?;
        self.library
            .create_compute(instance, full.id)
            .on(&gpu.uuid)?;
        // By id, as anybody else would find it.
        let again = self
            .library
            .instance(gpu.device, info.gi_id)
            .on(&gpu.uuid)?;
        let found = self.read(gpu, again)?;
        if found.device_uuid().is_none() {
            let call = "nvmlGpuInstanceGetComputeInstances";
            let what = format!(
                "{} compute instances after one was made",
                found.compute.len()
            );
            return Err(Failure::answer(call, what).into_error(Some(&gpu.uuid)));
        }
        Ok(found)
    }

    fn undo(&self, gpu: &Gpu, instance: Instance, source: Error) -> Error {
        let computes = self.computes(gpu, instance).unwrap_or_default();
        let cleaned = computes
            .into_iter()
            .try_for_each(|compute| self.library.destroy_compute(compute))
            .and_then(|()| self.library.destroy_instance(instance));
        let Err(cleanup) = cleaned else { return source };
        Error::Remains {
            gpu: gpu.uuid.clone(),
            gi_id: self
                .library
                .instance_info(instance)
                .ok()
                .map(|info| info.gi_id),
            source: Box::new(source),
            cleanup: Box::new(cleanup.into_error(Some(&gpu.uuid))),
        }
    }

    /// Another program may destroy an instance between the listing and the reading.
    fn read_unless_gone(
        &self,
        gpu: &Gpu,
        instance: Instance,
    ) -> Result<Option<GpuInstance>, Error> {
        match self.read(gpu, instance) {
            Ok(found) => Ok(Some(found)),
            Err(Error::Call {
                code: Code::InvalidArgument | Code::NotFound,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn read(&self, gpu: &Gpu, instance: Instance) -> Result<GpuInstance, Error> {
        let info = self.library.instance_info(instance).on(&gpu.uuid)?;
        let InstanceInfo {
            gi_id,
            profile_id,
            placement,
        } = info;
        let profile = self.profile(gpu, profile_id)?;
        let inside = self.compute_profiles(gpu, profile, instance)?;
        let full = compute::full(inside, &profile.row).map(|full| full.id);
        let mut compute = Vec::new();
        for each in self.computes(gpu, instance)? {
            let info: ComputeInfo = self.library.compute_info(each).on(&gpu.uuid)?;
            compute.push(ComputeInstance {
                ci_id: info.ci_id,
                uuid: self.library.uuid(info.device).on(&gpu.uuid)?,
                full: full == Some(info.profile_id),
            });
        }
        compute.sort_by_key(|compute| compute.ci_id);
        Ok(GpuInstance {
            gi_id,
            profile_id,
            profile: profile.row.name,
            placement,
            compute,
        })
    }

    /// All compute instances of a GPU instance, of whatever profile.
    pub(crate) fn computes(&self, gpu: &Gpu, instance: Instance) -> Result<Vec<Compute>, Error> {
        let info = self.library.instance_info(instance).on(&gpu.uuid)?;
        let profile = self.profile(gpu, info.profile_id)?;
        let mut found = Vec::new();
        for inside in self.compute_profiles(gpu, profile, instance)? {
            let some = self
                .library
                .computes(instance, inside.id, inside.max_instances);
            found.extend(some.on(&gpu.uuid)?);
        }
        Ok(found)
    }

    fn profile<'a>(&self, gpu: &'a Gpu, profile_id: u32) -> Result<&'a KnownProfile, Error> {
        let found = self
            .profiles(gpu)?
            .iter()
            .find(|known| known.row.id == profile_id);
        found.ok_or_else(|| Error::UnknownProfile {
            gpu: gpu.uuid.clone(),
            profile_id,
        })
    }

    fn compute_profiles<'a>(
        &self,
        gpu: &Gpu,
        profile: &'a KnownProfile,
        instance: Instance,
    ) -> Result<&'a [ComputeProfile], Error> {
        if let Some(known) = profile.compute.get() {
            return Ok(known);
        }
        let mut found = Vec::new();
        for enumerator in 0..compute::ENUM_LIMIT {
            match self.library.compute_profile(instance, enumerator) {
                Ok(inside) => found.extend(inside),
                // The end of the enum, unless it is the first: then the instance is gone.
                Err(failure) if failure.is(Code::InvalidArgument) && enumerator > 0 => break,
                Err(failure) => return Err(failure.into_error(Some(&gpu.uuid))),
            }
        }
        Ok(profile.compute.get_or_init(|| found))
    }
}

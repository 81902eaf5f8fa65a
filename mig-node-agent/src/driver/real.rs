//! [`Hardware`] by the real NVML library.

use std::path::Path;

use mig::{GpuModel, Placement, ProfileName};
use nvml_mig::{Activation, DestroyError, Error, EventWatch, GpuInfo, GpuInstance, Nvml};

use super::{Hardware, Process};
use crate::node::{Failure, Remains, View};

/// The library, opened.
pub struct Real(Nvml);

impl Real {
    /// Opens the library of that path, or `libnvidia-ml.so.1` where the loader finds it.
    ///
    /// # Errors
    /// What the crate `nvml-mig` says.
    pub fn open(library: Option<&Path>) -> Result<Self, Error> {
        Nvml::load(library).map(Self)
    }

    /// Starts to collect faults; none if the driver cannot report any.
    pub fn watch(&self) -> Option<EventWatch> {
        let watch = self.0.watch_events();
        watch
            .inspect_err(|error| tracing::warn!(%error, "Faults of GPUs go unnoticed"))
            .ok()
    }
}

fn failure(error: &Error) -> Failure {
    Failure::new(error.category(), error.to_string())
}

impl Hardware for Real {
    fn version(&self) -> Result<String, Failure> {
        self.0.driver_version().map_err(|e| failure(&e))
    }

    fn gpus(&self) -> Vec<GpuInfo> {
        self.0.gpus().to_vec()
    }

    fn unreadable(&self) -> Vec<String> {
        let unreadable = self.0.unreadable().iter();
        unreadable
            .map(|(index, error)| format!("GPU {index} cannot be read and is left out: {error}."))
            .collect()
    }

    fn model(&self, gpu: &str) -> Result<Option<GpuModel>, Failure> {
        let capable = self.0.gpus().iter().any(|g| g.uuid == gpu && g.mig_capable);
        if !capable {
            return Ok(None);
        }
        self.0.model(gpu).map(Some).map_err(|e| failure(&e))
    }

    fn view(&self, gpu: &str) -> Result<View, Failure> {
        let mode = self.0.mig_mode(gpu).map_err(|e| failure(&e))?;
        let instances = if mode.is_on() {
            self.0.instances(gpu).map_err(|e| failure(&e))?
        } else {
            Vec::new()
        };
        Ok(View { mode, instances })
    }

    fn create(
        &self,
        gpu: &str,
        profile: u32,
        placement: Placement,
    ) -> Result<GpuInstance, Failure> {
        let made = self.0.create(gpu, profile, placement);
        made.map_err(|e| failure(&e))
    }

    fn complete(&self, gpu: &str, instance: u32) -> Result<GpuInstance, Failure> {
        let made = self.0.create_compute_instance(gpu, instance);
        made.map_err(|e| failure(&e))
    }

    fn destroy(
        &self,
        gpu: &str,
        instance: u32,
        profile: ProfileName,
        start: u8,
    ) -> Result<(), (Remains, Failure)> {
        let untouched = |failure| (Remains::Whole, failure);
        let there = self.0.instances(gpu).map_err(|e| untouched(failure(&e)))?;
        if let Some(other) = there.iter().find(|i| i.gi_id == instance)
            && (other.profile, other.placement.start) != (profile, start)
        {
            let message = format!(
                "Instance {instance} of {gpu} is not {profile} at slice {start} any more: somebody else has put {} there.",
                other.profile
            );
            return Err(untouched(Failure::new("changed", message)));
        }
        let destroyed = self.0.destroy(gpu, instance);
        if destroyed.as_ref().is_err_and(DestroyError::is_absent) {
            return Ok(());
        }
        destroyed.map_err(|error| {
            let remains = match &error {
                DestroyError::NothingDone { .. } => Remains::Whole,
                _ => Remains::Bare,
            };
            (remains, Failure::new(error.category(), error.to_string()))
        })
    }

    fn switch(&self, gpu: &str, on: bool) -> Result<Activation, Failure> {
        self.0.set_mig_mode(gpu, on).map_err(|e| failure(&e))
    }

    fn processes(&self, gpu: &str) -> Result<Vec<Process>, Failure> {
        let processes = self.0.processes(gpu).map_err(|e| failure(&e))?;
        Ok(processes
            .into_iter()
            .map(|process| Process {
                pid: process.pid,
                instance: process.gi_id,
            })
            .collect())
    }
}

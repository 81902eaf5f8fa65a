//! NVML behind one dedicated thread.
//!
//! The driver serialises changes anyway, some calls take seconds, and a call can hang for good when
//! a GPU is broken. So all calls are made on one thread, in order, and everybody else waits for
//! answers: with a limit, never on an async worker.

mod events;
mod library;
mod real;
mod thread;

use mig::{GpuModel, Placement, ProfileName};
use nvml_mig::{Activation, GpuInfo, GpuInstance};

use crate::node::{Failure, Remains, View};

pub use events::{Fault, watch_events};
pub use library::find_library;
pub use real::Real;
pub use thread::{Driver, PATIENCE, closed};

/// What the agent needs of a GPU driver. GPUs are named by uuid. All calls block.
pub trait Hardware {
    /// The driver's version, for people.
    fn version(&self) -> Result<String, Failure>;
    /// The GPUs, enumerated once.
    fn gpus(&self) -> Vec<GpuInfo>;
    /// A sentence for each GPU that could not be enumerated.
    fn unreadable(&self) -> Vec<String>;
    /// What a GPU can be cut into; none if it cannot do MIG.
    fn model(&self, gpu: &str) -> Result<Option<GpuModel>, Failure>;
    /// What is on it.
    fn view(&self, gpu: &str) -> Result<View, Failure>;
    /// Makes an instance at exactly this place, with its compute instance.
    fn create(&self, gpu: &str, profile: u32, placement: Placement)
    -> Result<GpuInstance, Failure>;
    /// Makes the compute instance of an instance that has none.
    fn complete(&self, gpu: &str, instance: u32) -> Result<GpuInstance, Failure>;
    /// Destroys an instance with its compute instances, and looks whether it is gone. Only if it is
    /// still of this profile at this first slice: ids are given out again.
    fn destroy(
        &self,
        gpu: &str,
        instance: u32,
        profile: ProfileName,
        start: u8,
    ) -> Result<(), (Remains, Failure)>;
    /// Turns MIG mode on or off.
    fn switch(&self, gpu: &str, on: bool) -> Result<Activation, Failure>;
    /// Every process on it.
    fn processes(&self, gpu: &str) -> Result<Vec<Process>, Failure>;
}

/// A process on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id in the agent's namespace, which is the host's.
    pub pid: u32,
    /// GPU instance it runs on, if the driver can tell.
    pub instance: Option<u32>,
}

//! Who runs on a GPU.

use crate::{
    code::Code,
    error::{Error, On},
    nvml::Nvml,
    raw::List,
};

/// NVML's number for "no instance".
pub(crate) const NO_INSTANCE: u32 = u32::MAX;

/// A process on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id in the caller's pid namespace; 0 if it cannot be seen from there.
    pub pid: u32,
    /// GPU instance that it runs on.
    pub gi_id: Option<u32>,
    /// Compute instance that it runs on.
    pub ci_id: Option<u32>,
    /// How it uses the GPU.
    pub kind: ProcessKind,
}

/// How a process uses a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    /// By a CUDA context of its own.
    Compute,
    /// Through the Multi-Process Service.
    Mps,
    /// For graphics.
    Graphics,
}

impl Nvml {
    /// All processes on a GPU and on its instances. Needs privileges to see those of others.
    pub fn processes(&self, gpu: &str) -> Result<Vec<Process>, Error> {
        let gpu = self.gpu(gpu)?;
        let some = |id: u32| Some(id).filter(|id| *id != NO_INSTANCE);
        let mut found = Vec::new();
        for (list, kind) in [
            (List::Compute, ProcessKind::Compute),
            (List::Mps, ProcessKind::Mps),
            (List::Graphics, ProcessKind::Graphics),
        ] {
            match self.library.processes(gpu.device, list) {
                Ok(processes) => found.extend(processes.into_iter().map(|process| Process {
                    pid: process.pid,
                    gi_id: some(process.gi_id),
                    ci_id: some(process.ci_id),
                    kind,
                })),
                // A GPU without graphics or MPS. Without the list of compute processes nobody could
                // tell an idle GPU from a busy one, so that is an error.
                Err(failure) if failure.is(Code::NotSupported) && list != List::Compute => {}
                Err(failure) => return Err(failure).on(&gpu.uuid),
            }
        }
        Ok(found)
    }
}

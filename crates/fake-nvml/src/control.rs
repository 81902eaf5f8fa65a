//! What happens to a simulated host from outside NVML: reboots, processes, hardware errors.
//!
//! For tests, the demo and the embedded cluster. Works on a host whether or not any process has
//! the library loaded at the time.

use std::path::Path;
use std::time::Duration;

use crate::config::{self, Config};
use crate::host::{Hardware, State};
use crate::model::{Code, Placement};
use crate::store::Store;

pub use crate::config::Error;
pub use crate::model::gpu::{Process, ProcessKind};
pub use crate::triggers::{Effect, Fault, Xid};

/// A simulated host.
#[derive(Debug)]
pub struct Host {
    hardware: Hardware,
    store: Store,
}

/// A host as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// GPUs by NVML index.
    pub gpus: Vec<GpuState>,
}

/// One GPU of a [`HostState`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuState {
    /// NVML index.
    pub index: usize,
    /// `GPU-...`
    pub uuid: String,
    /// Name as NVML gives it.
    pub name: &'static str,
    /// Number of `/dev/nvidia<minor>`.
    pub minor: u32,
    /// Memory slices as NVML counts them; 0 on a GPU without MIG.
    pub memory_slices: u32,
    /// MIG mode in force.
    pub mig_mode: bool,
    /// MIG mode after the next reset.
    pub pending_mig_mode: bool,
    /// GPU instances in ascending order of their ids.
    pub instances: Vec<InstanceState>,
    /// Processes.
    pub processes: Vec<Process>,
}

/// One GPU instance of a [`GpuState`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceState {
    /// GPU instance id.
    pub gi: u32,
    /// A number that no other instance of this host has or had: unlike id and uuid, it tells one
    /// that was destroyed and made again at the same place from the one before.
    pub serial: u64,
    /// Profile name without `MIG `, for example `1g.5gb+me`.
    pub profile: &'static str,
    /// First memory slice.
    pub start: u32,
    /// Number of memory slices.
    pub size: u32,
    /// Compute instances in ascending order of their ids.
    pub compute: Vec<ComputeState>,
}

/// One compute instance of an [`InstanceState`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeState {
    /// Compute instance id.
    pub ci: u32,
    /// `MIG-...`
    pub uuid: String,
    /// Whether it takes the whole GPU instance.
    pub full: bool,
}

fn refused(action: &'static str) -> impl Fn(Code) -> Error {
    move |code| Error::Refused {
        action,
        code: code.0,
    }
}

impl Host {
    /// Opens the host that a configuration file describes; boots it if it never was.
    pub fn open(config: &Path) -> Result<Self, Error> {
        let config = Config::load(config)?;
        let store = Store::open(&config.state, &config.first)?;
        Ok(Self {
            hardware: config.hardware,
            store,
        })
    }

    /// The host as it is now.
    pub fn state(&self) -> Result<HostState, Error> {
        let state = self.store.load()?;
        Ok(HostState {
            gpus: (0..self.hardware.gpus.len())
                .map(|gpu| self.gpu_state(&state, gpu))
                .collect(),
        })
    }

    fn gpu_state(&self, state: &State, index: usize) -> GpuState {
        let host = &self.hardware.gpus[index];
        let (board, grid) = (host.chip.board, host.chip.grid);
        let gpu = &state.gpus[index];
        let instances = gpu.instances.iter().map(|instance| {
            let Placement { start, size } = grid.placement(instance.id);
            let profiles = instance.compute_profiles(board);
            let compute = instance.compute.iter().map(|compute| ComputeState {
                ci: compute.id,
                uuid: self.hardware.mig_uuid(index, instance, compute),
                full: profiles
                    .iter()
                    .any(|each| each.id == compute.profile && each.full),
            });
            InstanceState {
                gi: instance.id,
                serial: instance.serial,
                profile: board
                    .by_id(instance.profile)
                    .map_or("?", |profile| profile.name),
                start,
                size,
                compute: compute.collect(),
            }
        });
        GpuState {
            index,
            uuid: host.uuid(),
            name: board.name,
            minor: host.minor,
            memory_slices: board.slots * board.unit,
            mig_mode: gpu.mode.current,
            pending_mig_mode: gpu.mode.pending,
            instances: instances.collect(),
            processes: gpu.processes.clone(),
        }
    }

    fn change<T>(
        &self,
        action: &'static str,
        change: impl FnOnce(&Hardware, &mut State) -> Result<T, Code>,
    ) -> Result<T, Error> {
        self.store
            .try_update(|state| change(&self.hardware, state))?
            .map_err(refused(action))
    }

    /// Starts a process on a GPU, or on the compute instance that it names; on a partitioned GPU
    /// there is nothing else to run on. A process id is on a GPU once.
    pub fn add_process(&self, gpu: usize, process: Process) -> Result<(), Error> {
        self.change("start a process", |_, state| {
            state.gpu_mut(gpu)?.start_process(process)
        })
    }

    /// Ends a process on a GPU. Ending one that is not there is no error.
    pub fn remove_process(&self, gpu: usize, pid: u32) -> Result<(), Error> {
        self.change("end a process", |_, state| {
            state
                .gpu_mut(gpu)?
                .processes
                .retain(|process| process.pid != pid);
            Ok(())
        })
    }

    /// Lets a hardware error appear to every client that has registered for it.
    pub fn raise_xid(&self, xid: Xid) -> Result<(), Error> {
        self.change("raise an error", |hardware, state| {
            hardware.board(xid.gpu)?;
            state.raise(xid);
            Ok(())
        })
    }

    /// Boots the host again. Sessions that are open find the driver gone and must start afresh, as
    /// after a driver was unloaded.
    pub fn reboot(&self) -> Result<(), Error> {
        self.change("reboot", |hardware, state| {
            state.reboot(hardware);
            Ok(())
        })
    }

    /// Resets one GPU, as `nvidia-smi --gpu-reset` does: refused while anything uses it.
    pub fn reset_gpu(&self, gpu: usize) -> Result<(), Error> {
        let connected = self.store.has_clients()?;
        self.change("reset the GPU", |_, state| {
            let gpu = state.gpu_mut(gpu)?;
            if connected || !gpu.processes.is_empty() {
                return Err(Code::IN_USE);
            }
            gpu.reset();
            Ok(())
        })
    }

    /// Creates a GPU instance with the compute instance that fills it, as another program on the
    /// host would. Without `start` the driver chooses the place. Returns the GPU instance id.
    pub fn create_instance(
        &self,
        gpu: usize,
        profile: &str,
        start: Option<u32>,
    ) -> Result<u32, Error> {
        self.change("create an instance", |hardware, state| {
            let chip = &hardware.board(gpu)?.chip;
            let profile = chip.board.by_name(profile).ok_or(Code::NOT_FOUND)?;
            state.create_full(hardware, gpu, profile, start)
        })
    }

    /// Destroys a GPU instance with its compute instances, as another program would.
    pub fn destroy_instance(&self, gpu: usize, gi: u32) -> Result<(), Error> {
        self.change("destroy an instance", |_, state| {
            let gpu = state.gpu_mut(gpu)?;
            let instance = gpu.instances.iter().find(|each| each.id == gi);
            let instance = instance.ok_or(Code::NOT_FOUND)?.clone();
            if gpu.processes.iter().any(|process| process.gi == Some(gi)) {
                return Err(Code::IN_USE);
            }
            instance
                .compute
                .iter()
                .try_for_each(|each| gpu.destroy_compute(each.serial))?;
            gpu.destroy_instance(instance.serial)
        })
    }

    /// Arms a fault; it counts calls from now on.
    pub fn inject(&self, fault: &Fault) -> Result<(), Error> {
        let trigger = fault.trigger();
        let gpus = self.hardware.gpus.len();
        config::check(&trigger, gpus).map_err(|message| self.wrong(message))?;
        self.store.update(|state| state.triggers.push(trigger))
    }

    /// Disarms all faults, the configured ones too.
    pub fn clear_faults(&self) -> Result<(), Error> {
        self.store.update(|state| state.triggers.clear())
    }

    /// How many calls of a function the armed faults have counted, refused ones included. To count
    /// without disturbing, arm one with [`Effect::Delay`] and no delay.
    pub fn calls_seen(&self, call: &str) -> Result<u64, Error> {
        let state = self.store.load()?;
        let of_it = state.triggers.iter().filter(|trigger| trigger.call == call);
        Ok(of_it.map(|trigger| trigger.seen).max().unwrap_or_default())
    }

    /// Changes the latency of one call, or of all others by the name `default`.
    pub fn set_latency(&self, call: &str, latency: Duration) -> Result<(), Error> {
        if call != "default" {
            config::known_call("latency", call).map_err(|message| self.wrong(message))?;
        }
        let milliseconds = latency.as_secs_f64() * 1000.0;
        self.store.update(|state| {
            state.latency_ms.insert(call.to_owned(), milliseconds);
        })
    }

    fn wrong(&self, message: String) -> Error {
        Error::Value {
            path: self.store.path().to_owned(),
            message,
        }
    }
}

impl HostState {
    /// GPU index, GPU instance id and compute instance id of a MIG device.
    pub fn find(&self, uuid: &str) -> Option<(usize, u32, u32)> {
        self.gpus.iter().find_map(|gpu| {
            gpu.instances.iter().find_map(|instance| {
                let compute = instance
                    .compute
                    .iter()
                    .find(|compute| compute.uuid == uuid)?;
                Some((gpu.index, instance.gi, compute.ci))
            })
        })
    }
}

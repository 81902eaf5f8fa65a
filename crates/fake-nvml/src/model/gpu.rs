//! One GPU: its instances, what runs on them, and what the driver says to each wish.

use serde::{Deserialize, Serialize};

use crate::model::board::{Board, Engines, Profile};
use crate::model::code::Code;
use crate::model::compute::{self, ComputeProfile};
use crate::model::grid::{Grid, Placement};
use crate::model::mode::Mode;

/// What never changes about one GPU.
#[derive(Clone, Copy, Debug)]
pub struct Chip {
    /// Its model.
    pub board: &'static Board,
    /// Its memory slots; the fused one differs between two GPUs of one model.
    pub grid: Grid,
    /// Whether the driver can reset it (a virtual machine with a passed-through GPU cannot).
    pub reset_works: bool,
}

/// What changes about one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// MIG mode, current and pending.
    #[serde(default)]
    pub mode: Mode,
    /// GPU instances in ascending order of their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
    /// Processes with a context on the GPU or on one of its instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
}

/// A GPU instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Position in the driver's tree; NVML's id.
    pub id: u32,
    /// Profile id.
    pub profile: u32,
    /// Never used twice on a host, so that handles of a destroyed instance stay invalid.
    pub serial: u64,
    /// Compute instances in ascending order of their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compute: Vec<Compute>,
}

/// A compute instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compute {
    /// Lowest number that was free in its GPU instance.
    pub id: u32,
    /// Profile id.
    pub profile: u32,
    /// First compute slice inside the GPU instance.
    pub start: u32,
    /// Compute slices.
    pub size: u32,
    /// As [`Instance::serial`].
    pub serial: u64,
}

/// What a process does on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessKind {
    /// CUDA.
    #[default]
    Compute,
    /// CUDA through the multi-process service.
    Mps,
    /// Graphics.
    Graphics,
}

/// A process with a context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// GPU instance id; `None` is the GPU as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gi: Option<u32>,
    /// Compute instance id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<u32>,
    /// What it does.
    #[serde(default)]
    pub kind: ProcessKind,
    /// Memory in MiB.
    #[serde(default)]
    pub memory_mib: u64,
    /// Name as `nvmlSystemGetProcessName` gives it.
    #[serde(default)]
    pub name: String,
}

impl Gpu {
    /// The profile of that id, if MIG calls make sense on this GPU now.
    fn profile_for_change(&self, chip: &Chip, id: u32) -> Result<&'static Profile, Code> {
        if !chip.board.mig_capable() || !self.mode.current {
            return Err(Code::NOT_SUPPORTED);
        }
        chip.board.by_id(id).ok_or(Code::INVALID_ARGUMENT)
    }

    fn used(&self) -> Vec<u32> {
        self.instances.iter().map(|instance| instance.id).collect()
    }

    /// Media engines that no instance has.
    fn engines_left(&self, board: &Board) -> Engines {
        let all = board.whole().map(|whole| whole.engines).unwrap_or_default();
        self.instances
            .iter()
            .filter_map(|instance| board.by_id(instance.profile))
            .fold(all, |left, profile| left.minus(profile.engines))
    }

    /// How many more instances of `profile` can be created.
    pub fn remaining(&self, chip: &Chip, profile: &Profile) -> u32 {
        let room = chip.grid.room(&self.used(), profile.shape);
        let room = u32::try_from(room)
            .unwrap_or(u32::MAX)
            .min(profile.max_instances);
        match profile.engines.times_in(self.engines_left(chip.board)) {
            Some(times) => room.min(times),
            None => room,
        }
    }

    /// Creates a GPU instance at `place`, or where the driver likes. Returns its id.
    pub fn create_instance(
        &mut self,
        chip: &Chip,
        profile: u32,
        place: Option<Placement>,
        serial: u64,
    ) -> Result<u32, Code> {
        let profile = self.profile_for_change(chip, profile)?;
        let possible = |id: &u32| place.is_none_or(|wanted| chip.grid.placement(*id) == wanted);
        if !chip.grid.candidates(profile.shape).any(|id| possible(&id)) {
            return Err(Code::INVALID_ARGUMENT);
        }
        // The first instance moves the whole GPU into another state, which a client forbids.
        if self.instances.is_empty() && !self.processes.is_empty() {
            return Err(Code::IN_USE);
        }
        if self.remaining(chip, profile) == 0 {
            return Err(Code::INSUFFICIENT_RESOURCES);
        }
        let used = self.used();
        let id = match place {
            Some(_) => chip.grid.free(&used, profile.shape).find(possible),
            None => chip
                .grid
                .best_fit(&used, profile.shape, &chip.board.shapes()),
        };
        let id = id.ok_or(Code::INSUFFICIENT_RESOURCES)?;
        let at = self.instances.partition_point(|instance| instance.id < id);
        let instance = Instance {
            id,
            profile: profile.id,
            serial,
            compute: Vec::new(),
        };
        self.instances.insert(at, instance);
        Ok(id)
    }

    /// Destroys the GPU instance of that serial.
    pub fn destroy_instance(&mut self, serial: u64) -> Result<(), Code> {
        let at = self.position(serial)?;
        let instance = &self.instances[at];
        let busy = self
            .processes
            .iter()
            .any(|process| process.gi == Some(instance.id));
        if busy || !instance.compute.is_empty() {
            return Err(Code::IN_USE);
        }
        self.instances.remove(at);
        Ok(())
    }

    /// Creates a compute instance at `place`, or where the driver likes. Returns its id.
    pub fn create_compute(
        &mut self,
        chip: &Chip,
        instance: u64,
        profile: u32,
        place: Option<Placement>,
        serial: u64,
    ) -> Result<u32, Code> {
        let at = self.position(instance)?;
        let instance = &mut self.instances[at];
        let profiles = instance.compute_profiles(chip.board);
        let profile = profiles.iter().find(|each| each.id == profile).ok_or({
            if profile < compute::PROFILE_COUNT {
                Code::NOT_SUPPORTED
            } else {
                Code::INVALID_ARGUMENT
            }
        })?;
        let used = instance.compute_used();
        let start = match place {
            Some(wanted) => {
                if wanted.size != profile.size || !profile.starts.contains(&wanted.start) {
                    return Err(Code::INVALID_ARGUMENT);
                }
                compute::free(profile, &used).find(|&start| start == wanted.start)
            }
            None => compute::best_fit(profile, &profiles, &used),
        };
        let start = start.ok_or(Code::INSUFFICIENT_RESOURCES)?;
        // In ascending order without holes, each id is its own position: the first that is not
        // shows the hole.
        let ids = instance.compute.iter().map(|compute| compute.id);
        let id = ids
            .zip(0..)
            .take_while(|(id, at)| id == at)
            .map(|(_, at)| at + 1)
            .last();
        let id = id.unwrap_or_default();
        let at = instance.compute.partition_point(|compute| compute.id < id);
        let compute = Compute {
            id,
            profile: profile.id,
            start,
            size: profile.size,
            serial,
        };
        instance.compute.insert(at, compute);
        Ok(id)
    }

    /// Destroys the compute instance of that serial.
    pub fn destroy_compute(&mut self, serial: u64) -> Result<(), Code> {
        let (at, inner) = self.compute_position(serial)?;
        let (gi, ci) = (self.instances[at].id, self.instances[at].compute[inner].id);
        let on_it = |process: &Process| process.gi == Some(gi) && process.ci == Some(ci);
        if self.processes.iter().any(on_it) {
            return Err(Code::IN_USE);
        }
        self.instances[at].compute.remove(inner);
        Ok(())
    }

    /// Starts a process on the GPU, or on the compute instance that it names. On a partitioned GPU
    /// there is nothing to run on but instances. A process id is on a GPU once.
    pub fn start_process(&mut self, process: Process) -> Result<(), Code> {
        let exists = match (process.gi, process.ci) {
            (None, None) => self.instances.is_empty(),
            (gi, ci) => self
                .devices()
                .any(|(instance, compute)| Some(instance.id) == gi && Some(compute.id) == ci),
        };
        if !exists {
            return Err(Code::NOT_FOUND);
        }
        self.processes.retain(|other| other.pid != process.pid);
        self.processes.push(process);
        Ok(())
    }

    fn position(&self, serial: u64) -> Result<usize, Code> {
        let of_it = |instance: &Instance| instance.serial == serial;
        self.instances
            .iter()
            .position(of_it)
            .ok_or(Code::INVALID_ARGUMENT)
    }

    fn compute_position(&self, serial: u64) -> Result<(usize, usize), Code> {
        self.instances
            .iter()
            .enumerate()
            .find_map(|(at, instance)| {
                let inner = instance
                    .compute
                    .iter()
                    .position(|each| each.serial == serial)?;
                Some((at, inner))
            })
            .ok_or(Code::INVALID_ARGUMENT)
    }

    /// The GPU instance of that serial; an invalid argument once it is gone.
    pub fn instance(&self, serial: u64) -> Result<&Instance, Code> {
        self.position(serial).map(|at| &self.instances[at])
    }

    /// The compute instance of that serial with its GPU instance.
    pub fn compute(&self, serial: u64) -> Result<(&Instance, &Compute), Code> {
        let (at, inner) = self.compute_position(serial)?;
        Ok((&self.instances[at], &self.instances[at].compute[inner]))
    }

    /// The MIG devices in the order of NVML's indices. A GPU instance without a compute instance
    /// is none, and a lower id shifts all that follow.
    pub fn devices(&self) -> impl Iterator<Item = (&Instance, &Compute)> {
        self.instances.iter().flat_map(|instance| {
            instance
                .compute
                .iter()
                .map(move |compute| (instance, compute))
        })
    }
}

impl Instance {
    /// The compute-instance profiles of this GPU instance.
    pub fn compute_profiles(&self, board: &Board) -> Vec<ComputeProfile> {
        board
            .by_id(self.profile)
            .map(|own| compute::profiles(board, own))
            .unwrap_or_default()
    }

    /// Start and size of every compute instance.
    pub fn compute_used(&self) -> Vec<(u32, u32)> {
        self.compute
            .iter()
            .map(|compute| (compute.start, compute.size))
            .collect()
    }
}

#[cfg(test)]
mod tests;

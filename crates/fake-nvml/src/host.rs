//! One simulated host: its hardware, which never changes, and the driver's state, which does.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::gpu::{Compute, Instance};
use crate::model::{Chip, Code, Gpu, Placement, Profile, compute};
use crate::triggers::{Action, Failure, Trigger, Xid};

/// `nvmlEventTypeXidCriticalError`
pub(crate) const EVENT_XID: u64 = 0x8;
/// Events that the driver keeps for sets that are slow to fetch them.
const EVENTS_KEPT: usize = 64;

/// What the configuration says of the host.
#[derive(Clone, Debug)]
pub(crate) struct Hardware {
    /// Version of the driver.
    pub(crate) driver_version: String,
    /// CUDA version of the driver as NVML counts: 13000 is 13.0.
    pub(crate) cuda_version: i32,
    /// Whether callers may change anything; otherwise they lack permission.
    pub(crate) privileged: bool,
    /// Older drivers tell the remaining capacity only while MIG mode is on.
    pub(crate) capacity_needs_mig_mode: bool,
    /// For how long a session may still list the MIG devices that it saw before another process
    /// changed them, in milliseconds.
    pub(crate) view_lag_ms: f64,
    /// Whether an instance made again in the same place has the same uuid, as it mostly does.
    pub(crate) uuids_repeat: bool,
    /// Latencies by function name, in milliseconds.
    pub(crate) latency_ms: BTreeMap<String, f64>,
    /// GPUs by NVML index.
    pub(crate) gpus: Vec<Board>,
    /// Changes when the hardware does.
    pub(crate) fingerprint: Uuid,
}

/// One GPU in its slot.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    /// The chip.
    pub(crate) chip: Chip,
    /// Uuid without the leading `GPU-`.
    pub(crate) uuid: Uuid,
    /// Number of `/dev/nvidia<minor>`.
    pub(crate) minor: u32,
    /// PCI bus number.
    pub(crate) bus: u32,
}

/// What the driver remembers. All processes of the host share it, and it outlives them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Of the hardware that this state belongs to.
    pub(crate) fingerprint: Uuid,
    /// Changes at each boot, so that sessions of an earlier one end.
    pub(crate) boot: Uuid,
    /// For the next instance.
    pub(crate) next_serial: u64,
    /// For the next event.
    pub(crate) next_event: u64,
    /// GPUs by NVML index. They are written apart from the rest.
    #[serde(skip)]
    pub(crate) gpus: Vec<Arc<Gpu>>,
    /// The latest events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<Event>,
    /// Faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) triggers: Vec<Trigger>,
    /// Latencies set at run time; they go before the configured ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) latency_ms: BTreeMap<String, f64>,
}

/// An event for NVML's event sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Position in the order of all events of the host.
    pub(crate) seq: u64,
    /// NVML event type bit.
    pub(crate) kind: u64,
    /// GPU, number and attribution.
    #[serde(flatten)]
    pub(crate) xid: Xid,
}

impl Hardware {
    /// The GPU of that index.
    pub(crate) fn board(&self, gpu: usize) -> Result<&Board, Code> {
        self.gpus.get(gpu).ok_or(Code::INVALID_ARGUMENT)
    }

    /// The uuid of a MIG device as NVML prints it: derived from the board and the place in its
    /// tree, so that it comes back when the place is used again, even with another profile.
    pub(crate) fn mig_uuid(&self, gpu: usize, instance: &Instance, compute: &Compute) -> String {
        let board = self
            .gpus
            .get(gpu)
            .map(|board| board.uuid)
            .unwrap_or_default();
        let mut place = format!("{}/{}", instance.id, compute.id);
        if !self.uuids_repeat {
            place = format!("{place}/{}", compute.serial);
        }
        format!("MIG-{}", Uuid::new_v5(&board, place.as_bytes()))
    }
}

impl Board {
    /// The uuid as NVML prints it.
    pub(crate) fn uuid(&self) -> String {
        format!("GPU-{}", self.uuid)
    }

    /// The PCI address as NVML prints it.
    pub(crate) fn bus_id(&self) -> String {
        format!("00000000:{:02X}:00.0", self.bus)
    }
}

impl State {
    /// The driver after the first boot of that hardware: nothing is partitioned.
    pub(crate) fn first_boot(hardware: &Hardware) -> Self {
        Self {
            fingerprint: hardware.fingerprint,
            boot: Uuid::new_v4(),
            next_serial: 1,
            next_event: 1,
            gpus: vec![Arc::default(); hardware.gpus.len()],
            events: Vec::new(),
            triggers: Vec::new(),
            latency_ms: BTreeMap::new(),
        }
    }

    /// The GPU of that index.
    pub(crate) fn gpu(&self, gpu: usize) -> Result<&Gpu, Code> {
        self.gpus
            .get(gpu)
            .map(Arc::as_ref)
            .ok_or(Code::INVALID_ARGUMENT)
    }

    /// The GPU of that index.
    pub(crate) fn gpu_mut(&mut self, gpu: usize) -> Result<&mut Gpu, Code> {
        self.gpus
            .get_mut(gpu)
            .map(Arc::make_mut)
            .ok_or(Code::INVALID_ARGUMENT)
    }

    /// A serial number for a new instance.
    pub(crate) fn serial(&mut self) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        serial
    }

    /// Creates a GPU instance with the compute instance that fills it; returns its id.
    pub(crate) fn create_full(
        &mut self,
        hardware: &Hardware,
        gpu: usize,
        profile: &Profile,
        start: Option<u32>,
    ) -> Result<u32, Code> {
        let chip = &hardware.board(gpu)?.chip;
        let size = (chip.grid.slots >> profile.shape.level) * chip.grid.unit;
        let place = start.map(|start| Placement { start, size });
        let full = compute::profiles(chip.board, profile)
            .into_iter()
            .find(|each| each.full);
        let full = full.ok_or(Code::NOT_SUPPORTED)?;
        let (serial, inner) = (self.serial(), self.serial());
        let gpu = self.gpu_mut(gpu)?;
        let id = gpu.create_instance(chip, profile.id, place, serial)?;
        gpu.create_compute(chip, serial, full.id, None, inner)?;
        Ok(id)
    }

    /// Adds an event.
    pub(crate) fn raise(&mut self, xid: Xid) {
        self.events.push(Event {
            seq: self.next_event,
            kind: EVENT_XID,
            xid,
        });
        self.next_event += 1;
        let surplus = self.events.len().saturating_sub(EVENTS_KEPT);
        self.events.drain(..surplus);
    }

    /// Whether a call has to be counted.
    pub(crate) fn watches(&self, call: &str, gpu: Option<usize>) -> bool {
        self.triggers
            .iter()
            .any(|trigger| trigger.concerns(call, gpu))
    }

    /// Counts a call; raises what errors are due and returns the first failure.
    pub(crate) fn count(&mut self, call: &str, gpu: Option<usize>) -> Option<Failure> {
        let mut failure = None;
        let mut xids = Vec::new();
        for trigger in self
            .triggers
            .iter_mut()
            .filter(|trigger| trigger.concerns(call, gpu))
        {
            if trigger.fires() {
                match trigger.action {
                    Action::Fail(wanted) => failure = failure.or(Some(wanted)),
                    Action::Xid(xid) => xids.push(xid),
                }
            }
        }
        for xid in xids {
            self.raise(xid);
        }
        failure
    }

    /// The host boots again: instances and processes are gone, and MIG mode where it is volatile.
    pub(crate) fn reboot(&mut self, hardware: &Hardware) {
        self.boot = Uuid::new_v4();
        self.events.clear();
        for (gpu, board) in self.gpus.iter_mut().zip(&hardware.gpus) {
            Arc::make_mut(gpu).reboot(&board.chip);
        }
    }

    /// Latency of a call in milliseconds.
    pub(crate) fn latency_ms(&self, hardware: &Hardware, call: &str) -> f64 {
        [call, "default"]
            .into_iter()
            .find_map(|name| {
                self.latency_ms
                    .get(name)
                    .or_else(|| hardware.latency_ms.get(name))
                    .copied()
            })
            .unwrap_or(0.0)
    }
}

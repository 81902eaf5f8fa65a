//! What the journal says, one fact a record, and the state that a run of records adds up to.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// One fact, written before the act that it describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Record {
    /// The kernel's boot id from here on. GPU instances do not survive a change of it.
    Boot {
        /// From `/proc/sys/kernel/random/boot_id`.
        id: String,
    },
    /// The highest fencing epoch that is obeyed from here on.
    Epoch {
        /// Never lower than one before.
        epoch: u64,
    },
    /// Devices are about to be granted to a container.
    Grant {
        /// Resource name they are granted under.
        resource: String,
        /// Device ids.
        ids: Vec<String>,
    },
    /// A pod was seen to hold a device. Needed once the pod is gone from every list while its
    /// processes may still run.
    Holder {
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
        /// The pod.
        pod: PodIdentity,
    },
    /// Of those who had a device, these are proven to use it no more, while the hold goes on.
    Gone {
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
        /// As they were written.
        pods: Vec<PodIdentity>,
    },
    /// A hold was proven to have ended.
    Release {
        /// Resource name.
        resource: String,
        /// Device id.
        id: String,
    },
    /// An NVML call that changes hardware is about to be made.
    Begin {
        /// Key of the matching [`Record::End`].
        op: u64,
        /// GPU uuid.
        gpu: String,
        /// The change.
        change: Change,
    },
    /// That call returned, whatever it said.
    End {
        /// Key of the [`Record::Begin`].
        op: u64,
    },
    /// An instance is exposed otherwise than under its profile's own resource name.
    Exposed {
        /// GPU uuid.
        gpu: String,
        /// GPU instance id.
        instance: u32,
        /// Profile name and first slice, so that a reused id is not mistaken for it.
        profile: String,
        /// First memory slice.
        start: u8,
        /// Resource name; none: parked.
        resource: Option<String>,
    },
    /// The agent turned MIG mode on, and may therefore turn it off when the node is given back.
    TurnedOn {
        /// GPU uuid.
        gpu: String,
    },
    /// MIG mode is no longer ours to turn off: it is off, or the driver would not have it.
    TurnedOff {
        /// GPU uuid.
        gpu: String,
    },
    /// What the controller means to do with the node.
    Intended {
        /// From here on.
        intent: Intent,
    },
}

/// What the controller means to do with the node, as it said last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The node is given back.
    pub give_back: bool,
    /// MIG mode may be turned on.
    pub turn_mig_on: bool,
    /// GPUs to be left alone, by index or uuid.
    pub leave_alone: Vec<String>,
    /// No MIG mode is changed for now.
    #[serde(default)]
    pub paused: bool,
}

/// A container of a pod, and by the UID no later pod of the same name can be mistaken for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodIdentity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The container that has the device.
    pub container: String,
    /// UID as the API server gave it; empty while no controller has said it.
    pub uid: String,
}

/// Holders of one device that are told apart. A device that goes from pod to pod before anybody can
/// prove the end of a hold would else gather them for ever.
const TOLD_APART: usize = 16;

impl PodIdentity {
    /// Somebody of whom nothing is known: any process that nobody else accounts for may be theirs.
    pub fn unseen() -> Self {
        Self {
            namespace: String::new(),
            name: String::new(),
            container: String::new(),
            uid: String::new(),
        }
    }

    /// Whether this is [`PodIdentity::unseen`].
    pub fn is_unseen(&self) -> bool {
        *self == Self::unseen()
    }
}

/// A device is granted to somebody yet unseen. Where it is held already, that must be remembered: also
/// where nobody was seen with it so far, for the next who is need not be the only one. Former holders
/// without UID are somebody unseen as well: the next one may have the same name.
pub fn grant<K: Ord>(holds: &mut BTreeMap<K, BTreeSet<PodIdentity>>, device: K) {
    match holds.entry(device) {
        Entry::Vacant(first) => {
            first.insert(BTreeSet::new());
        }
        Entry::Occupied(mut held) => {
            held.get_mut().retain(|pod| !pod.uid.is_empty());
            held.get_mut().insert(PodIdentity::unseen());
        }
    }
}

/// Somebody was seen with a device. Returns whether that is new.
pub fn remember(holders: &mut BTreeSet<PodIdentity>, pod: &PodIdentity) -> bool {
    if holders.contains(pod) {
        return false;
    }
    if holders.len() >= TOLD_APART {
        holders.clear();
        holders.insert(PodIdentity::unseen());
    }
    holders.insert(pod.clone())
}

/// A change of hardware that may be found half done after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Change {
    /// A GPU instance and its compute instance are being made.
    Create {
        /// Profile name.
        profile: String,
        /// First memory slice.
        start: u8,
    },
    /// The compute instance of a GPU instance is being made again.
    Complete {
        /// GPU instance id.
        instance: u32,
    },
    /// A GPU instance is being destroyed.
    Destroy {
        /// GPU instance id.
        instance: u32,
        /// Profile name.
        profile: String,
        /// First memory slice.
        start: u8,
    },
    /// MIG mode is being turned on.
    TurnOn,
    /// MIG mode is being turned off.
    TurnOff,
}

/// A change that has no [`Record::End`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfDone {
    /// GPU uuid.
    pub gpu: String,
    /// The change.
    pub change: Change,
}

/// How an instance is exposed where that is not its profile's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Profile name.
    pub profile: String,
    /// First memory slice.
    pub start: u8,
    /// Resource name; none: parked.
    pub resource: Option<String>,
}

/// What the records add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Boot id of the hardware records.
    pub boot: Option<String>,
    /// Highest epoch obeyed; 0 if none.
    pub epoch: u64,
    /// Holds by resource name and device id, with the pods that were seen to hold them.
    pub holds: BTreeMap<(String, String), BTreeSet<PodIdentity>>,
    /// Changes that have not returned.
    pub half_done: BTreeMap<u64, HalfDone>,
    /// Exposures by GPU uuid and GPU instance id.
    pub exposures: BTreeMap<(String, u32), Exposure>,
    /// GPUs whose MIG mode the agent turned on.
    pub turned_on: BTreeSet<String>,
    /// What the controller meant to do last; none if none ever said.
    pub intent: Option<Intent>,
}

impl Recorded {
    /// Adds one fact. Facts that contradict what is known are taken at their word: later wins.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Boot { id } => {
                if self.boot.as_ref() != Some(id) {
                    self.boot = Some(id.clone());
                    self.half_done.clear();
                    self.exposures.clear();
                }
            }
            Record::Epoch { epoch } => self.epoch = self.epoch.max(*epoch),
            Record::Grant { resource, ids } => {
                for id in ids {
                    grant(&mut self.holds, (resource.clone(), id.clone()));
                }
            }
            Record::Holder { resource, id, pod } => {
                let key = (resource.clone(), id.clone());
                remember(self.holds.entry(key).or_default(), pod);
            }
            Record::Gone { resource, id, pods } => {
                let holders = self.holds.get_mut(&(resource.clone(), id.clone()));
                if let Some(holders) = holders {
                    holders.retain(|holder| !pods.contains(holder));
                }
            }
            Record::Release { resource, id } => {
                self.holds.remove(&(resource.clone(), id.clone()));
            }
            Record::Begin { op, gpu, change } => {
                let half_done = HalfDone {
                    gpu: gpu.clone(),
                    change: change.clone(),
                };
                self.half_done.insert(*op, half_done);
            }
            Record::End { op } => {
                self.half_done.remove(op);
            }
            Record::Exposed {
                gpu,
                instance,
                profile,
                start,
                resource,
            } => {
                let exposure = Exposure {
                    profile: profile.clone(),
                    start: *start,
                    resource: resource.clone(),
                };
                self.exposures.insert((gpu.clone(), *instance), exposure);
            }
            Record::TurnedOn { gpu } => {
                self.turned_on.insert(gpu.clone());
            }
            Record::TurnedOff { gpu } => {
                self.turned_on.remove(gpu);
            }
            Record::Intended { intent } => self.intent = Some(intent.clone()),
        }
    }

    /// The shortest run of records that adds up to this state.
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        records.extend(self.boot.iter().map(|id| Record::Boot { id: id.clone() }));
        if self.epoch > 0 {
            records.push(Record::Epoch { epoch: self.epoch });
        }
        for ((resource, id), pods) in &self.holds {
            records.push(Record::Grant {
                resource: resource.clone(),
                ids: vec![id.clone()],
            });
            records.extend(pods.iter().map(|pod| Record::Holder {
                resource: resource.clone(),
                id: id.clone(),
                pod: pod.clone(),
            }));
        }
        for (op, HalfDone { gpu, change }) in &self.half_done {
            records.push(Record::Begin {
                op: *op,
                gpu: gpu.clone(),
                change: change.clone(),
            });
        }
        for ((gpu, instance), exposure) in &self.exposures {
            records.push(Record::Exposed {
                gpu: gpu.clone(),
                instance: *instance,
                profile: exposure.profile.clone(),
                start: exposure.start,
                resource: exposure.resource.clone(),
            });
        }
        let turned_on = self.turned_on.iter().cloned();
        records.extend(turned_on.map(|gpu| Record::TurnedOn { gpu }));
        let intent = self.intent.iter().cloned();
        records.extend(intent.map(|intent| Record::Intended { intent }));
        records
    }
}

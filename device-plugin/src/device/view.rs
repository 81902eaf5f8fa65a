//! The table as others see it: the list for the kubelet, the state for the agent.

use std::sync::Arc;

use super::{Resource, Table};
use crate::{DeviceState, HoldState, ResourceState};

/// A resource's list, as the kubelet gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    /// Rises with every change.
    pub(crate) version: u64,
    /// Whole, in the order offered.
    pub(crate) devices: Arc<[Listed]>,
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) healthy: bool,
}

/// What a preferred allocation needs to know of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) id: &'a str,
    pub(crate) group: &'a str,
    /// A pod holds it, or had it and is not proven to be gone.
    pub(crate) held: Option<Grasp>,
}

/// How likely a held device is to be free all the same, if the kubelet says so: the lowest is likeliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grasp {
    /// podresources showed it with a pod at the last look, or has not shown it since it was granted.
    pub(crate) shown: bool,
    /// Rises with every grant. The kubelet loses the mark that a device is taken while it gives it out, so
    /// the latest is the likeliest to be still in use.
    pub(crate) granted: u64,
}

impl Table {
    /// The version of the resource's list; 0 as long as it was never filled.
    pub(crate) fn version(&self, resource: &str) -> u64 {
        self.resources
            .get(resource)
            .map_or(0, |resource| resource.version)
    }

    /// The resource's list.
    pub(crate) fn list(&self, resource: &str) -> List {
        let Some(resource) = self.resources.get(resource) else {
            return List::default();
        };
        let listed = |entry: &super::Entry| Listed {
            id: entry.device.id.clone(),
            healthy: entry.healthy(),
        };
        List {
            version: resource.version,
            devices: resource.entries.iter().map(listed).collect(),
        }
    }

    /// Devices that a new pod had better get, in the order offered: none that is being withdrawn.
    pub(crate) fn candidates(&self, resource: &str) -> Vec<Candidate<'_>> {
        let entries = self
            .resources
            .get(resource)
            .map(|resource| resource.entries.as_slice());
        entries
            .unwrap_or_default()
            .iter()
            .filter(|entry| entry.healthy())
            .map(|entry| Candidate {
                id: &entry.device.id,
                group: &entry.device.group,
                held: entry.grip.as_ref().map(|grip| Grasp {
                    shown: !grip.shown || grip.absences == 0,
                    granted: grip.serial,
                }),
            })
            .collect()
    }

    /// The resource as the agent sees it, but for the registration, of which the table knows nothing.
    pub(crate) fn resource_state(&self, resource: &str) -> ResourceState {
        self.resources
            .get(resource)
            .map(Resource::state)
            .unwrap_or_default()
    }
}

impl Resource {
    fn state(&self) -> ResourceState {
        let mut state = ResourceState::default();
        for entry in &self.entries {
            state.capacity += u32::from(entry.told.counted);
            state.allocatable += u32::from(entry.healthy() && entry.told.settled);
            state.devices.push(DeviceState {
                id: entry.device.id.clone(),
                group: entry.device.group.clone(),
                phase: entry.phase,
                sick: entry.ailment(),
                confirmed: entry.told.settled,
                hold: entry.grip.as_ref().map(|grip| HoldState {
                    holders: entry.holders.clone(),
                    shown: grip.shown && grip.absences == 0,
                    doubt: grip.doubt.clone(),
                }),
            });
        }
        state
    }
}

//! What must be true at every moment, whatever a scenario does: no device held by two pods, no
//! instance in use destroyed or changed, no overlap on any GPU.
//!
//! Pure: [`Invariants::check`] judges a [`Moment`]; who takes the moments is
//! [`watcher`](crate::watcher).

use std::collections::{BTreeMap, BTreeSet};

use fake_nvml::control::{GpuState, HostState, InstanceState};
use testbed::driver::device_id;
use testbed::names;

/// A device in a pod's hands, by the kubelet's account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The node.
    pub node: String,
    /// Uid of the pod.
    pub pod: String,
    /// Resource name that it was granted under.
    pub resource: String,
    /// Device id.
    pub id: String,
}

/// What was seen at one time. `driver` was read after `before` and before everything else, so that
/// what is in both accounts was held while the driver was looked at.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// Who held what before.
    pub before: BTreeSet<Held>,
    /// What stands on the GPUs, by node.
    pub driver: BTreeMap<String, HostState>,
    /// Who held what after.
    pub after: BTreeSet<Held>,
    /// Uids of pods whose devices something can still use, as seen last.
    pub in_use: BTreeSet<String>,
}

/// An instance, told apart from one that is made at the same place later.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Identity {
    Whole,
    Instance {
        serial: u64,
        profile: &'static str,
        start: u32,
        size: u32,
    },
}

/// All that was ever found wrong.
#[derive(Debug, Default)]
pub struct Invariants {
    first_seen: BTreeMap<Held, Identity>,
    faults: BTreeSet<String>,
}

impl Invariants {
    /// Judges one moment.
    pub fn check(&mut self, moment: &Moment) {
        for (node, host) in &moment.driver {
            for gpu in &host.gpus {
                self.faults.extend(layout_fault(node, gpu));
            }
        }
        self.one_pod_each(moment);
        self.nothing_in_use_changes(moment);
        self.first_seen
            .retain(|held, _| moment.after.contains(held));
    }

    /// Everything found wrong so far, as sentences.
    pub fn faults(&self) -> &BTreeSet<String> {
        &self.faults
    }

    fn one_pod_each(&mut self, moment: &Moment) {
        let mut holders: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for held in moment
            .after
            .iter()
            .filter(|held| moment.in_use.contains(&held.pod))
        {
            let other = holders.insert((&held.node, &held.id), &held.pod);
            if let Some(other) = other.filter(|other| *other != held.pod) {
                self.faults.insert(format!(
                    "device {} of node {} is held by the pods {other} and {} at once",
                    held.id, held.node, held.pod
                ));
            }
        }
    }

    fn nothing_in_use_changes(&mut self, moment: &Moment) {
        let throughout = moment.before.intersection(&moment.after);
        for held in throughout.filter(|held| moment.in_use.contains(&held.pod)) {
            let Some(host) = moment.driver.get(&held.node) else {
                continue;
            };
            let fault = match find(host, &held.id) {
                None => Some("is gone from the driver".to_owned()),
                Some((names, _)) if !names.contains(&held.resource) => {
                    Some(format!("is {} by now", names.join(" or ")))
                }
                Some((_, now)) => {
                    let first = self
                        .first_seen
                        .entry(held.clone())
                        .or_insert_with(|| now.clone());
                    (*first != now).then(|| format!("was {first:?} and became {now:?}"))
                }
            };
            if let Some(fault) = fault {
                self.faults.insert(format!(
                    "device {} of node {}, held by pod {} as {}, {fault}",
                    held.id, held.node, held.pod, held.resource
                ));
            }
        }
    }
}

/// The device of that id, as the resource names that it may be held under, and its identity.
fn find(host: &HostState, id: &str) -> Option<(Vec<String>, Identity)> {
    host.gpus.iter().find_map(|gpu| {
        if gpu.uuid == id && !gpu.mig_mode {
            return Some((vec![mig::GPU_RESOURCE.to_owned()], Identity::Whole));
        }
        let instance = gpu
            .instances
            .iter()
            .find(|instance| device_id(instance) == Some(id))?;
        let identity = Identity::Instance {
            serial: instance.serial,
            profile: instance.profile,
            start: instance.start,
            size: instance.size,
        };
        Some((names::of_instance(gpu, instance), identity))
    })
}

/// What is wrong with what stands on a GPU.
fn layout_fault(node: &str, gpu: &GpuState) -> Option<String> {
    if !gpu.mig_mode && !gpu.instances.is_empty() {
        return Some(format!(
            "{} of node {node} has instances although MIG is off",
            gpu.uuid
        ));
    }
    let mut standing: Vec<&InstanceState> = gpu.instances.iter().collect();
    standing.sort_by_key(|instance| instance.start);
    let overlap = standing
        .windows(2)
        .find(|pair| pair[0].start + pair[0].size > pair[1].start);
    let overlap = overlap.map(|pair| {
        let [a, b] = [pair[0], pair[1]].map(|i| format!("{} at {}", i.profile, i.start));
        format!("{} of node {node} has {a} and {b}, which overlap", gpu.uuid)
    });
    let outside = standing
        .last()
        .filter(|last| last.start + last.size > gpu.memory_slices);
    overlap.or_else(|| outside.map(|i| format!("{} stands outside {}", i.profile, gpu.uuid)))
}

#[cfg(test)]
mod tests;

//! Whether every pod got exactly what it asked for: requests against the kubelet's grants,
//! grants against the driver's own truth, and no piece of a GPU held by two pods at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::driver::{self, HostState};
use crate::journey::{Device, Grant, Journey, Journeys, PodKey, Request};

/// Something that should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The pod that it is about.
    pub pod: PodKey,
    /// What is wrong, as a sentence without the pod's name.
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.pod, self.message)
    }
}

/// Everything that is wrong; empty if every pod ran with exactly the devices it asked for.
pub fn faults(journeys: &Journeys) -> Vec<Fault> {
    let mut faults: Vec<Fault> = journeys.all().iter().flat_map(pod_faults).collect();
    faults.extend(overlaps(journeys.all()));
    faults
}

/// Devices of pods that still run and that the drivers, by node, no longer show as they were
/// granted.
pub fn vanished(journeys: &Journeys, states: &BTreeMap<String, HostState>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for journey in journeys
        .all()
        .iter()
        .filter(|journey| journey.ended.is_none())
    {
        let Some(state) = journey.node.as_ref().and_then(|node| states.get(node)) else {
            continue;
        };
        for grant in &journey.grants {
            let now = driver::find(state, &grant.device_id);
            if grant.device.is_some() && now != grant.device {
                faults.push(Fault {
                    pod: journey.pod.clone(),
                    message: format!("its device {} was changed while it ran", grant.device_id),
                });
            }
        }
    }
    faults
}

/// What is wrong with one pod by itself.
pub fn pod_faults(journey: &Journey) -> Vec<Fault> {
    let mut messages = Vec::new();
    if journey.has_run() {
        for request in &journey.requests {
            messages.extend(request_faults(journey, request));
        }
        messages.extend(container_overlap(journey));
    } else {
        messages.push(not_run(journey));
    }
    for grant in &journey.grants {
        messages.extend(grant_fault(grant));
    }
    messages
        .into_iter()
        .map(|message| Fault {
            pod: journey.pod.clone(),
            message,
        })
        .collect()
}

fn not_run(journey: &Journey) -> String {
    let state = if journey.phase == "Failed" {
        "failed".to_owned()
    } else {
        format!("never ran, it got as far as {}", journey.stage())
    };
    match &journey.reason {
        Some((reason, message)) if !message.is_empty() => format!("{state} ({reason}: {message})"),
        Some((reason, _)) => format!("{state} ({reason})"),
        None => state,
    }
}

fn request_faults(journey: &Journey, request: &Request) -> Vec<String> {
    let mut granted: BTreeMap<&str, u32> = BTreeMap::new();
    for grant in journey
        .grants
        .iter()
        .filter(|grant| grant.container == request.container)
    {
        *granted.entry(grant.resource.as_str()).or_default() += 1;
    }
    let resources: BTreeSet<&str> = request
        .devices
        .keys()
        .map(String::as_str)
        .chain(granted.keys().copied())
        .collect();
    resources
        .into_iter()
        .filter_map(|resource| {
            let asked = request.devices.get(resource).copied().unwrap_or(0);
            let got = granted.get(resource).copied().unwrap_or(0);
            (asked != got).then(|| {
                format!(
                    "container {} asked for {asked} {resource} and was granted {got}",
                    request.container
                )
            })
        })
        .collect()
}

/// Containers of one pod that run side by side must not share a device either.
fn container_overlap(journey: &Journey) -> Vec<String> {
    let side_by_side: BTreeSet<&str> = journey
        .requests
        .iter()
        .filter(|request| !request.ordinary_init)
        .map(|request| request.container.as_str())
        .collect();
    let mut seen = BTreeMap::new();
    let mut messages = Vec::new();
    for grant in journey
        .grants
        .iter()
        .filter(|g| side_by_side.contains(g.container.as_str()))
    {
        if let Some(other) = seen.insert(&grant.device_id, &grant.container) {
            messages.push(format!(
                "containers {other} and {} were both granted device {}",
                grant.container, grant.device_id
            ));
        }
    }
    messages
}

fn grant_fault(grant: &Grant) -> Option<String> {
    let (id, resource) = (&grant.device_id, &grant.resource);
    let Some(device) = &grant.device else {
        return Some(format!(
            "device {id} was granted, but the driver has no such device"
        ));
    };
    (!device.resources.contains(resource)).then(|| {
        format!(
            "device {id} was granted as {resource}, but the driver says that it is {}",
            if device.profile.is_empty() {
                "a whole GPU"
            } else {
                &device.profile
            }
        )
    })
}

/// Pods that held the same memory slice of a GPU at the same time.
fn overlaps(journeys: &[Journey]) -> Vec<Fault> {
    let mut by_gpu: BTreeMap<&str, Vec<Held<'_>>> = BTreeMap::new();
    for journey in journeys {
        let Some(from) = journey.reached.get(&crate::journey::Stage::Allocated) else {
            continue;
        };
        let until = journey.released.unwrap_or(Duration::MAX);
        for device in journey
            .grants
            .iter()
            .filter_map(|grant| grant.device.as_ref())
        {
            let held = Held {
                journey,
                device,
                from: *from,
                until,
            };
            by_gpu.entry(&device.gpu_uuid).or_default().push(held);
        }
    }
    let mut faults = Vec::new();
    for held in by_gpu.values_mut() {
        held.sort_by_key(|held| held.from);
        for (at, first) in held.iter().enumerate() {
            let later = held[at + 1..]
                .iter()
                .take_while(|second| second.from < first.until);
            faults.extend(later.filter_map(|second| first.clash(second)));
        }
    }
    faults
}

struct Held<'a> {
    journey: &'a Journey,
    device: &'a Device,
    from: Duration,
    until: Duration,
}

impl Held<'_> {
    fn clash(&self, other: &Held<'_>) -> Option<Fault> {
        let (a, b) = (self.device, other.device);
        let shared = a.start < b.start + b.size && b.start < a.start + a.size;
        (shared && self.journey.uid != other.journey.uid).then(|| Fault {
            pod: other.journey.pod.clone(),
            message: format!(
                "was granted memory slices of GPU {} that {} still held",
                b.gpu_uuid, self.journey.pod
            ),
        })
    }
}

#[cfg(test)]
mod tests;

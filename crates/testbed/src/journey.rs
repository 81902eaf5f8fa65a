//! Each pod's way from Pending to Running, put together from what the cluster shows of it: the
//! pod itself, the controller's Events, and the kubelet's grants.
//!
//! Pure: whoever watches says what was seen and when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::names;

/// Annotation in which the controller records what it made for a pod.
pub const PLAN_ANNOTATION: &str = "cdmo.clear.ml/plan";
/// The component that the controller's Events come from.
pub const CONTROLLER_COMPONENT: &str = "cdmo-controller";

/// Names a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How far a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The API server has it.
    Pending,
    /// The controller has decided where its devices will be.
    Planned,
    /// Its devices are there and the kubelet knows them.
    Ready,
    /// The kubelet has taken the devices for it.
    Allocated,
    /// Its containers run.
    Running,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Planned,
        Self::Ready,
        Self::Allocated,
        Self::Running,
    ];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "Pending",
            Self::Planned => "Planned",
            Self::Ready => "Ready",
            Self::Allocated => "Allocated",
            Self::Running => "Running",
        })
    }
}

/// A device that the kubelet granted to a container, as the driver showed it at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The container.
    pub container: String,
    /// The resource name that it was granted under.
    pub resource: String,
    /// The kubelet's id of it: the MIG uuid.
    pub device_id: String,
    /// What the driver says of it; none if the driver knew no such device.
    pub device: Option<Device>,
}

/// A MIG device, or a whole GPU, as the driver shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Uuid of its GPU.
    pub gpu_uuid: String,
    /// Index of its GPU on the node.
    pub gpu_index: u32,
    /// Profile name; empty for a whole GPU.
    pub profile: String,
    /// First memory slice.
    pub start: u8,
    /// Memory slices.
    pub size: u8,
    /// The driver's number of this instance; one that is made anew has another. 0 for a whole GPU.
    pub serial: u64,
    /// The resource names that it may be given under.
    pub resources: Vec<String>,
}

/// What one container asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The container.
    pub container: String,
    /// An init container that ends before the others start, and leaves its devices to them.
    pub ordinary_init: bool,
    /// Devices per resource name; only names that the system serves.
    pub devices: BTreeMap<String, u32>,
}

/// One pod's way.
#[derive(Debug, Clone)]
pub struct Journey {
    /// The pod.
    pub pod: PodKey,
    /// Its uid.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What its containers ask for, in order.
    pub requests: Vec<Request>,
    /// When it reached each stage, by the watcher's clock; stages may be skipped.
    pub reached: BTreeMap<Stage, Duration>,
    /// `status.phase`.
    pub phase: String,
    /// Why it is where it is, if anybody said: a reason in CamelCase and a sentence.
    pub reason: Option<(String, String)>,
    /// The node it is bound to.
    pub node: Option<String>,
    /// The devices granted to it.
    pub grants: Vec<Grant>,
    /// All of its devices were another pod's before, and nothing was made for it.
    pub reused: bool,
    /// When it was seen to be over: its phase says so, or it is gone from the API.
    pub ended: Option<Duration>,
    /// When the last of its containers had really ended, by the kubelet's account.
    pub released: Option<Duration>,
}

impl Journey {
    /// The stage it has come to.
    pub fn stage(&self) -> Stage {
        self.reached
            .keys()
            .next_back()
            .copied()
            .unwrap_or(Stage::Pending)
    }

    /// The time from its creation to a stage.
    pub fn took(&self, stage: Stage) -> Option<Duration> {
        let created = self.reached.get(&Stage::Pending)?;
        Some(self.reached.get(&stage)?.saturating_sub(*created))
    }

    /// Its containers ran, whether or not they still do.
    pub fn has_run(&self) -> bool {
        self.reached.contains_key(&Stage::Running) && self.phase != "Failed"
    }

    /// Nothing more can happen to it that matters: it ran, it failed, or it was refused for good.
    pub fn is_settled(&self) -> bool {
        self.has_run() || self.phase == "Failed" || self.is_refused()
    }

    /// The controller said that no node here can ever serve it.
    pub fn is_refused(&self) -> bool {
        self.stage() < Stage::Allocated
            && self.reason.as_ref().is_some_and(|(reason, _)| {
                matches!(
                    reason.as_str(),
                    "NoSuchProfile" | "InvalidProfile" | "TooMany"
                )
            })
    }

    /// What the pod asks for in all, as the scheduler counts it: the sum over its containers, or
    /// what one init container asks for if that is more.
    pub fn asks(&self) -> BTreeMap<&str, u32> {
        let mut sum: BTreeMap<&str, u32> = BTreeMap::new();
        for request in self
            .requests
            .iter()
            .filter(|request| !request.ordinary_init)
        {
            for (resource, count) in &request.devices {
                *sum.entry(resource).or_default() += count;
            }
        }
        for request in self.requests.iter().filter(|request| request.ordinary_init) {
            for (resource, count) in &request.devices {
                let most = sum.entry(resource).or_default();
                *most = (*most).max(*count);
            }
        }
        sum
    }

    fn reach(&mut self, stage: Stage, at: Duration) -> bool {
        let new = !self.reached.contains_key(&stage);
        self.reached.entry(stage).or_insert(at);
        new
    }
}

/// The ways of all pods, in the order in which they were created.
#[derive(Debug, Clone, Default)]
pub struct Journeys {
    all: Vec<Journey>,
    index: BTreeMap<PodKey, usize>,
}

impl Journeys {
    /// All pods, oldest first; deleted ones stay.
    pub fn all(&self) -> &[Journey] {
        &self.all
    }

    /// One pod; the youngest of that name.
    pub fn get(&self, pod: &PodKey) -> Option<&Journey> {
        self.all.get(*self.index.get(pod)?)
    }

    fn get_mut(&mut self, pod: &PodKey) -> Option<&mut Journey> {
        self.all.get_mut(*self.index.get(pod)?)
    }

    /// A pod was added or changed. True if its way went on by that.
    pub fn pod_seen(&mut self, object: &Value, at: Duration) -> bool {
        let (pod, uid) = (key(object, "/metadata"), text(object, "/metadata/uid"));
        if self.get(&pod).is_none_or(|journey| journey.uid != uid) {
            self.index.insert(pod.clone(), self.all.len());
            self.all.push(begin(object, pod.clone(), uid, at));
        }
        let Some(journey) = self.get_mut(&pod) else {
            return false;
        };
        let before = (
            journey.reached.len(),
            journey.phase.clone(),
            journey.reason.clone(),
        );
        if object
            .pointer("/metadata/annotations")
            .and_then(|a| a.get(PLAN_ANNOTATION))
            .is_some()
        {
            journey.reach(Stage::Ready, at);
        }
        if let Some(node) = object.pointer("/spec/nodeName").and_then(Value::as_str) {
            journey.node = Some(node.to_owned());
        }
        text(object, "/status/phase").clone_into(&mut journey.phase);
        if matches!(journey.phase.as_str(), "Running" | "Succeeded") {
            journey.reach(Stage::Running, at);
        }
        if matches!(journey.phase.as_str(), "Succeeded" | "Failed") {
            journey.ended.get_or_insert(at);
        }
        if let Some(reason) = pod_reason(object) {
            journey.reason = Some(reason);
        }
        before
            != (
                journey.reached.len(),
                journey.phase.clone(),
                journey.reason.clone(),
            )
    }

    /// A pod is gone from the API. True if that is news.
    pub fn pod_gone(&mut self, object: &Value, at: Duration) -> bool {
        let pod = key(object, "/metadata");
        self.get_mut(&pod).is_some_and(|journey| {
            let news = journey.ended.is_none();
            journey.ended.get_or_insert(at);
            news
        })
    }

    /// An Event was added or counted up. True if a pod's way went on by that.
    pub fn event_seen(&mut self, object: &Value, at: Duration) -> bool {
        let ours = [
            "/source/component",
            "/reportingComponent",
            "/reportingController",
        ]
        .iter()
        .any(|pointer| text(object, pointer) == CONTROLLER_COMPONENT);
        if !ours || text(object, "/involvedObject/kind") != "Pod" {
            return false;
        }
        let uid = text(object, "/involvedObject/uid");
        let Some(journey) = self.get_mut(&key(object, "/involvedObject")) else {
            return false;
        };
        if !uid.is_empty() && journey.uid != uid {
            return false;
        }
        let reason = text(object, "/reason").to_owned();
        let on = match reason.as_str() {
            "SlicePlanned" => journey.reach(Stage::Planned, at),
            "SliceReady" => journey.reach(Stage::Ready, at),
            _ => true,
        };
        if journey.stage() < Stage::Allocated {
            let note = text(object, "/message").to_owned();
            journey.reason = Some((reason, note));
        }
        on
    }

    /// The kubelet granted devices to a pod. True if that is news.
    pub fn granted(&mut self, pod: &PodKey, node: &str, grants: Vec<Grant>, at: Duration) -> bool {
        let had_others = |device: &Device| {
            let same = |grant: &Grant| {
                let other = grant.device.as_ref();
                other.is_some_and(|d| (&d.gpu_uuid, d.serial) == (&device.gpu_uuid, device.serial))
            };
            self.all
                .iter()
                .any(|journey| journey.pod != *pod && journey.grants.iter().any(same))
        };
        let reused = grants
            .iter()
            .all(|grant| grant.device.as_ref().is_some_and(had_others));
        self.get_mut(pod).is_some_and(|journey| {
            journey.node.get_or_insert_with(|| node.to_owned());
            let news = journey.reach(Stage::Allocated, at);
            if news {
                journey.reused = reused && !grants.is_empty();
            }
            for grant in grants {
                let known = journey.grants.iter().any(|known| {
                    (&known.container, &known.resource, &known.device_id)
                        == (&grant.container, &grant.resource, &grant.device_id)
                });
                if !known {
                    journey.grants.push(grant);
                }
            }
            news
        })
    }

    /// A stage that a pod has reached was reached at another time than it was seen.
    pub fn correct(&mut self, pod: &PodKey, stage: Stage, at: Duration) {
        if let Some(seen) = self.get_mut(pod).and_then(|j| j.reached.get_mut(&stage)) {
            *seen = at;
        }
    }

    /// Notes when pods had really ended, as far as somebody knows by uid.
    pub fn released(&mut self, known: impl Fn(&str) -> Option<Duration>) {
        for journey in self
            .all
            .iter_mut()
            .filter(|journey| journey.released.is_none())
        {
            journey.released = known(&journey.uid);
        }
    }

    /// Pods that are on a node and whose devices were not seen yet.
    pub fn awaiting_grants(&self) -> impl Iterator<Item = &Journey> {
        self.all.iter().filter(|journey| {
            journey.node.is_some()
                && journey.ended.is_none()
                && journey.grants.is_empty()
                && journey
                    .requests
                    .iter()
                    .any(|request| !request.devices.is_empty())
        })
    }

    /// The youngest pod of a name, by its uid.
    pub fn name_of(&self, uid: &str) -> Option<PodKey> {
        let journey = self.all.iter().rev().find(|journey| journey.uid == uid)?;
        self.index
            .get(&journey.pod)
            .filter(|at| self.all[**at].uid == uid)?;
        Some(journey.pod.clone())
    }

    /// The API server refused to create a pod, so that nothing else will ever be seen of it.
    pub fn rejected(&mut self, object: &Value, message: &str, at: Duration) {
        let pod = key(object, "/metadata");
        let mut journey = begin(object, pod.clone(), "", at);
        "Failed".clone_into(&mut journey.phase);
        journey.reason = Some(("Rejected".to_owned(), message.to_owned()));
        self.index.insert(pod, self.all.len());
        self.all.push(journey);
    }
}

fn begin(object: &Value, pod: PodKey, uid: &str, at: Duration) -> Journey {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    Journey {
        pod,
        uid: uid.to_owned(),
        labels,
        requests: requests(object),
        reached: BTreeMap::from([(Stage::Pending, at)]),
        phase: "Pending".to_owned(),
        reason: None,
        node: None,
        grants: Vec::new(),
        reused: false,
        ended: None,
        released: None,
    }
}

fn requests(pod: &Value) -> Vec<Request> {
    [("/spec/initContainers", true), ("/spec/containers", false)]
        .into_iter()
        .flat_map(|(pointer, init)| {
            let containers = pod.pointer(pointer).and_then(Value::as_array);
            containers
                .into_iter()
                .flatten()
                .map(move |container| Request {
                    container: text(container, "/name").to_owned(),
                    ordinary_init: init && text(container, "/restartPolicy") != "Always",
                    devices: devices(container),
                })
        })
        .collect()
}

fn devices(container: &Value) -> BTreeMap<String, u32> {
    container
        .pointer("/resources/limits")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(resource, _)| names::is_ours(resource))
        .filter_map(|(resource, count)| Some((resource.clone(), whole(count)?)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn whole(count: &Value) -> Option<u32> {
    match count {
        Value::String(text) => text.parse().ok(),
        _ => count.as_u64()?.try_into().ok(),
    }
}

/// What the pod's own status says of a failure.
fn pod_reason(pod: &Value) -> Option<(String, String)> {
    let reason = text(pod, "/status/reason");
    (!reason.is_empty()).then(|| (reason.to_owned(), text(pod, "/status/message").to_owned()))
}

fn key(object: &Value, pointer: &str) -> PodKey {
    let part = |name: &str| text(object, &format!("{pointer}/{name}")).to_owned();
    PodKey {
        namespace: part("namespace"),
        name: part("name"),
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;

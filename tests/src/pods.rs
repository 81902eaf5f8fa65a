//! Pods as scenarios write them: what they ask for, how long they run, where they may go.

use serde_json::{Value, json};

/// Namespace of all pods that scenarios make.
pub const NAMESPACE: &str = "default";

/// A pod to be created. Its containers are simulated ones that run until they are deleted, or for
/// the time given.
#[derive(Debug, Clone)]
pub struct Pod {
    object: Value,
}

impl Pod {
    /// A pod with one container that asks for nothing yet.
    pub fn new(name: &str) -> Self {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "namespace": NAMESPACE, "annotations": {} },
            "spec": { "restartPolicy": "Never", "containers": [container("main", &[])] },
        });
        Self { object }
    }

    /// A pod with one container that asks for one device of that profile.
    pub fn of(name: &str, profile: &str) -> Self {
        Self::new(name).asks(&[(profile, 1)])
    }

    /// What the first container asks for: profiles such as `1g.5gb+me`, `gpu` for whole GPUs, or whole
    /// resource names.
    #[must_use]
    pub fn asks(mut self, devices: &[(&str, u32)]) -> Self {
        self.object["spec"]["containers"][0] = container("main", devices);
        self
    }

    /// A further container beside the first.
    #[must_use]
    pub fn container(self, name: &str, devices: &[(&str, u32)]) -> Self {
        self.push("containers", container(name, devices))
    }

    /// An init container that ends before the others start.
    #[must_use]
    pub fn init(self, name: &str, devices: &[(&str, u32)]) -> Self {
        self.push("initContainers", container(name, devices))
    }

    fn push(mut self, list: &str, container: Value) -> Self {
        let spec = &mut self.object["spec"];
        if let Some(containers) = spec[list].as_array_mut() {
            containers.push(container);
        } else {
            spec[list] = json!([container]);
        }
        self
    }

    /// Its containers end by themselves after that many milliseconds.
    #[must_use]
    pub fn runs_for(mut self, milliseconds: u64) -> Self {
        let annotations = &mut self.object["metadata"]["annotations"];
        annotations["simcluster.cdmo/run-for"] = format!("{milliseconds}ms").into();
        self
    }

    /// Only nodes with that label will do.
    #[must_use]
    pub fn on_nodes_with(mut self, label: &str, value: &str) -> Self {
        self.object["spec"]["nodeSelector"][label] = value.into();
        self
    }

    /// The scheduler does not try it while it has this gate.
    #[must_use]
    pub fn gated(self, gate: &str) -> Self {
        self.push("schedulingGates", json!({ "name": gate }))
    }

    /// The object for the API.
    pub fn object(&self) -> Value {
        self.object.clone()
    }
}

impl From<Value> for Pod {
    /// A pod as somebody else wrote it, with annotations and a namespace or without.
    fn from(object: Value) -> Self {
        Self { object }
    }
}

fn container(name: &str, devices: &[(&str, u32)]) -> Value {
    let limits: serde_json::Map<String, Value> = devices
        .iter()
        .map(|(device, count)| (resource(device), count.to_string().into()))
        .collect();
    json!({ "name": name, "image": "example.com/work", "resources": { "limits": limits } })
}

/// The resource that pods ask for to get a device: of a profile, of a name that is none, `gpu`, or a
/// resource as it is.
pub fn resource(device: &str) -> String {
    match device {
        _ if device.contains('/') => device.to_owned(),
        "gpu" => mig::GPU_RESOURCE.to_owned(),
        _ => format!("{}{}", mig::RESOURCE_PREFIX, device.replace('+', ".")),
    }
}

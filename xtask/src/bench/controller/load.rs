//! The cluster's objects: a thousand nodes with their agents, and pods of ten kinds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use mig::{GpuModel, ProfileIndex};
use serde_json::{Value, json};
use simcluster::store::{Kind, Status, Store};
use testbed::manifests::{self, NODE_LABEL};

use super::agents::Simulated;
use super::node::Node;

/// Where the pods are.
pub(super) const NAMESPACE: &str = "default";
/// GPUs of a node.
pub(super) const GPUS: usize = 8;
/// Zones over which the nodes are spread.
const ZONES: usize = 8;

/// Products, and how many nodes of ten have them.
const PRODUCTS: [(&str, usize); 4] = [
    ("NVIDIA A100-SXM4-40GB", 6),
    ("NVIDIA A100-SXM4-80GB", 2),
    ("NVIDIA H100 80GB HBM3", 1),
    ("NVIDIA A30", 1),
];

/// What pods ask for.
const WANTS: [&[(&str, u32)]; 10] = [
    &[("nvidia.com/mig-1g.5gb", 1)],
    &[("nvidia.com/mig-2g.10gb", 1)],
    &[("nvidia.com/mig-3g.20gb", 1)],
    &[("nvidia.com/mig-7g.40gb", 1)],
    &[("nvidia.com/mig-1g.10gb", 1)],
    &[("nvidia.com/mig-1g.5gb", 1), ("nvidia.com/mig-3g.20gb", 1)],
    &[("nvidia.com/mig-1g.6gb", 1)],
    &[("cdmo.clear.ml/fraction-0.125", 1)],
    &[("cdmo.clear.ml/fraction-0.250", 2)],
    &[("cdmo.clear.ml/fraction-0.500", 1)],
];

/// What pods of one kind ask for, and where.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) wants: &'static [(&'static str, u32)],
    /// The zone that its node selector names.
    pub(super) zone: Option<String>,
}

/// All kinds: three wants in two zones each, then each want anywhere. The scheduler of the
/// benchmark goes by this order, so that those who can run anywhere do not take what others were given.
pub(super) fn shapes() -> Vec<Shape> {
    let anywhere = WANTS.iter().map(|wants| Shape { wants, zone: None });
    let zoned = (0..6).map(|n| Shape {
        wants: WANTS[n / 2],
        zone: Some(n.to_string()),
    });
    zoned.chain(anywhere).collect()
}

/// The product of a node's GPUs.
fn product(number: usize) -> &'static str {
    let mut left = number % 10;
    for (product, share) in PRODUCTS {
        if left < share {
            return product;
        }
        left -= share;
    }
    PRODUCTS[0].0
}

/// Numbers that are the same in every run.
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// Below this, which is not 0.
    pub(super) fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % below
    }
}

/// Agents of so many nodes, with the zones of their nodes.
pub(super) fn agents(nodes: usize) -> anyhow::Result<Vec<(Simulated, String)>> {
    let mut models: BTreeMap<&str, Arc<GpuModel>> = BTreeMap::new();
    for (product, _) in PRODUCTS {
        let model = GpuModel::known(product).context("a model is not known")?;
        models.insert(product, Arc::new(model));
    }
    let agent = |number: usize| {
        let product = product(number);
        let model = Arc::clone(models.get(product)?);
        let node = Node::new(&format!("node-{number:04}"), product, model, GPUS);
        Some((Simulated::new(node), (number % ZONES).to_string()))
    };
    let all: Option<Vec<_>> = (0..nodes).map(agent).collect();
    all.context("a model is not known")
}

/// A pod that runs from the start: its name, the position of its node, and what it has.
pub(super) type Running = (String, usize, BTreeMap<String, u32>);

/// Fills all nodes with instances of all sizes, each held by a pod that the API has, too.
pub(super) fn fill(store: &Store, agents: &[(Simulated, String)]) -> anyhow::Result<Vec<Running>> {
    let mut dice = Dice(7);
    let mut running = Vec::new();
    for (at, (agent, _)) in agents.iter().enumerate() {
        let profiles = agent.with(|node| node.model().profiles.len());
        // Large ones first, by chance; then the smallest until nothing fits any more.
        let chosen: Vec<_> = (0..24).map(|_| dice.roll(profiles)).collect();
        for profile in chosen
            .into_iter()
            .chain((0..profiles).cycle().take(profiles * 8))
        {
            let profile = ProfileIndex(u8::try_from(profile).unwrap_or(0));
            let pod = format!("ran-{:05}", running.len());
            let holder = (NAMESPACE.to_owned(), pod.clone());
            let Some(resource) = agent.with(|node| node.fill(profile, holder)) else {
                continue;
            };
            let node = agent.with(|node| node.name().to_owned());
            let mut new = pod_of(&pod, &[(&resource, 1)], None);
            new["spec"]["nodeName"] = json!(node);
            make(store, NAMESPACE, new)?;
            set(
                store,
                Kind::Pod,
                NAMESPACE,
                &pod,
                "status",
                &json!({ "phase": "Running" }),
            )?;
            running.push((pod, at, BTreeMap::from([(resource, 1)])));
        }
    }
    Ok(running)
}

/// Puts the nodes into the API, as their kubelets would, devices that exist included.
pub(super) fn register(store: &Store, agents: &[(Simulated, String)]) -> anyhow::Result<()> {
    let (label, value) = NODE_LABEL;
    for (agent, zone) in agents {
        let (name, counts) = agent.with(|node| (node.name().to_owned(), node.counts()));
        let mut amounts = json!({ "cpu": "256", "memory": "1Ti", "pods": "500" });
        for (resource, (_, allocatable)) in counts {
            amounts[resource] = json!(allocatable.to_string());
        }
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": { label: value, "zone": zone } },
        });
        refused(store.create(Kind::Node, "", node))?;
        let status = json!({ "capacity": amounts, "allocatable": amounts });
        set(store, Kind::Node, "", &name, "status", &status)?;
    }
    Ok(())
}

/// Puts the pod of a node's agent into the API; it listens there.
pub(super) fn announce(store: &Store, node: &str, address: SocketAddr) -> anyhow::Result<()> {
    let name = format!("agent-{node}");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app.kubernetes.io/name": manifests::AGENT } },
        "spec": {
            "nodeName": node,
            "containers": [{
                "name": "agent", "image": "agent",
                "ports": [{ "name": "grpc", "containerPort": address.port() }],
            }],
        },
    });
    make(store, manifests::NAMESPACE, pod)?;
    let status = json!({ "phase": "Running", "podIP": address.ip().to_string() });
    set(
        store,
        Kind::Pod,
        manifests::NAMESPACE,
        &name,
        "status",
        &status,
    )
}

/// Creates a pod that waits.
pub(super) fn wait(
    store: &Store,
    shapes: &[Shape],
    shape: usize,
    name: &str,
) -> anyhow::Result<()> {
    let mut pod = pod_of(name, shapes[shape].wants, shapes[shape].zone.as_deref());
    pod["metadata"]["labels"] = json!({ "shape": shape.to_string() });
    make(store, NAMESPACE, pod)
}

fn pod_of(name: &str, wants: &[(&str, u32)], zone: Option<&str>) -> Value {
    let mut limits = json!({ "cpu": "100m", "memory": "64Mi" });
    for (resource, count) in wants {
        limits[*resource] = json!(count.to_string());
    }
    let mut spec = json!({
        "schedulerName": "benchmark",
        "restartPolicy": "Never",
        "containers": [{
            "name": "main", "image": "registry.example.com/team/train:1.2.3",
            "command": ["python", "train.py"],
            "resources": { "limits": limits },
        }],
    });
    if let Some(zone) = zone {
        spec["nodeSelector"] = json!({ "zone": zone });
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec })
}

fn make(store: &Store, namespace: &str, pod: Value) -> anyhow::Result<()> {
    refused(store.create(Kind::Pod, namespace, pod))
}

fn set(
    store: &Store,
    kind: Kind,
    namespace: &str,
    name: &str,
    part: &str,
    value: &Value,
) -> anyhow::Result<()> {
    let merge = |object: &mut Value| {
        for (key, value) in value.as_object().into_iter().flatten() {
            object[part][key] = value.clone();
        }
    };
    refused(store.modify(kind, namespace, name, merge))
}

fn refused<T>(result: Result<T, Status>) -> anyhow::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(status) => anyhow::bail!("the API server refused: {status}"),
    }
}

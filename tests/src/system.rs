//! A system that runs: the embedded cluster, agents and controller as processes, and the handles
//! that scenarios use on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use simcluster::cluster::{Cluster, Node, State};
use simcluster::store::{DeleteOptions, Kind, Store, object};
use testbed::driver::Driver;
use testbed::journey::Device;
use testbed::nvidia::Operator;
use testbed::{http, manifests};
use tokio_util::sync::CancellationToken;

use crate::pods::{NAMESPACE, Pod};
use crate::spec::Spec;
use crate::start;
use crate::watcher::{Watched, Watcher};

/// Nothing that a scenario waits for may take longer; a machine under load is slow, not wrong.
pub const LIMIT: Duration = Duration::from_mins(2);
/// The GPU operator's label while it replaces a node's driver.
const DRIVER_UPGRADE: &str = "nvidia.com/gpu-driver-upgrade-state";
/// What no watch of the API tells is looked at this often.
const TICK: Duration = Duration::from_millis(20);

/// A running system.
#[derive(Debug)]
pub struct System {
    pub(crate) cluster: Cluster,
    pub(crate) folder: PathBuf,
    pub(crate) nodes: Vec<Watched>,
    pub(crate) watcher: Watcher,
    pub(crate) stop: CancellationToken,
    pub(crate) watching: tokio::task::JoinHandle<()>,
}

/// A device in a container's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The container.
    pub container: String,
    /// The resource name.
    pub resource: String,
    /// The device id.
    pub id: String,
    /// What the driver says of it.
    pub device: Device,
}

impl System {
    /// Starts what the specification says, in an empty folder.
    pub async fn start(spec: &Spec, folder: &Path) -> anyhow::Result<Self> {
        start::start(spec, folder).await
    }

    /// The objects of the API.
    pub fn store(&self) -> &Store {
        self.cluster.store()
    }

    /// The cluster itself.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What was seen of the whole system so far.
    pub fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// A node's kubelet and containers.
    pub fn node(&self, name: &str) -> anyhow::Result<&Node> {
        self.cluster
            .node(name)
            .with_context(|| format!("there is no node {name}"))
    }

    /// A node's driver.
    pub fn driver(&self, node: &str) -> anyhow::Result<&Arc<Driver>> {
        let watched = self
            .nodes
            .iter()
            .find(|watched| watched.node.name() == node);
        let driver = watched.and_then(|watched| watched.driver.as_ref());
        driver.with_context(|| format!("node {node} has no driver"))
    }

    /// Creates a pod.
    pub fn create(&self, pod: &Pod) -> anyhow::Result<Arc<Value>> {
        let name = object::name(&pod.object()).to_owned();
        self.store()
            .create(Kind::Pod, NAMESPACE, pod.object())
            .with_context(|| format!("pod {name} was refused"))
    }

    /// The pod, if there is one of that name.
    pub fn pod(&self, name: &str) -> Option<Arc<Value>> {
        self.store().get(Kind::Pod, NAMESPACE, name)
    }

    /// Deletes a pod as `kubectl delete` does.
    pub fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.store()
            .delete(Kind::Pod, NAMESPACE, name, &DeleteOptions::default())
            .with_context(|| format!("pod {name} cannot be deleted"))?;
        Ok(())
    }

    /// Waits until something is so; looks again at every change of pods, nodes and events.
    ///
    /// # Errors
    /// It takes too long, or the watcher has found something wrong.
    pub async fn until<T>(
        &self,
        what: &str,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let wait = async {
            loop {
                let mut watches =
                    [Kind::Pod, Kind::Node, Kind::Event].map(|k| self.store().list_and_watch(k).1);
                loop {
                    if let Some(found) = probe().await {
                        return Ok(found);
                    }
                    if let Some(fault) = self.watcher.faults().first() {
                        bail!("while waiting until {what}: {fault}");
                    }
                    let [pods, nodes, events] = &mut watches;
                    let changed = tokio::select! {
                        event = pods.next() => event.is_ok(),
                        event = nodes.next() => event.is_ok(),
                        event = events.next() => event.is_ok(),
                        () = tokio::time::sleep(TICK) => true,
                    };
                    if !changed {
                        break;
                    }
                }
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("waited {LIMIT:?} until {what}"),
        }
    }

    /// Waits until the pod's state satisfies a condition.
    pub async fn pod_until(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Arc<Value>> {
        let probe = async || self.pod(name).filter(|pod| holds(pod));
        self.until(&format!("pod {name} {what}"), probe).await
    }

    /// Waits until the pod runs. One that has ended well did so, too: on a busy machine nobody may have seen it.
    pub async fn running(&self, name: &str) -> anyhow::Result<Arc<Value>> {
        let ran = |pod: &Value| matches!(phase(pod), "Running" | "Succeeded");
        self.pod_until(name, "runs", ran).await
    }

    /// Waits until the pod has ended well.
    pub async fn succeeded(&self, name: &str) -> anyhow::Result<Arc<Value>> {
        self.pod_until(name, "has ended", |pod| phase(pod) == "Succeeded")
            .await
    }

    /// Waits until there is no pod of that name.
    pub async fn gone(&self, name: &str) -> anyhow::Result<()> {
        let probe = async || self.pod(name).is_none().then_some(());
        self.until(&format!("pod {name} is gone"), probe).await
    }

    /// Deletes a pod and waits until it is gone.
    pub async fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.delete(name)?;
        self.gone(name).await
    }

    /// Creates a pod and waits until it runs.
    pub async fn run(&self, pod: &Pod) -> anyhow::Result<Arc<Value>> {
        let made = self.create(pod)?;
        self.running(object::name(&made)).await
    }

    /// Waits for an Event of that reason on the pod, and returns its sentence.
    pub async fn event(&self, pod: &str, reason: &str) -> anyhow::Result<String> {
        let probe = async || self.events(pod, reason).into_iter().next();
        self.until(&format!("pod {pod} has an Event {reason}"), probe)
            .await
    }

    /// The sentences of the pod's Events of that reason.
    pub fn events(&self, pod: &str, reason: &str) -> Vec<String> {
        let (events, _) = self.store().list(Kind::Event, Some(NAMESPACE));
        let ours = events.iter().filter(|event| {
            object::text(event, "/involvedObject/name") == pod
                && object::text(event, "/reason") == reason
        });
        ours.map(|event| object::text(event, "/message").to_owned())
            .collect()
    }

    /// An annotation of a node.
    pub fn annotation(&self, node: &str, name: &str) -> Option<String> {
        let node = self.store().get(Kind::Node, "", node)?;
        Some(node["metadata"]["annotations"][name].as_str()?.to_owned())
    }

    /// Waits until the node's problems say something.
    pub async fn problem(&self, node: &str, words: &str) -> anyhow::Result<String> {
        let probe = async || {
            let problems = self.annotation(node, "cdmo.clear.ml/problems")?;
            problems.contains(words).then_some(problems)
        };
        self.until(&format!("the problems of node {node} say {words:?}"), probe)
            .await
    }

    /// The devices of a pod by the kubelet's account, as the driver knows them, in order of
    /// container and place.
    pub async fn devices(&self, pod: &str) -> anyhow::Result<Vec<Given>> {
        let object = self
            .pod(pod)
            .with_context(|| format!("pod {pod} is gone"))?;
        let node = object::text(&object, "/spec/nodeName");
        let driver = self.driver(node)?;
        let mut all = Vec::new();
        for allocation in self.node(node)?.allocations().await {
            if allocation.pod_uid != object::uid(&object) {
                continue;
            }
            for id in allocation.ids {
                let device = driver.device(&id)?;
                let device = device.with_context(|| format!("the driver knows no {id}"))?;
                all.push(Given {
                    container: allocation.container.clone(),
                    resource: allocation.resource.clone(),
                    id,
                    device,
                });
            }
        }
        all.sort_by_key(|given| {
            let place = (given.device.gpu_index, given.device.start);
            (given.container.clone(), place)
        });
        Ok(all)
    }

    /// The profiles of a pod's devices, sorted; `gpu` for a whole one.
    pub async fn profiles(&self, pod: &str) -> anyhow::Result<Vec<String>> {
        let devices = self.devices(pod).await?.into_iter();
        let mut all: Vec<String> = devices
            .map(|given| match given.device.profile.as_str() {
                "" => "gpu".to_owned(),
                profile => profile.to_owned(),
            })
            .collect();
        all.sort();
        Ok(all)
    }

    /// The one device of a pod that has one.
    pub async fn device(&self, pod: &str) -> anyhow::Result<Given> {
        let mut devices = self.devices(pod).await?;
        ensure!(devices.len() == 1, "pod {pod} has {devices:?}");
        devices.pop().context("one")
    }

    /// The GPU instances of a node: serial number, profile and first slice. One that was made anew
    /// has another number.
    pub fn instances(&self, node: &str) -> anyhow::Result<Vec<(u64, String, u32)>> {
        let state = self.driver(node)?.state()?;
        let all = state.gpus.into_iter().flat_map(|gpu| gpu.instances);
        Ok(all
            .map(|i| (i.serial, i.profile.to_owned(), i.start))
            .collect())
    }

    /// How many instances of a node have a compute instance.
    pub fn complete_instances(&self, node: &str) -> anyhow::Result<usize> {
        let state = self.driver(node)?.state()?;
        let all = state.gpus.into_iter().flat_map(|gpu| gpu.instances);
        Ok(all.filter(|i| !i.compute.is_empty()).count())
    }

    /// Names of the pods of our own DaemonSet on a node, or of the controller.
    pub fn own_pod(&self, app: &str, node: Option<&str>) -> Option<Arc<Value>> {
        let (pods, _) = self.store().list(Kind::Pod, Some(manifests::NAMESPACE));
        pods.into_iter().find(|pod| {
            pod["metadata"]["labels"]["app.kubernetes.io/name"] == app
                && node.is_none_or(|node| object::text(pod, "/spec/nodeName") == node)
        })
    }

    /// What a node's agent wrote so far.
    pub fn agent_log(&self, node: &str) -> String {
        let pod = self.own_pod(manifests::AGENT, Some(node));
        self.log(pod.as_deref())
    }

    /// What the controller wrote so far.
    pub fn controller_log(&self) -> String {
        let pod = self.own_pod(manifests::CONTROLLER, None);
        self.log(pod.as_deref())
    }

    fn log(&self, pod: Option<&Value>) -> String {
        let Some(pod) = pod else {
            return String::new();
        };
        let file = self
            .folder
            .join("logs")
            .join(format!("{}.log", object::name(pod)));
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// The sum of a metric of a node's agent over all rows whose labels contain a text; none while
    /// the agent does not answer or has no such row.
    pub async fn metric(&self, node: &str, name: &str, labels: &str) -> Option<f64> {
        let pod = self.own_pod(manifests::AGENT, Some(node))?;
        let address = object::text(&pod, "/status/podIP").to_owned();
        let answer = http::get(&address, manifests::AGENT_HTTP, "/metrics")
            .await
            .ok()?;
        http::metric(&answer.1, name, labels)
    }

    /// Waits until no device of the node is held by anybody, or may be.
    pub async fn idle(&self, node: &str) -> anyhow::Result<()> {
        self.holding(node, 0).await
    }

    /// Waits until exactly that many devices of the node are held, or may be.
    pub async fn holding(&self, node: &str, count: u32) -> anyhow::Result<()> {
        let there = async || {
            let connected = self
                .metric(node, "cdmo_agent_controller_connected", "")
                .await?;
            let held = self
                .metric(node, "cdmo_agent_held_devices", "")
                .await
                .unwrap_or(0.0);
            (connected > 0.0 && held.total_cmp(&f64::from(count)).is_eq()).then_some(())
        };
        self.until(&format!("{count} devices of node {node} are held"), there)
            .await
    }

    /// Waits until a node's agent has a controller, and that many instances to give out.
    pub async fn offers(&self, node: &str, count: u32) -> anyhow::Result<()> {
        let offered = async || {
            let connected = self
                .metric(node, "cdmo_agent_controller_connected", "")
                .await?;
            let idle = self.metric(node, "cdmo_agent_instances", "idle").await?;
            (connected > 0.0 && idle >= f64::from(count)).then_some(())
        };
        self.until(&format!("node {node} has {count} idle instances"), offered)
            .await
    }

    /// Waits until a node's status shows so many devices of a resource.
    pub async fn shows(&self, node: &str, resource: &str, count: u64) -> anyhow::Result<()> {
        let shown = async || {
            let object = self.store().get(Kind::Node, "", node)?;
            let shown = start::shown(&object).get(resource).copied();
            (shown.unwrap_or(0) == count).then_some(())
        };
        self.until(&format!("node {node} shows {count} {resource}"), shown)
            .await
    }

    /// Where all files of the cluster are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Hands a node to the system, as `kubectl label` does.
    pub fn hand_over(&self, node: &str) -> anyhow::Result<()> {
        let (label, value) = manifests::NODE_LABEL;
        let set = |node: &mut Value| node["metadata"]["labels"][label] = value.into();
        self.store().modify(Kind::Node, "", node, set)?;
        Ok(())
    }

    /// Writes a node's label, or takes it away.
    pub fn label(&self, node: &str, label: &str, value: Option<&str>) -> anyhow::Result<()> {
        self.write(node, "labels", label, value)
    }

    /// Writes a node's annotation, or takes it away.
    pub fn annotate(&self, node: &str, name: &str, value: Option<&str>) -> anyhow::Result<()> {
        self.write(node, "annotations", name, value)
    }

    fn write(&self, node: &str, map: &str, key: &str, value: Option<&str>) -> anyhow::Result<()> {
        let set = |node: &mut Value| {
            let all = &mut node["metadata"][map];
            match (value, all.as_object_mut()) {
                (Some(value), Some(all)) => {
                    all.insert(key.to_owned(), value.into());
                }
                (Some(value), None) => *all = serde_json::json!({ key: value }),
                (None, Some(all)) => {
                    all.remove(key);
                }
                (None, None) => {}
            }
        };
        self.store().modify(Kind::Node, "", node, set)?;
        Ok(())
    }

    /// A label of a node.
    pub fn node_label(&self, node: &str, label: &str) -> Option<String> {
        let node = self.store().get(Kind::Node, "", node)?;
        Some(node["metadata"]["labels"][label].as_str()?.to_owned())
    }

    /// Waits until a node's label has this value, or is gone.
    pub async fn labelled(
        &self,
        node: &str,
        label: &str,
        value: Option<&str>,
    ) -> anyhow::Result<()> {
        let wanted = value.map(str::to_owned);
        let probe = async || (self.node_label(node, label) == wanted).then_some(());
        self.until(&format!("label {label} of node {node} is {value:?}"), probe)
            .await
    }

    /// NVIDIA's GPU operator begins to look after the nodes with GPUs.
    pub fn gpu_operator(&self) -> Operator {
        let nodes = self.nodes.iter().filter_map(|watched| {
            let driver = watched.driver.clone()?;
            Some((watched.node.clone(), driver))
        });
        Operator::start(self.store().clone(), nodes.collect())
    }

    /// Takes the label away with which a node was handed over.
    pub fn unlabel(&self, node: &str) -> anyhow::Result<()> {
        self.label(node, manifests::NODE_LABEL.0, None)
    }

    /// The driver of a node is replaced; waits until its agent is gone.
    pub async fn begin_driver_upgrade(&self, node: &str) -> anyhow::Result<()> {
        self.label(node, DRIVER_UPGRADE, Some("pod-restart-required"))?;
        self.agent_gone(node).await
    }

    /// It is replaced.
    pub fn end_driver_upgrade(&self, node: &str) -> anyhow::Result<()> {
        self.label(node, DRIVER_UPGRADE, Some("upgrade-done"))
    }

    /// Waits until a node has no agent.
    pub async fn agent_gone(&self, node: &str) -> anyhow::Result<()> {
        let gone = async || {
            self.own_pod(manifests::AGENT, Some(node))
                .is_none()
                .then_some(())
        };
        self.until(&format!("the agent of node {node} is gone"), gone)
            .await
    }

    /// Waits until a node's agent has ended, and returns its exit code.
    pub async fn agent_exit(&self, node: &str) -> anyhow::Result<i32> {
        self.exit(manifests::AGENT, Some(node)).await
    }

    /// Waits until the controller has ended, and returns its exit code.
    pub async fn controller_exit(&self) -> anyhow::Result<i32> {
        self.exit(manifests::CONTROLLER, None).await
    }

    async fn exit(&self, app: &str, node: Option<&str>) -> anyhow::Result<i32> {
        let ended = async || {
            let pod = self.own_pod(app, node)?;
            let node = self.cluster.node(object::text(&pod, "/spec/nodeName"))?;
            let records = node.containers().into_iter();
            let mut own = records.filter(|record| record.pod_uid == object::uid(&pod));
            let code = |state: &State| match state {
                State::Exited { code, .. } => Some(*code),
                State::Running { .. } => None,
            };
            own.find_map(|own| code(&own.state).or_else(|| code(own.last.as_ref()?)))
        };
        self.until(&format!("{app} has ended"), ended).await
    }

    /// How many times a node's agent was started.
    pub fn agent_starts(&self, node: &str) -> anyhow::Result<u32> {
        let pod = self
            .own_pod(manifests::AGENT, Some(node))
            .context("no agent")?;
        let records = self.node(node)?.containers().into_iter();
        let attempts = records.filter(|record| record.pod_uid == object::uid(&pod));
        Ok(attempts.map(|record| record.attempt + 1).sum())
    }

    /// Kills a node's agent as `kill -9` does, and returns once it is dead. The kubelet starts it
    /// again.
    pub async fn kill_agent(&self, node: &str) -> anyhow::Result<()> {
        let pod = self
            .own_pod(manifests::AGENT, Some(node))
            .context("no agent")?;
        self.kill(&pod).await
    }

    /// Kills the controller as `kill -9` does, and returns once it is dead. The kubelet starts it
    /// again.
    pub async fn kill_controller(&self) -> anyhow::Result<()> {
        let pod = self
            .own_pod(manifests::CONTROLLER, None)
            .context("no controller")?;
        self.kill(&pod).await
    }

    /// Kills the webhook as `kill -9` does, and returns once it is dead. The kubelet starts it again.
    pub async fn kill_webhook(&self) -> anyhow::Result<()> {
        let pod = self
            .own_pod(manifests::WEBHOOK, None)
            .context("no webhook")?;
        self.kill(&pod).await
    }

    /// Waits until the webhook is ready.
    pub async fn webhook_ready(&self) -> anyhow::Result<()> {
        let ready = async || {
            let pod = self.own_pod(manifests::WEBHOOK, None)?;
            let address = object::text(&pod, "/status/podIP").to_owned();
            let answer = http::get(&address, manifests::WEBHOOK_HTTP, "/readyz").await;
            answer.is_ok_and(|(code, _)| code == 200).then_some(())
        };
        self.until("the webhook is ready", ready).await
    }

    /// The first pod of a scenario that has a label.
    pub fn pod_with(&self, label: &str, value: &str) -> Option<Arc<Value>> {
        let (pods, _) = self.store().list(Kind::Pod, Some(NAMESPACE));
        let mut pods = pods.into_iter();
        pods.find(|pod| pod["metadata"]["labels"][label] == value)
    }

    async fn kill(&self, pod: &Value) -> anyhow::Result<()> {
        let node = self.node(object::text(pod, "/spec/nodeName"))?;
        let process = || {
            let records = node.containers().into_iter();
            let mut own = records.filter(|record| record.pod_uid == object::uid(pod));
            own.find(|record| matches!(record.state, State::Running { .. }))
        };
        let running = async || process();
        let record = self
            .until(&format!("{} is running", object::name(pod)), running)
            .await?;
        let pid = i32::try_from(record.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let pid = pid.context("it has no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        let dead = async || {
            let now = process();
            now.is_none_or(|now| now.attempt != record.attempt)
                .then_some(())
        };
        self.until(&format!("{} is dead", object::name(pod)), dead)
            .await
    }

    /// Waits until kubelet, node status and driver agree on every node that has an agent: as many
    /// devices of each resource as instances of its profile, and GPUs without MIG as whole ones.
    pub async fn consistent(&self) -> anyhow::Result<()> {
        for watched in &self.nodes {
            let (Some(driver), name) = (&watched.driver, watched.node.name()) else {
                continue;
            };
            let agree = async || {
                let object = self.store().get(Kind::Node, "", name)?;
                let shown = start::shown(&object);
                let real = start::real(&driver.state().ok()?);
                start::agree(shown, real).then_some(())
            };
            if let Err(error) = self
                .until(&format!("node {name} is consistent"), agree)
                .await
            {
                let object = self.store().find(Kind::Node, "", name)?;
                let shown = start::shown(&object);
                let real = start::real(&driver.state()?);
                return Err(error.context(format!("shown are {shown:?}, there are {real:?}")));
            }
        }
        Ok(())
    }
}

fn phase(pod: &Value) -> &str {
    object::text(pod, "/status/phase")
}

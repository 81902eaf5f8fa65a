//! The kubelet of one node: admits pods, has plugins allocate their devices, runs them, and tells
//! the API server and its local clients about it.
//!
//! One `Kubelet` is one life of the process: to restart it, stop it and start another. Containers
//! belong to the [`crate::runtime`] and live on meanwhile; devices that pods hold are remembered in
//! the checkpoint file.
//!
//! The parts without I/O are [`devices`] (the device manager), `pod` (a pod's life), `predicate`,
//! `node_status` and `table`; the others are thin shells around them. There is no eviction by
//! pressure, no probe, no volume and no image pull.

mod admission;
pub mod devices;
mod node_status;
mod plugin;
mod pod;
mod podresources;
mod predicate;
mod registration;
mod shell;
mod sync;
mod table;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::Addresses;
use crate::behaviour::Behaviour;
use crate::events::Recorder;
use crate::feed::Feed;
use crate::runtime::Runtime;
use crate::store::Store;
use crate::timeline::Timelines;

use devices::DeviceManager;
use plugin::Plugins;
use table::PodTable;
use worker::Order;

/// Times that a real kubelet has fixed and a test may want shorter.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// How often the node's status is computed (`nodeStatusUpdateFrequency`).
    pub status_period: Duration,
    /// How long after it read its cached node the kubelet's patch reaches the API server.
    pub status_lag: Duration,
    /// How long a resource outlives its plugin (`endpointStopGracePeriod`).
    pub stop_grace: Duration,
    /// How long a plugin may take for `PreStartContainer`.
    pub pre_start_timeout: Duration,
    /// How long after a container could not be started the kubelet tries again.
    pub start_retry: Duration,
    /// How long a simulated container takes to start.
    pub start_delay: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            status_period: Duration::from_secs(10),
            status_lag: Duration::ZERO,
            stop_grace: devices::STOP_GRACE,
            pre_start_timeout: Duration::from_secs(30),
            start_retry: Duration::from_secs(10),
            start_delay: Duration::from_millis(3),
        }
    }
}

/// Where a kubelet's files are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `/var/lib/kubelet/device-plugins` of the node.
    pub plugins: PathBuf,
    /// `/var/lib/kubelet/pod-resources` of the node.
    pub pod_resources: PathBuf,
}

impl Paths {
    /// The paths below the node's root.
    pub fn below(host_root: &Path) -> Self {
        let kubelet = host_root.join("var/lib/kubelet");
        Self {
            plugins: kubelet.join("device-plugins"),
            pod_resources: kubelet.join("pod-resources"),
        }
    }
}

/// What a kubelet is told when it starts.
#[derive(Debug, Clone)]
pub(crate) struct KubeletConfig {
    /// Name of the node.
    pub(crate) node: String,
    /// Labels that it gives its node.
    pub(crate) labels: BTreeMap<String, String>,
    /// Quantity of CPU.
    pub(crate) cpu: String,
    /// Quantity of memory.
    pub(crate) memory: String,
    /// Pods it takes.
    pub(crate) pods: u32,
    /// Address of the node.
    pub(crate) ip: String,
    /// As which Kubernetes.
    pub(crate) behaviour: Behaviour,
    /// Times.
    pub(crate) tuning: Tuning,
    /// Files.
    pub(crate) paths: Paths,
}

/// What a kubelet works with.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) store: Store,
    pub(crate) runtime: Runtime,
    pub(crate) feed: Feed,
    pub(crate) times: Timelines,
    pub(crate) addresses: Addresses,
}

/// The kubelet could not start.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// A file or socket of its own is in the way, or its directory cannot be used.
    #[error("failed to prepare {path}")]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The API server refused its node.
    #[error("failed to register the node: {0}")]
    Node(String),
}

/// One life of a kubelet. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Kubelet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: KubeletConfig,
    around: Surroundings,
    recorder: Recorder,
    start: Instant,
    /// Locked after `table` where both are needed.
    devices: Mutex<DeviceManager>,
    table: Mutex<PodTable>,
    workers: Mutex<HashMap<String, watch::Sender<Order>>>,
    plugins: Plugins,
    cached: watch::Receiver<Option<Arc<Value>>>,
    /// The message of a panic.
    panicked: mpsc::Sender<String>,
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Kubelet {
    /// Ends this life: nothing is cleaned up, as when the process is killed.
    pub(crate) async fn stop(&self) {
        self.inner.token.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Ends this life without waiting.
    pub(crate) fn abandon(&self) {
        self.inner.token.cancel();
    }

    /// Fails a pod as the kubelet does under pressure: phase `Failed`, reason `Evicted`.
    pub(crate) fn evict(&self, uid: &str, message: &str) -> bool {
        let workers = lock(&self.inner.workers);
        let Some(worker) = workers.get(uid) else {
            return false;
        };
        worker.send_modify(|order| {
            order.failure = Some(("Evicted".to_owned(), message.to_owned()));
        });
        true
    }

    /// The device manager.
    pub(crate) fn devices(&self) -> MutexGuard<'_, DeviceManager> {
        lock(&self.inner.devices)
    }

    fn table(&self) -> MutexGuard<'_, PodTable> {
        lock(&self.inner.table)
    }

    fn plugins(&self) -> &Plugins {
        &self.inner.plugins
    }

    fn config(&self) -> &KubeletConfig {
        &self.inner.config
    }

    fn behaviour(&self) -> Behaviour {
        self.inner.config.behaviour
    }

    fn paths(&self) -> &Paths {
        &self.inner.config.paths
    }

    fn store(&self) -> &Store {
        &self.inner.around.store
    }

    fn runtime(&self) -> &Runtime {
        &self.inner.around.runtime
    }

    fn times(&self) -> &Timelines {
        &self.inner.around.times
    }

    fn token(&self) -> &CancellationToken {
        &self.inner.token
    }

    /// The node as the kubelet knows it, which may be behind.
    fn cached_node(&self) -> Option<Arc<Value>> {
        self.inner.cached.borrow().clone()
    }

    /// Time on the device manager's and the pods' clock.
    fn now(&self) -> Duration {
        self.inner.start.elapsed()
    }

    fn running_containers(&self, uid: &str) -> Vec<String> {
        let records = self.runtime().of_pod(uid).into_iter();
        records
            .filter(|r| r.state.is_running())
            .map(|r| r.container)
            .collect()
    }

    /// Runs something until it ends or this life does.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let token = self.inner.token.clone();
        self.inner.tasks.spawn(async move {
            token.run_until_cancelled(work).await;
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A whole cluster in this process: API server, scheduler, controllers of workloads, and nodes with
//! kubelets; what tests, the demo and benchmarks start.
//!
//! Everything listens on loopback only, each cluster in a network of its own, and everything that it
//! leaves on disk lies in one directory.

mod logs;
mod network;
mod node;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::Addresses;
use crate::api::{self, ApiConfig, Audit, Faults};
use crate::feed::Feed;
use crate::runtime::{Guard, GuardError, RuntimeConfig};
use crate::scheduler;
use crate::store::{Kind, Store, StoreOptions};
use crate::timeline::{Timeline, Timelines};
use crate::{daemonset, kubelet, workloads};

pub use crate::behaviour::Behaviour;
pub use crate::kubelet::{KubeletError, Tuning};
pub use crate::runtime::{Program, Record, State};
pub use node::{Allocation, Node};

use node::NodeParts;

/// What a cluster is made of.
#[derive(Debug, Clone, Default)]
pub struct ClusterConfig {
    /// Where all its files are. Short: sockets in it must fit into 107 bytes with their path.
    pub dir: PathBuf,
    /// As which Kubernetes it behaves.
    pub behaviour: Behaviour,
    /// Its nodes.
    pub nodes: Vec<NodeConfig>,
    /// Container images that are programs of this machine, by name; all others are simulated.
    pub images: HashMap<String, Program>,
}

/// What a node is made of.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Its labels, besides those that every kubelet sets.
    pub labels: BTreeMap<String, String>,
    /// Quantity of CPU.
    pub cpu: String,
    /// Quantity of memory.
    pub memory: String,
    /// Pods that it takes.
    pub pods: u32,
    /// Environment variables of all its processes.
    pub env: Vec<(String, String)>,
}

impl Default for NodeConfig {
    /// 64 cores, 256 GiB, 110 pods.
    fn default() -> Self {
        Self {
            name: "node".to_owned(),
            labels: BTreeMap::new(),
            cpu: "64".to_owned(),
            memory: "256Gi".to_owned(),
            pods: 110,
            env: Vec::new(),
        }
    }
}

impl NodeConfig {
    /// A node of the usual size.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// What only tests and benchmarks set.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Times of the kubelets.
    pub tuning: Tuning,
    /// How long the scheduler holds up each binding.
    pub pre_bind: Duration,
    /// Where uids and generated names come from; random if none.
    pub seed: Option<u64>,
}

/// The cluster could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Sockets could not be bound below such a path.
    #[error(
        "failed to start the cluster in {dir}: a socket of node {node:?} would have a path of more than 107 bytes; use a shorter directory"
    )]
    PathTooLong {
        /// The directory.
        dir: PathBuf,
        /// The node.
        node: String,
    },
    /// Two nodes have the same name.
    #[error("failed to start the cluster: there are two nodes named {0:?}")]
    DuplicateNode(String),
    /// A file or directory could not be made.
    #[error("failed to write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another cluster, or anything else, occupies all networks that were tried.
    #[error("failed to find a free loopback network for the cluster")]
    NoNetwork(#[source] std::io::Error),
    /// The addresses of the cluster's network are used up by nodes.
    #[error("failed to start the cluster: more nodes than one loopback network can address")]
    TooManyNodes,
    /// Left-overs of an earlier run could not be cleared up.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A kubelet did not start.
    #[error("failed to start the kubelet of node {node:?}")]
    Kubelet {
        /// The node.
        node: String,
        /// Why.
        #[source]
        source: KubeletError,
    },
}

/// A running cluster. Dropping it ends it without waiting; [`Cluster::shutdown`] waits.
#[derive(Debug)]
pub struct Cluster {
    url: String,
    kubeconfig: PathBuf,
    store: Store,
    times: Timelines,
    faults: Faults,
    audit: Audit,
    nodes: BTreeMap<String, Node>,
    /// Ends scheduler and controllers.
    control: CancellationToken,
    /// Ends API server and feed.
    base: CancellationToken,
    control_tasks: TaskTracker,
    base_tasks: TaskTracker,
    guard: Option<Arc<Guard>>,
}

impl Cluster {
    /// Starts a cluster and returns once its nodes are registered.
    pub async fn start(config: ClusterConfig) -> Result<Self, StartError> {
        Self::start_with(config, Options::default()).await
    }

    /// [`Cluster::start`] with options.
    pub async fn start_with(config: ClusterConfig, options: Options) -> Result<Self, StartError> {
        check(&config)?;
        let dir = std::path::absolute(&config.dir).unwrap_or_else(|_| config.dir.clone());
        create_dir(&dir)?;
        let guard = Arc::new(Guard::new(&dir.join("run"))?);
        let (listener, network) = network::claim().await.map_err(StartError::NoNetwork)?;
        let address = listener.local_addr().map_err(StartError::NoNetwork)?;
        let url = format!("http://{address}");
        let kubeconfig = dir.join("kubeconfig");
        write(&kubeconfig, &network::kubeconfig(&url))?;

        let store = Store::new(&StoreOptions {
            seed: options.seed,
            behaviour: config.behaviour,
            ..StoreOptions::default()
        });
        let times = Timelines::default();
        let (control, base) = (CancellationToken::new(), CancellationToken::new());
        let (control_tasks, base_tasks) = (TaskTracker::new(), TaskTracker::new());
        let (faults, audit) = (Faults::default(), Audit::default());
        let logs_dir = dir.join("logs");
        let api_config = ApiConfig {
            version: config.behaviour.kubelet_version().to_owned(),
            faults: faults.clone(),
            audit: audit.clone(),
            logs: Some(Arc::new(logs::Logs::new(logs_dir.clone(), store.clone()))),
            ..ApiConfig::default()
        };
        let served = api::serve(listener, store.clone(), api_config, base.clone());
        base_tasks.spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "The API server ended");
            }
        });
        let feed = Feed::new(times.clone());
        base_tasks.spawn(feed.clone().run(store.clone(), base.clone()));
        let scheduling = scheduler::Options {
            behaviour: config.behaviour,
            pre_bind: options.pre_bind,
        };
        control_tasks.spawn(scheduler::run(
            store.clone(),
            scheduling,
            times.clone(),
            control.clone(),
        ));
        control_tasks.spawn(daemonset::run(store.clone(), control.clone()));
        control_tasks.spawn(workloads::run(store.clone(), control.clone()));

        let mut cluster = Self {
            url,
            kubeconfig: kubeconfig.clone(),
            store: store.clone(),
            times: times.clone(),
            faults,
            audit,
            nodes: BTreeMap::new(),
            control,
            base,
            control_tasks,
            base_tasks,
            guard: Some(guard.clone()),
        };
        let nursery = Nursery {
            dir,
            kubeconfig,
            behaviour: config.behaviour,
            tuning: options.tuning,
            images: Arc::new(config.images),
            addresses: Addresses::new(network),
            guard,
            store,
            feed,
            times,
        };
        for node in config.nodes {
            let node = nursery.raise(node).await?;
            cluster.nodes.insert(node.name().to_owned(), node);
        }
        Ok(cluster)
    }

    /// Address of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A kubeconfig for this cluster.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// The objects, without the way over HTTP.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes API requests fail.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Tells what clients asked for over HTTP.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// When the pod with this uid reached each stage.
    pub fn timeline(&self, uid: &str) -> Option<Timeline> {
        self.times.of(uid)
    }

    /// When pods reached their stages.
    pub fn timelines(&self) -> &Timelines {
        &self.times
    }

    /// Time since the cluster started, on the clock of the timelines.
    pub fn now(&self) -> Duration {
        self.times.now()
    }

    /// Waits until the pod satisfies a condition, and returns it; `None` if that takes longer than
    /// `limit`. The condition is asked with each state of the pod, and with none while there is no
    /// such pod.
    pub async fn wait_for_pod(
        &self,
        namespace: &str,
        name: &str,
        limit: Duration,
        holds: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Option<Arc<Value>>> {
        let wait = async {
            loop {
                let (_, mut watch) = self.store.list_and_watch(Kind::Pod);
                loop {
                    let pod = self.store.get(Kind::Pod, namespace, name);
                    if holds(pod.as_deref()) {
                        return pod;
                    }
                    if watch.next().await.is_err() {
                        break;
                    }
                }
            }
        };
        tokio::time::timeout(limit, wait).await.ok()
    }

    /// Ends everything: processes get SIGTERM and a few seconds. Nothing outside the directory is
    /// left behind, no process and no listener.
    pub async fn shutdown(mut self) {
        self.control.cancel();
        self.control_tasks.close();
        self.control_tasks.wait().await;
        futures::future::join_all(self.nodes.values().map(Node::shutdown)).await;
        self.base.cancel();
        self.base_tasks.close();
        self.base_tasks.wait().await;
        self.nodes.clear();
        let guard = self.guard.take();
        // Its end waits for a shell.
        let _ = tokio::task::spawn_blocking(move || drop(guard)).await;
    }
}

/// What all nodes of a cluster are made with.
struct Nursery {
    dir: PathBuf,
    kubeconfig: PathBuf,
    behaviour: Behaviour,
    tuning: Tuning,
    images: Arc<HashMap<String, Program>>,
    addresses: Addresses,
    guard: Arc<Guard>,
    store: Store,
    feed: Feed,
    times: Timelines,
}

impl Nursery {
    async fn raise(&self, config: NodeConfig) -> Result<Node, StartError> {
        let name = config.name.clone();
        let host_root = self.dir.join("nodes").join(&name);
        create_dir(&host_root.join("var/lib/cdmo"))?;
        let ip = self.addresses.take().ok_or(StartError::TooManyNodes)?;
        let mut env = vec![(
            "KUBECONFIG".to_owned(),
            self.kubeconfig.display().to_string(),
        )];
        env.extend(config.env.clone());
        let runtime = RuntimeConfig {
            node: name.clone(),
            behaviour: self.behaviour,
            host_root: host_root.clone(),
            logs: self.dir.join("logs"),
            images: self.images.clone(),
            env,
            start_delay: self.tuning.start_delay,
            guard: self.guard.clone(),
            store: self.store.clone(),
        };
        let parts = NodeParts {
            config,
            behaviour: self.behaviour,
            tuning: self.tuning.clone(),
            host_root,
            ip: ip.to_string(),
            runtime,
            store: self.store.clone(),
            feed: self.feed.clone(),
            times: self.times.clone(),
            addresses: self.addresses.clone(),
        };
        let failed = |source| StartError::Kubelet { node: name, source };
        Node::start(parts).await.map_err(failed)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.control.cancel();
        self.base.cancel();
        for node in self.nodes.values() {
            node.abandon();
        }
    }
}

fn check(config: &ClusterConfig) -> Result<(), StartError> {
    let dir = std::path::absolute(&config.dir).unwrap_or_else(|_| config.dir.clone());
    let mut names = std::collections::BTreeSet::new();
    for node in &config.nodes {
        if !names.insert(&node.name) {
            return Err(StartError::DuplicateNode(node.name.clone()));
        }
        let root = dir.join("nodes").join(&node.name);
        let plugins = kubelet::Paths::below(&root).plugins;
        // The longest name of a plugin's socket to be expected.
        let longest = plugins.join("x".repeat(32));
        if longest.as_os_str().len() > 107 {
            return Err(StartError::PathTooLong {
                dir,
                node: node.name.clone(),
            });
        }
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<(), StartError> {
    let failed = |source| StartError::Write {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(path).map_err(failed)
}

fn write(path: &Path, text: &str) -> Result<(), StartError> {
    let failed = |source| StartError::Write {
        path: path.to_owned(),
        source,
    };
    std::fs::write(path, text).map_err(failed)
}

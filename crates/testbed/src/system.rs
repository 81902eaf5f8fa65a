//! A running system: the embedded cluster with agents and controller in it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use simcluster::cluster::{Behaviour, Cluster, ClusterConfig, NodeConfig, Program};
use simcluster::store::{Kind, Status, Store, object};
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::certs::{AGENT_NAME, Authority, CONTROLLER_NAME, CertError, Validity};
use crate::driver::Driver;
use crate::hardware::{self, Host};
use crate::http;
use crate::manifests;
use crate::observer::{Observed, Observer};

/// The node that the controller runs on; it has no GPU.
pub const CONTROL_NODE: &str = "control";
/// How often a page that tells of readiness is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// As which Kubernetes the cluster behaves.
    pub behaviour: Behaviour,
    /// Nodes with GPUs, by name.
    pub hosts: Vec<(String, Host)>,
    /// How much agents and controller write into their logs.
    pub log_level: String,
    /// Further arguments of the controller.
    pub controller_args: Vec<String>,
}

/// Why a system could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file could not be written.
    #[error("failed to lay out the simulated nodes in {path}")]
    Files {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No certificates.
    #[error(transparent)]
    Certificates(#[from] CertError),
    /// A simulated driver could not be opened.
    #[error(transparent)]
    Driver(#[from] fake_nvml::control::Error),
    /// The cluster did not start.
    #[error(transparent)]
    Cluster(#[from] simcluster::cluster::StartError),
    /// An object of the installation was refused.
    #[error("failed to install the system: {0}")]
    Install(#[from] Status),
    /// A part did not come up.
    #[error("{part} did not become ready within {}; its log ends with:\n{log}", limit.as_secs())]
    NotReady {
        /// Which.
        part: String,
        /// Seconds that it had.
        limit: Duration,
        /// The last lines that it wrote.
        log: String,
    },
}

/// A running system.
#[derive(Debug)]
pub struct System {
    cluster: Cluster,
    drivers: Arc<BTreeMap<String, Driver>>,
    observer: Observer,
    setup: Setup,
    /// Last: the folder goes when everything in it has ended.
    folder: TempDir,
}

impl System {
    /// Starts the cluster; there is nothing in it but nodes.
    pub async fn start(setup: Setup, binaries: &Binaries) -> Result<Self, StartError> {
        let files = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Files { path, source }
        };
        let folder = tempfile::Builder::new()
            .prefix("cdmo-")
            .tempdir()
            .map_err(files(&std::env::temp_dir()))?;
        let dir = folder.path();
        let authority = Authority::new()?;
        authority.issue(&controller_tls(dir), CONTROLLER_NAME, Validity::Current)?;
        let host = manifests::webhook_host();
        authority.issue(&webhook_tls(dir), &host, Validity::Current)?;
        let mut drivers = BTreeMap::new();
        for (name, host) in &setup.hosts {
            let root = dir.join("nodes").join(name);
            authority.issue(
                &root.join(manifests::AGENT_TLS),
                AGENT_NAME,
                Validity::Current,
            )?;
            let config =
                hardware::install(&binaries.nvml, &root, name, host).map_err(files(&root))?;
            drivers.insert(name.clone(), Driver::open(&config)?);
        }
        let config = ClusterConfig {
            dir: dir.to_owned(),
            behaviour: setup.behaviour,
            nodes: nodes(&drivers)?,
            images: images(binaries),
        };
        let cluster = Cluster::start(config).await?;
        let drivers = Arc::new(drivers);
        let observer = Observer::start(&cluster, drivers.clone());
        Ok(Self {
            cluster,
            drivers,
            observer,
            setup,
            folder,
        })
    }

    /// Puts agents, controller and webhook into the cluster. The agents start where nodes have the
    /// label.
    pub fn install(&self) -> Result<(), StartError> {
        let folder = self.folder.path();
        let installation = Installation {
            controller_tls: &controller_tls(folder),
            webhook_tls: &webhook_tls(folder),
            log_level: &self.setup.log_level,
            controller_args: &self.setup.controller_args,
        };
        installation.install(self.store(), self.setup.behaviour)
    }

    /// Hands all nodes with GPUs to the system, as an administrator does with `kubectl label`.
    pub fn label_nodes(&self) -> Result<(), StartError> {
        for (name, _) in &self.setup.hosts {
            self.store().modify(Kind::Node, "", name, |node| {
                let (label, value) = manifests::NODE_LABEL;
                node["metadata"]["labels"][label] = json!(value);
            })?;
        }
        Ok(())
    }

    /// Waits until the controller is ready and has a session with the agent of every node, and the
    /// webhook is ready.
    pub async fn ready(&self, limit: Duration) -> Result<(), StartError> {
        let all = self.setup.hosts.len();
        let ready = async {
            loop {
                let page = self.controller_page("/metrics").await;
                // A count of nodes is far from where a float is inexact.
                #[allow(clippy::cast_precision_loss)]
                let wanted = all as f64;
                let sessions = http::metric(&page.unwrap_or_default(), "cdmo_agent_sessions", "");
                let agents = self.own_pods(manifests::AGENT);
                if sessions == Some(wanted)
                    && agents.len() == all
                    && self.webhook_page("/readyz").await.is_some()
                {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(limit, ready)
            .await
            .map_err(|_| self.not_ready(limit))
    }

    fn not_ready(&self, limit: Duration) -> StartError {
        let agents = self.own_pods(manifests::AGENT);
        let stuck = agents
            .iter()
            .find(|pod| object::text(pod, "/status/phase") != "Running");
        let controller = self.own_pods(manifests::CONTROLLER).into_iter().next();
        let pod = stuck.cloned().or(controller);
        let name = pod
            .as_deref()
            .map_or("the controller", object::name)
            .to_owned();
        let log = self.log(&name);
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(12)..].join("\n");
        StartError::NotReady {
            part: name,
            limit,
            log,
        }
    }

    /// A page of the controller's HTTP server; none while there is none.
    pub async fn controller_page(&self, path: &str) -> Option<String> {
        let pod = self.own_pods(manifests::CONTROLLER).into_iter().next()?;
        page(&pod, manifests::CONTROLLER_HTTP, path).await
    }

    /// A page of the webhook's plain HTTP server; none while there is none.
    pub async fn webhook_page(&self, path: &str) -> Option<String> {
        let pod = self.own_pods(manifests::WEBHOOK).into_iter().next()?;
        page(&pod, manifests::WEBHOOK_HTTP, path).await
    }

    /// A page of each agent's HTTP server, by node.
    pub async fn agent_pages(&self, path: &str) -> Vec<(String, String)> {
        let mut pages = Vec::new();
        for pod in self.own_pods(manifests::AGENT) {
            let node = object::text(&pod, "/spec/nodeName").to_owned();
            if let Some(text) = page(&pod, manifests::AGENT_HTTP, path).await {
                pages.push((node, text));
            }
        }
        pages
    }

    fn own_pods(&self, app: &str) -> Vec<Arc<Value>> {
        let (pods, _) = self.store().list(Kind::Pod, Some(manifests::NAMESPACE));
        let is_of = |pod: &Arc<Value>| pod["metadata"]["labels"]["app.kubernetes.io/name"] == app;
        pods.into_iter().filter(is_of).collect()
    }

    /// Process ids of agents or of the controller.
    pub fn processes(&self, app: &str) -> Vec<u32> {
        let pods = self.own_pods(app);
        let records = self
            .cluster
            .nodes()
            .flat_map(simcluster::cluster::Node::containers);
        records
            .filter(|record| record.state.is_running())
            .filter(|record| pods.iter().any(|pod| object::uid(pod) == record.pod_uid))
            .map(|record| record.pid)
            .collect()
    }

    fn log(&self, pod: &str) -> String {
        let file = self.folder.path().join("logs").join(format!("{pod}.log"));
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// Where all files of the cluster are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the webhook's certificate is.
    pub fn webhook_tls(&self) -> PathBuf {
        webhook_tls(self.folder())
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The objects of the API.
    pub fn store(&self) -> &Store {
        self.cluster.store()
    }

    /// The drivers, by node.
    pub fn drivers(&self) -> &BTreeMap<String, Driver> {
        &self.drivers
    }

    /// What was seen of the pods.
    pub fn observed(&self) -> &Observed {
        self.observer.observed()
    }

    /// Ends everything and removes the folder.
    pub async fn shutdown(self) {
        let Self {
            cluster,
            observer,
            folder,
            drivers,
            ..
        } = self;
        observer.stop().await;
        cluster.shutdown().await;
        drop(drivers);
        // What cannot be removed is in the temporary folder, which the system clears.
        let _ = folder.close();
    }
}

/// What is put into a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Installation<'a> {
    /// Folder of the controller's certificate.
    pub controller_tls: &'a Path,
    /// Folder of the webhook's certificate, and of the authority that the API server is to trust.
    pub webhook_tls: &'a Path,
    /// How much all programs write into their logs.
    pub log_level: &'a str,
    /// Further arguments of the controller.
    pub controller_args: &'a [String],
}

impl Installation<'_> {
    /// Puts agents, controller and webhook into a cluster. The agents start where nodes have the label.
    /// Where the API server has no match conditions, the namespace `default` gets the webhook's label.
    ///
    /// # Errors
    /// An object is refused, or the authority cannot be read.
    pub fn install(&self, store: &Store, behaviour: Behaviour) -> Result<(), StartError> {
        let own = manifests::NAMESPACE;
        let log_level = self.log_level;
        let (tls, args) = (self.controller_tls, self.controller_args);
        let controller = manifests::controller(CONTROL_NODE, tls, log_level, args);
        store.create(Kind::Namespace, "", manifests::namespace(own))?;
        store.create(Kind::DaemonSet, own, manifests::agents(log_level))?;
        store.create(Kind::Pod, own, controller)?;
        let ca = self.webhook_tls.join("ca.crt");
        let authorities =
            std::fs::read(&ca).map_err(|source| StartError::Files { path: ca, source })?;
        self.install_webhook(store, behaviour, Some(&authorities))
    }

    /// Puts the webhook alone into a cluster that has the namespace, trusting these authorities.
    ///
    /// # Errors
    /// An object is refused.
    pub fn install_webhook(
        &self,
        store: &Store,
        behaviour: Behaviour,
        authorities: Option<&[u8]>,
    ) -> Result<(), StartError> {
        let own = manifests::NAMESPACE;
        let (conditions, gate) = (behaviour.match_conditions(), needs_gate(behaviour));
        let webhook = manifests::webhook(CONTROL_NODE, self.webhook_tls, self.log_level, gate);
        let kind = Kind::MutatingWebhookConfiguration;
        let configuration = manifests::webhook_configuration(conditions, gate, authorities);
        store.create(Kind::Service, own, manifests::webhook_service())?;
        store.create(Kind::Pod, own, webhook)?;
        store.create(kind, "", configuration)?;
        if !conditions {
            store.modify(Kind::Namespace, "", "default", |namespace| {
                let (label, value) = manifests::WEBHOOK_LABEL;
                namespace["metadata"]["labels"][label] = value.into();
            })?;
        }
        Ok(())
    }
}

/// Whether pods get a scheduling gate: where the scheduler knows gates and honours a back-off.
pub const fn needs_gate(behaviour: Behaviour) -> bool {
    behaviour.scheduling_gates() && !behaviour.pops_from_backoff()
}

fn webhook_tls(dir: &Path) -> PathBuf {
    dir.join("webhook-tls")
}

fn controller_tls(dir: &Path) -> PathBuf {
    dir.join("tls")
}

fn nodes(drivers: &BTreeMap<String, Driver>) -> Result<Vec<NodeConfig>, StartError> {
    let mut nodes = vec![NodeConfig::new(CONTROL_NODE)];
    for (name, driver) in drivers {
        let state = driver.state()?;
        let mut node = NodeConfig::new(name);
        if let Some(gpu) = state.gpus.first() {
            // As GPU feature discovery labels nodes, which ask for a board by this label.
            let labels = [
                ("nvidia.com/gpu.present", "true".to_owned()),
                ("nvidia.com/gpu.product", gpu.name.replace(' ', "-")),
                ("nvidia.com/gpu.count", state.gpus.len().to_string()),
            ];
            node.labels = labels
                .map(|(label, value)| (label.to_owned(), value))
                .into();
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// What runs for the images that the manifests name.
pub fn images(binaries: &Binaries) -> HashMap<String, Program> {
    let programs = [
        (manifests::AGENT, &binaries.agent),
        (manifests::CONTROLLER, &binaries.controller),
    ];
    programs
        .map(|(name, path)| {
            let program = Program {
                path: path.clone(),
                env: Vec::new(),
            };
            (format!("cdmo/{name}"), program)
        })
        .into()
}

async fn page(pod: &Value, port: u16, path: &str) -> Option<String> {
    let address = object::text(pod, "/status/podIP");
    if address.is_empty() {
        return None;
    }
    let limit = Duration::from_secs(2);
    let answer = tokio::time::timeout(limit, http::get(address, port, path))
        .await
        .ok()?
        .ok()?;
    (answer.0 == 200).then_some(answer.1)
}

//! Starts a kubelet: files, sockets, servers, the node's object, and the loop of its status.

use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cdmo_proto::deviceplugin::registration_server::RegistrationServer;
use cdmo_proto::podresources::pod_resources_lister_server::PodResourcesListerServer;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::events::Recorder;
use crate::resources::is_extended;
use crate::store::{Key, Kind, Patch, Store, Subresource, WriteOptions, object};

use super::devices::DeviceManager;
use super::devices::checkpoint::{Checkpoint, FILE_NAME};
use super::node_status::{self, NodeFacts};
use super::plugin::Plugins;
use super::table::PodTable;
use super::{Inner, Kubelet, KubeletConfig, KubeletError, Surroundings};

/// How often the status is patched although nothing changed (`nodeStatusReportFrequency`).
const HEARTBEAT: Duration = Duration::from_mins(5);

impl Kubelet {
    /// Starts a kubelet on a node; a panic's message comes out of `panicked`.
    pub(crate) fn start(
        config: KubeletConfig,
        around: Surroundings,
        panicked: mpsc::Sender<String>,
    ) -> Result<Self, KubeletError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KubeletError::Path { path, source }
        };
        let (plugin_dir, pod_resources_dir) = (&config.paths.plugins, &config.paths.pod_resources);
        for directory in [plugin_dir, pod_resources_dir] {
            std::fs::create_dir_all(directory).map_err(failed(directory))?;
            remove_sockets(directory).map_err(failed(directory))?;
        }
        let sockets = [plugin_dir, pod_resources_dir].map(|d| d.join("kubelet.sock"));
        let [registration, pod_resources] =
            sockets.map(|path| UnixListener::bind(&path).map_err(failed(&path)));
        let checkpoint = read_checkpoint(plugin_dir);
        let fresh = checkpoint.is_none();
        let devices = DeviceManager::restore(
            config.behaviour,
            config.tuning.stop_grace,
            checkpoint.unwrap_or_default(),
            Duration::ZERO,
        );
        register_node(&around.store, &facts(&config), fresh)?;
        let kubelet = Self {
            inner: Arc::new(Inner {
                recorder: Recorder::new(around.store.clone(), "kubelet", &config.node),
                start: Instant::now(),
                devices: Mutex::new(devices),
                table: Mutex::new(PodTable::new(config.behaviour)),
                workers: Mutex::default(),
                plugins: Plugins::default(),
                cached: around.feed.node(&config.node),
                panicked,
                token: CancellationToken::new(),
                tasks: TaskTracker::new(),
                config,
                around,
            }),
        };
        let service = RegistrationServer::new(kubelet.clone());
        let incoming = UnixListenerStream::new(registration?);
        let ended = kubelet.token().clone().cancelled_owned();
        let served = Server::builder().serve_with_incoming_shutdown(service, incoming, ended);
        kubelet.serve(served);
        let service = PodResourcesListerServer::new(kubelet.clone());
        let incoming = UnixListenerStream::new(pod_resources?);
        let ended = kubelet.token().clone().cancelled_owned();
        let served = Server::builder().serve_with_incoming_shutdown(service, incoming, ended);
        kubelet.serve(served);
        kubelet.spawn(kubelet.clone().keep_status());
        kubelet.spawn(kubelet.clone().sync());
        Ok(kubelet)
    }

    fn serve(
        &self,
        served: impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    ) {
        self.spawn(async move {
            if let Err(error) = served.await {
                tracing::warn!(%error, "A kubelet's server ended");
            }
        });
    }

    async fn keep_status(self) {
        let mut ticks = tokio::time::interval(self.config().tuning.status_period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reported: Option<Instant> = None;
        loop {
            ticks.tick().await;
            let due = reported.is_none_or(|last| last.elapsed() >= HEARTBEAT);
            if self.patch_status(due).await {
                reported = Some(Instant::now());
            }
        }
    }

    /// Computes the node's status from the cached node and the devices of this moment, and patches
    /// it a moment later; tells whether there was something to patch.
    async fn patch_status(&self, heartbeat: bool) -> bool {
        let name = &self.config().node;
        let Some(cached) = self
            .cached_node()
            .or_else(|| self.store().get(Kind::Node, "", name))
        else {
            return false;
        };
        let capacity = self.devices().capacity(self.now());
        if !capacity.removed.is_empty() {
            self.checkpoint();
        }
        let now = self.store().now();
        let Some(patch) = node_status::patch(&cached, &capacity, heartbeat, now) else {
            return false;
        };
        let lag = self.config().tuning.status_lag;
        if !lag.is_zero() {
            tokio::time::sleep(lag).await;
        }
        let key = Key::new(Kind::Node, "", name);
        let options = WriteOptions {
            manager: "kubelet".to_owned(),
            ..WriteOptions::default()
        };
        let patch = Patch::Strategic(patch);
        match self
            .store()
            .patch(&key, &patch, Subresource::Status, &options)
        {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(node = name, %error, "Failed to patch the node's status");
                false
            }
        }
    }

    /// Writes down what must survive a restart.
    pub(super) fn checkpoint(&self) {
        let checkpoint = self.devices().checkpoint();
        let path = self.paths().plugins.join(FILE_NAME);
        let written = serde_json::to_vec(&checkpoint)
            .map_err(std::io::Error::from)
            .and_then(|bytes| replace(&path, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, "Failed to write the kubelet's checkpoint");
        }
    }
}

/// Writes a file so that nobody sees half of it.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
}

/// A kubelet that starts removes what others left in its directories, but for plain files.
fn remove_sockets(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_socket() {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A checkpoint that cannot be read counts as none, as with a real kubelet after its warning.
fn read_checkpoint(directory: &Path) -> Option<Checkpoint> {
    let bytes = std::fs::read(directory.join(FILE_NAME)).ok()?;
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::warn!(%error, "Failed to read the kubelet's checkpoint"))
        .ok()
}

fn facts(config: &KubeletConfig) -> NodeFacts {
    NodeFacts {
        name: config.node.clone(),
        labels: config.labels.clone(),
        cpu: config.cpu.clone(),
        memory: config.memory.clone(),
        pods: config.pods,
        ip: config.ip.clone(),
        version: config.behaviour.kubelet_version(),
    }
}

/// Creates the node's object, or takes over the one that is there: the kubelet's own labels are set
/// again, and without a checkpoint extended resources begin at zero.
fn register_node(store: &Store, facts: &NodeFacts, fresh: bool) -> Result<(), KubeletError> {
    let own = facts.object(store.now());
    let refused = |error: crate::store::Status| KubeletError::Node(error.message);
    if store.get(Kind::Node, "", &facts.name).is_none() {
        store.create(Kind::Node, "", own.clone()).map_err(refused)?;
    }
    let adopt = |node: &mut Value| {
        for (name, value) in object::pairs(&own, "/metadata/labels") {
            if name.starts_with("kubernetes.io/") {
                object::child(object::child(node, "metadata"), "labels")[name] = value.into();
            }
        }
        let status = object::child(node, "status");
        for member in ["addresses", "nodeInfo", "daemonEndpoints"] {
            status[member] = own["status"][member].clone();
        }
        for list in ["capacity", "allocatable"] {
            let list_of = object::child(status, list);
            for (name, amount) in object::pairs(&own, &format!("/status/{list}")) {
                list_of[name] = amount.into();
            }
            if let (true, Some(amounts)) = (fresh, list_of.as_object_mut()) {
                for (_, amount) in amounts.iter_mut().filter(|(name, _)| is_extended(name)) {
                    *amount = json!("0");
                }
            }
        }
    };
    store
        .modify(Kind::Node, "", &facts.name, adopt)
        .map(drop)
        .map_err(refused)
}

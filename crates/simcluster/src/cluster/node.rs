//! A node: its runtime, which stays, and its kubelet, which can be stopped, restarted, and fall over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::behaviour::Behaviour;
use crate::feed::Feed;
use crate::kubelet::{Kubelet, KubeletConfig, KubeletError, Paths, Surroundings, Tuning};
use crate::runtime::{Record, Runtime, RuntimeConfig};
use crate::store::{Kind, Store, object};
use crate::timeline::Timelines;

use super::NodeConfig;

/// Panics that wait to be looked at; there is at most one per life of a kubelet.
const PANICS: usize = 1;

/// What a node is made from.
pub(super) struct NodeParts {
    pub(super) config: NodeConfig,
    pub(super) behaviour: Behaviour,
    pub(super) tuning: Tuning,
    pub(super) host_root: PathBuf,
    pub(super) ip: String,
    pub(super) runtime: RuntimeConfig,
    pub(super) store: Store,
    pub(super) feed: Feed,
    pub(super) times: Timelines,
    pub(super) addresses: Addresses,
}

/// Devices that a container has, by the kubelet's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Uid of the pod; it may be gone from the API.
    pub pod_uid: String,
    /// Name of the container.
    pub container: String,
    /// The resource.
    pub resource: String,
    /// Ids of the devices, in order.
    pub ids: Vec<String>,
    /// Environment variables that the plugin gave it.
    pub env: BTreeMap<String, String>,
    /// Mounts that the plugin gave it: path in the container, path on the host.
    pub mounts: Vec<(String, String)>,
    /// Device files that the plugin gave it: path in the container, path on the host, permissions.
    pub device_files: Vec<(String, String, String)>,
}

/// One node. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    ip: String,
    host_root: PathBuf,
    config: KubeletConfig,
    around: Surroundings,
    kubelet: Mutex<Option<Kubelet>>,
    panics: StdMutex<Vec<String>>,
    panicked: mpsc::Sender<String>,
    ended: CancellationToken,
}

impl Node {
    pub(super) async fn start(parts: NodeParts) -> Result<Self, KubeletError> {
        let NodeParts {
            config,
            behaviour,
            tuning,
            host_root,
            ip,
            ..
        } = parts;
        let paths = Paths::below(&host_root);
        let around = Surroundings {
            runtime: Runtime::new(parts.runtime),
            store: parts.store,
            feed: parts.feed,
            times: parts.times,
            addresses: parts.addresses,
        };
        let (panicked, panics) = mpsc::channel(PANICS);
        let node = Self {
            inner: Arc::new(Inner {
                name: config.name.clone(),
                ip: ip.clone(),
                host_root,
                config: KubeletConfig {
                    node: config.name,
                    labels: config.labels,
                    cpu: config.cpu,
                    memory: config.memory,
                    pods: config.pods,
                    ip,
                    behaviour,
                    tuning,
                    paths,
                },
                around,
                kubelet: Mutex::new(None),
                panics: StdMutex::default(),
                panicked,
                ended: CancellationToken::new(),
            }),
        };
        node.write_boot_id()?;
        node.restart_kubelet().await?;
        tokio::spawn(node.clone().look_after(panics));
        Ok(node)
    }

    /// Starts the kubelet again whenever it fell over, as systemd does.
    async fn look_after(self, mut panics: mpsc::Receiver<String>) {
        let ended = self.inner.ended.clone();
        let work = async {
            while let Some(panic) = panics.recv().await {
                tracing::error!(
                    node = self.inner.name,
                    panic,
                    "THE SIMULATED KUBELET PANICKED"
                );
                self.lock_panics().push(panic);
                if let Err(error) = self.restart_kubelet().await {
                    tracing::error!(node = self.inner.name, %error, "Failed to start a kubelet");
                }
            }
        };
        ended.run_until_cancelled(work).await;
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its address.
    pub fn ip(&self) -> &str {
        &self.inner.ip
    }

    /// What stands for `/` of this node.
    pub fn host_root(&self) -> &Path {
        &self.inner.host_root
    }

    /// Where the kubelet's sockets are.
    pub fn kubelet_paths(&self) -> &Paths {
        &self.inner.config.paths
    }

    /// Kills the kubelet, if it runs, and starts a new one. Containers go on.
    pub async fn restart_kubelet(&self) -> Result<(), KubeletError> {
        let mut kubelet = self.inner.kubelet.lock().await;
        if let Some(old) = kubelet.take() {
            old.stop().await;
        }
        let inner = &self.inner;
        let panicked = inner.panicked.clone();
        *kubelet = Some(Kubelet::start(
            inner.config.clone(),
            inner.around.clone(),
            panicked,
        )?);
        Ok(())
    }

    /// Kills the kubelet. Containers go on; [`Node::restart_kubelet`] starts it again.
    pub async fn stop_kubelet(&self) {
        if let Some(kubelet) = self.inner.kubelet.lock().await.take() {
            kubelet.stop().await;
        }
    }

    /// Cuts the power for a moment: all containers end at once, the boot id changes, and the kubelet
    /// starts again.
    pub async fn reboot(&self) -> Result<(), KubeletError> {
        self.stop_kubelet().await;
        self.inner.around.runtime.crash().await;
        self.write_boot_id()?;
        self.restart_kubelet().await
    }

    /// Fails a pod as the kubelet does when its node runs short of something; tells whether the
    /// kubelet knew the pod.
    pub async fn evict(&self, namespace: &str, pod: &str, message: &str) -> bool {
        let Some(pod) = self.inner.around.store.get(Kind::Pod, namespace, pod) else {
            return false;
        };
        let kubelet = self.inner.kubelet.lock().await;
        kubelet
            .as_ref()
            .is_some_and(|kubelet| kubelet.evict(object::uid(&pod), message))
    }

    /// Who has which devices, by the kubelet's account; nothing while it does not run. Devices of
    /// pods that are gone are in it until the kubelet looks again.
    pub async fn allocations(&self) -> Vec<Allocation> {
        let kubelet = self.inner.kubelet.lock().await;
        let Some(kubelet) = kubelet.as_ref() else {
            return Vec::new();
        };
        let devices = kubelet.devices();
        let held = devices.held().iter();
        held.map(|(pod, container, resource, grant)| {
            let answer = &grant.answer;
            Allocation {
                pod_uid: pod.to_owned(),
                container: container.to_owned(),
                resource: resource.to_owned(),
                ids: grant.ids.iter().cloned().collect(),
                env: answer.envs.clone().into_iter().collect(),
                mounts: answer
                    .mounts
                    .iter()
                    .map(|mount| (mount.container_path.clone(), mount.host_path.clone()))
                    .collect(),
                device_files: answer
                    .devices
                    .iter()
                    .map(|d| {
                        (
                            d.container_path.clone(),
                            d.host_path.clone(),
                            d.permissions.clone(),
                        )
                    })
                    .collect(),
            }
        })
        .collect()
    }

    /// The kubelet knows the device, and that it is healthy.
    pub async fn kubelet_knows(&self, resource: &str, id: &str) -> bool {
        let kubelet = self.inner.kubelet.lock().await;
        kubelet.as_ref().is_some_and(|kubelet| {
            let devices = kubelet.devices();
            devices
                .allocatable()
                .get(resource)
                .is_some_and(|ids| ids.contains(id))
        })
    }

    /// The containers as they are, whatever kubelet and API server believe: the newest attempt at
    /// each, with what device plugins gave it.
    pub fn containers(&self) -> Vec<Record> {
        self.inner.around.runtime.all()
    }

    /// Messages of all panics of this node's kubelets. A test that did not provoke one wants none.
    pub fn panics(&self) -> Vec<String> {
        self.lock_panics().clone()
    }

    pub(super) async fn shutdown(&self) {
        self.inner.around.runtime.shutdown().await;
        self.inner.ended.cancel();
        self.stop_kubelet().await;
    }

    pub(super) fn abandon(&self) {
        self.inner.ended.cancel();
        self.inner.around.runtime.abandon();
        if let Ok(mut kubelet) = self.inner.kubelet.try_lock()
            && let Some(kubelet) = kubelet.take()
        {
            kubelet.abandon();
        }
    }

    fn lock_panics(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.inner
            .panics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write_boot_id(&self) -> Result<(), KubeletError> {
        let directory = self.inner.host_root.join("proc/sys/kernel/random");
        let path = directory.join("boot_id");
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(&path, format!("{}\n", uuid::Uuid::new_v4())))
            .map_err(|source| KubeletError::Path { path, source })
    }
}

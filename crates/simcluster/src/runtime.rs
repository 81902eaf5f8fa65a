//! The container runtime of one node: containers as real processes where their image is known, and
//! as timers everywhere else.
//!
//! It outlives its kubelet, as containerd does: a kubelet that starts again finds the containers as
//! they are. What runs is told by level, not by event: [`Runtime::watch`] wakes, [`Runtime::of_pod`]
//! tells.

mod environment;
mod guard;
mod process;
mod procfs;
mod simulated;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cdmo_proto::deviceplugin::ContainerAllocateResponse;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::behaviour::Behaviour;
use crate::store::{Store, object};

pub use environment::expand;
pub use guard::{Guard, GuardError};

/// A program that runs as a process in place of a container image.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Environment variables that the image brings along.
    pub env: Vec<(String, String)>,
}

/// What the runtime of a node is told.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Name of the node.
    pub node: String,
    /// As which Kubernetes; decides how cgroups are named.
    pub behaviour: Behaviour,
    /// Stands for `/` of the node.
    pub host_root: PathBuf,
    /// Where output goes, one file per container.
    pub logs: PathBuf,
    /// Images that are processes.
    pub images: Arc<HashMap<String, Program>>,
    /// Environment variables of every process on this node.
    pub env: Vec<(String, String)>,
    /// How long a simulated container takes to start.
    pub start_delay: Duration,
    /// Kills processes when this one dies.
    pub guard: Arc<Guard>,
    /// For the time.
    pub store: Store,
}

/// What a container is started from.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// The pod.
    pub pod: Arc<Value>,
    /// Name of the container in it.
    pub container: String,
    /// 0 for the first start, then counting up.
    pub attempt: u32,
    /// Address of the pod.
    pub pod_ip: String,
    /// Address of the node.
    pub host_ip: String,
    /// What device plugins answered for it.
    pub given: ContainerAllocateResponse,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It runs.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// It ended.
    Exited {
        /// Exit code; 128 and the signal for a container that was killed.
        code: i32,
        /// When it had started.
        since: Timestamp,
        /// When it ended.
        until: Timestamp,
    },
}

impl State {
    /// It runs.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// The newest attempt at a container.
#[derive(Debug, Clone)]
pub struct Record {
    /// Id as in `containerID`, without the scheme.
    pub id: String,
    /// Uid of its pod.
    pub pod_uid: String,
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// 0 for the first start, then counting up.
    pub attempt: u32,
    /// How it is.
    pub state: State,
    /// How the attempt before it ended.
    pub last: Option<State>,
    /// What device plugins answered for it, as the container sees it.
    pub given: ContainerAllocateResponse,
    /// Its process; above 4 million and known to the node's `/proc` only if it is simulated.
    pub pid: u32,
}

/// A container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pod does not name the container.
    #[error("failed to start container {0:?}: the pod has no container of that name")]
    NoSuchContainer(String),
    /// The program could not be started.
    #[error("failed to start {path}")]
    Spawn {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It runs already.
    #[error("failed to start container {0:?}: it is running")]
    Running(String),
    /// The runtime is being shut down.
    #[error("failed to start container {0:?}: the node is going down")]
    GoingDown(String),
}

/// When to kill a container that was asked to end.
type StopRequest = Option<Instant>;

#[derive(Debug)]
struct Slot {
    record: Record,
    stop: watch::Sender<StopRequest>,
}

#[derive(Debug, Default)]
struct Containers {
    slots: BTreeMap<(String, String), Slot>,
    watchers: HashMap<String, watch::Sender<u64>>,
    last_id: u64,
}

/// The containers of one node. Clones share them.
#[derive(Debug, Clone)]
pub struct Runtime {
    config: Arc<RuntimeConfig>,
    containers: Arc<Mutex<Containers>>,
    tasks: TaskTracker,
    down: CancellationToken,
}

impl Runtime {
    /// A runtime without containers.
    pub fn new(config: RuntimeConfig) -> Self {
        Self {
            config: Arc::new(config),
            containers: Arc::default(),
            tasks: TaskTracker::new(),
            down: CancellationToken::new(),
        }
    }

    /// Wakes whenever something changed with the pod's containers.
    pub fn watch(&self, pod_uid: &str) -> watch::Receiver<u64> {
        let mut containers = self.locked();
        let sender = containers.watchers.entry(pod_uid.to_owned()).or_default();
        sender.subscribe()
    }

    /// The newest attempt at each container of a pod, by name.
    pub fn of_pod(&self, pod_uid: &str) -> Vec<Record> {
        let containers = self.locked();
        let from = (pod_uid.to_owned(), String::new());
        let slots = containers
            .slots
            .range(from..)
            .take_while(|(key, _)| key.0 == pod_uid);
        slots.map(|(_, slot)| slot.record.clone()).collect()
    }

    /// All containers of the node.
    pub fn all(&self) -> Vec<Record> {
        self.locked()
            .slots
            .values()
            .map(|slot| slot.record.clone())
            .collect()
    }

    /// The image is a program.
    pub fn is_process(&self, image: &str) -> bool {
        self.config.images.contains_key(image)
    }

    /// Starts a container and returns once it runs.
    pub async fn start(&self, spec: ContainerSpec) -> Result<(), StartError> {
        let name = spec.container.clone();
        let definition = environment::container(&spec.pod, &name)
            .ok_or_else(|| StartError::NoSuchContainer(name.clone()))?;
        let key = (object::uid(&spec.pod).to_owned(), name.clone());
        if self.down.is_cancelled() {
            return Err(StartError::GoingDown(name));
        }
        if self
            .locked()
            .slots
            .get(&key)
            .is_some_and(|slot| slot.record.state.is_running())
        {
            return Err(StartError::Running(name));
        }
        let body = if let Some(program) = self.config.images.get(object::text(definition, "/image"))
        {
            let process = process::Process::spawn(&self.config, program, &spec, definition)?;
            Body::Process(process)
        } else {
            let simulated = simulated::Simulated::new(&spec.pod, &name, self.config.start_delay);
            simulated.started().await;
            Body::Simulated(simulated)
        };
        let (stop, stop_receiver) = watch::channel(None);
        let id = self.register(&key, &spec, body.pid(), stop);
        let runtime = self.clone();
        self.tasks.spawn(async move {
            let code = body.run(stop_receiver, &runtime.down).await;
            runtime.exited(&key, &id, code);
        });
        Ok(())
    }

    fn register(
        &self,
        key: &(String, String),
        spec: &ContainerSpec,
        pid: Option<u32>,
        stop: watch::Sender<StopRequest>,
    ) -> String {
        let mut containers = self.locked();
        containers.last_id += 1;
        let number = containers.last_id;
        let id = uuid::Uuid::new_v5(
            &uuid::Uuid::NAMESPACE_OID,
            format!("{} {} {}", self.config.node, key.0, number).as_bytes(),
        );
        let id = format!("{:064x}", id.as_u128());
        let pid = pid.unwrap_or_else(|| procfs::simulated_pid(number));
        let last = containers
            .slots
            .get(key)
            .map(|slot| slot.record.state.clone());
        let record = Record {
            id: id.clone(),
            pod_uid: key.0.clone(),
            namespace: object::namespace(&spec.pod).to_owned(),
            pod: object::name(&spec.pod).to_owned(),
            container: key.1.clone(),
            attempt: spec.attempt,
            state: State::Running {
                since: self.config.store.now(),
            },
            last,
            given: spec.given.clone(),
            pid,
        };
        procfs::appear(
            &self.config,
            &record,
            object::text(&spec.pod, "/status/qosClass"),
        );
        containers.slots.insert(key.clone(), Slot { record, stop });
        containers.wake(&key.0);
        id
    }

    fn exited(&self, key: &(String, String), id: &str, code: i32) {
        let until = self.config.store.now();
        let mut containers = self.locked();
        if let Some(slot) = containers.slots.get_mut(key)
            && slot.record.id == id
            && let State::Running { since } = slot.record.state
        {
            slot.record.state = State::Exited { code, since, until };
            procfs::vanish(&self.config, slot.record.pid);
            containers.wake(&key.0);
        }
    }

    /// Asks a container to end, and kills it after `grace`. Asking again can only make it sooner.
    pub fn stop(&self, pod_uid: &str, container: &str, grace: Duration) {
        let deadline = Instant::now() + grace;
        let containers = self.locked();
        if let Some(slot) = containers
            .slots
            .get(&(pod_uid.to_owned(), container.to_owned()))
        {
            slot.stop.send_if_modified(|request| {
                let sooner = request.is_none_or(|current| deadline < current);
                if sooner {
                    *request = Some(deadline);
                }
                sooner
            });
        }
    }

    /// Forgets the ended containers of a pod that is no more.
    pub fn forget(&self, pod_uid: &str) {
        let mut containers = self.locked();
        containers
            .slots
            .retain(|key, slot| key.0 != pod_uid || slot.record.state.is_running());
        containers.watchers.remove(pod_uid);
    }

    /// Kills everything at once, as a power cut does, and forgets it.
    pub async fn crash(&self) {
        let records = self.all();
        for record in &records {
            self.stop(&record.pod_uid, &record.container, Duration::ZERO);
        }
        for record in records.iter().filter(|record| record.state.is_running()) {
            let mut changes = self.watch(&record.pod_uid);
            let gone = || {
                let now = self.of_pod(&record.pod_uid);
                !now.iter()
                    .any(|r| r.id == record.id && r.state.is_running())
            };
            while !gone() && changes.changed().await.is_ok() {}
        }
        let mut containers = self.locked();
        containers
            .slots
            .retain(|_, slot| slot.record.state.is_running());
    }

    /// Ends all containers (processes get a moment after SIGTERM) and starts no more.
    pub async fn shutdown(&self) {
        self.down.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends all containers without waiting for them.
    pub fn abandon(&self) {
        self.down.cancel();
    }

    fn locked(&self) -> MutexGuard<'_, Containers> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Containers {
    fn wake(&self, pod_uid: &str) {
        if let Some(sender) = self.watchers.get(pod_uid) {
            sender.send_modify(|count| *count += 1);
        }
    }
}

enum Body {
    Process(process::Process),
    Simulated(simulated::Simulated),
}

impl Body {
    fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(process) => process.pid(),
            Self::Simulated(_) => None,
        }
    }

    async fn run(self, stop: watch::Receiver<StopRequest>, down: &CancellationToken) -> i32 {
        match self {
            Self::Process(process) => process.run(stop, down).await,
            Self::Simulated(simulated) => simulated.run(stop, down).await,
        }
    }
}

/// Waits for the first request to stop; returns the time of the kill.
async fn requested(stop: &mut watch::Receiver<StopRequest>) -> Instant {
    match stop.wait_for(Option::is_some).await.map(|request| *request) {
        Ok(Some(deadline)) => deadline,
        _ => std::future::pending().await,
    }
}

/// Waits until the container must be killed, however often that time is moved up.
async fn overdue(stop: &mut watch::Receiver<StopRequest>) {
    loop {
        let deadline = requested(stop).await;
        stop.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => return,
            Ok(()) = stop.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests;

//! What all tasks share: the table under one lock, and what every change of it sets off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::device::{List, Rules, Table, Tick};
use crate::journal::Journal;
use crate::kubelet::{CallError, PodResources};
use crate::{Config, Evidence, Hold, Ledger, Listing, PluginState, Registration};

/// What all tasks of one [`Plugins`](crate::Plugins) share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) evidence: Arc<dyn Evidence>,
    pub(crate) pod_resources: PodResources,
    pub(crate) journal: Journal,
    /// A list was handed over: see whether the kubelet acts on it.
    pub(crate) allocatable_wanted: Notify,
    /// Holders may have changed.
    pub(crate) list_wanted: Notify,
    /// Cancelled once podresources answered List for the first time. Nothing is registered before: a
    /// device that a pod has under another name must not be given out under ours.
    pub(crate) holders_known: CancellationToken,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
    core: Mutex<Core>,
    state: watch::Sender<Arc<PluginState>>,
    /// Nothing is to be registered.
    standing_down: watch::Sender<bool>,
    /// Sent at every change of the table, whether the state tells it or not.
    progress: watch::Sender<()>,
    /// Offers and withdrawals that wait for the kubelet.
    waiting: AtomicUsize,
    /// The kubelet cannot say what is allocatable.
    silent: AtomicBool,
}

struct Core {
    table: Table,
    endpoints: BTreeMap<String, Published>,
    pod_resources_problem: Option<String>,
    rivals: Arc<[String]>,
}

/// What others see of one endpoint.
struct Published {
    list: watch::Sender<List>,
    registration: Registration,
    starved: Arc<Notify>,
}

/// What the task of an endpoint gets.
pub(crate) struct EndpointInputs {
    pub(crate) lists: watch::Receiver<List>,
    pub(crate) starved: Arc<Notify>,
}

/// Counts an offer or a withdrawal as waiting while it lives.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        ledger: Arc<dyn Ledger>,
        evidence: Arc<dyn Evidence>,
        adopted: Vec<Hold>,
        shutdown: CancellationToken,
    ) -> Self {
        let table = Table::new(Rules::from(&config.timing), adopted, Instant::now());
        let pod_resources =
            PodResources::new(config.pod_resources_socket.clone(), config.timing.clone());
        let journal = Journal::new(ledger, config.timing.ledger_timeout);
        Self {
            config,
            evidence,
            pod_resources,
            journal,
            allocatable_wanted: Notify::new(),
            list_wanted: Notify::new(),
            holders_known: CancellationToken::new(),
            shutdown,
            tasks: TaskTracker::new(),
            core: Mutex::new(Core {
                table,
                endpoints: BTreeMap::new(),
                pod_resources_problem: None,
                rivals: Arc::default(),
            }),
            state: watch::Sender::new(Arc::default()),
            standing_down: watch::Sender::new(false),
            progress: watch::Sender::new(()),
            waiting: AtomicUsize::new(0),
            silent: AtomicBool::new(false),
        }
    }

    /// Asks the table something.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&Table) -> R) -> R {
        read(&self.lock().table)
    }

    /// A look at the kubelet begins now. Nothing that others see changes with that.
    pub(crate) fn begin_observation(&self) -> Tick {
        self.lock().table.begin_observation()
    }

    /// Who holds what, as podresources says when it is asked now.
    pub(crate) async fn list(&self) -> Result<Arc<Listing>, CallError> {
        self.pod_resources.list(|| self.begin_observation()).await.1
    }

    /// Changes the table; lists and state follow before anyone else can change it again.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Table) -> R) -> R {
        let mut core = self.lock();
        let result = change(&mut core.table);
        self.publish(&core);
        result
    }

    /// Makes room for an endpoint; `None` if it is there already.
    pub(crate) fn add_endpoint(&self, resource: &str) -> Option<EndpointInputs> {
        let mut core = self.lock();
        if core.endpoints.contains_key(resource) {
            return None;
        }
        core.table.ensure(resource);
        let list = watch::Sender::new(core.table.list(resource));
        let starved = Arc::new(Notify::new());
        let inputs = EndpointInputs {
            lists: list.subscribe(),
            starved: Arc::clone(&starved),
        };
        let registration = Registration::default();
        core.endpoints.insert(
            resource.to_owned(),
            Published {
                list,
                registration,
                starved,
            },
        );
        self.publish(&core);
        Some(inputs)
    }

    /// Whether there is an endpoint for the resource.
    pub(crate) fn serves(&self, resource: &str) -> bool {
        self.lock().endpoints.contains_key(resource)
    }

    /// The endpoint's registration went on.
    pub(crate) fn set_registration(&self, resource: &str, registration: Registration) {
        let mut core = self.lock();
        if let Some(endpoint) = core.endpoints.get_mut(resource) {
            endpoint.registration = registration;
        }
        self.publish(&core);
    }

    /// podresources answers (`None`) or does not.
    pub(crate) fn set_pod_resources_problem(&self, problem: Option<String>) {
        let mut core = self.lock();
        if core.pod_resources_problem != problem {
            if let Some(problem) = &problem {
                tracing::warn!(%problem, "Holds cannot be checked");
            } else {
                tracing::info!("Holds can be checked again");
            }
            core.pod_resources_problem = problem;
            self.publish(&core);
        }
    }

    /// Other plugins serve the same devices, or do not any more.
    pub(crate) fn set_rivals(&self, rivals: &Arc<[String]>) {
        let mut core = self.lock();
        if core.rivals != *rivals {
            tracing::info!(?rivals, "Other plugins for our devices");
            core.rivals = Arc::clone(rivals);
            self.publish(&core);
        }
    }

    /// Has every endpoint end its registration, or take it up again.
    pub(crate) fn stand_down(&self, down: bool) {
        self.standing_down.send_replace(down);
    }

    /// Whether nothing is to be registered.
    pub(crate) fn standing_down(&self) -> watch::Receiver<bool> {
        self.standing_down.subscribe()
    }

    /// Has the endpoint register again.
    pub(crate) fn starve(&self, resource: &str) {
        if let Some(endpoint) = self.lock().endpoints.get(resource) {
            endpoint.starved.notify_one();
        }
    }

    /// Every change of the state.
    pub(crate) fn state(&self) -> watch::Receiver<Arc<PluginState>> {
        self.state.subscribe()
    }

    /// Every change of the table.
    pub(crate) fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// Why podresources cannot be asked, if so.
    pub(crate) fn pod_resources_problem(&self) -> Option<String> {
        self.lock().pod_resources_problem.clone()
    }

    /// Someone waits for the kubelet from now on.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// Someone waits for the kubelet.
    pub(crate) fn anyone_waits(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The kubelet cannot say what is allocatable, as far as it was asked.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    fn publish(&self, core: &Core) {
        let mut state = PluginState {
            resources: BTreeMap::new(),
            pod_resources_problem: core.pod_resources_problem.clone(),
            rivals: Arc::clone(&core.rivals),
        };
        for (name, endpoint) in &core.endpoints {
            endpoint.list.send_if_modified(|list| {
                let changed = list.version != core.table.version(name);
                if changed {
                    *list = core.table.list(name);
                }
                changed
            });
            let mut resource = core.table.resource_state(name);
            resource.registration = endpoint.registration.clone();
            state.resources.insert(name.clone(), resource);
        }
        self.state.send_if_modified(|known| {
            let changed = **known != state;
            if changed {
                *known = Arc::new(state);
            }
            changed
        });
        self.progress.send_replace(());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Core> {
        // Nothing under the lock can panic halfway through a change.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A node under test: the fake kubelet, the library, a journal and evidence that can be told what to
//! say.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device_plugin::{
    Claim, Config, Device, DeviceSpec, Evidence, Hold, Holder, Ledger, LedgerError, Listing,
    PluginState, Plugins, Registration,
};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fake::{Known, Kubelet, Node};

pub(crate) const MIG: &str = "nvidia.com/mig-3g.20gb";
pub(crate) const OTHER: &str = "nvidia.com/mig-1g.5gb";

/// Long enough for a busy machine, short enough to fail.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was written, in order, and what is to fail.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) lines: Mutex<Vec<String>>,
    pub(crate) held: Mutex<BTreeSet<(String, String)>>,
    pub(crate) broken: Mutex<bool>,
    /// Grants wait while this is held.
    pub(crate) gate: tokio::sync::Mutex<()>,
    /// Releases wait while this is held.
    pub(crate) release_gate: tokio::sync::Mutex<()>,
}

impl Journal {
    fn write(&self, line: String) -> Result<(), LedgerError> {
        if *self.broken.lock().unwrap() {
            return Err("no space left on device".into());
        }
        self.lines.lock().unwrap().push(line);
        Ok(())
    }

    pub(crate) fn holds(&self, resource: &str, id: &str) -> bool {
        self.held
            .lock()
            .unwrap()
            .contains(&(resource.to_owned(), id.to_owned()))
    }
}

impl Ledger for Journal {
    fn grant<'a>(
        &'a self,
        resource: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(async move {
            let _gate = self.gate.lock().await;
            self.write(format!("grant {}", ids.join(" ")))?;
            let held = ids.iter().map(|id| (resource.to_owned(), id.clone()));
            self.held.lock().unwrap().extend(held);
            Ok(())
        })
    }

    fn release<'a>(
        &'a self,
        resource: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(async move {
            let _gate = self.release_gate.lock().await;
            self.write(format!("release {id}"))?;
            self.held
                .lock()
                .unwrap()
                .remove(&(resource.to_owned(), id.to_owned()));
            Ok(())
        })
    }

    fn held_by<'a>(
        &'a self,
        _resource: &'a str,
        id: &'a str,
        holder: &'a Holder,
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(async move { self.write(format!("{id} held by {holder}")) })
    }

    fn settled<'a>(
        &'a self,
        _resource: &'a str,
        id: &'a str,
        _present: Option<&'a Holder>,
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(async move { self.write(format!("{id} settled")) })
    }
}

/// Says what it was told to say.
#[derive(Default)]
pub(crate) struct Witness {
    pub(crate) doubt: Mutex<Option<String>>,
    /// Why a device that was granted anew may still be in use.
    pub(crate) contest: watch::Sender<Option<String>>,
    /// Devices, with their former holders, about which that was asked.
    pub(crate) contests: watch::Sender<Vec<Hold>>,
    pub(crate) asked: watch::Sender<Vec<Hold>>,
    /// Answers about this device wait while this is held.
    pub(crate) gate: tokio::sync::Mutex<()>,
    pub(crate) gated: Mutex<Option<String>>,
}

impl Evidence for Witness {
    fn still_held<'a>(
        &'a self,
        device: &'a Hold,
        _shown: &'a Listing,
    ) -> BoxFuture<'a, Option<String>> {
        self.asked.send_modify(|asked| asked.push(device.clone()));
        Box::pin(async move {
            let gated = self.gated.lock().unwrap().as_ref() == Some(&device.id);
            let _gate = if gated {
                Some(self.gate.lock().await)
            } else {
                None
            };
            self.doubt.lock().unwrap().clone()
        })
    }

    fn contested<'a>(
        &'a self,
        device: &'a Hold,
        _claim: Claim<'a>,
    ) -> BoxFuture<'a, Option<String>> {
        self.contests
            .send_modify(|contests| contests.push(device.clone()));
        Box::pin(async move { self.contest.borrow().clone() })
    }
}

pub(crate) struct Rig {
    pub(crate) kubelet: Kubelet,
    pub(crate) plugins: Plugins,
    pub(crate) journal: Arc<Journal>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) config: Config,
    home: Home,
}

/// What has to end with the test.
struct Home {
    kubelet: Kubelet,
    _dir: tempfile::TempDir,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kubelet.stop();
    }
}

/// A configuration that waits for nothing longer than a test has patience.
pub(crate) fn config(dir: &std::path::Path) -> Config {
    let mut config = Config::new(dir);
    config.timing.register_backoff = Duration::from_millis(5);
    config.timing.settle = Duration::from_millis(5);
    config.timing.safety_interval = Duration::from_millis(50);
    config.timing.list_pause = Duration::from_millis(2);
    config.timing.unseen_for = Duration::ZERO;
    config
}

impl Rig {
    /// A running kubelet, and the library started.
    pub(crate) async fn new() -> Self {
        Self::with(|_, kubelet| kubelet.start(), Vec::new()).await
    }

    pub(crate) async fn with(
        prepare: impl FnOnce(&mut Config, &Kubelet),
        adopted: Vec<Hold>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kubelet = Kubelet::new(dir.path());
        let mut config = config(dir.path());
        prepare(&mut config, &kubelet);
        Self::start(Home { kubelet, _dir: dir }, config, adopted).await
    }

    async fn start(home: Home, config: Config, adopted: Vec<Hold>) -> Self {
        let journal = Arc::<Journal>::default();
        let witness = Arc::<Witness>::default();
        let shutdown = CancellationToken::new();
        let plugins = Plugins::start(
            config.clone(),
            Arc::clone(&journal) as Arc<dyn Ledger>,
            Arc::clone(&witness) as Arc<dyn Evidence>,
            adopted,
            shutdown.clone(),
        )
        .await
        .unwrap();
        Self {
            kubelet: home.kubelet.clone(),
            plugins,
            journal,
            witness,
            shutdown,
            config,
            home,
        }
    }

    /// The agent's process ends and a new one starts with what the journal says.
    pub(crate) async fn restart_agent(self, adopted: Vec<Hold>) -> Self {
        self.shutdown.cancel();
        within(self.plugins.closed()).await;
        Self::start(self.home, self.config, adopted).await
    }

    /// The state, as soon as it fits.
    pub(crate) async fn state(
        &self,
        what: &str,
        fits: impl Fn(&PluginState) -> bool,
    ) -> Arc<PluginState> {
        let mut states = self.plugins.state();
        let state = tokio::time::timeout(PATIENCE, states.wait_for(|state| fits(state))).await;
        match state {
            Ok(state) => state.unwrap().clone(),
            Err(late) => panic!(
                "{what} did not come: {late}; {:#?}",
                self.plugins.state().borrow()
            ),
        }
    }

    pub(crate) async fn registered(&self, resource: &str) {
        self.state("the registration", |state| {
            let registration = state.resources.get(resource).map(|r| &r.registration);
            registration == Some(&Registration::Registered)
        })
        .await;
    }

    /// The kubelet's node, as soon as it fits.
    pub(crate) async fn node(&self, what: &str, fits: impl Fn(&Node) -> bool) {
        let mut changes = self.kubelet.changes();
        let found = tokio::time::timeout(PATIENCE, changes.wait_for(|node| fits(node))).await;
        assert!(
            found.is_ok(),
            "{what} did not come; {:#?}",
            self.kubelet.node()
        );
    }

    /// What the kubelet knows of the resource, as soon as it fits.
    pub(crate) async fn known(&self, resource: &str, fits: impl Fn(&Known) -> bool) {
        self.node("the list", |node| {
            node.resources.get(resource).is_some_and(&fits)
        })
        .await;
    }

    /// Offers devices a1, a2, ... of one GPU.
    pub(crate) async fn offer(&self, resource: &str, ids: &[&str]) {
        let offers = ids
            .iter()
            .map(|id| self.plugins.offer(resource, device(id)));
        for offered in within(futures::future::join_all(offers)).await {
            offered.unwrap();
        }
    }

    /// Granted, and shown as held by the pod.
    pub(crate) async fn grant(&self, pod: &str, resource: &str, id: &str) {
        within(self.kubelet.allocate(resource, &[&[id]]))
            .await
            .unwrap();
        self.kubelet.show(pod, resource, &[id]);
        self.plugins.recheck();
        self.state("the holder", |state| {
            let hold = state
                .device(resource, id)
                .and_then(|device| device.hold.as_ref());
            hold.is_some_and(|hold| hold.shown && hold.holders.last().unwrap().pod == pod)
        })
        .await;
    }

    pub(crate) fn held(&self, resource: &str, id: &str) -> bool {
        let state = self.plugins.state().borrow().clone();
        state
            .device(resource, id)
            .is_some_and(|device| device.hold.is_some())
    }
}

/// The device `id`; the group is its first letter.
pub(crate) fn device(id: &str) -> Device {
    Device {
        id: id.to_owned(),
        group: id[..1].to_owned(),
        specs: vec![DeviceSpec {
            host_path: "/dev/nvidia0".to_owned(),
            container_path: "/dev/nvidia0".to_owned(),
            permissions: "rw".to_owned(),
        }],
        cdi: Some(format!("example.com/gpu={id}")),
    }
}

/// Fails rather than waits for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing happened")
}

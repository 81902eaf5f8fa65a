//! The worker of one pod: drives its [`Machine`], starts and stops containers, writes its status,
//! and removes the pod from the API when it is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::events::Severity;
use crate::resources::Resources;
use crate::runtime::ContainerSpec;
use crate::store::{DeleteOptions, Kind, object};
use crate::timeline::Stage;

use super::Kubelet;
use super::plugin::go_text;
use super::pod::{Action, Ending, Machine, Network};
use super::table::Progress;

/// What the main loop wants of a pod; the newest word counts.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Its newest state.
    pub(super) pod: Arc<Value>,
    /// It is gone from the API.
    pub(super) removed: bool,
    /// The kubelet fails it: reason and message.
    pub(super) failure: Option<(String, String)>,
}

impl Order {
    pub(super) fn new(pod: Arc<Value>) -> Self {
        Self {
            pod,
            removed: false,
            failure: None,
        }
    }

    fn ending(&self) -> Option<Ending> {
        let pod = &self.pod;
        let deleting = object::is_deleting(pod);
        if !deleting && !self.removed && self.failure.is_none() {
            return None;
        }
        let seconds = |path: &str| pod.pointer(path).and_then(Value::as_u64);
        let grace = seconds("/metadata/deletionGracePeriodSeconds")
            .filter(|_| deleting)
            .or_else(|| seconds("/spec/terminationGracePeriodSeconds"))
            .unwrap_or(30);
        // Even a forced deletion leaves containers a second.
        let grace = Duration::from_secs(grace.max(1));
        Some(Ending {
            grace,
            failure: self.failure.clone(),
        })
    }
}

impl Kubelet {
    /// Returns when nothing of the pod is left.
    pub(super) async fn work(&self, uid: &str, mut orders: watch::Receiver<Order>) {
        let mut changes = self.runtime().watch(uid);
        let first = orders.borrow_and_update().pod.clone();
        let retry = self.config().tuning.start_retry;
        let mut machine = Machine::new(self.behaviour(), &first, self.now(), retry);
        let network = self.network(&first);
        loop {
            changes.borrow_and_update();
            let order = orders.borrow_and_update().clone();
            if let Some(ending) = order.ending() {
                machine.end(ending);
            }
            let records = self.runtime().of_pod(uid);
            let mut started = false;
            for action in machine.step(self.now(), &records) {
                match action {
                    Action::Start { container, attempt } => {
                        started = true;
                        self.publish(&machine, &order.pod, &network);
                        let outcome =
                            self.start_container(&order.pod, &container, attempt, &network);
                        if let Err((reason, message)) = outcome.await {
                            let event = format!("Error: {message}");
                            self.warn(&order.pod, "Failed", &event);
                            machine.start_failed(&container, reason, &message, self.now());
                        }
                    }
                    Action::Stop { container, grace } => {
                        self.runtime().stop(uid, &container, grace);
                    }
                }
            }
            if started {
                continue;
            }
            self.publish(&machine, &order.pod, &network);
            if machine.is_over(&self.runtime().of_pod(uid))
                && (order.removed || object::is_deleting(&order.pod))
            {
                self.finish(&order, &network);
                return;
            }
            let wake = machine.wake_at(self.now());
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(self.inner.start + at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = orders.changed() => {}
                Ok(()) = changes.changed() => {}
                () = timer => {}
            }
        }
    }

    /// Writes the status if it changed, and tells the main loop's table.
    fn publish(&self, machine: &Machine, pod: &Value, network: &Network) {
        let uid = object::uid(pod);
        let records = self.runtime().of_pod(uid);
        let now = self.store().now();
        let mut phase = String::new();
        let idle = !records.iter().any(|record| record.state.is_running());
        let over = machine.is_over(&records);
        if over {
            // Before anybody can learn of it and give its devices to the next pod.
            self.times().reached(uid, Stage::Ended);
        }
        let progress = |phase: &str| {
            let progress = Progress {
                terminal: matches!(phase, "Failed" | "Succeeded"),
                idle,
                over,
            };
            self.table().progress(uid, progress);
        };
        let write = |stored: &mut Value| {
            if object::uid(stored) == uid {
                stored["status"] = machine.status(stored, &records, network, now);
                object::text(stored, "/status/phase").clone_into(&mut phase);
                // The kubelet itself knows first (pkg/kubelet/status/status_manager.go), so that the
                // pod that the scheduler sends at once finds the devices free.
                progress(&phase);
            }
        };
        // A pod that was removed by force has no status any more.
        let _ = self
            .store()
            .modify(Kind::Pod, object::namespace(pod), object::name(pod), write);
        if phase.is_empty() {
            progress(&phase);
        }
        if phase == "Running" {
            self.times().reached(uid, Stage::Running);
        }
    }

    fn finish(&self, order: &Order, network: &Network) {
        let pod = &order.pod;
        let uid = object::uid(pod);
        self.runtime().forget(uid);
        self.inner.around.addresses.release(&network.pod_ip);
        if !order.removed {
            let options = DeleteOptions {
                uid: Some(uid.to_owned()),
                ..DeleteOptions::now()
            };
            let (namespace, name) = (object::namespace(pod), object::name(pod));
            if let Err(error) = self.store().delete(Kind::Pod, namespace, name, &options) {
                tracing::debug!(pod = name, %error, "Failed to remove an ended pod");
            }
        }
    }

    async fn start_container(
        &self,
        pod: &Arc<Value>,
        name: &str,
        attempt: u32,
        network: &Network,
    ) -> Result<(), (&'static str, String)> {
        let uid = object::uid(pod);
        let limits = limits(pod, name);
        let resources = limits
            .extended()
            .filter(|(_, count)| *count > 0)
            .map(|(name, _)| name);
        let calls = self.devices().pre_start(uid, name, resources);
        let config_error = |message| ("CreateContainerConfigError", message);
        for (endpoint, ids) in calls.map_err(config_error)?.into_values() {
            let timeout = self.config().tuning.pre_start_timeout;
            let called = match self.plugins().get(endpoint) {
                Ok(plugin) => plugin.pre_start(&ids, timeout).await,
                Err(status) => Err(status),
            };
            called.map_err(|status| {
                let text = go_text(&status);
                config_error(format!(
                    "device plugin PreStartContainer rpc failed with err: {text}"
                ))
            })?;
        }
        let given = self.devices().held().run_options(uid, name);
        let spec = ContainerSpec {
            pod: pod.clone(),
            container: name.to_owned(),
            attempt,
            pod_ip: network.pod_ip.clone(),
            host_ip: network.host_ip.clone(),
            given,
        };
        self.runtime().start(spec).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            (
                "RunContainerError",
                format!("{error}{}", cause.unwrap_or_default()),
            )
        })?;
        let message = format!("Started container {name}");
        self.inner
            .recorder
            .record(pod, Severity::Normal, "Started", &message);
        Ok(())
    }

    fn warn(&self, pod: &Value, reason: &str, message: &str) {
        self.inner
            .recorder
            .record(pod, Severity::Warning, reason, message);
    }

    /// The pod's address: the one it has, the node's, or a new one.
    fn network(&self, pod: &Value) -> Network {
        let host_ip = self.config().ip.clone();
        let known = object::text(pod, "/status/podIP");
        let addresses = &self.inner.around.addresses;
        let is_process = || {
            let containers = ["/spec/containers", "/spec/initContainers"];
            let mut all = containers.iter().flat_map(|list| object::array(pod, list));
            all.any(|c| self.runtime().is_process(object::text(c, "/image")))
        };
        let pod_ip = if pod.pointer("/spec/hostNetwork") == Some(&true.into()) {
            host_ip.clone()
        } else if !known.is_empty() {
            known.to_owned()
        } else if let Some(address) = is_process().then(|| addresses.take()).flatten() {
            address.to_string()
        } else {
            addresses.simulated().to_string()
        };
        Network { pod_ip, host_ip }
    }
}

fn limits(pod: &Value, name: &str) -> Resources {
    let all: HashMap<&str, &Value> = ["/spec/initContainers", "/spec/containers"]
        .iter()
        .flat_map(|list| object::array(pod, list))
        .map(|container| (object::text(container, "/name"), container))
        .collect();
    Resources::parse(
        all.get(name)
            .and_then(|container| container.pointer("/resources/limits")),
    )
}

//! Admission of a pod: devices first, resources after.
//!
//! In this order a pod that the plugin granted its devices to passes the kubelet's own check even
//! if the node's status does not show them yet.

use serde_json::Value;

use crate::resources::{Resources, is_sidecar};
use crate::store::object;
use crate::timeline::Stage;

use super::Kubelet;
use super::devices::allocation::{Panic, PreferError, Role, Step, Wish};
use super::plugin::go_text;
use super::predicate::{self, Rejection};

/// How an admission failed.
#[derive(Debug)]
pub(super) enum Refused {
    /// The pod is `Failed` for good.
    Rejected(Rejection),
    /// The kubelet itself fell over.
    Panicked(Panic),
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<PreferError> for Refused {
    fn from(error: PreferError) -> Self {
        match error {
            PreferError::Refused(error) => Self::Rejected(failed(&error.to_string())),
            PreferError::Panicked(panic) => Self::Panicked(panic),
        }
    }
}

impl Kubelet {
    /// Gives a pod its devices and checks its resources. `starting` is true for the pods that a
    /// kubelet finds when it starts.
    pub(super) async fn admit(&self, pod: &Value, starting: bool) -> Result<(), Refused> {
        let uid = object::uid(pod);
        self.devices().admit(uid);
        let running = self.running_containers(uid);
        for (container, role) in containers(pod) {
            let name = object::text(container, "/name");
            let limits = Resources::parse(container.pointer("/resources/limits"));
            for (resource, count) in limits.extended() {
                let Ok(count) = usize::try_from(count) else {
                    continue;
                };
                if count == 0 || !self.devices().manages(resource) {
                    continue;
                }
                let wish = Wish {
                    pod: uid.to_owned(),
                    container: name.to_owned(),
                    role,
                    resource: resource.to_owned(),
                    count,
                    running: starting && running.iter().any(|running| running == name),
                };
                self.allocate(&wish).await?;
            }
            self.devices().container_admitted(uid, name, role);
        }
        self.times().reached(uid, Stage::Allocated);
        self.check_resources(pod)?;
        Ok(())
    }

    fn check_resources(&self, pod: &Value) -> Result<(), Rejection> {
        let Some(node) = self.cached_node() else {
            return Ok(());
        };
        let table = self.table();
        let uid = object::uid(pod);
        let others = table
            .active()
            .filter(|(other, _)| *other != uid)
            .map(|(_, pod)| &**pod);
        predicate::check(pod, &node, others, self.devices().in_use())
    }

    async fn allocate(&self, wish: &Wish) -> Result<(), Refused> {
        let active = self.table().active_uids();
        let mut step = {
            let mut devices = self.devices();
            devices.release_inactive(&active);
            devices
                .want(wish)
                .map_err(|error| failed(&error.to_string()))?
        };
        if let Step::Ask(question) = step {
            let asked = match self.plugins().get(question.endpoint) {
                Ok(plugin) => {
                    let must = &question.must_include;
                    plugin
                        .preferred(&question.available, must, question.size)
                        .await
                }
                Err(status) => Err(status),
            };
            let mut devices = self.devices();
            let preferred = asked.map_err(|status| {
                devices.refused();
                failed(&format!(
                    "device plugin GetPreferredAllocation rpc failed with err: {status}"
                ))
            })?;
            step = devices.prefer(wish, question, &preferred)?;
        }
        let Step::Allocate(chosen) = step else {
            return Ok(());
        };
        self.times().reached(&wish.pod, Stage::AllocateCalled);
        let answer = match self.plugins().get(chosen.endpoint) {
            Ok(plugin) => plugin.allocate(&chosen.ids).await,
            Err(status) => Err(status),
        };
        let granted = match answer {
            Ok(answer) => self.devices().granted(wish, &chosen.ids, answer),
            Err(status) => {
                self.devices().refused();
                return Err(failed(&go_text(&status)).into());
            }
        };
        granted.map_err(Refused::Panicked)?;
        self.checkpoint();
        Ok(())
    }
}

fn failed(why: &str) -> Rejection {
    Rejection {
        reason: "UnexpectedAdmissionError".to_owned(),
        message: format!("Allocate failed due to {why}, which is unexpected"),
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = (&Value, Role)> {
    let inits = object::array(pod, "/spec/initContainers").iter();
    let apps = object::array(pod, "/spec/containers").iter();
    inits
        .map(|c| (c, if is_sidecar(c) { Role::App } else { Role::Init }))
        .chain(apps.map(|c| (c, Role::App)))
}

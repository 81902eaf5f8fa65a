//! The status of a pod as its kubelet writes it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::resources::is_sidecar;
use crate::runtime::{Record, State};
use crate::store::object;

use super::{Kind, Machine, Seen};

/// Addresses of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    /// Of the pod.
    pub(crate) pod_ip: String,
    /// Of its node.
    pub(crate) host_ip: String,
}

/// To the second, as in a pod's status.
fn stamp(time: Timestamp) -> String {
    format!("{time:.0}")
}

impl Machine {
    /// The whole status, made from the one that is there: conditions of others stay.
    pub(crate) fn status(
        &self,
        pod: &Value,
        records: &[Record],
        network: &Network,
        now: Timestamp,
    ) -> Value {
        let seen: Seen<'_> = records.iter().map(|r| (r.container.as_str(), r)).collect();
        let phase = self.phase(&seen);
        let mut updated = json!({ "status": pod.get("status").cloned().unwrap_or(json!({})) });
        let failure = self
            .ending
            .as_ref()
            .and_then(|ending| ending.failure.as_ref());
        let is_running = |kind: Kind| {
            let mut relevant = self.containers.iter().filter(|c| c.kind == kind);
            relevant.all(|c| {
                seen.get(c.name.as_str())
                    .is_some_and(|r| r.state.is_running())
            })
        };
        let ended = matches!(phase, "Succeeded" | "Failed");
        let initialized = self.initialized(&seen) || ended;
        let ready = !ended && is_running(Kind::App) && is_running(Kind::Sidecar);
        let reason = |holds: bool, otherwise: &'static str| {
            if holds || !ended {
                otherwise
            } else {
                terminal_reason(phase)
            }
        };
        let unready = "ContainersNotReady";
        let conditions = [
            ("Initialized", initialized, "ContainersNotInitialized"),
            ("ContainersReady", ready, reason(ready, unready)),
            ("Ready", ready, reason(ready, unready)),
        ];
        for (kind, holds, reason) in conditions {
            set_condition(&mut updated, kind, holds, reason, now);
        }
        let status = &mut updated["status"];
        status["phase"] = phase.into();
        status["hostIP"] = network.host_ip.as_str().into();
        status["podIP"] = network.pod_ip.as_str().into();
        status["podIPs"] = json!([{ "ip": network.pod_ip }]);
        object::set_default(status, "startTime", stamp(now));
        if let Some((reason, message)) = failure
            && ended
        {
            status["reason"] = reason.as_str().into();
            status["message"] = message.as_str().into();
        }
        let of = |list: &str| -> Vec<Value> {
            let definitions = object::array(pod, list);
            definitions
                .iter()
                .map(|d| self.container_status(d, &seen, initialized))
                .collect()
        };
        status["containerStatuses"] = of("/spec/containers").into();
        let inits = of("/spec/initContainers");
        if !inits.is_empty() {
            status["initContainerStatuses"] = inits.into();
        }
        updated["status"].take()
    }

    fn phase(&self, seen: &Seen<'_>) -> &'static str {
        let any_running = seen.values().any(|record| record.state.is_running());
        let failed = self
            .ending
            .as_ref()
            .is_some_and(|ending| ending.failure.is_some());
        if failed {
            // Before 1.22 the phase came first and the kill after it.
            return if any_running && self.behaviour.active_until_stopped() {
                "Running"
            } else {
                "Failed"
            };
        }
        match self.outcome(seen) {
            Some(success) if !any_running || !self.behaviour.active_until_stopped() => {
                return if success { "Succeeded" } else { "Failed" };
            }
            _ => {}
        }
        let mut apps = self.containers.iter().filter(|c| c.kind == Kind::App);
        let all_started = apps.all(|c| seen.contains_key(c.name.as_str()));
        if self.ending.is_some() && !any_running {
            // A deleted pod ends in a terminal phase, whatever its restart policy (1.27 and
            // later; before, it just went away).
            let clean = seen
                .values()
                .all(|r| matches!(r.state, State::Exited { code: 0, .. }));
            return if clean && all_started {
                "Succeeded"
            } else {
                "Failed"
            };
        }
        if all_started { "Running" } else { "Pending" }
    }

    fn container_status(&self, definition: &Value, seen: &Seen<'_>, initialized: bool) -> Value {
        let name = object::text(definition, "/name");
        let image = object::text(definition, "/image");
        let waiting = self
            .containers
            .iter()
            .find(|c| c.name == name)
            .and_then(|c| c.waiting.as_ref());
        let record = seen.get(name);
        let waits = |(reason, message): &(String, String)| json!({ "waiting": { "reason": reason, "message": message } });
        let (mut state, mut last) = if let Some(record) = record {
            (describe(record, &record.state), record.last.as_ref())
        } else {
            let app = self
                .containers
                .iter()
                .any(|c| c.name == name && c.kind == Kind::App);
            let has_inits = self.containers.iter().any(|c| c.kind != Kind::App);
            let pods_turn = initialized || !app || !has_inits;
            let reason = if pods_turn {
                "ContainerCreating"
            } else {
                "PodInitializing"
            };
            (json!({ "waiting": { "reason": reason } }), None)
        };
        if let (Some(why), false) = (waiting, self.is_ending()) {
            // What ended is the last state of a container that waits for its next start.
            last = record.map(|record| &record.state);
            state = waits(why);
        }
        let running = record.is_some_and(|record| record.state.is_running());
        let finished_init = !is_sidecar(definition)
            && record.is_some_and(|r| matches!(r.state, State::Exited { code: 0, .. }))
            && self
                .containers
                .iter()
                .any(|c| c.name == name && c.kind == Kind::Init);
        let last = match (record, last) {
            (Some(record), Some(last)) => describe(record, last),
            _ => json!({}),
        };
        let mut status = json!({
            "name": name,
            "image": image,
            "imageID": format!("simcluster://{image}"),
            "ready": running || finished_init,
            "started": running,
            "restartCount": record.map_or(0, |record| record.attempt),
            "state": state,
            "lastState": last,
        });
        if let Some(record) = record {
            status["containerID"] = format!("containerd://{}", record.id).into();
        }
        status
    }
}

fn terminal_reason(phase: &str) -> &'static str {
    if phase == "Succeeded" {
        "PodCompleted"
    } else {
        "PodFailed"
    }
}

fn describe(record: &Record, state: &State) -> Value {
    match state {
        State::Running { since } => json!({ "running": { "startedAt": stamp(*since) } }),
        State::Exited { code, since, until } => {
            let reason = if *code == 0 { "Completed" } else { "Error" };
            json!({ "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": stamp(*since),
                "finishedAt": stamp(*until),
                "containerID": format!("containerd://{}", record.id),
            }})
        }
    }
}

/// Sets a condition; the time of its last transition changes with its status only.
fn set_condition(object: &mut Value, kind: &str, holds: bool, reason: &str, now: Timestamp) {
    let status = if holds { "True" } else { "False" };
    let current = object::array(object, "/status/conditions")
        .iter()
        .find(|c| c["type"] == kind);
    let since = current
        .filter(|condition| condition["status"] == status)
        .map_or_else(
            || stamp(now).into(),
            |condition| condition["lastTransitionTime"].clone(),
        );
    let mut condition = json!({
        "type": kind,
        "status": status,
        "lastProbeTime": null,
        "lastTransitionTime": since,
    });
    if !holds {
        condition["reason"] = reason.into();
    }
    object::set_condition(object, condition);
}

/// The status of a pod that its kubelet did not admit: it stays so for good.
pub(crate) fn rejected(pod: &Value, reason: &str, message: &str, now: Timestamp) -> Value {
    let mut status = pod.get("status").cloned().unwrap_or(json!({}));
    status["phase"] = "Failed".into();
    status["reason"] = reason.into();
    status["message"] = message.into();
    object::set_default(&mut status, "startTime", stamp(now));
    status
}

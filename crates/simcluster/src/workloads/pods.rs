//! Pods as controllers see them: made from a template, counted by what they are good for.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::admission::Admission;
use crate::events::{Recorder, Severity};
use crate::store::{DeleteOptions, Kind, Status, Store, WriteOptions, object};

/// What a controller makes and removes pods with.
pub(super) struct Hands {
    pub(super) store: Store,
    pub(super) admission: Admission,
    pub(super) recorder: Recorder,
}

impl Hands {
    pub(super) fn new(store: &Store, account: &'static str) -> Self {
        Self {
            store: store.clone(),
            admission: Admission::controller(store.clone(), account),
            recorder: Recorder::new(store.clone(), account, ""),
        }
    }

    /// Creates an object for `owner`, past the webhooks and the quotas.
    pub(super) async fn create(
        &self,
        owner: &Value,
        kind: Kind,
        object: Value,
    ) -> Result<Arc<Value>, Status> {
        let (options, mut unread) = (WriteOptions::default(), Vec::new());
        let namespace = object::namespace(owner);
        self.admission
            .create(kind, namespace, object, &options, &mut unread)
            .await
    }

    /// Makes pods from the owner's template, and stops at the first that is refused. Returns how
    /// many were made, and whether that is all.
    pub(super) async fn make(&self, owner: &Value, kind: Kind, count: usize) -> (usize, bool) {
        for made in 0..count {
            match self.create(owner, Kind::Pod, pod_of(owner, kind)).await {
                Ok(pod) => {
                    let message = format!("Created pod: {}", object::name(&pod));
                    self.recorder
                        .record(owner, Severity::Normal, "SuccessfulCreate", &message);
                }
                Err(error) => {
                    let message = format!("Error creating: {error}");
                    self.recorder
                        .record(owner, Severity::Warning, "FailedCreate", &message);
                    return (made, false);
                }
            }
        }
        (count, true)
    }

    /// Deletes a pod; one that is gone is as good.
    pub(super) fn delete(&self, owner: &Value, pod: &Value) {
        let (namespace, name) = (object::namespace(pod), object::name(pod));
        let options = DeleteOptions::default();
        if self
            .store
            .delete(Kind::Pod, namespace, name, &options)
            .is_ok()
        {
            let message = format!("Deleted pod: {name}");
            self.recorder
                .record(owner, Severity::Normal, "SuccessfulDelete", &message);
        }
    }

    /// Writes the owner's status unless it says so already.
    pub(super) fn tell(&self, kind: Kind, owner: &Value, status: &Value) {
        let uid = object::uid(owner);
        let write = |stored: &mut Value| {
            if object::uid(stored) == uid {
                stored["status"] = status.clone();
            }
        };
        let (namespace, name) = (object::namespace(owner), object::name(owner));
        // It may have been deleted meanwhile.
        let _ = self.store.modify(kind, namespace, name, write);
    }

    /// To the second, as in conditions.
    pub(super) fn time(&self) -> String {
        format!("{:.0}", self.store.now())
    }
}

/// A pod from the template of `owner`.
fn pod_of(owner: &Value, kind: Kind) -> Value {
    let template = &owner["spec"]["template"];
    let part = |path: &str| template.pointer(path).cloned().unwrap_or_else(|| json!({}));
    json!({
        "metadata": {
            "generateName": format!("{}-", object::name(owner)),
            "labels": part("/metadata/labels"),
            "annotations": part("/metadata/annotations"),
            "ownerReferences": [owned_by(owner, kind)],
        },
        "spec": template["spec"],
    })
}

/// The reference by which `owner` controls what it made.
pub(super) fn owned_by(owner: &Value, kind: Kind) -> Value {
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.info().kind,
        "name": object::name(owner),
        "uid": object::uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// It ended, well or badly.
pub(super) fn has_ended(pod: &Value) -> bool {
    matches!(object::text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// It runs or will run.
pub(super) fn is_active(pod: &Value) -> bool {
    !has_ended(pod) && !object::is_deleting(pod)
}

pub(super) fn is_ready(pod: &Value) -> bool {
    object::array(pod, "/status/conditions")
        .iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// The larger, the younger; to the second, as objects say it.
pub(super) fn age_rank(object: &Value) -> u64 {
    let made = object::text(object, "/metadata/creationTimestamp");
    let seconds = made
        .parse::<jiff::Timestamp>()
        .map_or(0, jiff::Timestamp::as_second);
    u64::try_from(seconds).unwrap_or(0)
}

/// The number at a pointer, or 0.
pub(super) fn number(object: &Value, pointer: &str) -> usize {
    let found = object.pointer(pointer).and_then(Value::as_u64);
    found.and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}

/// An object of these numbers without those that are zero, as Kubernetes leaves them out.
pub(super) fn numbers(all: &[(&str, usize)]) -> Value {
    let mut object = json!({});
    for (name, number) in all.iter().filter(|(_, number)| *number > 0) {
        object[*name] = (*number).into();
    }
    object
}

/// Sets a condition in `status`; its times move only if it changes. Those of before are in `old`.
pub(super) fn condition(
    status: &mut Value,
    old: &Value,
    now: &str,
    (kind, holds, reason, message): (&str, bool, &str, &str),
) {
    let word = if holds { "True" } else { "False" };
    let before = object::array(old, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == kind);
    let since = before
        .filter(|before| before["status"] == word)
        .map(|before| before["lastTransitionTime"].clone());
    let mut condition = json!({
        "type": kind,
        "status": word,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since.unwrap_or_else(|| now.into()),
    });
    let updated = before.filter(|b| b["reason"] == reason && b["message"] == message);
    condition["lastUpdateTime"] = updated
        .and_then(|before| before.get("lastUpdateTime").cloned())
        .unwrap_or_else(|| now.into());
    let mut holder = json!({ "status": status.clone() });
    object::set_condition(&mut holder, condition);
    *status = holder["status"].take();
}

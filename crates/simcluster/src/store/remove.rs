//! Deletion: grace periods, finalizers, namespaces, and what goes with an owner.

use std::sync::Arc;

use serde_json::{Value, json};

use super::state::{State, owners};
use super::{Key, Kind, Status, object};

/// What happens to the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted, too. (`Foreground` is served as this.)
    #[default]
    Background,
    /// They stay, without that owner.
    Orphan,
}

/// Options of a deletion.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Seconds that a pod gets to end; none: what its spec says; 0: it is gone at once.
    pub grace_period_seconds: Option<i64>,
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only this version of the object.
    pub resource_version: Option<String>,
    /// What happens to owned objects.
    pub propagation: Propagation,
    /// Check, but delete nothing.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Deletes at once, as a kubelet does at the end and `kubectl delete --force` asks for.
    pub fn now() -> Self {
        Self {
            grace_period_seconds: Some(0),
            ..Self::default()
        }
    }
}

/// A deletion that nothing holds up any more.
pub(super) fn may_go(object: &Value) -> bool {
    let metadata = &object["metadata"];
    object::is_deleting(object)
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && object::array(object, "/metadata/finalizers").is_empty()
        && object::array(object, "/spec/finalizers").is_empty()
}

impl State {
    pub(super) fn delete(
        &mut self,
        key: &Key,
        options: &DeleteOptions,
    ) -> Result<Arc<Value>, Status> {
        let old = self.existing(key)?;
        check_preconditions(key, &old, options)?;
        if options.dry_run {
            return Ok(old);
        }
        if options.propagation == Propagation::Orphan {
            self.disown(object::uid(&old));
        }
        if key.kind == Kind::Namespace {
            return Ok(self.delete_namespace(key, &old));
        }
        let grace = grace_period(key.kind, &old, options);
        let mut new = Value::clone(&old);
        let metadata = object::child(&mut new, "metadata");
        let running = metadata["deletionGracePeriodSeconds"].as_i64();
        if object::is_deleting(&old) {
            // A deletion that is under way can be made shorter, never longer.
            if running.is_none_or(|running| running <= grace) && !may_go(&old) {
                return Ok(old);
            }
        }
        metadata["deletionTimestamp"] = self.clock.seconds_after(grace).into();
        metadata["deletionGracePeriodSeconds"] = grace.into();
        if may_go(&new) {
            return Ok(self.remove(key, new));
        }
        Ok(self.commit(key, new))
    }

    /// Removes an object, what it alone owned, and the namespace that waited for it.
    pub(super) fn remove(&mut self, key: &Key, last: Value) -> Arc<Value> {
        let uid = object::uid(&last).to_owned();
        let last = self.erase(key, last);
        for dependent in self.dependents(&uid) {
            let alone = self
                .get(&dependent)
                .is_some_and(|object| owners(object).all(|owner| !self.is_live(owner)));
            if alone {
                let _ = self.delete(&dependent, &DeleteOptions::default());
            }
        }
        if key.kind.info().namespaced {
            self.finish_namespace(&key.namespace);
        }
        last
    }

    fn delete_namespace(&mut self, key: &Key, old: &Arc<Value>) -> Arc<Value> {
        if object::is_deleting(old) {
            return old.clone();
        }
        let mut new = Value::clone(old);
        new["metadata"]["deletionTimestamp"] = self.clock.seconds().into();
        object::child(&mut new, "status")["phase"] = "Terminating".into();
        let left = self.commit(key, new);
        for kind in Kind::ALL.into_iter().filter(|kind| kind.info().namespaced) {
            for item in self.list(kind, Some(&key.name)) {
                let key = Key::new(kind, &key.name, object::name(&item));
                let _ = self.delete(&key, &DeleteOptions::default());
            }
        }
        self.finish_namespace(&key.name);
        left
    }

    fn finish_namespace(&mut self, namespace: &str) {
        let key = Key::new(Kind::Namespace, "", namespace);
        let Some(found) = self.get(&key).cloned() else {
            return;
        };
        if !object::is_deleting(&found) || !self.namespace_is_empty(namespace) {
            return;
        }
        let mut last = Value::clone(&found);
        object::remove(object::child(&mut last, "spec"), "finalizers");
        if may_go(&last) {
            self.erase(&key, last);
        }
    }

    fn disown(&mut self, uid: &str) {
        for key in self.dependents(uid) {
            let _ = self.modify(&key, |object| {
                if let Some(owners) = object
                    .pointer_mut("/metadata/ownerReferences")
                    .and_then(Value::as_array_mut)
                {
                    owners.retain(|owner| owner["uid"] != json!(uid));
                }
            });
        }
    }
}

fn check_preconditions(key: &Key, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let checks = [
        ("UID", options.uid.as_deref(), object::uid(old)),
        (
            "ResourceVersion",
            options.resource_version.as_deref(),
            object::text(old, "/metadata/resourceVersion"),
        ),
    ];
    for (what, asked, found) in checks {
        if asked.is_some_and(|asked| asked != found) {
            let why = format!(
                "Precondition failed: {what} in precondition: {}, {what} in object meta: {found}",
                asked.unwrap_or_default()
            );
            return Err(Status::conflict(key.kind, &key.name, why));
        }
    }
    Ok(())
}

/// Only pods have one, and only on a node and before they ended
/// (pkg/registry/core/pod/strategy.go, `CheckGracefulDelete`).
fn grace_period(kind: Kind, old: &Value, options: &DeleteOptions) -> i64 {
    let ended = matches!(object::text(old, "/status/phase"), "Succeeded" | "Failed");
    if kind != Kind::Pod || object::text(old, "/spec/nodeName").is_empty() || ended {
        return 0;
    }
    let from_spec = || {
        old.pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
    };
    let grace = options
        .grace_period_seconds
        .or_else(from_spec)
        .unwrap_or(30);
    if grace < 0 { 1 } else { grace }
}

//! What the real server refuses, with its words (pkg/apis/core/validation).
//!
//! Not all of it: names, the parts of pods that the scheduler, the kubelets and users of
//! extended resources depend on, and what may change after creation.

mod names;
mod pod;
mod pod_change;
mod quota;
mod resources;
mod webhooks;
mod workloads;

use serde_json::Value;

use super::object::{array, pairs, text};
use super::{Cause, Kind};

/// What is wrong with an object, new or changed.
pub(super) fn object(kind: Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    metadata(kind, object, &mut causes);
    match kind {
        Kind::Pod => pod::spec(&object["spec"], "spec", &mut causes),
        Kind::DaemonSet
        | Kind::Deployment
        | Kind::ReplicaSet
        | Kind::StatefulSet
        | Kind::Job
        | Kind::CronJob => workloads::check(kind, object, &mut causes),
        Kind::ResourceQuota => quota::check(object, &mut causes),
        Kind::MutatingWebhookConfiguration => webhooks::check(object, &mut causes),
        Kind::Node => node(object, &mut causes),
        Kind::Event => event(object, &mut causes),
        Kind::PriorityClass if !object["value"].is_i64() && !object["value"].is_u64() => {
            causes.push(Cause::required("value", ""));
        }
        Kind::Service
            if array(object, "/spec/ports").is_empty()
                && text(object, "/spec/clusterIP") != "None" =>
        {
            causes.push(Cause::required("spec.ports", ""));
        }
        _ => {}
    }
    causes
}

/// What is wrong with the step from one state to the next.
pub(super) fn change(kind: Kind, old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if super::object::is_deleting(old) {
        let known = array(old, "/metadata/finalizers");
        for added in array(new, "/metadata/finalizers")
            .iter()
            .filter(|f| !known.contains(f))
        {
            causes.push(Cause::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new \
                     finalizers []string{{{added}}}"
                ),
            ));
        }
    }
    match kind {
        Kind::Pod => pod_change::check(old, new, &mut causes),
        Kind::DaemonSet | Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::Job => {
            workloads::change(kind, old, new, &mut causes);
        }
        Kind::PriorityClass if old["value"] != new["value"] => {
            causes.push(Cause::forbidden(
                "value",
                "may not be changed in an update.",
            ));
        }
        _ => {}
    }
    causes
}

fn metadata(kind: Kind, object: &Value, causes: &mut Vec<Cause>) {
    let name = text(object, "/metadata/name");
    let problem = match kind {
        Kind::Namespace => names::label(name),
        Kind::Service => names::service(name),
        _ => names::subdomain(name),
    };
    if let Some(why) = problem {
        causes.push(Cause::invalid("metadata.name", &name.into(), why));
    }
    for (key, value) in pairs(object, "/metadata/labels") {
        if let Some(why) = names::qualified(key) {
            causes.push(Cause::invalid("metadata.labels", &key.into(), why));
        }
        if let Some(why) = names::label_value(value) {
            causes.push(Cause::invalid("metadata.labels", &value.into(), why));
        }
    }
    for (key, _) in pairs(object, "/metadata/annotations") {
        if let Some(why) = names::qualified(&key.to_ascii_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.into(), why));
        }
    }
}

fn node(node: &Value, causes: &mut Vec<Cause>) {
    for list in ["capacity", "allocatable"] {
        let amounts = node
            .pointer(&format!("/status/{list}"))
            .and_then(Value::as_object);
        for (name, amount) in amounts.into_iter().flatten() {
            resources::amount(name, amount, &format!("status.{list}[{name}]"), causes);
        }
    }
    for (index, taint) in array(node, "/spec/taints").iter().enumerate() {
        let at = format!("spec.taints[{index}]");
        let key = text(taint, "/key");
        if let Some(why) = names::qualified(key) {
            causes.push(Cause::invalid(format!("{at}.key"), &key.into(), why));
        }
        let effect = text(taint, "/effect");
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if effect.is_empty() {
            causes.push(Cause::required(format!("{at}.effect"), ""));
        } else if !effects.contains(&effect) {
            causes.push(Cause::unsupported(format!("{at}.effect"), effect, &effects));
        }
    }
}

fn event(event: &Value, causes: &mut Vec<Cause>) {
    let about = text(event, "/involvedObject/namespace");
    let own = text(event, "/metadata/namespace");
    let fits = if about.is_empty() {
        matches!(own, "default" | "kube-system")
    } else {
        about == own
    };
    if !fits {
        let field = "involvedObject.namespace";
        causes.push(Cause::invalid(
            field,
            &about.into(),
            "does not match event.namespace",
        ));
    }
}

#[cfg(test)]
mod tests;

//! The types of built-in objects: a body whose members have the wrong types is refused when it is
//! decoded, as in the real server, and members that no type knows can be named.

use std::fmt::Write;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Node, Pod, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Kind, Status};

/// Calls a function for the type of a kind.
macro_rules! for_type_of {
    ($kind:expr, $function:ident($object:expr)) => {
        match $kind {
            Kind::Pod => $function::<Pod>($object),
            Kind::Node => $function::<Node>($object),
            Kind::Namespace => $function::<Namespace>($object),
            Kind::Event => $function::<Event>($object),
            Kind::ConfigMap => $function::<ConfigMap>($object),
            Kind::Secret => $function::<Secret>($object),
            Kind::ServiceAccount => $function::<ServiceAccount>($object),
            Kind::Service => $function::<Service>($object),
            Kind::Lease => $function::<Lease>($object),
            Kind::DaemonSet => $function::<DaemonSet>($object),
            Kind::PriorityClass => $function::<PriorityClass>($object),
            Kind::ResourceQuota => $function::<ResourceQuota>($object),
            Kind::Deployment => $function::<Deployment>($object),
            Kind::ReplicaSet => $function::<ReplicaSet>($object),
            Kind::StatefulSet => $function::<StatefulSet>($object),
            Kind::Job => $function::<Job>($object),
            Kind::CronJob => $function::<CronJob>($object),
            Kind::MutatingWebhookConfiguration => {
                $function::<MutatingWebhookConfiguration>($object)
            }
        }
    };
}

/// Checks that `object` can be read as its kind.
pub(super) fn check(kind: Kind, object: &Value) -> Result<(), Status> {
    let outcome = for_type_of!(kind, readable(object));
    outcome.map_err(|error| {
        Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: {error}",
            kind.api_version()
        ))
    })
}

/// Removes the members that its kind does not know, such as `spec.containres`, and names them.
pub(crate) fn prune(kind: Kind, object: &mut Value) -> Vec<String> {
    // Quantities may be sent as numbers; the types know them as strings only. What is no quantity
    // is refused later on.
    if super::admission::normalise(kind, object).is_err() {
        return Vec::new();
    }
    let known = for_type_of!(kind, known(object));
    let mut unknown = Vec::new();
    if let Some(known) = known {
        compare(object, &known, &mut String::new(), &mut unknown);
    }
    unknown
}

fn readable<'a, T: Deserialize<'a>>(
    object: &'a Value,
) -> Result<(), serde_path_to_error::Error<serde_json::Error>> {
    serde_path_to_error::deserialize::<_, T>(object).map(drop)
}

/// What is left of an object that went through its type; nothing if it has another type.
fn known<T: DeserializeOwned + Serialize>(object: &Value) -> Option<Value> {
    serde_json::to_value(T::deserialize(object).ok()?).ok()
}

fn compare(sent: &mut Value, known: &Value, at: &mut String, unknown: &mut Vec<String>) {
    let depth = at.len();
    match (sent, known) {
        (Value::Object(sent), Value::Object(known)) => sent.retain(|name, value| {
            if !at.is_empty() {
                at.push('.');
            }
            at.push_str(name);
            let keep = match known.get(name) {
                Some(known) => {
                    compare(value, known, at, unknown);
                    true
                }
                // A known member that is null is left out of `known`, too.
                None if value.is_null() => true,
                None => {
                    unknown.push(at.clone());
                    false
                }
            };
            at.truncate(depth);
            keep
        }),
        (Value::Array(sent), Value::Array(known)) => {
            for (index, (sent, known)) in sent.iter_mut().zip(known).enumerate() {
                let _ = write!(at, "[{index}]");
                compare(sent, known, at, unknown);
                at.truncate(depth);
            }
        }
        _ => {}
    }
}

//! The types of built-in objects: a body whose members have the wrong types is refused when it is
//! decoded, as in the real server, and members that no type knows can be named.

use std::fmt::Write;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Kind, Status};

/// Checks that `object` can be read as its kind.
pub(super) fn check(kind: Kind, object: &Value) -> Result<(), Status> {
    let outcome = match kind {
        Kind::Pod => readable::<Pod>(object),
        Kind::Node => readable::<Node>(object),
        Kind::Namespace => readable::<Namespace>(object),
        Kind::Event => readable::<Event>(object),
        Kind::ConfigMap => readable::<ConfigMap>(object),
        Kind::Secret => readable::<Secret>(object),
        Kind::ServiceAccount => readable::<ServiceAccount>(object),
        Kind::Service => readable::<Service>(object),
        Kind::Lease => readable::<Lease>(object),
        Kind::DaemonSet => readable::<DaemonSet>(object),
        Kind::PriorityClass => readable::<PriorityClass>(object),
    };
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
    let known = match kind {
        Kind::Pod => known::<Pod>(object),
        Kind::Node => known::<Node>(object),
        Kind::Namespace => known::<Namespace>(object),
        Kind::Event => known::<Event>(object),
        Kind::ConfigMap => known::<ConfigMap>(object),
        Kind::Secret => known::<Secret>(object),
        Kind::ServiceAccount => known::<ServiceAccount>(object),
        Kind::Service => known::<Service>(object),
        Kind::Lease => known::<Lease>(object),
        Kind::DaemonSet => known::<DaemonSet>(object),
        Kind::PriorityClass => known::<PriorityClass>(object),
    };
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

//! The kinds whose tables need no more than a few look-ups.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, age, or_none, workload};
use crate::store::Kind;
use crate::store::object::{array, name, pairs, text};

pub(super) const NAME: Column = ("Name", "string", 0);
pub(super) const AGE: Column = ("Age", "string", 0);

pub(super) fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Namespace => &[NAME, ("Status", "string", 0), AGE],
        Kind::ConfigMap => &[NAME, ("Data", "string", 0), AGE],
        Kind::Secret => &[NAME, ("Type", "string", 0), ("Data", "string", 0), AGE],
        Kind::ServiceAccount => &[NAME, ("Secrets", "string", 0), AGE],
        Kind::Lease => &[NAME, ("Holder", "string", 0), AGE],
        Kind::Service => &[
            NAME,
            ("Type", "string", 0),
            ("Cluster-IP", "string", 0),
            ("External-IP", "string", 0),
            ("Port(s)", "string", 0),
            AGE,
            ("Selector", "string", 1),
        ],
        Kind::DaemonSet => &[
            NAME,
            ("Desired", "integer", 0),
            ("Current", "integer", 0),
            ("Ready", "integer", 0),
            ("Up-to-date", "integer", 0),
            ("Available", "integer", 0),
            ("Node Selector", "string", 0),
            AGE,
            ("Containers", "string", 1),
            ("Images", "string", 1),
            ("Selector", "string", 1),
        ],
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::Job | Kind::CronJob => {
            workload::columns(kind)
        }
        Kind::ResourceQuota => &[NAME, AGE, ("Request", "string", 0), ("Limit", "string", 0)],
        Kind::MutatingWebhookConfiguration => &[NAME, ("Webhooks", "integer", 0), AGE],
        Kind::PriorityClass => &[
            NAME,
            ("Value", "integer", 0),
            ("Global-Default", "boolean", 0),
            AGE,
            ("PreemptionPolicy", "string", 0),
        ],
        _ => &[NAME, AGE],
    }
}

pub(super) fn cells(kind: Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let name: Value = name(object).into();
    let age: Value = age::since(object, "/metadata/creationTimestamp", now).into();
    let number = |pointer: &str| -> Value {
        object
            .pointer(pointer)
            .and_then(Value::as_i64)
            .unwrap_or_default()
            .into()
    };
    let size = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_object)
            .map_or(0, serde_json::Map::len)
    };
    match kind {
        Kind::Namespace => vec![name, text(object, "/status/phase").into(), age],
        Kind::ConfigMap => vec![name, (size("/data") + size("/binaryData")).into(), age],
        Kind::Secret => vec![
            name,
            text(object, "/type").into(),
            size("/data").into(),
            age,
        ],
        Kind::ServiceAccount => vec![name, array(object, "/secrets").len().into(), age],
        Kind::Lease => vec![name, text(object, "/spec/holderIdentity").into(), age],
        Kind::Service => vec![
            name,
            text(object, "/spec/type").into(),
            or_none(text(object, "/spec/clusterIP")),
            json!("<none>"),
            ports(object).into(),
            age,
            selector(object, "/spec/selector"),
        ],
        Kind::DaemonSet => vec![
            name,
            number("/status/desiredNumberScheduled"),
            number("/status/currentNumberScheduled"),
            number("/status/numberReady"),
            number("/status/updatedNumberScheduled"),
            number("/status/numberAvailable"),
            selector(object, "/spec/template/spec/nodeSelector"),
            age,
            containers(object, "/spec/template/spec", "/name").into(),
            containers(object, "/spec/template/spec", "/image").into(),
            selector(object, "/spec/selector/matchLabels"),
        ],
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::Job | Kind::CronJob => {
            workload::cells(kind, object, now)
        }
        Kind::ResourceQuota => {
            let (limits, requests) = quota(object);
            vec![name, age, requests.into(), limits.into()]
        }
        Kind::MutatingWebhookConfiguration => {
            vec![name, array(object, "/webhooks").len().into(), age]
        }
        Kind::PriorityClass => vec![
            name,
            number("/value"),
            (object["globalDefault"] == true).into(),
            age,
            text(object, "/preemptionPolicy").into(),
        ],
        _ => vec![name, age],
    }
}

/// What is used of what is limited: limits, and all the rest.
fn quota(object: &Value) -> (String, String) {
    let (mut limits, mut requests) = (Vec::new(), Vec::new());
    for (what, hard) in pairs(object, "/status/hard") {
        let used = object["status"]["used"][what].as_str().unwrap_or("0");
        let line = format!("{what}: {used}/{hard}");
        if what.starts_with("limits.") {
            limits.push(line);
        } else {
            requests.push(line);
        }
    }
    (limits.join(", "), requests.join(", "))
}

pub(super) fn selector(object: &Value, pointer: &str) -> Value {
    let parts: Vec<String> = pairs(object, pointer)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    or_none(&parts.join(","))
}

pub(super) fn containers(object: &Value, at: &str, member: &str) -> String {
    let found: Vec<&str> = array(object, &format!("{at}/containers"))
        .iter()
        .map(|container| text(container, member))
        .collect();
    found.join(",")
}

fn ports(service: &Value) -> String {
    let found: Vec<String> = array(service, "/spec/ports")
        .iter()
        .map(|port| format!("{}/{}", port["port"], text(port, "/protocol")))
        .collect();
    if found.is_empty() {
        "<none>".to_owned()
    } else {
        found.join(",")
    }
}

//! Nodes.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, age, or_none};
use crate::store::object::{array, name, pairs, text};

pub(super) const COLUMNS: &[Column] = &[
    ("Name", "string", 0),
    ("Status", "string", 0),
    ("Roles", "string", 0),
    ("Age", "string", 0),
    ("Version", "string", 0),
    ("Internal-IP", "string", 1),
    ("External-IP", "string", 1),
    ("OS-Image", "string", 1),
    ("Kernel-Version", "string", 1),
    ("Container-Runtime", "string", 1),
];

pub(super) fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let address = |wanted: &str| {
        let found = array(node, "/status/addresses")
            .iter()
            .find(|a| a["type"] == wanted);
        or_none(found.map_or("", |address| text(address, "/address")))
    };
    let info = |member: &str| match text(node, &format!("/status/nodeInfo/{member}")) {
        "" => "<unknown>".into(),
        found => found.into(),
    };
    vec![
        name(node).into(),
        status(node).into(),
        or_none(&roles(node)),
        age::since(node, "/metadata/creationTimestamp", now).into(),
        text(node, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn status(node: &Value) -> String {
    let ready = array(node, "/status/conditions")
        .iter()
        .find(|c| c["type"] == "Ready");
    let mut word = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        word.push_str(",SchedulingDisabled");
    }
    word
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = pairs(node, "/metadata/labels")
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => Some(value),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

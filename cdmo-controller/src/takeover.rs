//! Taking a node over from NVIDIA's GPU operator and giving it back: what its labels and annotations shall
//! say next, without I/O.
//!
//! Nothing is remembered but on the node itself, and every step is one write over the version that was
//! read. So a controller may die between any two of them, and the administrator may put the label on
//! again in the middle of it: whoever looks next goes on from what the node says.
//!
//! The end is one write: the operator's labels as they were, our annotations and our own label gone. That
//! label keeps the agent on the node until then, and with the write the agent goes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    names::{DRIVER_UPGRADE_LABEL, MANAGED_LABEL, OPERATOR_ANNOTATION, PROBLEMS_ANNOTATION},
    nodes::NodeRow,
};

/// Labels by which the operator's parts are kept off a node: its device plugin, and the MIG manager, which
/// would set the layout of its own configuration.
pub const OPERATOR_LABELS: [&str; 2] = [
    "nvidia.com/gpu.deploy.device-plugin",
    "nvidia.com/gpu.deploy.mig-manager",
];
const OFF: &str = "false";
/// The MIG manager writes this while it stops the other parts for a moment.
const PAUSED: &str = "paused-";
/// States of a driver upgrade in which the operator has yet to touch the node, or has done with it.
const NOT_UPGRADING: [&str; 4] = ["", "upgrade-required", "upgrade-done", "upgrade-failed"];

/// Whose a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An administrator handed it over.
    Ours,
    /// An administrator took the label off, and there is still something of ours.
    Returning,
    /// Nothing of it concerns us.
    Theirs,
}

/// Whose the node is.
pub fn standing(row: &NodeRow) -> Standing {
    if row.managed {
        Standing::Ours
    } else if row.labels.contains_key(MANAGED_LABEL) || row.operator_labels.is_some() {
        Standing::Returning
    } else {
        Standing::Theirs
    }
}

/// The operator is replacing the driver: nothing is changed on the node meanwhile.
pub fn is_upgrading(row: &NodeRow) -> bool {
    let state = row.labels.get(DRIVER_UPGRADE_LABEL);
    state.is_some_and(|state| !NOT_UPGRADING.contains(&state.as_str()))
}

/// What to write now, as a merge patch; none: everything is as it should be, or must wait. `cleared`: the
/// agent says that nothing of ours is left, and the node's status shows no device of ours.
pub fn patch(row: &NodeRow, cleared: bool) -> Option<Value> {
    let (labels, annotations) = match standing(row) {
        Standing::Ours => take(row),
        Standing::Returning if cleared => give_back(row),
        Standing::Returning | Standing::Theirs => return None,
    };
    if labels.is_empty() && annotations.is_empty() {
        return None;
    }
    Some(json!({"metadata": {
        "resourceVersion": row.resource_version,
        "labels": labels,
        "annotations": annotations,
    }}))
}

fn take(row: &NodeRow) -> (Map<String, Value>, Map<String, Value>) {
    let (mut labels, mut annotations) = (Map::new(), Map::new());
    if row.labels.get(MANAGED_LABEL).is_none_or(|is| is != "true") {
        labels.insert(MANAGED_LABEL.into(), "true".into());
    }
    if !has_operator(row) {
        return (labels, annotations);
    }
    if row.operator_labels.is_none() {
        annotations.insert(OPERATOR_ANNOTATION.into(), remembered(row).into());
    }
    for label in OPERATOR_LABELS {
        if row.labels.get(label).is_none_or(|is| is != OFF) {
            labels.insert(label.into(), OFF.into());
        }
    }
    (labels, annotations)
}

/// The operator labels every node that has GPUs. Elsewhere its labels would only be clutter.
fn has_operator(row: &NodeRow) -> bool {
    let present = row.labels.get("nvidia.com/gpu.present");
    let deployed = |label: &String| label.starts_with("nvidia.com/gpu.deploy.");
    present.is_some_and(|present| present == "true") || row.labels.keys().any(deployed)
}

/// The labels as they are before we write them; one that is missing is null.
fn remembered(row: &NodeRow) -> String {
    let value = |label: &str| match row.labels.get(label) {
        // To put that back would stop the part for good.
        Some(value) if value.starts_with(PAUSED) => Some("true".to_owned()),
        value => value.cloned(),
    };
    let all = OPERATOR_LABELS.map(|label| (label, value(label)));
    json!(BTreeMap::from(all)).to_string()
}

/// The labels and annotations that put a node back as it was found, for whoever takes us out.
pub fn give_back(row: &NodeRow) -> (Map<String, Value>, Map<String, Value>) {
    let (mut labels, mut annotations) = (Map::new(), Map::new());
    if let Some(memory) = &row.operator_labels {
        // Of what somebody made unreadable, the operator makes its defaults.
        let memory: BTreeMap<String, Option<String>> =
            serde_json::from_str(memory).unwrap_or_default();
        for label in OPERATOR_LABELS {
            let before = memory.get(label).cloned().flatten();
            // What somebody else has set meanwhile is not ours to undo.
            let is_ours = row.labels.get(label).is_some_and(|is| is == OFF);
            if is_ours && before.as_deref() != Some(OFF) {
                labels.insert(label.into(), json!(before));
            }
        }
        annotations.insert(OPERATOR_ANNOTATION.into(), Value::Null);
    }
    if row.problems.is_some() {
        annotations.insert(PROBLEMS_ANNOTATION.into(), Value::Null);
    }
    if row.labels.contains_key(MANAGED_LABEL) {
        labels.insert(MANAGED_LABEL.into(), Value::Null);
    }
    (labels, annotations)
}

/// What an administrator's annotation names as GPUs to be left alone.
pub fn leave_alone(row: &NodeRow) -> Vec<String> {
    let text = row.leave_alone.as_deref().unwrap_or_default();
    let entries = text.split(',').map(str::trim).filter(|e| !e.is_empty());
    entries.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;

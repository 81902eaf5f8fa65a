//! Pods: how many containers are ready, and one word for the state that matters most.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, age, or_none};
use crate::store::object::{array, is_deleting, name, text};

pub(super) const COLUMNS: &[Column] = &[
    ("Name", "string", 0),
    ("Ready", "string", 0),
    ("Status", "string", 0),
    ("Restarts", "string", 0),
    ("Age", "string", 0),
    ("IP", "string", 1),
    ("Node", "string", 1),
    ("Nominated Node", "string", 1),
    ("Readiness Gates", "string", 1),
];

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let statuses = array(pod, "/status/containerStatuses");
    let ready = statuses
        .iter()
        .filter(|status| status["ready"] == true && !status["state"]["running"].is_null())
        .count();
    let gates = array(pod, "/spec/readinessGates").len();
    vec![
        name(pod).into(),
        format!("{ready}/{}", array(pod, "/spec/containers").len()).into(),
        status(pod).into(),
        restarts(pod, now).into(),
        age::since(pod, "/metadata/creationTimestamp", now).into(),
        or_none(text(pod, "/status/podIP")),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        if gates == 0 {
            json!("<none>")
        } else {
            format!("0/{gates}").into()
        },
    ]
}

/// The word in the STATUS column.
fn status(pod: &Value) -> String {
    let phase = text(pod, "/status/phase");
    let mut word = match text(pod, "/status/reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    let gated = array(pod, "/status/conditions")
        .iter()
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated");
    if gated || !array(pod, "/spec/schedulingGates").is_empty() {
        "SchedulingGated".clone_into(&mut word);
    }
    if let Some(initialising) = initialising(pod) {
        word = initialising;
    } else {
        let mut running = false;
        for container in array(pod, "/status/containerStatuses").iter().rev() {
            if let Some(trouble) = trouble(container) {
                word = trouble;
            }
            running |= container["ready"] == true && !container["state"]["running"].is_null();
        }
        if word == "Completed" && running {
            let ready = array(pod, "/status/conditions")
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            if ready { "Running" } else { "NotReady" }.clone_into(&mut word);
        }
    }
    if is_deleting(pod) && !matches!(phase, "Succeeded" | "Failed") {
        "Terminating".clone_into(&mut word);
    }
    word
}

/// `Init:1/2` and the like, while the first unfinished init container holds the pod up.
fn initialising(pod: &Value) -> Option<String> {
    let total = array(pod, "/spec/initContainers").len();
    for (index, container) in array(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        let state = &container["state"];
        let done = state["terminated"]["exitCode"] == 0;
        let sidecar = array(pod, "/spec/initContainers")
            .get(index)
            .is_some_and(|spec| spec["restartPolicy"] == "Always" && container["started"] == true);
        if done || sidecar {
            continue;
        }
        let waiting = text(state, "/waiting/reason");
        return Some(match trouble(container) {
            Some(reason) if waiting != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{index}/{total}"),
        });
    }
    None
}

/// Why a container does not run.
fn trouble(container: &Value) -> Option<String> {
    let state = &container["state"];
    let waiting = text(state, "/waiting/reason");
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    let ended = state.get("terminated").filter(|ended| !ended.is_null())?;
    Some(
        match (
            text(ended, "/reason"),
            ended["signal"].as_i64().unwrap_or(0),
        ) {
            ("", 0) => format!("ExitCode:{}", ended["exitCode"]),
            ("", signal) => format!("Signal:{signal}"),
            (reason, _) => reason.to_owned(),
        },
    )
}

fn restarts(pod: &Value, now: Timestamp) -> String {
    let statuses = array(pod, "/status/containerStatuses");
    let count: u64 = statuses
        .iter()
        .filter_map(|s| s["restartCount"].as_u64())
        .sum();
    let last = statuses
        .iter()
        .filter(|status| !text(status, "/lastState/terminated/finishedAt").is_empty())
        .max_by_key(|status| text(status, "/lastState/terminated/finishedAt"));
    match last {
        Some(last) if count > 0 => {
            format!(
                "{count} ({} ago)",
                age::since(last, "/lastState/terminated/finishedAt", now)
            )
        }
        _ => count.to_string(),
    }
}

//! What makes pods, but for DaemonSets.

use jiff::Timestamp;
use serde_json::Value;

use super::other::{AGE, NAME, containers, selector};
use super::{Column, age, or_none};
use crate::store::Kind;
use crate::store::object::{array, name, text};

const CONTAINERS: Column = ("Containers", "string", 1);
const IMAGES: Column = ("Images", "string", 1);
const SELECTOR: Column = ("Selector", "string", 1);

pub(super) fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Deployment => &[
            NAME,
            ("Ready", "string", 0),
            ("Up-to-date", "string", 0),
            ("Available", "string", 0),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        Kind::ReplicaSet => &[
            NAME,
            ("Desired", "integer", 0),
            ("Current", "integer", 0),
            ("Ready", "integer", 0),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        Kind::StatefulSet => &[NAME, ("Ready", "string", 0), AGE, CONTAINERS, IMAGES],
        Kind::Job => &[
            NAME,
            ("Status", "string", 0),
            ("Completions", "string", 0),
            ("Duration", "string", 0),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        _ => &[
            NAME,
            ("Schedule", "string", 0),
            ("Timezone", "string", 0),
            ("Suspend", "boolean", 0),
            ("Active", "integer", 0),
            ("Last Schedule", "string", 0),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
    }
}

pub(super) fn cells(kind: Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let number = |pointer: &str| {
        let found = object.pointer(pointer).and_then(Value::as_i64);
        found.unwrap_or_default()
    };
    let replicas = || {
        let (ready, wanted) = (number("/status/readyReplicas"), number("/spec/replicas"));
        format!("{ready}/{wanted}").into()
    };
    let age: Value = age::since(object, "/metadata/creationTimestamp", now).into();
    let mut cells: Vec<Value> = vec![name(object).into()];
    cells.extend(match kind {
        Kind::Deployment => vec![
            replicas(),
            number("/status/updatedReplicas").to_string().into(),
            number("/status/availableReplicas").to_string().into(),
            age,
        ],
        Kind::ReplicaSet => vec![
            number("/spec/replicas").into(),
            number("/status/replicas").into(),
            number("/status/readyReplicas").into(),
            age,
        ],
        Kind::StatefulSet => vec![replicas(), age],
        Kind::Job => vec![
            state(object).into(),
            completions(object).into(),
            duration(object, now).into(),
            age,
        ],
        _ => {
            let last = match text(object, "/status/lastScheduleTime") {
                "" => String::new(),
                _ => age::since(object, "/status/lastScheduleTime", now),
            };
            vec![
                text(object, "/spec/schedule").into(),
                or_none(text(object, "/spec/timeZone")),
                (object["spec"]["suspend"] == true).into(),
                array(object, "/status/active").len().into(),
                or_none(&last),
                age,
            ]
        }
    });
    let spec = kind.pod_spec().unwrap_or_default();
    cells.push(containers(object, spec, "/name").into());
    cells.push(containers(object, spec, "/image").into());
    if kind != Kind::StatefulSet {
        cells.push(selector(object, "/spec/selector/matchLabels"));
    }
    cells
}

/// The word in a Job's STATUS column.
fn state(job: &Value) -> &'static str {
    let has = |kind: &str| {
        array(job, "/status/conditions")
            .iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if !text(job, "/metadata/deletionTimestamp").is_empty() => "Terminating",
        () if job["spec"]["suspend"] == true => "Suspended",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let done = job["status"]["succeeded"].as_u64().unwrap_or(0);
    let parallel = job["spec"]["parallelism"].as_u64().unwrap_or(1);
    match job["spec"]["completions"].as_u64() {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallel > 1 => format!("{done}/1 of {parallel}"),
        None => format!("{done}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let time = |pointer: &str| text(job, pointer).parse::<Timestamp>().ok();
    let Some(start) = time("/status/startTime") else {
        return String::new();
    };
    let end = time("/status/completionTime").unwrap_or(now);
    age::human((end.as_second() - start.as_second()).max(0))
}

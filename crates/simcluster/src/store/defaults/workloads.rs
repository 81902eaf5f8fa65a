//! Defaults of what makes pods (pkg/apis/apps/v1/defaults.go, pkg/apis/batch/v1/defaults.go).

use serde_json::{Map, Value, json};

use super::template_spec;
use crate::behaviour::Behaviour;
use crate::store::Kind;
use crate::store::object::{child, name, pairs, set_default, uid};

/// Labels of a Job's pods, in pairs: which Job by uid, and by name.
const JOB_LABELS: [&str; 2] = ["controller-uid", "job-name"];

pub(super) fn fill(kind: Kind, object: &mut Value) {
    let spec = child(object, "spec");
    match kind {
        Kind::DaemonSet => {
            set_default(spec, "revisionHistoryLimit", 10);
            rolling(
                spec,
                "updateStrategy",
                || json!({ "maxUnavailable": 1, "maxSurge": 0 }),
            );
        }
        Kind::Deployment => {
            set_default(spec, "replicas", 1);
            set_default(spec, "revisionHistoryLimit", 10);
            set_default(spec, "progressDeadlineSeconds", 600);
            rolling(
                spec,
                "strategy",
                || json!({ "maxUnavailable": "25%", "maxSurge": "25%" }),
            );
        }
        Kind::ReplicaSet => set_default(spec, "replicas", 1),
        Kind::StatefulSet => {
            set_default(spec, "replicas", 1);
            set_default(spec, "revisionHistoryLimit", 10);
            set_default(spec, "podManagementPolicy", "OrderedReady");
            rolling(spec, "updateStrategy", || json!({ "partition": 0 }));
        }
        Kind::Job => job(spec),
        Kind::CronJob => {
            set_default(spec, "concurrencyPolicy", "Allow");
            set_default(spec, "suspend", false);
            set_default(spec, "successfulJobsHistoryLimit", 3);
            set_default(spec, "failedJobsHistoryLimit", 1);
        }
        _ => {}
    }
    if kind == Kind::Job {
        let labels = object.pointer("/spec/template/metadata/labels").cloned();
        if let Some(labels) = labels.filter(|_| pairs(object, "/metadata/labels").next().is_none())
        {
            child(object, "metadata")["labels"] = labels;
        }
    }
    let spec = kind.pod_spec().and_then(|at| object.pointer_mut(at));
    if let Some(spec) = spec.filter(|spec| spec.is_object()) {
        template_spec(spec);
    }
}

/// Rolling is how pods are replaced unless it is said otherwise.
fn rolling(spec: &mut Value, member: &str, steps: impl FnOnce() -> Value) {
    let strategy = child(spec, member);
    set_default(strategy, "type", "RollingUpdate");
    if strategy["type"] != "RollingUpdate" {
        return;
    }
    let found = child(strategy, "rollingUpdate");
    for (name, value) in steps().as_object().into_iter().flatten() {
        set_default(found, name, value.clone());
    }
}

fn job(spec: &mut Value) {
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        set_default(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    set_default(spec, "backoffLimit", 6);
    set_default(spec, "completionMode", "NonIndexed");
    set_default(spec, "suspend", false);
}

/// A new Job selects its own pods and no others, unless it has a selector of its own.
pub(super) fn own_pods(behaviour: Behaviour, job: &mut Value) {
    if job.pointer("/spec/manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let marks = [uid(job).to_owned(), name(job).to_owned()];
    let mut labels = Map::new();
    for (label, value) in JOB_LABELS.into_iter().zip(marks) {
        labels.insert(label.to_owned(), value.clone().into());
        if behaviour.qualified_job_labels() {
            labels.insert(format!("batch.kubernetes.io/{label}"), value.into());
        }
    }
    let mark = if behaviour.qualified_job_labels() {
        "batch.kubernetes.io/controller-uid"
    } else {
        "controller-uid"
    };
    let spec = child(job, "spec");
    let selected = labels.get(mark).cloned().unwrap_or_default();
    child(child(spec, "selector"), "matchLabels")[mark] = selected;
    let template = child(child(spec, "template"), "metadata");
    let found = child(template, "labels");
    for (label, value) in labels {
        found[label] = value;
    }
}

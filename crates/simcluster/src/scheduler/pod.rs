//! A pod as the scheduler reads it: parsed once, when it comes or changes.

use std::sync::Arc;

use serde_json::Value;

use crate::resources::{Resources, pod_requests};
use crate::store::object;

/// The parts of a pod that decide where it goes.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// The whole object.
    pub object: Arc<Value>,
    /// `metadata.uid`.
    pub uid: String,
    /// Larger goes first.
    pub priority: i64,
    /// Sum of what its containers ask for.
    pub requests: Resources,
    /// It has scheduling gates.
    pub gated: bool,
    /// Equal for pods that fit the same nodes: requests, selector, affinity, tolerations.
    pub class: Arc<str>,
}

impl PodInfo {
    /// Reads a pod; `class_priority` is the value of its priority class where the object itself
    /// carries no number.
    pub fn new(object: Arc<Value>, class_priority: i64) -> Self {
        let priority = object.pointer("/spec/priority").and_then(Value::as_i64);
        let requests = pod_requests(&object);
        let part = |path: &str| object.pointer(path).unwrap_or(&Value::Null);
        let selector = part("/spec/nodeSelector");
        let (affinity, tolerations) = (
            part("/spec/affinity/nodeAffinity"),
            part("/spec/tolerations"),
        );
        let class = format!("{requests:?} {selector} {affinity} {tolerations}");
        Self {
            class: class.into(),
            uid: object::uid(&object).to_owned(),
            priority: priority.unwrap_or(class_priority),
            requests,
            gated: !object::array(&object, "/spec/schedulingGates").is_empty(),
            object,
        }
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        object::namespace(&self.object)
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        object::name(&self.object)
    }

    /// Something that the scheduler reads has changed between two states of a pod: anything but
    /// the status and the bookkeeping of the metadata.
    pub fn differs(old: &Value, new: &Value) -> bool {
        let part = |object: &Value, path: &str| object.pointer(path).cloned();
        [
            "/spec",
            "/metadata/labels",
            "/metadata/annotations",
            "/metadata/deletionTimestamp",
        ]
        .iter()
        .any(|path| part(old, path) != part(new, path))
    }

    /// A change that can turn an unschedulable pod into a schedulable one (1.32 and later look at
    /// nothing else): labels, gates, tolerations, smaller requests; not annotations.
    pub fn may_fit_better(old: &Self, new: &Self) -> bool {
        let part = |pod: &Self, path: &str| pod.object.pointer(path).cloned();
        let smaller = old
            .requests
            .iter()
            .any(|(name, amount)| new.requests.get(name) < amount);
        smaller
            || [
                "/metadata/labels",
                "/spec/schedulingGates",
                "/spec/tolerations",
            ]
            .iter()
            .any(|path| part(old, path) != part(new, path))
    }
}

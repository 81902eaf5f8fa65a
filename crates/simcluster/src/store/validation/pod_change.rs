//! What may change in a pod's spec (pkg/apis/core/validation, `ValidatePodUpdate`).

use serde_json::Value;

use crate::store::Cause;
use crate::store::object::{array, remove};

const IMMUTABLE: &str = "pod updates may not change fields other than \
     `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
     `spec.tolerations` (only additions to existing tolerations),\
     `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks the step from `old` to `new`.
pub(super) fn check(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let (before, after) = (&old["spec"], &new["spec"]);
    if before == after {
        return;
    }
    tolerations(before, after, causes);
    gates(before, after, causes);
    let gated = !array(before, "/schedulingGates").is_empty();
    if strip(before, gated) != strip(after, gated) {
        causes.push(Cause::forbidden(
            "spec",
            format!("{IMMUTABLE}{}", difference(before, after)),
        ));
    }
}

fn tolerations(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    let kept = array(after, "/tolerations");
    if array(before, "/tolerations")
        .iter()
        .any(|toleration| !kept.contains(toleration))
    {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden("spec.tolerations", why));
    }
}

fn gates(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    let known = array(before, "/schedulingGates");
    for added in array(after, "/schedulingGates")
        .iter()
        .filter(|gate| !known.contains(gate))
    {
        let name = added["name"].as_str().unwrap_or_default();
        let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
        causes.push(Cause::forbidden("spec.schedulingGates", why));
    }
}

/// The spec without what may change.
fn strip(spec: &Value, gated: bool) -> Value {
    let mut spec = spec.clone();
    for member in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        remove(&mut spec, member);
    }
    if gated {
        // While a pod is gated it may still be steered.
        remove(&mut spec, "nodeSelector");
        remove(&mut spec, "affinity");
    }
    if spec["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds < 0)
    {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            remove(container, "image");
        }
    }
    spec
}

/// Names the members that differ, which is what the reader wants to know.
fn difference(before: &Value, after: &Value) -> String {
    let members = |spec: &Value| -> Vec<String> {
        spec.as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    let mut names = members(before);
    names.extend(members(after));
    names.sort();
    names.dedup();
    names.retain(|name| before.get(name) != after.get(name));
    format!("; changed: {}", names.join(", "))
}

//! The pods that a file would make: pods as they are, workloads by their templates, each past the same
//! rules as the webhook's, so that fractions count.

use admission::{Options, review};
use manifest_files::ManifestError;
use serde_json::{Value, json};

use crate::error::Error;

/// Pods that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Pods {
    /// What they belong to, for example `deployment/web`, or a pod's own name.
    pub name: String,
    /// How many.
    pub count: u64,
    /// What one asks for: the parts of its spec that decide where it can run.
    pub spec: Value,
    /// Their annotations that name a group.
    pub annotations: Value,
    /// What the webhook would say of them.
    pub warnings: Vec<String>,
}

/// Kinds whose objects make pods.
const MAKE_PODS: [&str; 8] = [
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Job",
    "Pod",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];
/// Fields of a pod's spec that decide where it can run.
const DECISIVE: [&str; 9] = [
    "affinity",
    "containers",
    "initContainers",
    "nodeSelector",
    "overhead",
    "priority",
    "resourceClaims",
    "resources",
    "tolerations",
];
/// Annotations that name the group with which a pod starts.
const OF_GROUPS: [&str; 2] = ["cdmo.clear.ml/group", "cdmo.clear.ml/group-size"];
/// The same of a container.
const OF_A_CONTAINER: [&str; 3] = ["name", "resources", "restartPolicy"];

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// [`Error::Manifest`]: it cannot be read, is no YAML, or has an object that makes no pods.
pub fn read(file: &str) -> Result<Vec<Pods>, Error> {
    parse(file, &manifest_files::text(file)?)
}

/// Understands the text of a file; `file` is what it is called in errors.
///
/// # Errors
/// As [`read`].
pub fn parse(file: &str, text: &str) -> Result<Vec<Pods>, Error> {
    let mut all = Vec::new();
    for object in manifest_files::objects(file, text)? {
        let pods = understand(&object.value)
            .map_err(|message| ManifestError::at(file, object.line, message))?;
        all.extend(pods);
    }
    if all.is_empty() {
        let message = "nothing in it makes pods; give it a Pod, or a Deployment, ReplicaSet, \
                       StatefulSet, Job or CronJob";
        return Err(ManifestError::of(file, message).into());
    }
    Ok(all)
}

/// The pods of an object; none of one that makes no pods.
fn understand(object: &Value) -> Result<Option<Pods>, String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let Some(kind) = text("/kind") else {
        return Err("this is no Kubernetes object; it must have apiVersion and kind".to_owned());
    };
    if !MAKE_PODS.contains(&kind) {
        return Ok(None);
    }
    let name = text("/metadata/name").or_else(|| text("/metadata/generateName"));
    let Some(name) = name else {
        return Err(format!("the {kind} has no metadata.name"));
    };
    let number = |pointer: &str| match object.pointer(pointer) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            format!("{pointer} of {kind} {name} is {value}; give it a whole number")
        }),
    };
    let (count, template) = match kind {
        "Pod" => (1, ""),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "ReplicationController" => {
            (number("/spec/replicas")?.unwrap_or(1), "/spec/template")
        }
        "Job" => (at_once(number, "/spec")?, "/spec/template"),
        "CronJob" => (
            at_once(number, "/spec/jobTemplate/spec")?,
            "/spec/jobTemplate/spec/template",
        ),
        "DaemonSet" => {
            return Err(format!(
                "DaemonSet {name} makes a pod on every node; ask about one of its pods as a Pod"
            ));
        }
        _ => return Ok(None),
    };
    let template = object
        .pointer(template)
        .filter(|pod| pod["spec"].is_object());
    let Some(template) = template else {
        return Err(format!("{kind} {name} has no spec for its pods"));
    };
    let (spec, warnings) =
        past_the_webhook(template).map_err(|why| format!("{kind} {name}: {why}"))?;
    let name = match kind {
        "Pod" => name.to_owned(),
        _ => format!("{}/{name}", kind.to_lowercase()),
    };
    Ok(Some(Pods {
        name,
        count,
        spec: decisive(&spec),
        annotations: of_groups(&template["metadata"]["annotations"]),
        warnings,
    }))
}

fn of_groups(annotations: &Value) -> Value {
    let given = OF_GROUPS.iter().filter_map(|name| {
        let text = annotations.get(name)?;
        Some(((*name).to_owned(), text.clone()))
    });
    Value::Object(given.collect())
}

/// Pods that a Job has at a time.
fn at_once(
    number: impl Fn(&str) -> Result<Option<u64>, String>,
    spec: &str,
) -> Result<u64, String> {
    let parallel = number(&format!("{spec}/parallelism"))?.unwrap_or(1);
    let all = number(&format!("{spec}/completions"))?.unwrap_or(parallel.max(1));
    Ok(parallel.min(all))
}

/// A pod's spec as the webhook would leave it, and its warnings.
fn past_the_webhook(template: &Value) -> Result<(Value, Vec<String>), String> {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "spec": template["spec"],
    });
    let request = json!({
        "operation": "CREATE",
        "namespace": "default",
        "resource": { "group": "", "version": "v1", "resource": "pods" },
        "object": pod,
    });
    let decision = review(&request, &Options::default());
    if let Some(denial) = decision.denial {
        return Err(denial);
    }
    let patch = serde_json::to_value(&decision.patch).and_then(serde_json::from_value);
    let patch: json_patch::Patch =
        patch.map_err(|error| format!("failed to read the webhook's changes: {error}"))?;
    json_patch::patch(&mut pod, &patch)
        .map_err(|error| format!("failed to make the webhook's changes: {error}"))?;
    Ok((pod["spec"].take(), decision.warnings))
}

/// Questions are short: environment, volumes and the like stay here.
fn decisive(spec: &Value) -> Value {
    let only = |value: &Value, fields: &[&str]| {
        let kept = fields
            .iter()
            .filter_map(|field| Some(((*field).to_owned(), value.get(*field)?.clone())));
        Value::Object(kept.collect())
    };
    let mut spec = without_nulls(only(spec, &DECISIVE));
    for containers in ["containers", "initContainers"] {
        if let Some(Value::Array(containers)) = spec.get_mut(containers) {
            for container in containers {
                *container = only(container, &OF_A_CONTAINER);
            }
        }
    }
    spec
}

/// A field without a value is as one that is not there, as to the API server.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                fields
                    .map(|(name, value)| (name, without_nulls(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;

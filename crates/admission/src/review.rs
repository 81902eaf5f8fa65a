//! Which objects are looked at, and when.

use serde_json::{Value, json};

use crate::applied::TakenBack;
use crate::operation::Operation;
use crate::plan::{Change, Planned, plan};
use crate::record::RECORD_ANNOTATION;
use crate::template::Template;
use crate::warnings::Warnings;
use crate::words::{is_fraction, quoted};
use crate::{Decision, Options};

/// A kind of object with a pod in it.
struct Workload {
    group: &'static str,
    resource: &'static str,
    called: &'static str,
    /// Where its pod is.
    pointer: &'static str,
}

const fn workload(
    group: &'static str,
    resource: &'static str,
    called: &'static str,
    pointer: &'static str,
) -> Workload {
    Workload {
        group,
        resource,
        called,
        pointer,
    }
}

const WORKLOADS: [Workload; 7] = [
    workload("", "pods", "pod", ""),
    workload("apps", "deployments", "deployment", "/spec/template"),
    workload("apps", "statefulsets", "statefulset", "/spec/template"),
    workload("apps", "daemonsets", "daemonset", "/spec/template"),
    workload("apps", "replicasets", "replicaset", "/spec/template"),
    workload("batch", "jobs", "job", "/spec/template"),
    workload(
        "batch",
        "cronjobs",
        "cronjob",
        "/spec/jobTemplate/spec/template",
    ),
];

/// API group and resource of everything that [`review`] may change: what a webhook's rules are to
/// name, for the operations CREATE and UPDATE.
pub fn resources() -> impl Iterator<Item = (&'static str, &'static str)> {
    WORKLOADS
        .iter()
        .map(|workload| (workload.group, workload.resource))
}

/// What becomes of a request, the `request` of an `AdmissionReview`.
///
/// Changes pods and the templates of Deployments, `StatefulSets`, DaemonSets, `ReplicaSets`, Jobs and
/// `CronJobs` as they are created and updated; everything else is let through as it is, and so is
/// - all that is in our own namespace, or being deleted;
/// - an update that leaves the pod template as it was, unless a fraction was taken out of the manifest
///   that the user applied;
/// - a `ReplicaSet` that belongs to somebody: its owner compares the template with its own, and would
///   make new ones without end. Its pods are looked at instead.
///
/// Never panics, whatever the request is.
pub fn review(request: &Value, options: &Options) -> Decision {
    let mut warnings = Warnings::default();
    let decided = decide(request, options, &mut warnings);
    let warnings = warnings.into_sentences();
    match decided {
        Ok(patch) => Decision {
            patch,
            warnings,
            denial: None,
        },
        Err(denial) => Decision {
            patch: Vec::new(),
            warnings,
            denial: Some(denial),
        },
    }
}

fn decide(
    request: &Value,
    options: &Options,
    warnings: &mut Warnings,
) -> Result<Vec<Operation>, String> {
    let text = |pointer: &str| {
        request
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("")
    };
    let group = text("/resource/group");
    let resource = text("/resource/resource");
    let Some(workload) = WORKLOADS
        .iter()
        .find(|workload| workload.group == group && workload.resource == resource)
    else {
        warnings.say(|| {
            format!(
                "the webhook for fractions was asked about {}, which it never changes: its rules are for pods, \
                 deployments, statefulsets, daemonsets, replicasets, jobs and cronjobs only",
                quoted(resource)
            )
        });
        return Ok(Vec::new());
    };
    let update = match text("/operation") {
        "CREATE" => false,
        "UPDATE" => true,
        _ => return Ok(Vec::new()),
    };
    let object = request.get("object").unwrap_or(&Value::Null);
    let deleted = object.pointer("/metadata/deletionTimestamp");
    if text("/namespace") == options.own_namespace || deleted.is_some_and(|time| !time.is_null()) {
        return Ok(Vec::new());
    }
    let Some(template) = Template::of(object, workload.pointer) else {
        return Ok(Vec::new());
    };
    match text("/subResource") {
        "" => {}
        "ephemeralcontainers" => {
            refuse_elsewhere(template)?;
            return Ok(Vec::new());
        }
        _ => return Ok(Vec::new()),
    }
    if workload.resource == "replicasets" && has_controller(object) {
        return Ok(Vec::new());
    }
    let old = request
        .get("oldObject")
        .filter(|old| update && old.is_object());
    let before = old.and_then(|old| Template::of(old, workload.pointer));
    let suspended = || {
        let suspend = |object: &Value| object.pointer("/spec/suspend") == Some(&Value::Bool(true));
        old.is_some_and(suspend)
    };
    let frozen = update
        && match workload.resource {
            "pods" => true,
            "jobs" => !suspended(),
            _ => false,
        };
    if frozen && before.is_none() {
        return Ok(Vec::new());
    }
    let unchanged = before.is_some_and(|before| before.value() == template.value());
    let taken_back = || {
        template.annotation(RECORD_ANNOTATION).is_some()
            && old.is_some_and(|old| TakenBack::between(old, object, workload.pointer).any())
    };
    if unchanged && (frozen || !taken_back()) {
        return Ok(Vec::new());
    }
    if !frozen {
        refuse_elsewhere(template)?;
    }
    let change = Change {
        template,
        before,
        frozen,
        objects: old.filter(|_| !frozen).map(|old| (old, object)),
        called: workload.called,
    };
    let mut planned = plan(&change, options, warnings)?;
    if workload.resource == "pods" && !update {
        add_gate(template, options, &mut planned);
    }
    Ok(planned.patch)
}

/// Fractions where no device can be.
fn refuse_elsewhere(template: Template<'_>) -> Result<(), String> {
    for (field, amounts) in template.elsewhere() {
        if let Some(name) = amounts.keys().find(|name| is_fraction(name)) {
            return Err(format!(
                "{field}[{}] asks for a fraction where there can be none: ask for it in the limits of a container \
                 or init container",
                quoted(name)
            ));
        }
    }
    Ok(())
}

fn has_controller(object: &Value) -> bool {
    object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// A pod that waits for slices is not to be tried before they are there. One that is bound already
/// may have no gate (pkg/apis/core/validation, `validateSchedulingGates`).
fn add_gate(template: Template<'_>, options: &Options, planned: &mut Planned) {
    let (Some(gate), Some(spec)) = (&options.gate, template.spec()) else {
        return;
    };
    let bound = spec.get("nodeName").and_then(Value::as_str);
    if !planned.wants_slices || bound.is_some_and(|node| !node.is_empty()) {
        return;
    }
    let gates = spec.get("schedulingGates").and_then(Value::as_array);
    let ours = json!({"name": gate});
    planned.patch.push(match gates {
        Some(gates) if gates.contains(&ours) => return,
        Some(_) => Operation::add("/spec/schedulingGates/-".into(), ours),
        None => Operation::add("/spec/schedulingGates".into(), json!([ours])),
    });
}

//! What happens to an object between the request and the store: quantities in canonical form,
//! defaults, the admission plugins that matter here, validation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::quantity::Quantity;
use super::{Cause, Key, Kind, Status, Subresource, defaults, object, typed, validation};

/// Looks a priority class up by name.
pub(super) type Classes<'a> = &'a dyn Fn(&str) -> Option<Arc<Value>>;

/// Where pods' containers are listed.
pub(super) const CONTAINER_LISTS: [&str; 2] = ["initContainers", "containers"];

/// Admits a new object.
pub(super) fn create(kind: Kind, object: &mut Value, classes: Classes<'_>) -> Result<(), Status> {
    typed::check(kind, object)?;
    if kind == Kind::Pod {
        prioritise(object, classes)?;
    }
    defaults::fill(kind, object);
    match kind {
        Kind::Pod => defaults::new_pod(object),
        Kind::Namespace => defaults::new_namespace(object),
        Kind::DaemonSet => {
            object["status"] = json!({
                "currentNumberScheduled": 0,
                "desiredNumberScheduled": 0,
                "numberMisscheduled": 0,
                "numberReady": 0,
            });
        }
        _ => {}
    }
    report(kind, object, &validation::object(kind, object))
}

/// Admits a change that came from outside.
pub(super) fn change(
    key: &Key,
    old: &Value,
    new: &mut Value,
    subresource: Subresource,
) -> Result<(), Status> {
    typed::check(key.kind, new)?;
    if subresource == Subresource::None {
        defaults::fill(key.kind, new);
        if key.kind == Kind::Pod {
            // Priority admission set these; a manifest that is put back lacks them.
            for member in ["priority", "preemptionPolicy", "nodeName"] {
                if let Some(value) = old["spec"].get(member) {
                    object::set_default(&mut new["spec"], member, value.clone());
                }
            }
        }
    }
    let mut causes = validation::object(key.kind, new);
    causes.extend(validation::change(key.kind, old, new));
    report(key.kind, new, &causes)
}

fn report(kind: Kind, object: &Value, causes: &[Cause]) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(kind, object::name(object), causes))
}

/// The Priority admission plugin.
fn prioritise(pod: &mut Value, classes: Classes<'_>) -> Result<(), Status> {
    let class = object::text(pod, "/spec/priorityClassName").to_owned();
    let mut priority = json!(0);
    let mut preemption = json!("PreemptLowerPriority");
    if !class.is_empty() {
        let Some(found) = classes(&class) else {
            let why = format!("no PriorityClass with name {class} was found");
            return Err(Status::forbidden(Kind::Pod, object::name(pod), why));
        };
        priority = found["value"].clone();
        if let Some(policy) = found.get("preemptionPolicy") {
            preemption = policy.clone();
        }
    }
    let spec = object::child(pod, "spec");
    spec["priority"] = priority;
    object::set_default(spec, "preemptionPolicy", preemption);
    Ok(())
}

/// Brings every quantity into its canonical form; what is no quantity is a bad request, as
/// decoding it is in the real server.
pub(super) fn normalise(kind: Kind, object: &mut Value) -> Result<(), Status> {
    let canonical = |amounts: Option<&mut Value>| -> Result<(), Status> {
        for amount in amounts
            .and_then(Value::as_object_mut)
            .into_iter()
            .flat_map(|m| m.values_mut())
        {
            let quantity = Quantity::from_value(amount).map_err(|error| {
                Status::bad_request(format!(
                    "{kind} in version {:?} cannot be handled as a {kind}: {error}",
                    kind.api_version()
                ))
            })?;
            *amount = quantity.to_string().into();
        }
        Ok(())
    };
    let pod_spec = match kind {
        Kind::Pod => object.get_mut("spec"),
        Kind::DaemonSet => object.pointer_mut("/spec/template/spec"),
        Kind::Node => {
            for list in ["capacity", "allocatable"] {
                canonical(
                    object
                        .get_mut("status")
                        .and_then(|status| status.get_mut(list)),
                )?;
            }
            None
        }
        _ => None,
    };
    let Some(spec) = pod_spec else { return Ok(()) };
    canonical(spec.get_mut("overhead"))?;
    for list in CONTAINER_LISTS {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            let Some(resources) = container.get_mut("resources") else {
                continue;
            };
            for list in ["limits", "requests"] {
                canonical(resources.get_mut(list))?;
            }
        }
    }
    Ok(())
}

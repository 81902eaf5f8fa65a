//! What happens to an object between the request and the store: quantities in canonical form,
//! defaults, the admission plugins that matter here, validation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::quantity::Quantity;
use super::{Cause, Key, Kind, Status, Subresource, defaults, object, typed, validation};
use crate::behaviour::Behaviour;

/// Looks a priority class up by name.
pub(super) type Classes<'a> = &'a dyn Fn(&str) -> Option<Arc<Value>>;

/// Where pods' containers are listed.
pub(super) const CONTAINER_LISTS: [&str; 2] = ["initContainers", "containers"];

/// Drops what this version does not know and brings the rest into canonical form.
pub(super) fn tidy(behaviour: Behaviour, kind: Kind, object: &mut Value) -> Result<(), Status> {
    forget(behaviour, kind, object);
    normalise(kind, object)
}

/// Decodes an object, new or changed.
pub(super) fn understand(
    behaviour: Behaviour,
    kind: Kind,
    object: &mut Value,
) -> Result<(), Status> {
    tidy(behaviour, kind, object)?;
    typed::check(kind, object)
}

/// Defaults a new object, as it is before webhooks see it.
pub(super) fn prepare(kind: Kind, object: &mut Value, classes: Classes<'_>) -> Result<(), Status> {
    if kind == Kind::Pod {
        prioritise(object, classes)?;
    }
    defaults::fill(kind, object);
    if kind == Kind::Pod {
        defaults::tolerations(object);
    }
    Ok(())
}

/// Gives a new object what only the server says, and checks it.
pub(super) fn complete(behaviour: Behaviour, kind: Kind, object: &mut Value) -> Result<(), Status> {
    defaults::complete(behaviour, kind, object);
    report(kind, object, &validation::object(kind, object))
}

/// Defaults a changed object, as it is before webhooks see it.
pub(super) fn prepare_change(kind: Kind, old: &Value, new: &mut Value) {
    defaults::fill(kind, new);
    if kind == Kind::Pod {
        defaults::tolerations(new);
        // Priority admission set these; a manifest that is put back lacks them.
        for member in ["priority", "preemptionPolicy", "nodeName"] {
            if let Some(value) = old["spec"].get(member) {
                object::set_default(&mut new["spec"], member, value.clone());
            }
        }
    }
}

/// Checks a change.
pub(super) fn check_change(key: &Key, old: &Value, new: &Value) -> Result<(), Status> {
    let mut causes = validation::object(key.kind, new);
    causes.extend(validation::change(key.kind, old, new));
    report(key.kind, new, &causes)
}

/// What a webhook made of an object, decoded and defaulted again.
pub(crate) fn refill(
    behaviour: Behaviour,
    kind: Kind,
    subresource: Subresource,
    object: &mut Value,
) -> Result<(), Status> {
    // Members that no type knows are dropped without a word.
    typed::prune(kind, object);
    understand(behaviour, kind, object)?;
    if subresource == Subresource::None {
        defaults::fill(kind, object);
    }
    Ok(())
}

/// Drops members that came with later versions, as the real server drops what it does not know.
fn forget(behaviour: Behaviour, kind: Kind, object: &mut Value) {
    if !behaviour.match_conditions() && kind == Kind::MutatingWebhookConfiguration {
        let hooks = object.get_mut("webhooks").and_then(Value::as_array_mut);
        for hook in hooks.into_iter().flatten() {
            object::remove(hook, "matchConditions");
        }
    }
    let Some(spec) = kind.pod_spec().and_then(|at| object.pointer_mut(at)) else {
        return;
    };
    if !behaviour.scheduling_gates() {
        object::remove(spec, "schedulingGates");
    }
    if !behaviour.sidecars() {
        let containers = spec.get_mut("initContainers").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            object::remove(container, "restartPolicy");
        }
    }
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
    let lists: &[&str] = match kind {
        Kind::Node => &["/status/capacity", "/status/allocatable"],
        Kind::ResourceQuota => &["/spec/hard", "/status/hard", "/status/used"],
        _ => &[],
    };
    for list in lists {
        canonical(object.pointer_mut(list))?;
    }
    let pod_spec = kind.pod_spec().and_then(|at| object.pointer_mut(at));
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

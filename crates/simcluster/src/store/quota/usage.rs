//! What one object takes from a quota (pkg/quota/v1/evaluator/core/pods.go).

use serde_json::Value;

use super::Amounts;
use crate::resources::is_sidecar;
use crate::store::Kind;
use crate::store::object::{array, text};
use crate::store::quantity::Quantity;

/// Limits that every container must say something about once a quota has them.
const TO_BE_SAID: [&str; 6] = [
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];
/// Kinds that are counted by their plain name, too.
const COUNTED: [Kind; 5] = [
    Kind::Pod,
    Kind::ConfigMap,
    Kind::Secret,
    Kind::Service,
    Kind::ResourceQuota,
];

/// What an object takes now.
pub(super) fn of(kind: Kind, object: &Value) -> Amounts {
    if kind == Kind::Pod && matches!(text(object, "/status/phase"), "Succeeded" | "Failed") {
        return Amounts::from([(count(kind), Quantity::whole(1))]);
    }
    of_new(kind, object)
}

/// What an object takes from its beginning.
pub(super) fn of_new(kind: Kind, object: &Value) -> Amounts {
    let mut usage = Amounts::from([(count(kind), Quantity::whole(1))]);
    if COUNTED.contains(&kind) {
        usage.insert(kind.info().plural.to_owned(), Quantity::whole(1));
    }
    if kind == Kind::Pod {
        for (resource, amount) in total(object, "requests") {
            if !resource.contains('/') {
                usage.insert(resource.clone(), amount);
            }
            usage.insert(format!("requests.{resource}"), amount);
        }
        for (resource, amount) in total(object, "limits") {
            if !resource.contains('/') {
                usage.insert(format!("limits.{resource}"), amount);
            }
        }
    }
    usage
}

/// A quota with such limits has to do with that kind.
pub(super) fn concerns(kind: Kind, hard: &Amounts) -> bool {
    kind.info().namespaced
        && (kind == Kind::Pod
            || hard.contains_key(&count(kind))
            || (COUNTED.contains(&kind) && hard.contains_key(kind.info().plural)))
}

/// The object is of the sort that the quota is for.
pub(super) fn in_scope(quota: &Value, kind: Kind, object: &Value) -> bool {
    let deadline = &object["spec"]["activeDeadlineSeconds"];
    let best_effort = || {
        let plain =
            |amounts: Amounts| !amounts.contains_key("cpu") && !amounts.contains_key("memory");
        plain(total(object, "requests")) && plain(total(object, "limits"))
    };
    array(quota, "/spec/scopes").iter().all(|scope| {
        kind == Kind::Pod
            && match scope.as_str().unwrap_or_default() {
                "Terminating" => !deadline.is_null(),
                "NotTerminating" => deadline.is_null(),
                "BestEffort" => best_effort(),
                "NotBestEffort" => !best_effort(),
                _ => false,
            }
    })
}

/// What the quota limits and some container says nothing about.
pub(super) fn unsaid(kind: Kind, pod: &Value, hard: &Amounts) -> Option<String> {
    if kind != Kind::Pod {
        return None;
    }
    let containers = ["/spec/containers", "/spec/initContainers"];
    let containers: Vec<&Value> = containers
        .iter()
        .flat_map(|list| array(pod, list))
        .collect();
    let wanted = TO_BE_SAID.iter().filter(|what| hard.contains_key(**what));
    let missing: Vec<String> = wanted
        .filter_map(|what| {
            let (list, resource) = what.split_once('.').unwrap_or(("requests", what));
            let mut silent: Vec<&str> = containers
                .iter()
                .filter(|c| c["resources"][list][resource].is_null())
                .map(|c| text(c, "/name"))
                .collect();
            silent.sort_unstable();
            (!silent.is_empty()).then(|| format!("{what} for: {}", silent.join(",")))
        })
        .collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

fn count(kind: Kind) -> String {
    format!("count/{}", kind.resource())
}

/// The larger of a pod's containers together and of its init containers, which run one after the
/// other, sidecars counted from their turn on; and its overhead.
fn total(pod: &Value, list: &str) -> Amounts {
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    let asked =
        |container: &Value| super::amounts(container.pointer(&format!("/resources/{list}")));
    for container in array(pod, "/spec/initContainers") {
        let mut needed = asked(container);
        if is_sidecar(container) {
            add(&mut sidecars, needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, sidecars.clone());
        }
        raise(&mut starting, needed);
    }
    let mut total = sidecars;
    for container in array(pod, "/spec/containers") {
        add(&mut total, asked(container));
    }
    raise(&mut total, starting);
    add(&mut total, super::amounts(pod.pointer("/spec/overhead")));
    total
}

fn add(sum: &mut Amounts, more: Amounts) {
    for (resource, amount) in more {
        let found = sum.entry(resource).or_default();
        *found = found.plus(amount);
    }
}

fn raise(sum: &mut Amounts, other: Amounts) {
    for (resource, amount) in other {
        let found = sum.entry(resource).or_default();
        *found = (*found).max(amount);
    }
}

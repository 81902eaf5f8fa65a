//! Which nodes a pod may use by its own words: selector, required node affinity, taints.
//!
//! The scheduler, the DaemonSet controller and the kubelet's admission ask the same questions.

use serde_json::Value;

use crate::store::object;

/// The pod's `nodeSelector` and required node affinity accept the node.
pub(crate) fn selects(pod: &Value, node: &Value) -> bool {
    let selected = object::pairs(pod, "/spec/nodeSelector")
        .all(|(name, value)| label(node, name) == Some(value));
    selected
        && pod
            .pointer(
                "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
            )
            .and_then(Value::as_array)
            .is_none_or(|terms| terms.iter().any(|term| term_matches(term, node)))
}

fn label<'a>(node: &'a Value, name: &str) -> Option<&'a str> {
    node.get("metadata")?.get("labels")?.get(name)?.as_str()
}

/// An empty term matches nothing.
fn term_matches(term: &Value, node: &Value) -> bool {
    let expressions = object::array(term, "/matchExpressions");
    let fields = object::array(term, "/matchFields");
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|e| requirement_holds(e, label(node, object::text(e, "/key"))))
        && fields.iter().all(|f| {
            object::text(f, "/key") == "metadata.name"
                && requirement_holds(f, Some(object::name(node)))
        })
}

fn requirement_holds(requirement: &Value, found: Option<&str>) -> bool {
    let values = object::array(requirement, "/values");
    let named = |found: &str| values.iter().any(|value| value.as_str() == Some(found));
    let bound = || values.first()?.as_str()?.parse::<i64>().ok();
    let compare = |holds: fn(i64, i64) -> bool| {
        let found = found.and_then(|found| found.parse::<i64>().ok());
        found
            .zip(bound())
            .is_some_and(|(found, bound)| holds(found, bound))
    };
    match object::text(requirement, "/operator") {
        "In" => found.is_some_and(named),
        "NotIn" => !found.is_some_and(named),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compare(|found, bound| found > bound),
        "Lt" => compare(|found, bound| found < bound),
        _ => false,
    }
}

/// The first taint with one of these effects that the pod does not tolerate.
pub(crate) fn untolerated_taint<'a>(
    pod: &Value,
    node: &'a Value,
    effects: &[&str],
) -> Option<&'a Value> {
    object::array(node, "/spec/taints")
        .iter()
        .filter(|taint| effects.contains(&object::text(taint, "/effect")))
        .find(|taint| {
            !object::array(pod, "/spec/tolerations")
                .iter()
                .any(|t| tolerates(t, taint))
        })
}

/// The pod tolerates the taint that `kubectl cordon` stands for.
pub(crate) fn tolerates_cordon(pod: &Value) -> bool {
    let taint = serde_json::json!({
        "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule",
    });
    object::array(pod, "/spec/tolerations")
        .iter()
        .any(|t| tolerates(t, &taint))
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |field| object::text(toleration, field);
    let effect_fits =
        text("/effect").is_empty() || text("/effect") == object::text(taint, "/effect");
    let key_fits = text("/key") == object::text(taint, "/key");
    effect_fits
        && match text("/operator") {
            "Exists" => text("/key").is_empty() || key_fits,
            "" | "Equal" => key_fits && text("/value") == object::text(taint, "/value"),
            _ => false,
        }
}

#[cfg(test)]
mod tests;

//! Which fractions a user's own manifest named when it was last applied.
//!
//! Once the webhook has taken `clear.ml/fraction-1` out, the object no longer shows whether the user
//! still wants it: an apply that leaves it out changes nothing. What does show it is kept in the
//! object by kubectl (`last-applied-configuration`) and by the API server (`managedFields` of
//! server-side apply). A fraction that was in there before a request and is not after it was taken
//! back by the user. Nothing else proves that.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::record::{RECORD_POINTER, Record};
use crate::weight::weight;
use crate::words::is_fraction;

const LAST_APPLIED: &str =
    "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";

/// What an applied manifest may weigh. API servers take 256 KiB, which weigh a tenth of this unless they
/// are brackets and little else.
const MOST_APPLIED: usize = 16 << 20;

/// Names of a container and of a fraction in it.
type Named = HashSet<(String, String)>;

/// Fractions that were taken back between two states of an object.
#[derive(Debug)]
pub(crate) struct TakenBack {
    before: Named,
    after: Named,
}

impl TakenBack {
    /// Compares what was applied, below the pod template at a JSON pointer.
    pub(crate) fn between(before: &Value, after: &Value, pointer: &str) -> Self {
        if managers(before).is_empty() && managers(after).iter().any(is_apply) {
            return Self {
                before: recorded(before, after, pointer),
                after: named(after, pointer, |_| true),
            };
        }
        Self {
            before: named(before, pointer, is_apply),
            after: named(after, pointer, is_apply),
        }
    }

    /// Whether any was.
    pub(crate) fn any(&self) -> bool {
        !self.before.is_subset(&self.after)
    }

    /// Whether this one was.
    pub(crate) fn has(&self, container: &str, fraction: &str) -> bool {
        let name = (container.to_owned(), fraction.to_owned());
        self.before.contains(&name) && !self.after.contains(&name)
    }
}

fn managers(object: &Value) -> &[Value] {
    let managers = object.pointer("/metadata/managedFields");
    managers
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn is_apply(manager: &Value) -> bool {
    manager.get("operation").and_then(Value::as_str) == Some("Apply")
}

/// What was asked for before, where the API server does not show who had applied it: that of Kubernetes
/// 1.20 takes `managedFields` off the old object of a server-side apply (seen there). Only containers
/// that whoever applies has in his manifest count; a fraction in them that no manager names any more, of
/// whatever kind, was taken back.
fn recorded(before: &Value, after: &Value, pointer: &str) -> Named {
    let annotation = format!("{pointer}/metadata/annotations/{RECORD_POINTER}");
    let record = before
        .pointer(&annotation)
        .and_then(Value::as_str)
        .and_then(Record::read)
        .unwrap_or_default();
    let mut applied = HashSet::new();
    for manager in managers(after).iter().filter(|manager| is_apply(manager)) {
        each_container(manager, pointer, |name, _| {
            applied.insert(name.to_owned());
        });
    }
    let mut found = Named::new();
    for (container, entry) in &record.0 {
        if applied.contains(container) {
            let asked = entry.asked.keys().filter(|word| is_fraction(word));
            found.extend(asked.map(|word| (container.clone(), word.clone())));
        }
    }
    found
}

fn named(object: &Value, pointer: &str, counts: impl Fn(&Value) -> bool) -> Named {
    let mut found = Named::new();
    let applied = object
        .pointer(LAST_APPLIED)
        .and_then(Value::as_str)
        .filter(|text| weight(text.as_bytes()) <= MOST_APPLIED)
        .and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(template) = applied.as_ref().and_then(|object| object.pointer(pointer)) {
        from_manifest(template, &mut found);
    }
    for manager in managers(object).iter().filter(|manager| counts(manager)) {
        from_fields(manager, pointer, &mut found);
    }
    found
}

fn from_manifest(template: &Value, found: &mut Named) {
    for list in ["containers", "initContainers"] {
        let containers = template
            .get("spec")
            .and_then(|spec| spec.get(list)?.as_array());
        for container in containers.into_iter().flatten() {
            let Some(name) = container.get("name").and_then(Value::as_str) else {
                continue;
            };
            for list in ["limits", "requests"] {
                let amounts = container
                    .get("resources")
                    .and_then(|resources| resources.get(list)?.as_object());
                for fraction in amounts.into_iter().flat_map(Map::keys) {
                    if is_fraction(fraction) {
                        found.insert((name.to_owned(), fraction.clone()));
                    }
                }
            }
        }
    }
}

fn from_fields(manager: &Value, pointer: &str, found: &mut Named) {
    each_container(manager, pointer, |name, container| {
        for list in ["f:limits", "f:requests"] {
            let amounts = container
                .get("f:resources")
                .and_then(|resources| resources.get(list)?.as_object());
            for field in amounts.into_iter().flat_map(Map::keys) {
                if let Some(fraction) = field.strip_prefix("f:").filter(|f| is_fraction(f)) {
                    found.insert((name.to_owned(), fraction.to_owned()));
                }
            }
        }
    });
}

/// `fieldsV1` is a tree: members are `f:name`, list items are `k:{"name":"main"}`.
fn each_container(manager: &Value, pointer: &str, mut see: impl FnMut(&str, &Value)) {
    let mut spec = manager.get("fieldsV1");
    for step in pointer.split('/').filter(|step| !step.is_empty()) {
        spec = spec.and_then(|fields| fields.get(format!("f:{step}")));
    }
    let spec = spec.and_then(|fields| fields.get("f:spec"));
    for list in ["f:containers", "f:initContainers"] {
        let containers = spec.and_then(|spec| spec.get(list)?.as_object());
        for (key, container) in containers.into_iter().flatten() {
            let key: Option<Value> = key
                .strip_prefix("k:")
                .and_then(|key| serde_json::from_str(key).ok());
            if let Some(name) = key.as_ref().and_then(|key| key.get("name")?.as_str()) {
                see(name, container);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(fraction: &str) -> Value {
        let manifest = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "main", "resources": {"limits": {fraction: "0.5"}}},
        ]}}}});
        json!({"metadata": {"annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": manifest.to_string(),
        }}})
    }

    fn managed(fraction: &str, operation: &str) -> Value {
        let limits = json!({format!("f:{fraction}"): {}});
        json!({"metadata": {"managedFields": [{
            "manager": "kubectl", "operation": operation,
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"main\"}": {".": {}, "f:resources": {"f:limits": limits}},
            }}}}},
        }]}})
    }

    #[test]
    fn what_was_applied_before_and_is_not_any_more_was_taken_back() {
        let one = "clear.ml/fraction-1";
        for (before, after, wanted) in [
            (applied(one), applied("cpu"), true),
            (applied(one), applied(one), false),
            (applied(one), json!({}), true),
            (json!({}), applied("cpu"), false),
            (managed(one, "Apply"), managed("cpu", "Apply"), true),
            (managed(one, "Apply"), managed(one, "Apply"), false),
            (managed(one, "Update"), managed("cpu", "Update"), false),
            (applied(one), managed(one, "Apply"), false),
        ] {
            let taken = TakenBack::between(&before, &after, "/spec/template");
            assert_eq!(taken.has("main", one), wanted, "{before} {after}");
            assert!(!taken.has("other", one));
        }
    }

    #[test]
    fn an_api_server_that_hides_who_applied_the_old_object_is_understood() {
        let one = "clear.ml/fraction-1";
        let record = json!({"main": {"asked": {one: "0.5"}}, "other": {"asked": {one: "0.5"}}});
        let before = json!({"spec": {"template": {"metadata": {"annotations": {
            crate::RECORD_ANNOTATION: record.to_string(),
        }}}}});
        let also = |one: &Value, other: &Value| {
            let all = [one, other].map(|object| object["metadata"]["managedFields"][0].clone());
            json!({"metadata": {"managedFields": all}})
        };
        for (after, wanted) in [
            (managed("cpu", "Apply"), true),
            (managed(one, "Apply"), false),
            // Nobody applies: an edit of the object takes nothing back.
            (managed("cpu", "Update"), false),
            // Somebody else asked for it, and was not heard of since.
            (
                also(&managed("cpu", "Apply"), &managed(one, "Update")),
                false,
            ),
        ] {
            let taken = TakenBack::between(&before, &after, "/spec/template");
            assert_eq!(taken.has("main", one), wanted, "{after}");
            assert!(!taken.has("other", one), "not in the manifest of {after}");
        }
    }

    #[test]
    fn a_manifest_that_would_take_too_much_memory_proves_nothing() {
        let one = "clear.ml/fraction-1";
        let with_others = |count: usize| {
            let others: Vec<_> = (0..count).map(|_| json!({"": 0})).collect();
            let manifest = json!({"status": others, "spec": {"template": {"spec": {"containers": [
                {"name": "main", "resources": {"limits": {one: "0.5"}}},
            ]}}}});
            json!({"metadata": {"annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": manifest.to_string(),
            }}})
        };
        for (others, wanted) in [(1000, true), (30_000, false)] {
            let taken = TakenBack::between(&with_others(others), &json!({}), "/spec/template");
            assert_eq!(taken.has("main", one), wanted, "{others}");
        }
    }

    #[test]
    fn what_is_no_manifest_proves_nothing() {
        let broken = json!({"metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"spec\": [["},
            "managedFields": [{"operation": "Apply", "fieldsV1": {"f:spec": 3}}, 4],
        }});
        let one = "clear.ml/fraction-1";
        assert!(!TakenBack::between(&broken, &json!({}), "/spec/template").has("main", one));
    }
}

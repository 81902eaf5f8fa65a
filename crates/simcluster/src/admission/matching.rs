//! Which requests a webhook wants to hear of: its rules and its two selectors
//! (k8s.io/apiserver/pkg/admission/plugin/webhook/{predicates,generic}).

use serde_json::Value;

use crate::store::object::{array, text};
use crate::store::selector::Labels;
use crate::store::{Draft, Kind, Subresource};

/// What of a request decides that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) subresource: Subresource,
    pub(super) old: Option<&'a Value>,
    pub(super) new: &'a Value,
}

impl<'a> Request<'a> {
    pub(super) fn of(draft: &'a Draft) -> Self {
        Self {
            kind: draft.key.kind,
            subresource: draft.subresource,
            old: draft.old.as_deref(),
            new: &draft.object,
        }
    }

    pub(super) fn operation(&self) -> &'static str {
        if self.old.is_some() {
            "UPDATE"
        } else {
            "CREATE"
        }
    }
}

/// The webhook is to be asked. `namespace` is the object of the request's namespace.
pub(super) fn concerns(hook: &Value, request: &Request<'_>, namespace: Option<&Value>) -> bool {
    array(hook, "/rules")
        .iter()
        .any(|rule| rule_holds(rule, request))
        && namespace_fits(hook, request, namespace)
        && object_fits(hook, request)
}

fn rule_holds(rule: &Value, request: &Request<'_>) -> bool {
    let info = request.kind.info();
    let any = |member: &str, holds: &dyn Fn(&str) -> bool| {
        let words = array(rule, &format!("/{member}"));
        words.iter().filter_map(Value::as_str).any(holds)
    };
    let is = |wanted: &'static str| move |word: &str| word == "*" || word == wanted;
    let sub = match request.subresource {
        Subresource::None => "",
        Subresource::Status => "status",
    };
    let scope = match text(rule, "/scope") {
        "Cluster" => !info.namespaced,
        "Namespaced" => info.namespaced,
        _ => true,
    };
    scope
        && any("operations", &is(request.operation()))
        && any("apiGroups", &is(info.group))
        && any("apiVersions", &is(info.version))
        && any("resources", &|word| {
            let (wanted, below) = word.split_once('/').unwrap_or((word, ""));
            (wanted == "*" || wanted == info.plural) && (below == "*" || below == sub)
        })
}

/// Objects outside namespaces fit every selector; a namespace is selected by its own labels.
fn namespace_fits(hook: &Value, request: &Request<'_>, namespace: Option<&Value>) -> bool {
    let Some(labels) = selector(hook, "namespaceSelector") else {
        return true;
    };
    if request.kind == Kind::Namespace {
        return labels.matches(request.new);
    }
    !request.kind.info().namespaced || namespace.is_some_and(|namespace| labels.matches(namespace))
}

/// The old state or the new one has the labels.
fn object_fits(hook: &Value, request: &Request<'_>) -> bool {
    let Some(labels) = selector(hook, "objectSelector") else {
        return true;
    };
    labels.matches(request.new) || request.old.is_some_and(|old| labels.matches(old))
}

fn selector(hook: &Value, member: &str) -> Option<Labels> {
    let found = hook.get(member).filter(|found| !found.is_null())?;
    Some(Labels::from_object(found)).filter(|labels| !labels.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hook(rule: &Value, more: &Value) -> Value {
        let mut all = json!({
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["pods"],
        });
        json_patch::merge(&mut all, rule);
        let mut hook = json!({ "rules": [all] });
        json_patch::merge(&mut hook, more);
        hook
    }

    fn asked(hook: &Value, kind: Kind, subresource: Subresource) -> bool {
        let new = json!({ "metadata": { "labels": { "a": "b" } } });
        let space = json!({ "metadata": { "labels": { "team": "x" } } });
        let request = Request {
            kind,
            subresource,
            old: None,
            new: &new,
        };
        concerns(hook, &request, Some(&space))
    }

    #[test]
    fn a_rule_names_operation_group_version_resource_and_scope() {
        let pods = |rule: Value| asked(&hook(&rule, &json!({})), Kind::Pod, Subresource::None);
        assert!(pods(json!({})));
        assert!(pods(
            json!({ "operations": ["*"], "resources": ["*"], "apiGroups": ["*"] })
        ));
        assert!(pods(json!({ "resources": ["*/*"], "scope": "Namespaced" })));
        assert!(pods(json!({ "resources": ["jobs", "pods/*"] })));
        assert!(!pods(json!({ "operations": ["UPDATE", "DELETE"] })));
        assert!(!pods(json!({ "apiGroups": ["apps"] })));
        assert!(!pods(json!({ "apiVersions": ["v2"] })));
        assert!(!pods(json!({ "resources": ["pods/status"] })));
        assert!(!pods(json!({ "scope": "Cluster" })));
    }

    #[test]
    fn a_subresource_is_not_meant_by_its_resource() {
        let status = |resources: &[&str]| {
            let rule = json!({ "resources": resources });
            asked(&hook(&rule, &json!({})), Kind::Pod, Subresource::Status)
        };
        assert!(!status(&["pods"]));
        assert!(!status(&["*"]));
        assert!(status(&["pods/status"]));
        assert!(status(&["*/status"]));
        assert!(status(&["pods/*"]));
    }

    #[test]
    fn selectors_look_at_the_namespace_and_at_the_object() {
        let asked = |more: Value| asked(&hook(&json!({}), &more), Kind::Pod, Subresource::None);
        let labels = |key: &str, value: &str| json!({ "matchLabels": { key: value } });
        assert!(asked(json!({ "namespaceSelector": labels("team", "x") })));
        assert!(!asked(json!({ "namespaceSelector": labels("team", "y") })));
        assert!(asked(json!({ "objectSelector": labels("a", "b") })));
        assert!(!asked(json!({ "objectSelector": labels("a", "c") })));
        assert!(asked(
            json!({ "objectSelector": {}, "namespaceSelector": {} })
        ));
    }

    #[test]
    fn what_lives_outside_namespaces_fits_every_namespace_selector() {
        let more = json!({ "namespaceSelector": { "matchLabels": { "team": "y" } } });
        let nodes = hook(&json!({ "resources": ["nodes"] }), &more);
        assert!(asked(&nodes, Kind::Node, Subresource::None));
        let spaces = hook(&json!({ "resources": ["namespaces"] }), &more);
        assert!(!asked(&spaces, Kind::Namespace, Subresource::None));
    }
}

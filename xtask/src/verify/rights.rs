//! The rights that the chart gives, held against what is done with them: whatever a part asks of the
//! API server must be allowed, and whatever is allowed must be asked for.
//!
//! The embedded API server lets everybody do everything and tells what it was asked for. One story
//! makes every part ask for all that it ever asks for.

mod story;

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use simcluster::api::Call;
use testbed::binaries::Binaries;
use testbed::manifests::NAMESPACE;

use super::chart::named;

/// The accounts of the controller and of the clean-up, and the role of users.
const CONTROLLER: &str = "cdmo-controller";
const CLEAN_UP: &str = "cdmo-clean-up";
const STATUS: &str = "cdmo-status";

/// Checks the rights in these objects of the chart.
pub(super) async fn check(objects: &[Value], binaries: &Binaries) -> anyhow::Result<()> {
    let asked = story::tell(objects, binaries)
        .await
        .context("the story that makes all parts ask the API server failed")?;
    let given = [
        (
            CONTROLLER,
            of_account(objects, CONTROLLER)?,
            asked.controller,
        ),
        (CLEAN_UP, of_account(objects, CLEAN_UP)?, asked.clean_up),
        (
            STATUS,
            of_role(objects, "Role", STATUS, NAMESPACE)?,
            asked.status,
        ),
    ];
    let wrong: Vec<String> = given
        .iter()
        .flat_map(|(who, rights, calls)| judge(who, rights, calls))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// One thing that may be done: a rule of RBAC with one of each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Right {
    /// Everywhere if none.
    namespace: Option<String>,
    group: String,
    resource: String,
    verb: String,
    /// Every object if none.
    name: Option<String>,
}

impl Right {
    fn covers(&self, call: &Call) -> bool {
        let is_in = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        self.group == call.group
            && self.resource == call.resource
            && self.verb == call.verb
            && is_in(&self.namespace, &call.namespace)
            && is_in(&self.name, &call.name)
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, resource, .. } = self;
        write!(f, "{verb} {resource}")?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace:?}"),
            None => f.write_str(" everywhere"),
        }
    }
}

/// What is missing, and what is too much.
fn judge(who: &str, rights: &[Right], calls: &BTreeSet<Call>) -> Vec<String> {
    let missing = calls
        .iter()
        .filter(|call| !rights.iter().any(|right| right.covers(call)))
        .map(|call| format!("{who} asked to {call}, which the chart does not allow"));
    let unused = rights
        .iter()
        .filter(|right| !calls.iter().any(|call| right.covers(call)))
        .map(|right| format!("{who} may {right} and never does"));
    missing.chain(unused).collect()
}

/// All that is bound to an account.
fn of_account(objects: &[Value], account: &str) -> anyhow::Result<Vec<Right>> {
    let is_bound = |object: &&Value| {
        let subjects = object["subjects"].as_array();
        subjects.into_iter().flatten().any(|subject| {
            subject["kind"] == "ServiceAccount"
                && subject["name"] == account
                && subject["namespace"] == NAMESPACE
        })
    };
    let mut rights = Vec::new();
    for binding in objects.iter().filter(is_bound) {
        let (kind, name) = (&binding["roleRef"]["kind"], &binding["roleRef"]["name"]);
        let (Some(kind), Some(name)) = (kind.as_str(), name.as_str()) else {
            bail!("a binding without a role: {binding}");
        };
        let namespace = match binding["kind"].as_str() {
            Some("ClusterRoleBinding") => "",
            _ => binding["metadata"]["namespace"]
                .as_str()
                .unwrap_or_default(),
        };
        rights.extend(of_role(objects, kind, name, namespace)?);
    }
    ensure!(!rights.is_empty(), "the account {account} has no rights");
    Ok(rights)
}

/// What a role allows in a namespace, or everywhere if that is empty.
fn of_role(
    objects: &[Value],
    kind: &str,
    name: &str,
    namespace: &str,
) -> anyhow::Result<Vec<Right>> {
    let role = named(objects, kind, name)?;
    let rules = role["rules"].as_array();
    let rules = rules.with_context(|| format!("{kind} {name} has no rules"))?;
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        let texts = rule[key].as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut rights = Vec::new();
    for rule in rules {
        let names = texts(rule, "resourceNames");
        let names = match names.as_slice() {
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        };
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                for verb in texts(rule, "verbs") {
                    for name in &names {
                        rights.push(Right {
                            namespace: Some(namespace.to_owned()).filter(|n| !n.is_empty()),
                            group: group.clone(),
                            resource: resource.clone(),
                            verb: verb.clone(),
                            name: name.clone(),
                        });
                    }
                }
            }
        }
    }
    Ok(rights)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chart(verbs: &[&str]) -> Vec<Value> {
        let reference = json!({ "kind": "Role", "name": "it" });
        let subject = json!({ "kind": "ServiceAccount", "name": "it", "namespace": NAMESPACE });
        let metadata = json!({ "name": "it", "namespace": NAMESPACE });
        let rule = json!({
            "apiGroups": ["apps"],
            "resources": ["deployments"],
            "resourceNames": ["ours"],
            "verbs": verbs,
        });
        vec![
            json!({ "kind": "Role", "metadata": metadata, "rules": [rule] }),
            json!({
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": reference,
                "subjects": [subject],
            }),
        ]
    }

    fn asked(namespace: &str, name: &str) -> BTreeSet<Call> {
        BTreeSet::from([Call {
            verb: "get",
            group: "apps".to_owned(),
            resource: "deployments".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }])
    }

    fn judged(verbs: &[&str], calls: &BTreeSet<Call>) -> Vec<String> {
        judge("it", &of_account(&chart(verbs), "it").unwrap(), calls)
    }

    #[test]
    fn what_is_asked_for_and_allowed_is_as_it_should_be() {
        assert!(judged(&["get"], &asked(NAMESPACE, "ours")).is_empty());
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let wrong = judged(&["get"], &asked("other", "ours"));
        assert!(
            wrong[0].contains("which the chart does not allow"),
            "{wrong:?}"
        );
        let wrong = judged(&["get"], &asked(NAMESPACE, "theirs"));
        assert!(wrong[0].contains("theirs"), "{wrong:?}");
    }

    #[test]
    fn what_is_allowed_for_nothing_is_named() {
        let wrong = judged(&["get", "delete"], &asked(NAMESPACE, "ours"));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(
            wrong[0].contains("may delete deployments.apps"),
            "{wrong:?}"
        );
    }

    #[test]
    fn an_account_without_any_right_is_a_mistake() {
        assert!(of_account(&chart(&["get"]), "nobody").is_err());
    }
}

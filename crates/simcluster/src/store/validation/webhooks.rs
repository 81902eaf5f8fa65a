//! Webhooks: what must be said of each (pkg/apis/admissionregistration/validation).

use std::collections::HashSet;

use serde_json::Value;

use super::names;
use crate::conditions;
use crate::store::Cause;
use crate::store::object::{array, text};

/// Most conditions that a webhook may have.
const CONDITIONS: usize = 64;

pub(super) fn check(configuration: &Value, causes: &mut Vec<Cause>) {
    let mut taken = HashSet::new();
    for (index, hook) in array(configuration, "/webhooks").iter().enumerate() {
        let at = format!("webhooks[{index}]");
        let name = text(hook, "/name");
        let field = format!("{at}.name");
        if name.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if let Some(why) = names::subdomain(name) {
            causes.push(Cause::invalid(field, &name.into(), why));
        } else if name.split('.').count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            causes.push(Cause::invalid(field, &name.into(), why));
        } else if !taken.insert(name) {
            causes.push(Cause::duplicate(field, name));
        }
        words(hook, &at, causes);
        for (index, rule) in array(hook, "/rules").iter().enumerate() {
            check_rule(rule, &format!("{at}.rules[{index}]"), causes);
        }
        client(&hook["clientConfig"], &format!("{at}.clientConfig"), causes);
        versions(hook, &format!("{at}.admissionReviewVersions"), causes);
        match_conditions(hook, &format!("{at}.matchConditions"), causes);
    }
}

fn match_conditions(hook: &Value, at: &str, causes: &mut Vec<Cause>) {
    let conditions = array(hook, "/matchConditions");
    if conditions.len() > CONDITIONS {
        causes.push(Cause::too_many(at, conditions.len(), CONDITIONS));
    }
    let mut taken = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let (name, expression) = (text(condition, "/name"), text(condition, "/expression"));
        let field = format!("{at}[{index}].expression");
        if expression.trim().is_empty() {
            causes.push(Cause::required(field, ""));
        } else if let Some(why) = conditions::fault(expression) {
            causes.push(Cause::invalid(field, &expression.into(), why));
        }
        let field = format!("{at}[{index}].name");
        if name.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if let Some(why) = names::qualified(name) {
            causes.push(Cause::invalid(field, &name.into(), why));
        } else if !taken.insert(name) {
            causes.push(Cause::duplicate(field, name));
        }
    }
}

/// What is one of a few words, or a small number.
fn words(hook: &Value, at: &str, causes: &mut Vec<Cause>) {
    let allowed: [(&str, &[&str]); 4] = [
        ("failurePolicy", &["Fail", "Ignore"]),
        ("matchPolicy", &["Equivalent", "Exact"]),
        ("sideEffects", &["None", "NoneOnDryRun"]),
        ("reinvocationPolicy", &["IfNeeded", "Never"]),
    ];
    for (member, words) in allowed {
        let (word, field) = (text(hook, &format!("/{member}")), format!("{at}.{member}"));
        if word.is_empty() && member == "sideEffects" {
            let why = format!("must specify one of {}", words.join(", "));
            causes.push(Cause::required(field, &why));
        } else if !word.is_empty() && !words.contains(&word) {
            causes.push(Cause::unsupported(field, word, words));
        }
    }
    let seconds = &hook["timeoutSeconds"];
    if seconds.as_i64().is_some_and(|s| !(1..=30).contains(&s)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        causes.push(Cause::invalid(format!("{at}.timeoutSeconds"), seconds, why));
    }
}

fn check_rule(rule: &Value, at: &str, causes: &mut Vec<Cause>) {
    for member in ["operations", "apiGroups", "apiVersions", "resources"] {
        let found = array(rule, &format!("/{member}"));
        let field = format!("{at}.{member}");
        if found.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if member == "operations" {
            let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
            for operation in found {
                let word = operation.as_str().unwrap_or_default();
                if !known.contains(&word) {
                    causes.push(Cause::unsupported(&field, word, &known));
                }
            }
        }
    }
    let scope = text(rule, "/scope");
    let scopes = ["*", "Cluster", "Namespaced"];
    if !scope.is_empty() && !scopes.contains(&scope) {
        causes.push(Cause::unsupported(format!("{at}.scope"), scope, &scopes));
    }
}

fn client(client: &Value, at: &str, causes: &mut Vec<Cause>) {
    if client["url"].is_null() == client["service"].is_null() {
        let why = "exactly one of url or service is required";
        causes.push(Cause::required(at, why));
        return;
    }
    let url = text(client, "/url");
    if !url.is_empty() && !url.starts_with("https://") {
        let why = "'https' is the only allowed URL scheme; desired format: \
                   https://host[:port]/path";
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        causes.push(Cause::invalid(format!("{at}.url"), &scheme.into(), why));
    }
    for member in ["name", "namespace"] {
        if client["service"].is_object()
            && text(&client["service"], &format!("/{member}")).is_empty()
        {
            let why = format!("service {member} is required");
            causes.push(Cause::required(format!("{at}.service.{member}"), &why));
        }
    }
}

fn versions(hook: &Value, at: &str, causes: &mut Vec<Cause>) {
    let versions = array(hook, "/admissionReviewVersions");
    if versions.is_empty() {
        causes.push(Cause::required(at, "must specify one of v1, v1beta1"));
    } else if !versions.iter().any(|v| v == "v1" || v == "v1beta1") {
        let why = "must include at least one of v1, v1beta1";
        causes.push(Cause::invalid(at, &versions.to_vec().into(), why));
    }
}

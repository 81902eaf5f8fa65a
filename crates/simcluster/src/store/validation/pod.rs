//! Pod specs, of pods and of templates.

use std::collections::HashSet;

use serde_json::Value;

use super::{names, resources};
use crate::store::Cause;
use crate::store::object::{array, pairs, text};

/// Checks a pod spec that lies at `at`.
pub(super) fn spec(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    if array(spec, "/containers").is_empty() {
        causes.push(Cause::required(format!("{at}.containers"), ""));
    }
    let volumes = volumes(spec, at, causes);
    let mut taken = HashSet::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in array(spec, &format!("/{list}")).iter().enumerate() {
            let at = format!("{at}.{list}[{index}]");
            let name = text(container, "/name");
            if name.is_empty() {
                causes.push(Cause::required(format!("{at}.name"), ""));
            } else if let Some(why) = names::label(name) {
                causes.push(Cause::invalid(format!("{at}.name"), &name.into(), why));
            } else if !taken.insert(name) {
                causes.push(Cause::duplicate(format!("{at}.name"), name));
            }
            check_container(container, &at, &volumes, causes);
        }
    }
    let policy = text(spec, "/restartPolicy");
    let policies = ["Always", "OnFailure", "Never"];
    if !policy.is_empty() && !policies.contains(&policy) {
        causes.push(Cause::unsupported(
            format!("{at}.restartPolicy"),
            policy,
            &policies,
        ));
    }
    for (key, value) in pairs(spec, "/nodeSelector") {
        let field = format!("{at}.nodeSelector");
        if let Some(why) = names::qualified(key) {
            causes.push(Cause::invalid(field, &key.into(), why));
        } else if let Some(why) = names::label_value(value) {
            causes.push(Cause::invalid(field, &value.into(), why));
        }
    }
    tolerations(spec, at, causes);
    gates(spec, at, causes);
}

fn check_container(container: &Value, at: &str, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    if text(container, "/image").is_empty() {
        causes.push(Cause::required(format!("{at}.image"), ""));
    }
    let policy = text(container, "/imagePullPolicy");
    let policies = ["Always", "IfNotPresent", "Never"];
    if !policy.is_empty() && !policies.contains(&policy) {
        causes.push(Cause::unsupported(
            format!("{at}.imagePullPolicy"),
            policy,
            &policies,
        ));
    }
    for (index, variable) in array(container, "/env").iter().enumerate() {
        if text(variable, "/name").is_empty() {
            causes.push(Cause::required(format!("{at}.env[{index}].name"), ""));
        }
    }
    for (index, port) in array(container, "/ports").iter().enumerate() {
        let number = port["containerPort"].as_i64().unwrap_or_default();
        if !(1..=65535).contains(&number) {
            let field = format!("{at}.ports[{index}].containerPort");
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(field, &number.into(), why));
        }
    }
    for (index, mount) in array(container, "/volumeMounts").iter().enumerate() {
        let name = text(mount, "/name");
        if !volumes.contains(name) {
            causes.push(Cause {
                field: format!("{at}.volumeMounts[{index}].name"),
                reason: "FieldValueNotFound",
                message: format!("Not found: {name:?}"),
            });
        }
    }
    resources::check(&container["resources"], &format!("{at}.resources"), causes);
}

fn volumes<'a>(spec: &'a Value, at: &str, causes: &mut Vec<Cause>) -> HashSet<&'a str> {
    let mut found = HashSet::new();
    for (index, volume) in array(spec, "/volumes").iter().enumerate() {
        let name = text(volume, "/name");
        let field = format!("{at}.volumes[{index}].name");
        if name.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if let Some(why) = names::label(name) {
            causes.push(Cause::invalid(field, &name.into(), why));
        } else if !found.insert(name) {
            causes.push(Cause::duplicate(field, name));
        }
    }
    found
}

fn tolerations(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    for (index, toleration) in array(spec, "/tolerations").iter().enumerate() {
        let at = format!("{at}.tolerations[{index}]");
        let operator = text(toleration, "/operator");
        if !matches!(operator, "" | "Exists" | "Equal") {
            let field = format!("{at}.operator");
            causes.push(Cause::unsupported(field, operator, &["Equal", "Exists"]));
        }
        if operator == "Exists" && !text(toleration, "/value").is_empty() {
            let value = &toleration["value"];
            let why = "value must be empty when `operator` is 'Exists'";
            causes.push(Cause::invalid(format!("{at}.operator"), value, why));
        }
        if text(toleration, "/key").is_empty() && operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values \
                       and all keys\"";
            causes.push(Cause::invalid(
                format!("{at}.operator"),
                &operator.into(),
                why,
            ));
        }
    }
}

fn gates(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    let mut taken = HashSet::new();
    for (index, gate) in array(spec, "/schedulingGates").iter().enumerate() {
        let name = text(gate, "/name");
        let field = format!("{at}.schedulingGates[{index}]");
        if let Some(why) = names::qualified(name) {
            causes.push(Cause::invalid(field, &name.into(), why));
        } else if !taken.insert(name) {
            causes.push(Cause::duplicate(field, name));
        }
    }
    if !taken.is_empty() && !text(spec, "/nodeName").is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        causes.push(Cause::forbidden(format!("{at}.nodeName"), why));
    }
}

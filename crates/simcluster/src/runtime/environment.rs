//! What a process is started with: arguments and environment as the pod's specification says.

use serde_json::Value;

use crate::store::object;

use super::ContainerSpec;

/// The definition of a container in its pod.
pub(super) fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let all = ["/spec/containers", "/spec/initContainers"];
    all.iter()
        .flat_map(|list| object::array(pod, list))
        .find(|c| object::text(c, "/name") == name)
}

/// The container's variables in order, with references to fields and to earlier variables resolved.
/// `known` are the variables that are there before.
pub(super) fn variables(
    spec: &ContainerSpec,
    definition: &Value,
    known: &[(String, String)],
) -> Vec<(String, String)> {
    let mut all = known.to_vec();
    for variable in object::array(definition, "/env") {
        let name = object::text(variable, "/name").to_owned();
        let field = object::text(variable, "/valueFrom/fieldRef/fieldPath");
        let value = if field.is_empty() {
            expand(object::text(variable, "/value"), &all)
        } else {
            self::field(spec, field)
        };
        all.push((name, value));
    }
    all.split_off(known.len())
}

/// The arguments after the program: those of `command` and those of `args`.
pub(super) fn arguments(definition: &Value, variables: &[(String, String)]) -> Vec<String> {
    let command = object::array(definition, "/command").iter().skip(1);
    let all = command.chain(object::array(definition, "/args"));
    all.filter_map(Value::as_str)
        .map(|argument| expand(argument, variables))
        .collect()
}

fn field(spec: &ContainerSpec, path: &str) -> String {
    let pod = &*spec.pod;
    let keyed = |list: &str, key: &str| {
        pod["metadata"][list][key.trim_end_matches(']').trim_matches('\'')]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    match path {
        "status.podIP" | "status.podIPs" => spec.pod_ip.clone(),
        "status.hostIP" | "status.hostIPs" => spec.host_ip.clone(),
        _ => match path.split_once('[') {
            Some(("metadata.labels", key)) => keyed("labels", key),
            Some(("metadata.annotations", key)) => keyed("annotations", key),
            _ => object::text(pod, &format!("/{}", path.replace('.', "/"))).to_owned(),
        },
    }
}

/// Replaces `$(NAME)` by the last value of a known variable; `$$` stands for `$`, and references to
/// unknown variables stay as they are.
pub fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            if let Some((_, value)) = variables.iter().rev().find(|(known, _)| known == name) {
                expanded.push_str(value);
            } else {
                expanded.push_str("$(");
                expanded.push_str(name);
                expanded.push(')');
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

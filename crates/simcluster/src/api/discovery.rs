//! What clients ask first: version, groups, resources; one by one as of old, or all at once
//! (`APIGroupDiscoveryList`).

use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::path::Discovered;
use super::{accept, respond};
use crate::store::{Kind, Status};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// `/version`.
pub(super) fn version(git: &str) -> Value {
    let mut parts = git.trim_start_matches('v').split('.');
    json!({
        "major": parts.next().unwrap_or("1"),
        "minor": parts.next().unwrap_or("0"),
        "gitVersion": git,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

pub(super) fn answer(wanted: &Discovered, headers: &HeaderMap) -> Result<Response, Status> {
    let aggregated = accept::aggregated_discovery(headers);
    let value = match (wanted, aggregated) {
        (Discovered::Core, Some(version)) => return Ok(all(version, &[("", "v1")])),
        (Discovered::Groups, Some(version)) => return Ok(all(version, &groups())),
        (Discovered::Core, None) => json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        }),
        (Discovered::Groups, None) => {
            let groups: Vec<Value> = groups()
                .iter()
                .map(|(group, version)| describe(group, version))
                .collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }
        (Discovered::Group(group), _) => {
            let (group, version) = groups()
                .into_iter()
                .find(|(known, _)| known == group)
                .ok_or_else(Status::no_such_path)?;
            let mut value = describe(group, version);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        }
        (Discovered::Resources(group, version), _) => {
            let resources = resources(group, version);
            if resources.is_empty() {
                return Err(Status::no_such_path());
            }
            json!({
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": group_version(group, version),
                "resources": resources,
            })
        }
    };
    Ok(respond::json(&value))
}

/// Every group but the core one, with its version.
pub(super) fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<_> = Kind::ALL
        .iter()
        .map(|kind| (kind.info().group, kind.info().version))
        .filter(|(group, _)| !group.is_empty())
        .collect();
    groups.push(("events.k8s.io", "v1"));
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The kinds of one group and version.
pub(super) fn kinds(group: &str, version: &str) -> Vec<Kind> {
    if (group, version) == ("events.k8s.io", "v1") {
        return vec![Kind::Event];
    }
    let inside = |kind: &Kind| (kind.info().group, kind.info().version) == (group, version);
    Kind::ALL.into_iter().filter(inside).collect()
}

pub(super) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn describe(group: &str, version: &str) -> Value {
    let version = json!({ "groupVersion": group_version(group, version), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

/// A resource below another: its name, what is sent to it, and the verbs.
fn subresources(kind: Kind) -> Vec<(&'static str, &'static str, Value)> {
    let mut found = Vec::new();
    if kind.info().status {
        found.push((
            "status",
            kind.info().kind,
            json!(["get", "patch", "update"]),
        ));
    }
    if matches!(
        kind,
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet
    ) {
        found.push(("scale", "Scale", json!(["get", "patch", "update"])));
    }
    if kind == Kind::Pod {
        found.push(("binding", "Binding", json!(["create"])));
        found.push(("eviction", "Eviction", json!(["create"])));
        found.push(("log", "Pod", json!(["get"])));
        found.push(("proxy", "PodProxyOptions", json!(["get"])));
    }
    found
}

/// The group of what is sent to a subresource, where it is not that of the resource.
fn group_of(sent: &str) -> Option<&'static str> {
    match sent {
        "Eviction" => Some("policy"),
        "Scale" => Some("autoscaling"),
        _ => None,
    }
}

fn resources(group: &str, version: &str) -> Vec<Value> {
    let mut resources = Vec::new();
    for kind in kinds(group, version) {
        let info = kind.info();
        let mut resource = json!({
            "name": info.plural,
            "singularName": info.singular,
            "namespaced": info.namespaced,
            "kind": info.kind,
            "verbs": VERBS,
        });
        if !info.short_names.is_empty() {
            resource["shortNames"] = json!(info.short_names);
        }
        if !info.categories.is_empty() {
            resource["categories"] = json!(info.categories);
        }
        resources.push(resource);
        for (name, sent, verbs) in subresources(kind) {
            let mut resource = json!({
                "name": format!("{}/{name}", info.plural),
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": sent,
                "verbs": verbs,
            });
            if let Some(group) = group_of(sent) {
                resource["group"] = group.into();
                resource["version"] = "v1".into();
            }
            resources.push(resource);
        }
    }
    resources
}

fn all(version: &'static str, groups: &[(&str, &str)]) -> Response {
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, group_version)| {
            let resources: Vec<Value> = kinds(group, group_version)
                .into_iter()
                .map(|kind| one(kind, group))
                .collect();
            json!({
                "metadata": { "name": group, "creationTimestamp": null },
                "versions": [{
                    "version": group_version,
                    "resources": resources,
                    "freshness": "Current",
                }],
            })
        })
        .collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let content_type = match version {
        "v2beta1" => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    };
    let mut response = respond::bytes(StatusCode::OK, content_type, list.to_string());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn one(kind: Kind, group: &str) -> Value {
    let info = kind.info();
    let below: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|(name, sent, verbs)| {
            let group = group_of(sent).unwrap_or(group);
            json!({
                "subresource": name,
                "responseKind": { "group": group, "version": "v1", "kind": sent },
                "verbs": verbs,
            })
        })
        .collect();
    let mut resource = json!({
        "resource": info.plural,
        "responseKind": { "group": group, "version": info.version, "kind": info.kind },
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": VERBS,
    });
    if !info.short_names.is_empty() {
        resource["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        resource["categories"] = json!(info.categories);
    }
    if !below.is_empty() {
        resource["subresources"] = json!(below);
    }
    resource
}

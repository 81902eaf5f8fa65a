//! `/scale`: how many pods a workload has, in one form for all kinds that have it.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::body::Sent;
use super::params::Params;
use super::path::Target;
use super::{Server, respond};
use crate::store::{Key, Patch, Status, Subresource, object};

/// The object, reduced to its scale.
pub(super) fn one(server: &Server, target: &Target, name: &str) -> Result<Response, Status> {
    let found = server.store.find(target.kind, target.namespace(), name)?;
    Ok(respond::json(&scale(&found)))
}

/// Sets the number of replicas, from a whole scale or from a patch of one.
pub(super) fn change(
    server: &Server,
    target: &Target,
    name: &str,
    params: &Params,
    sent: &Sent,
    patch: bool,
) -> Result<Response, Status> {
    let found = server.store.find(target.kind, target.namespace(), name)?;
    let mut wanted = scale(&found);
    if patch {
        json_patch::merge(&mut wanted, &sent.json()?);
    } else {
        wanted = sent.object()?;
    }
    let mut patch = json!({ "spec": { "replicas": wanted["spec"]["replicas"] } });
    let version = object::text(&wanted, "/metadata/resourceVersion");
    if !version.is_empty() {
        patch["metadata"] = json!({ "resourceVersion": version });
    }
    let key = Key::new(target.kind, target.namespace(), name);
    let options = params.write_options(&sent.user_agent);
    let changed = server
        .store
        .patch(&key, &Patch::Merge(patch), Subresource::None, &options)?;
    let body = scale(&changed).to_string();
    Ok(respond::bytes(StatusCode::OK, "application/json", body))
}

fn scale(object: &Value) -> Value {
    let selector: Vec<String> = object::pairs(object, "/spec/selector/matchLabels")
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": { "replicas": object["spec"]["replicas"].as_u64().unwrap_or(0) },
        "status": {
            "replicas": object["status"]["replicas"].as_u64().unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}

//! As much `OpenAPI` as kubectl needs before it applies anything: which paths there are, and that
//! the server validates fields itself.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::discovery::{group_version, groups, kinds};
use super::respond;
use crate::store::{Kind, Status};

/// The index, or the document `api/v1` or `apis/GROUP/VERSION`.
pub(super) fn answer(document: Option<&str>) -> Result<Response, Status> {
    let documents = documents();
    let Some(wanted) = document else {
        let paths: Map<String, Value> = documents
            .into_iter()
            .map(|(name, ..)| {
                let url = format!("/openapi/v3/{name}?hash=0");
                (name, json!({ "serverRelativeURL": url }))
            })
            .collect();
        return Ok(respond::json(&json!({ "paths": paths })));
    };
    let (_, group, version) = documents
        .into_iter()
        .find(|(name, ..)| name == wanted)
        .ok_or_else(Status::no_such_path)?;
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for kind in kinds(group, version) {
        let info = kind.info();
        let scope = if info.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        paths.insert(
            format!("/{wanted}{scope}/{}/{{name}}", info.plural),
            operations(kind, group, version),
        );
        schemas.insert(
            schema_name(kind, group, version),
            json!({
                "type": "object",
                "description": "The embedded cluster has no schema for this kind.",
                "x-kubernetes-preserve-unknown-fields": true,
                "x-kubernetes-group-version-kind": [gvk(kind, group, version)],
            }),
        );
    }
    Ok(respond::json(&json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": group_version(group, version) },
        "paths": paths,
        "components": { "schemas": schemas },
    })))
}

/// An empty version 2 document, in the protobuf that kubectl insists on there. It asks for it when
/// it meets a kind that the others do not have, and then says so in words of its own.
pub(super) fn version_2() -> Response {
    // swagger: "2.0", info: { title: "sim", version: "1" }, paths: {}
    const DOCUMENT: &[u8] = b"\x0a\x032.0\x12\x08\x0a\x03sim\x12\x011\x42\x00";
    respond::bytes(
        StatusCode::OK,
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        DOCUMENT,
    )
}

fn documents() -> Vec<(String, &'static str, &'static str)> {
    let core = ("api/v1".to_owned(), "", "v1");
    let named = groups()
        .into_iter()
        .map(|(group, version)| (format!("apis/{group}/{version}"), group, version));
    std::iter::once(core).chain(named).collect()
}

fn gvk(kind: Kind, group: &str, version: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind.info().kind })
}

fn schema_name(kind: Kind, group: &str, version: &str) -> String {
    let group = group
        .split('.')
        .next()
        .filter(|group| !group.is_empty())
        .unwrap_or("core");
    format!("io.k8s.api.{group}.{version}.{}", kind.info().kind)
}

fn operations(kind: Kind, group: &str, version: &str) -> Value {
    let parameter = |name: &str| {
        json!({
            "name": name,
            "in": "query",
            "schema": { "type": "string", "uniqueItems": true },
        })
    };
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
        .map(parameter)
        .into();
    let operation = |action: &str| {
        json!({
            "parameters": parameters,
            "responses": { "200": { "description": "OK" } },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk(kind, group, version),
        })
    };
    json!({
        "get": operation("get"),
        "put": operation("put"),
        "patch": operation("patch"),
        "delete": operation("delete"),
    })
}

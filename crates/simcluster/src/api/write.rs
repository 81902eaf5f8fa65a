//! POST, PUT, PATCH and DELETE.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::accept::Form;
use super::body::Sent;
use super::list::Filter;
use super::params::{self, Params};
use super::path::Target;
use super::{Server, respond, strict};
use crate::store::{DeleteOptions, Key, Kind, Patch, Propagation, Status, Subresource, object};

pub(super) async fn create(
    server: &Server,
    target: &Target,
    params: &Params,
    form: Form,
    sent: &Sent,
) -> Result<Response, Status> {
    let mut object = target.face.take(checked(target, sent.object()?)?);
    let mut warnings = strict::check(target, &mut object, params.write.validation)?;
    let options = params.write_options(&sent.user_agent);
    let created = server
        .admission
        .create(
            target.kind,
            target.namespace(),
            object,
            &options,
            &mut warnings,
        )
        .await;
    Ok(answer(
        server,
        target,
        form,
        StatusCode::CREATED,
        created,
        &warnings,
    ))
}

pub(super) async fn replace(
    server: &Server,
    target: &Target,
    name: &str,
    params: &Params,
    form: Form,
    sent: &Sent,
) -> Result<Response, Status> {
    let mut object = target.face.take(checked(target, sent.object()?)?);
    let mut warnings = strict::check(target, &mut object, params.write.validation)?;
    let key = Key::new(target.kind, target.namespace(), name);
    let options = params.write_options(&sent.user_agent);
    let updated = server
        .admission
        .update(&key, object, subresource(target), &options, &mut warnings)
        .await;
    Ok(answer(
        server,
        target,
        form,
        StatusCode::OK,
        updated,
        &warnings,
    ))
}

pub(super) async fn patch(
    server: &Server,
    target: &Target,
    name: &str,
    params: &Params,
    form: Form,
    sent: &Sent,
) -> Result<Response, Status> {
    let mut warnings = Vec::new();
    let patch = match sent.content_type.as_str() {
        "application/merge-patch+json" => Patch::Merge(sent.json()?),
        "application/json-patch+json" => Patch::Json(sent.json()?),
        "application/strategic-merge-patch+json" => Patch::Strategic(sent.json()?),
        "application/apply-patch+yaml" | "application/apply-patch+json" => {
            let mut config = target.face.take(checked(target, sent.yaml()?)?);
            warnings = strict::check(target, &mut config, params.write.validation)?;
            Patch::Apply(config)
        }
        _ => {
            return Err(Status::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json, application/apply-patch+yaml",
            ));
        }
    };
    let key = Key::new(target.kind, target.namespace(), name);
    let patch = target.face.take_patch(patch);
    let existed = server
        .store
        .get(target.kind, target.namespace(), name)
        .is_some();
    let options = params.write_options(&sent.user_agent);
    let patched = server
        .admission
        .patch(&key, &patch, subresource(target), &options, &mut warnings)
        .await;
    let code = if existed {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok(answer(server, target, form, code, patched, &warnings))
}

/// What webhooks warn of is told whether they let the object through or not.
fn answer(
    server: &Server,
    target: &Target,
    form: Form,
    code: StatusCode,
    outcome: Result<Arc<Value>, Status>,
    warnings: &[String],
) -> Response {
    let response = match outcome {
        Ok(stored) => respond::object(server, target, form, code, &stored),
        Err(status) => respond::failure(&status),
    };
    respond::warn(response, warnings)
}

pub(super) fn delete(
    server: &Server,
    target: &Target,
    name: &str,
    params: &Params,
    form: Form,
    sent: &Sent,
) -> Result<Response, Status> {
    let options = delete_options(params, sent)?;
    let left = server
        .store
        .delete(target.kind, target.namespace(), name, &options)?;
    let gone = server
        .store
        .get(target.kind, target.namespace(), name)
        .is_none_or(|found| object::uid(&found) != object::uid(&left));
    if gone && !matches!(target.kind, Kind::Pod | Kind::Namespace) {
        return Ok(respond::success(
            StatusCode::OK,
            Some(details(target.kind, &left)),
        ));
    }
    Ok(respond::object(server, target, form, StatusCode::OK, &left))
}

pub(super) fn delete_all(
    server: &Server,
    target: &Target,
    params: &Params,
    form: Form,
    sent: &Sent,
) -> Result<Response, Status> {
    let options = delete_options(params, sent)?;
    let filter = Filter::new(target, params)?;
    let (items, version) = server.store.list(target.kind, target.namespace.as_deref());
    let mut deleted = Vec::new();
    for item in items.iter().filter(|item| filter.matches(item)) {
        let (namespace, name) = (object::namespace(item), object::name(item));
        match server.store.delete(target.kind, namespace, name, &options) {
            Ok(left) => deleted.push(target.face.show(&left).into_owned()),
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    if form != Form::Whole {
        return Ok(respond::success(StatusCode::OK, None));
    }
    Ok(respond::json(&json!({
        "kind": format!("{}List", target.kind),
        "apiVersion": target.face.api_version(target.kind),
        "metadata": { "resourceVersion": version.to_string() },
        "items": deleted,
    })))
}

pub(super) fn bind(
    server: &Server,
    target: &Target,
    params: &Params,
    sent: &Sent,
) -> Result<Response, Status> {
    let body = sent.object()?;
    expect_kind(&body, "Binding")?;
    let name = target
        .name
        .as_deref()
        .unwrap_or_else(|| object::name(&body));
    if params.write.dry_run {
        server.store.find(Kind::Pod, target.namespace(), name)?;
    } else {
        server.store.bind_with(target.namespace(), name, &body)?;
    }
    Ok(respond::success(StatusCode::CREATED, None))
}

pub(super) fn evict(
    server: &Server,
    target: &Target,
    name: &str,
    params: &Params,
    sent: &Sent,
) -> Result<Response, Status> {
    let body = sent.object()?;
    expect_kind(&body, "Eviction")?;
    let mut options = DeleteOptions {
        dry_run: params.write.dry_run,
        ..DeleteOptions::default()
    };
    read_delete_options(&body["deleteOptions"], &mut options);
    server.store.evict(target.namespace(), name, &options)?;
    Ok(respond::success(StatusCode::CREATED, None))
}

fn delete_options(params: &Params, sent: &Sent) -> Result<DeleteOptions, Status> {
    let mut options = DeleteOptions {
        grace_period_seconds: params.grace_period_seconds,
        propagation: params.propagation.unwrap_or_default(),
        dry_run: params.write.dry_run,
        ..DeleteOptions::default()
    };
    if !sent.is_empty() {
        let body = sent.object()?;
        expect_kind(&body, "DeleteOptions")?;
        read_delete_options(&body, &mut options);
    }
    Ok(options)
}

fn read_delete_options(body: &Value, options: &mut DeleteOptions) {
    if let Some(seconds) = body["gracePeriodSeconds"].as_i64() {
        options.grace_period_seconds = Some(seconds);
    }
    if let Some(policy) = body["propagationPolicy"].as_str() {
        options.propagation = params::propagation(policy);
    }
    if body["orphanDependents"] == true {
        options.propagation = Propagation::Orphan;
    }
    let text = |member: &str| Some(body["preconditions"][member].as_str()?.to_owned());
    options.uid = text("uid");
    options.resource_version = text("resourceVersion");
    options.dry_run |= body["dryRun"].as_array().is_some_and(|all| !all.is_empty());
}

fn expect_kind(body: &Value, kind: &str) -> Result<(), Status> {
    let found = object::text(body, "/kind");
    if body.is_object() && (found.is_empty() || found == kind) {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): found {found:?}"
    )))
}

/// An object that came as text must say what it is, and it must be what the path says.
fn checked(target: &Target, body: Value) -> Result<Value, Status> {
    let kind = target.kind.info().kind;
    let wanted = target.face.api_version(target.kind);
    if !body.is_object() {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): not a JSON object"
        )));
    }
    let (found, version) = (
        object::text(&body, "/kind"),
        object::text(&body, "/apiVersion"),
    );
    // The real server takes both from the path if both are missing.
    if found.is_empty() && version.is_empty() {
        return Ok(body);
    }
    if found.is_empty() {
        return Err(Status::bad_request(
            "Object 'Kind' is missing in the request body",
        ));
    }
    if found != kind {
        return Err(Status::bad_request(format!(
            "{found} in version {version:?} cannot be handled as a {kind}: converting \
             ({version}.{found}) to ({wanted}.{kind}): unknown conversion"
        )));
    }
    if version != wanted {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version \
             ({wanted})"
        )));
    }
    Ok(body)
}

fn subresource(target: &Target) -> Subresource {
    match target.subresource.as_deref() {
        Some("status") => Subresource::Status,
        _ => Subresource::None,
    }
}

fn details(kind: Kind, left: &Value) -> Value {
    let info = kind.info();
    let mut details = json!({
        "name": object::name(left),
        "kind": info.plural,
        "uid": object::uid(left),
    });
    if !info.group.is_empty() {
        details["group"] = info.group.into();
    }
    details
}

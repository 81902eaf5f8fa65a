//! From values to HTTP answers.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

use super::accept::Form;
use super::path::Target;
use super::{Server, table};
use crate::store::{Status, object};

/// JSON with code 200.
pub(super) fn json(value: &Value) -> Response {
    bytes(StatusCode::OK, "application/json", value.to_string())
}

/// Plain text with code 200.
pub(super) fn text(text: impl Into<Body>) -> Response {
    bytes(StatusCode::OK, "text/plain", text)
}

pub(super) fn bytes(
    code: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A `Status` object.
pub(super) fn failure(status: &Status) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = bytes(code, "application/json", status.to_value().to_string());
    let wait = status
        .details
        .as_ref()
        .and_then(|details| details["retryAfterSeconds"].as_u64());
    if let Some(seconds) = wait {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answer to what has no better one: done.
pub(super) fn success(code: StatusCode, details: Option<Value>) -> Response {
    let mut status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "code": code.as_u16(),
    });
    if let Some(details) = details {
        status["details"] = details;
    }
    bytes(code, "application/json", status.to_string())
}

/// One object in the form that the client wants.
pub(super) fn object(
    server: &Server,
    target: &Target,
    form: Form,
    code: StatusCode,
    stored: &Value,
) -> Response {
    let body = match form {
        Form::Whole => target.face.show(stored).to_string(),
        Form::Metadata => metadata(stored).to_string(),
        Form::Table => {
            let include = table::Include::Metadata;
            let rows = [table::row(target.kind, stored, include, server.store.now())];
            let version = object::text(stored, "/metadata/resourceVersion");
            table::table(
                target.kind,
                &json!({ "resourceVersion": version }),
                &rows,
                true,
            )
            .to_string()
        }
    };
    bytes(code, "application/json", body)
}

/// An object's metadata as `PartialObjectMetadata`.
pub(super) fn metadata(stored: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": stored["metadata"],
    })
}

/// Adds what the user should know, as kubectl shows it after `Warning:`.
pub(super) fn warn(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let line = warning.replace(|c: char| c.is_control(), " ");
        let quoted = line.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response
                .headers_mut()
                .append(HeaderName::from_static("warning"), value);
        }
    }
    response
}

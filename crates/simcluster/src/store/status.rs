//! The error that a Kubernetes API server answers with, as a Rust error.
//!
//! Wording, codes and reasons follow k8s.io/apimachinery/pkg/api/errors, because clients and
//! people both read them.

use serde_json::{Value, json};

use super::Kind;

/// A failed request: what Kubernetes sends as an object of kind `Status`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code, 400 to 599.
    pub code: u16,
    /// A word for programs: `NotFound`, `Conflict`, `Invalid` ...
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
    /// The `details` of the object: name, kind, causes, retryAfterSeconds.
    pub details: Option<Value>,
}

/// One reason why an object is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// JSON path, such as `spec.containers[0].image`.
    pub field: String,
    /// `FieldValueInvalid`, `FieldValueRequired` ...
    pub reason: &'static str,
    /// What is wrong, without the field.
    pub message: String,
}

impl Cause {
    /// A value that is not allowed; strings are shown quoted.
    pub fn invalid(field: impl Into<String>, value: &Value, why: impl AsRef<str>) -> Self {
        let why = why.as_ref();
        Self {
            field: field.into(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {why}"),
        }
    }

    /// A value that is missing.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() {
            "Required value".into()
        } else {
            format!("Required value: {why}")
        };
        Self {
            field: field.into(),
            reason: "FieldValueRequired",
            message,
        }
    }

    /// A value that occurs twice where it must be unique.
    pub fn duplicate(field: impl Into<String>, value: &str) -> Self {
        Self {
            field: field.into(),
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {value:?}"),
        }
    }

    /// A change that is not allowed.
    pub fn forbidden(field: impl Into<String>, why: impl AsRef<str>) -> Self {
        Self {
            field: field.into(),
            reason: "FieldValueForbidden",
            message: format!("Forbidden: {}", why.as_ref()),
        }
    }

    /// A list that is too long.
    pub fn too_many(field: impl Into<String>, found: usize, most: usize) -> Self {
        Self {
            field: field.into(),
            reason: "FieldValueTooMany",
            message: format!("Too many: {found}: must have at most {most} items"),
        }
    }

    /// A value outside a fixed list of words.
    pub fn unsupported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        Self {
            field: field.into(),
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: {value:?}: supported values: {}",
                supported.join(", ")
            ),
        }
    }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, kind: Kind, name: &str) -> Self {
        let info = kind.info();
        let mut details = json!({ "name": name, "kind": info.plural });
        if !info.group.is_empty() {
            details["group"] = info.group.into();
        }
        self.details = Some(details);
        self
    }

    /// 404 for an object that does not exist.
    pub fn not_found(kind: Kind, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} {name:?} not found", kind.resource()),
        )
        .about(kind, name)
    }

    /// 404 for a path that the server does not know.
    pub fn no_such_path() -> Self {
        let mut status = Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        status.details = Some(json!({}));
        status
    }

    /// 409 for a name that is taken.
    pub fn already_exists(kind: Kind, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} {name:?} already exists", kind.resource()),
        )
        .about(kind, name)
    }

    /// 409 with a reason of its own.
    pub fn conflict(kind: Kind, name: &str, why: impl AsRef<str>) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {}",
            kind.resource(),
            why.as_ref()
        );
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// 409 for a write made from an outdated copy.
    pub fn outdated(kind: Kind, name: &str) -> Self {
        Self::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and \
             try again",
        )
    }

    /// 409 for a server-side apply that would take over another manager's fields.
    pub fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {manager:?}"),
                    "field": field,
                })
            })
            .collect();
        let lines: Vec<String> = conflicts
            .iter()
            .map(|(manager, field)| format!("conflict with {manager:?}: {field}"))
            .collect();
        let plural = if conflicts.len() == 1 {
            "conflict"
        } else {
            "conflicts"
        };
        let message = format!(
            "Apply failed with {} {plural}: {}",
            conflicts.len(),
            lines.join(", ")
        );
        let mut status = Self::new(409, "Conflict", message);
        status.details = Some(json!({ "causes": causes }));
        status
    }

    /// 422 with every reason why the object is not acceptable.
    pub fn invalid(kind: Kind, name: &str, causes: &[Cause]) -> Self {
        let listed: Vec<Value> = causes
            .iter()
            .map(|c| json!({ "reason": c.reason, "message": c.message, "field": c.field }))
            .collect();
        let mut lines: Vec<String> = causes
            .iter()
            .map(|c| format!("{}: {}", c.field, c.message))
            .collect();
        let text = match lines.len() {
            1 => lines.remove(0),
            _ => format!("[{}]", lines.join(", ")),
        };
        let info = kind.info();
        let mut status = Self::new(
            422,
            "Invalid",
            format!("{} {name:?} is invalid: {text}", kind.qualified()),
        );
        let mut details = json!({ "name": name, "kind": info.kind, "causes": listed });
        if !info.group.is_empty() {
            details["group"] = info.group.into();
        }
        status.details = Some(details);
        status
    }

    /// 422 for parameters of a request.
    pub fn invalid_options(what: &str, cause: &Cause) -> Self {
        Self::new(
            422,
            "Invalid",
            format!("{what} \"\" is invalid: {}: {}", cause.field, cause.message),
        )
    }

    /// 422 for a patch that does not apply.
    pub fn unprocessable(why: impl AsRef<str>) -> Self {
        let message = format!(
            "the server rejected our request due to an error in our request: {}",
            why.as_ref()
        );
        Self::new(422, "Invalid", message)
    }

    /// 400 for a request that cannot be understood.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    /// 403.
    pub fn forbidden(kind: Kind, name: &str, why: impl AsRef<str>) -> Self {
        Self::new(
            403,
            "Forbidden",
            format!(
                "{} {name:?} is forbidden: {}",
                kind.resource(),
                why.as_ref()
            ),
        )
        .about(kind, name)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 406 for an `Accept` header that asks for something other than JSON.
    pub fn not_acceptable() -> Self {
        Self::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml",
        )
    }

    /// 410 for a resource version that history no longer reaches back to.
    pub fn expired(why: impl Into<String>) -> Self {
        Self::new(410, "Expired", why)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// 415 for a body that is neither JSON nor YAML.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 {accepted}"
            ),
        )
    }

    /// 429 with the time in seconds after which to try again.
    pub fn too_many_requests(retry_after: u32) -> Self {
        let mut status = Self::new(
            429,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        );
        status.details = Some(json!({ "retryAfterSeconds": retry_after }));
        status
    }

    /// 501 for what the embedded cluster does not do.
    pub fn not_implemented(what: &str) -> Self {
        Self::new(
            501,
            "NotImplemented",
            format!("the embedded cluster does not serve {what}"),
        )
    }

    /// What an admission webhook answers in place of the server.
    pub fn denied(code: u16, reason: &str, message: String, details: Option<&Value>) -> Self {
        const REASONS: [&str; 13] = [
            "AlreadyExists",
            "BadRequest",
            "Conflict",
            "Expired",
            "Forbidden",
            "Gone",
            "InternalError",
            "Invalid",
            "MethodNotAllowed",
            "NotAcceptable",
            "NotFound",
            "TooManyRequests",
            "Unauthorized",
        ];
        // One of its own is in the message at most.
        let known = REASONS.into_iter().find(|known| *known == reason);
        let mut status = Self::new(code, known.unwrap_or_default(), message);
        status.details = details.cloned();
        status
    }

    /// 500.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let mut status = Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {why}"),
        );
        status.details = Some(json!({ "causes": [{ "message": why.to_string() }] }));
        status
    }

    /// 504: it took too long.
    pub fn timeout(why: &str) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {why}"))
    }

    /// 503.
    pub fn unavailable() -> Self {
        Self::new(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        )
    }

    /// 503: what a request was passed on to does not answer.
    pub fn unreachable(why: impl std::fmt::Display) -> Self {
        let why = format!("error trying to reach service: {why}");
        Self::new(503, "ServiceUnavailable", why)
    }

    /// 504 for a resource version that does not exist yet.
    pub fn version_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut status = Self::new(504, "Timeout", message);
        status.details = Some(json!({
            "causes": [{
                "reason": "ResourceVersionTooLarge",
                "message": "Too large resource version",
            }],
            "retryAfterSeconds": 1,
        }));
        status
    }

    /// The object as it goes over the wire.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            value["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            value["details"] = details.clone();
        }
        value
    }
}

impl From<super::Gone> for Status {
    fn from(gone: super::Gone) -> Self {
        Self::expired(gone.to_string())
    }
}

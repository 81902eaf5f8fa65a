//! The `AdmissionReview` around a request: bytes in, bytes out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{Decision, Options, review};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What came is no review that can be answered; a bad request, in HTTP's words.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// It is cut off, nested too deeply, or something else than JSON.
    #[error(
        "failed to read the request body as JSON, which must be one whole {KIND} of {API_VERSION}: {why}"
    )]
    NotJson {
        /// Where and why.
        why: serde_json::Error,
    },
    /// It is another kind of object, or a review of another version.
    #[error("failed to read the request body: its {field} is {found}, and it must be {wanted}")]
    Foreign {
        /// The field.
        field: &'static str,
        /// What it says, shortened.
        found: String,
        /// What it must say.
        wanted: &'static str,
    },
    /// The answer could not be written.
    #[error("failed to write the answer as JSON")]
    Answer {
        /// Why.
        source: serde_json::Error,
    },
}

/// An answer, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The `AdmissionReview` for the API server, as JSON.
    pub body: Vec<u8>,
    /// What was decided.
    pub decision: Decision,
}

/// Answers an `AdmissionReview` of `admission.k8s.io/v1`, given as JSON.
///
/// # Errors
/// If the bytes are no such review. The API server then acts by the webhook's failure policy.
pub fn answer(body: &[u8], options: &Options) -> Result<Answer, ReviewError> {
    let envelope: Value =
        serde_json::from_slice(body).map_err(|why| ReviewError::NotJson { why })?;
    let foreign = |field, wanted| {
        let found = envelope.pointer(&format!("/{}", str::replace(field, ".", "/")));
        ReviewError::Foreign {
            field,
            found: describe(found),
            wanted,
        }
    };
    let says = |field: &str, wanted| envelope.get(field).and_then(Value::as_str) == Some(wanted);
    if !says("kind", KIND) {
        return Err(foreign("kind", KIND));
    }
    if !says("apiVersion", API_VERSION) {
        return Err(foreign("apiVersion", API_VERSION));
    }
    let Some(request) = envelope
        .get("request")
        .filter(|request| request.is_object())
    else {
        return Err(foreign("request", "an object"));
    };
    let uid = request.get("uid").and_then(Value::as_str).unwrap_or("");
    if uid.is_empty() {
        return Err(foreign("request.uid", "a string that is not empty"));
    }
    let decision = review(request, options);
    let body = response(uid, &decision).and_then(|response| serde_json::to_vec(&response));
    let body = body.map_err(|source| ReviewError::Answer { source })?;
    Ok(Answer { body, decision })
}

fn response(uid: &str, decision: &Decision) -> Result<Value, serde_json::Error> {
    let mut response = json!({"uid": uid, "allowed": decision.denial.is_none()});
    if !decision.warnings.is_empty() {
        response["warnings"] = json!(decision.warnings);
    }
    if let Some(message) = &decision.denial {
        response["status"] = json!({
            "status": "Failure", "reason": "Invalid", "code": 422, "message": message,
        });
    } else if !decision.patch.is_empty() {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = STANDARD.encode(serde_json::to_vec(&decision.patch)?).into();
    }
    Ok(json!({"apiVersion": API_VERSION, "kind": KIND, "response": response}))
}

fn describe(found: Option<&Value>) -> String {
    match found {
        None => "missing".into(),
        Some(Value::String(text)) => crate::words::quoted(text),
        Some(Value::Array(_)) => "a list".into(),
        Some(Value::Object(_)) => "an object".into(),
        Some(plain) => plain.to_string(),
    }
}

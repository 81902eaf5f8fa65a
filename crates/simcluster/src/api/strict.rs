//! `fieldValidation`: members that a kind does not know are an error, a warning, or nothing.

use serde_json::Value;

use super::params::FieldValidation;
use super::path::Target;
use crate::store::{Status, unknown_fields};

/// Returns the warnings to send along.
pub(super) fn check(
    target: &Target,
    body: &Value,
    wanted: FieldValidation,
) -> Result<Vec<String>, Status> {
    if wanted == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    let unknown = unknown_fields(target.kind, &target.face.take(body.clone()));
    let lines: Vec<String> = unknown
        .iter()
        .map(|field| format!("unknown field {field:?}"))
        .collect();
    if wanted == FieldValidation::Strict && !lines.is_empty() {
        let (kind, version) = (target.kind, target.face.api_version(target.kind));
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
            lines.join(", ")
        )));
    }
    Ok(lines)
}

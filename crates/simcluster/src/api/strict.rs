//! `fieldValidation`: members that a kind does not know are an error, a warning, or nothing.

use serde_json::Value;

use super::params::FieldValidation;
use super::path::Target;
use crate::store::{Status, prune};

/// Leaves unknown members out of an object, and returns the warnings to send along.
pub(super) fn check(
    target: &Target,
    object: &mut Value,
    wanted: FieldValidation,
) -> Result<Vec<String>, Status> {
    let unknown = prune(target.kind, object);
    let lines: Vec<String> = unknown
        .iter()
        .map(|field| format!("unknown field {field:?}"))
        .collect();
    match wanted {
        FieldValidation::Strict if !lines.is_empty() => {
            let (kind, version) = (target.kind, target.face.api_version(target.kind));
            Err(Status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding \
                 error: {}",
                lines.join(", ")
            )))
        }
        FieldValidation::Ignore => Ok(Vec::new()),
        _ => Ok(lines),
    }
}

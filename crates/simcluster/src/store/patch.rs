//! The four patch types, as pure functions from an object and a patch to an object.

mod apply;
mod fields;
mod schema;
mod strategic;

use serde_json::Value;

pub(super) use apply::{Applied, apply, note_update};
pub(super) use strategic::strategic;

/// Why a patch cannot be applied; the text goes to the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatchError {
    /// The patch itself makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// It makes sense but does not fit the object.
    #[error("{0}")]
    DoesNotApply(String),
    /// Fields belong to other managers: manager and field.
    #[error("fields belong to other managers")]
    Conflicts(Vec<(String, String)>),
}

/// RFC 7386.
pub(super) fn merge(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed(
            "a merge patch must be a JSON object".into(),
        ));
    }
    json_patch::merge(object, patch);
    Ok(())
}

/// RFC 6902.
pub(super) fn json(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|error| {
        PatchError::Malformed(format!(
            "cannot read the list of JSON patch operations: {error}"
        ))
    })?;
    json_patch::patch(object, &operations)
        .map_err(|error| PatchError::DoesNotApply(error.to_string()))
}

#[cfg(test)]
mod tests;

//! What an object is, and the metadata that only the server writes.

use serde_json::Value;

use super::{Key, Kind, Status, object};

/// `metadata` members that only the server writes.
pub(super) const SYSTEM_METADATA: [&str; 5] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];

/// Checks apiVersion, kind and namespace against the request, and fills them in.
pub(super) fn prepare_identity(
    kind: Kind,
    namespace: &str,
    object: &mut Value,
) -> Result<(), Status> {
    if !object.is_object() {
        return Err(Status::bad_request(format!(
            "the {kind} in the request is not a JSON object"
        )));
    }
    let version = kind.api_version();
    let found = object::text(object, "/apiVersion");
    if !found.is_empty() && found != version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({found}) does not match the expected API version \
             ({version})"
        )));
    }
    let found = object::text(object, "/kind");
    if !found.is_empty() && found != kind.info().kind {
        return Err(Status::bad_request(format!(
            "{found} in version {version:?} cannot be handled as a {kind}: no kind {found:?} is \
             expected here"
        )));
    }
    if object
        .get("metadata")
        .is_some_and(|metadata| !metadata.is_object() && !metadata.is_null())
    {
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: metadata must be an \
             object"
        )));
    }
    object["apiVersion"] = version.into();
    object["kind"] = kind.info().kind.into();
    let metadata = object::child(object, "metadata");
    if kind.info().namespaced {
        let found = object::text(metadata, "/namespace");
        if !found.is_empty() && found != namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the \
                 request",
            ));
        }
        metadata["namespace"] = namespace.into();
    } else {
        object::remove(metadata, "namespace");
    }
    Ok(())
}

pub(super) fn uid_conflict(key: &Key, asked: &str, old: &Value) -> Status {
    let why = format!(
        "Precondition failed: UID in precondition: {asked}, UID in object meta: {}",
        object::uid(old)
    );
    Status::conflict(key.kind, &key.name, why)
}

pub(super) fn keep_system_metadata(old: &Value, new: &mut Value) {
    let metadata = object::child(new, "metadata");
    for member in SYSTEM_METADATA {
        copy_member(&old["metadata"], metadata, member);
    }
    for member in ["name", "namespace"] {
        copy_member(&old["metadata"], metadata, member);
    }
}

pub(super) fn keep_all_but_status(old: &Value, new: &mut Value) {
    let status = object::remove(new, "status");
    let metadata = object::remove(new, "metadata");
    *new = old.clone();
    match status {
        Some(status) => new["status"] = status,
        None => drop(object::remove(new, "status")),
    }
    if let Some(metadata) = metadata {
        new["metadata"] = metadata;
    }
}

pub(super) fn copy_member(from: &Value, to: &mut Value, member: &str) {
    match from.get(member) {
        Some(value) => to[member] = value.clone(),
        None => drop(object::remove(to, member)),
    }
}

//! What a webhook is asked: an `AdmissionReview` with a request.

use serde_json::{Value, json};
use uuid::Uuid;

use super::matching::Request;
use crate::store::object::array;
use crate::store::{Draft, Subresource};

/// Asks about a draft, in the first of the webhook's versions that is known.
pub(super) fn of(hook: &Value, draft: &Draft, user: &Value) -> Value {
    let versions = array(hook, "/admissionReviewVersions");
    let known = versions
        .iter()
        .filter_map(Value::as_str)
        .find(|version| matches!(*version, "v1" | "v1beta1"));
    let mut asked = request(draft, user);
    asked["uid"] = Uuid::new_v4().to_string().into();
    asked["object"] = draft.object.clone();
    asked["oldObject"] = draft.old.as_deref().cloned().unwrap_or_default();
    json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("admission.k8s.io/{}", known.unwrap_or("v1")),
        "request": asked,
    })
}

/// The request as match conditions see it: without uid and objects.
pub(super) fn request(draft: &Draft, user: &Value) -> Value {
    let info = draft.key.kind.info();
    let kind = json!({ "group": info.group, "version": info.version, "kind": info.kind });
    let resource = json!({ "group": info.group, "version": info.version, "resource": info.plural });
    let mut asked = json!({
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "operation": Request::of(draft).operation(),
        "userInfo": user,
        "dryRun": draft.options.dry_run,
        "options": options(draft),
    });
    if !draft.key.name.is_empty() {
        asked["name"] = draft.key.name.as_str().into();
    }
    if info.namespaced {
        asked["namespace"] = draft.key.namespace.as_str().into();
    } else if draft.key.kind == crate::store::Kind::Namespace {
        // Requests about a namespace are made in it.
        asked["namespace"] = draft.key.name.as_str().into();
    }
    if draft.subresource == Subresource::Status {
        asked["subResource"] = "status".into();
        asked["requestSubResource"] = "status".into();
    }
    asked
}

fn options(draft: &Draft) -> Value {
    let kind = if draft.old.is_some() {
        "UpdateOptions"
    } else {
        "CreateOptions"
    };
    let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
    if !draft.options.manager.is_empty() {
        options["fieldManager"] = draft.options.manager.as_str().into();
    }
    if draft.options.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}

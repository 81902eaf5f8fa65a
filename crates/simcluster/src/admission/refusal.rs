//! What the user reads when a webhook denies a request or fails
//! (k8s.io/apiserver/pkg/admission/plugin/webhook/errors, pkg/util/webhook).

use std::fmt::Display;

use serde_json::Value;

use super::answer::Failure;
use crate::store::Status;
use crate::store::object::text;

/// The webhook said no.
pub(super) fn denied(webhook: &str, said: &Value) -> Status {
    let by = format!("admission webhook {webhook:?} denied the request");
    let message = match (text(said, "/message"), text(said, "/reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = said["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|code| *code >= 400).unwrap_or(400);
    Status::denied(code, text(said, "/reason"), message, said.get("details"))
}

/// The webhook failed, and must not.
pub(super) fn failed(webhook: &str, failure: &Failure, two_steps: bool) -> Status {
    let reason = match failure {
        Failure::Call(why) if two_steps => format!("failed to call webhook: {why}"),
        Failure::Answer(why) if two_steps => format!("received invalid webhook response: {why}"),
        Failure::Call(why) | Failure::Answer(why) => why.clone(),
        Failure::Refused(status) => return status.clone(),
    };
    internal(format!("failed calling webhook {webhook:?}: {reason}"))
}

/// 500: what a webhook did to the object cannot be used.
pub(super) fn internal(why: impl Display) -> Status {
    Status::internal(why)
}

/// 504: all webhooks together took too long.
pub(super) fn out_of_time() -> Status {
    Status::timeout("request did not complete within requested timeout")
}

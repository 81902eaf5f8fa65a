//! What a webhook answers, checked as the real server checks it
//! (k8s.io/apiserver/pkg/admission/plugin/webhook/request).

use k8s_openapi::ByteString;
use serde_json::Value;

use super::refusal;
use crate::store::Status;
use crate::store::object::{array, text};

/// An answer that makes sense.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// For the user.
    pub(super) warnings: Vec<String>,
    /// The request is denied.
    pub(super) denial: Option<Status>,
    /// What to change.
    pub(super) patch: Option<json_patch::Patch>,
}

/// Why there is no such answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The webhook was not reached, or it answered with an error.
    Call(String),
    /// Its answer makes no sense.
    Answer(String),
    /// It cannot be asked, whatever its failure policy.
    Refused(Status),
}

/// Reads the answer to `review`.
pub(super) fn read(webhook: &str, review: &Value, body: &[u8]) -> Result<Answer, Failure> {
    let answered: Value = serde_json::from_slice(body).map_err(|error| {
        Failure::Call(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))
    })?;
    let invalid = |why: String| Err(Failure::Answer(why));
    let response = &answered["response"];
    if !response.is_object() {
        return invalid("webhook response was absent".to_owned());
    }
    let (asked, found) = (text(review, "/request/uid"), text(response, "/uid"));
    if asked != found {
        return invalid(format!("expected response.uid={asked:?}, got {found:?}"));
    }
    let kind = |of: &Value| format!("{}, Kind={}", text(of, "/apiVersion"), text(of, "/kind"));
    if kind(&answered) != kind(review) {
        let (wanted, got) = (kind(review), kind(&answered));
        return invalid(format!("expected webhook response of {wanted}, got {got}"));
    }
    let patch_type = response.get("patchType").filter(|kind| !kind.is_null());
    let patch = text(response, "/patch");
    match (patch.is_empty(), patch_type) {
        (false, None) => {
            return invalid(
                "webhook returned response.patch but not response.patchType".to_owned(),
            );
        }
        (true, Some(_)) => {
            return invalid(
                "webhook returned response.patchType but not response.patch".to_owned(),
            );
        }
        (false, Some(kind)) if kind != "JSONPatch" => {
            return invalid(format!("invalid response.patchType: {kind}"));
        }
        _ => {}
    }
    let warnings = array(response, "/warnings").iter();
    let mut answer = Answer {
        warnings: warnings
            .filter_map(|warning| Some(warning.as_str()?.to_owned()))
            .collect(),
        ..Answer::default()
    };
    if response["allowed"] != true {
        answer.denial = Some(refusal::denied(webhook, &response["status"]));
    } else if !patch.is_empty() {
        let undecodable = |why: String| {
            Failure::Answer(format!(
                "received undecodable patch in webhook response: {why}"
            ))
        };
        let ByteString(bytes) = serde_json::from_value(response["patch"].clone())
            .map_err(|error| undecodable(error.to_string()))?;
        let patch =
            serde_json::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))?;
        answer.patch = Some(patch);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review() -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": { "uid": "u" },
        })
    }

    fn answered(response: &Value) -> Result<Answer, Failure> {
        let mut answer = review();
        answer["response"] = json!({ "uid": "u", "allowed": true });
        json_patch::merge(&mut answer["response"], response);
        read("h.x.y", &review(), answer.to_string().as_bytes())
    }

    fn complaint(outcome: Result<Answer, Failure>) -> String {
        match outcome {
            Err(Failure::Call(why) | Failure::Answer(why)) => why,
            other => panic!("no failure: {other:?}"),
        }
    }

    #[test]
    fn a_patch_is_base64_of_a_list_of_operations() {
        // [{"op":"add","path":"/a","value":1}]
        let patch = "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2EiLCJ2YWx1ZSI6MX1d";
        let answer = json!({ "patchType": "JSONPatch", "patch": patch, "warnings": ["w"] });
        let answer = answered(&answer).unwrap();
        let mut object = json!({});
        json_patch::patch(&mut object, &answer.patch.unwrap()).unwrap();
        assert_eq!(object, json!({ "a": 1 }));
        assert_eq!(answer.warnings, ["w"]);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        assert!(complaint(answered(&json!({ "uid": "v" }))).starts_with("expected response.uid"));
        let only_patch = complaint(answered(&json!({ "patch": "W10=" })));
        assert!(
            only_patch.ends_with("but not response.patchType"),
            "{only_patch}"
        );
        let none = read("h", &review(), b"{}");
        assert_eq!(complaint(none), "webhook response was absent");
        let text = complaint(read("h", &review(), b"<html>"));
        assert!(text.starts_with("couldn't get version/kind"), "{text}");
        let other = br#"{"apiVersion":"v1","kind":"Pod","response":{"uid":"u"}}"#;
        assert_eq!(
            complaint(read("h", &review(), other)),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, \
             Kind=Pod"
        );
    }

    #[test]
    fn a_denial_carries_code_and_message() {
        let status = json!({ "code": 422, "message": "no", "reason": "Invalid" });
        let denial = answered(&json!({ "allowed": false, "status": status }));
        let denial = denial.unwrap().denial.unwrap();
        assert_eq!(denial.code, 422);
        assert_eq!(
            denial.message,
            "admission webhook \"h.x.y\" denied the request: no"
        );
        let silent = answered(&json!({ "allowed": false }))
            .unwrap()
            .denial
            .unwrap();
        assert_eq!(silent.code, 400);
        let why = "admission webhook \"h.x.y\" denied the request without explanation";
        assert_eq!(silent.message, why);
    }
}

//! Whole reviews, as bytes.

use admission::{Options, answer};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::server::request;

fn review(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": request("pods", object, None),
    })
}

fn answered(review: &Value) -> Value {
    let answer = answer(review.to_string().as_bytes(), &Options::default()).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

fn pod(share: &str) -> Value {
    json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"clear.ml/fraction": share}}}]}})
}

#[test]
fn a_patch_comes_back_in_base64_with_the_uid_of_the_request() {
    let review = review(&pod("500m"));
    let answer = answered(&review);
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    let response = &answer["response"];
    assert_eq!(response["uid"], review["request"]["uid"]);
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
    let patch = STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[0]["op"], "replace");
    assert_eq!(patch[0]["path"], "/spec/containers/0/resources");
}

#[test]
fn what_needs_no_change_is_allowed_and_nothing_else_is_said() {
    let review = review(&json!({"spec": {"containers": []}}));
    let wanted = json!({"uid": review["request"]["uid"], "allowed": true});
    assert_eq!(answered(&review)["response"], wanted);
}

#[test]
fn a_denial_says_why() {
    let response = answered(&review(&pod("1300m")))["response"].clone();
    assert_eq!(response["allowed"], false);
    assert_eq!(
        (&response["status"]["code"], &response["status"]["reason"]),
        (&json!(422), &json!("Invalid"))
    );
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("spec.containers[0].resources.limits[\"clear.ml/fraction\"]"),
        "{message}"
    );
    assert_eq!(response.get("patch"), None);
}

#[test]
fn a_review_of_another_resource_is_allowed_with_a_warning() {
    let mut review = review(&json!({"spec": {}}));
    review["request"]["resource"]["resource"] = json!("nodes");
    let response = answered(&review)["response"].clone();
    assert_eq!(response["allowed"], true);
    assert!(
        response["warnings"][0]
            .as_str()
            .unwrap()
            .contains("\"nodes\"")
    );
}

#[test]
fn what_is_no_review_is_refused_in_a_sentence() {
    let whole = review(&pod("500m")).to_string();
    let said = |body: &[u8]| answer(body, &Options::default()).unwrap_err().to_string();
    for end in [0, 1, 10, whole.len() / 2, whole.len() - 1] {
        let sentence = said(&whole.as_bytes()[..end]);
        let start = "failed to read the request body as JSON, which must be one whole AdmissionReview of \
                     admission.k8s.io/v1: EOF";
        assert!(sentence.starts_with(start), "{sentence}");
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(said(deep.as_bytes()).contains("recursion limit exceeded"));
    assert!(said(&[0xff, 0xfe, 0x00]).contains("expected value"));
    assert!(said(format!("{whole}{whole}").as_bytes()).contains("trailing characters"));

    let edited = |edit: fn(&mut Value)| {
        let mut review: Value = serde_json::from_str(&whole).unwrap();
        edit(&mut review);
        said(review.to_string().as_bytes())
    };
    for (sentence, wanted) in [
        (
            edited(|review| review["apiVersion"] = json!("admission.k8s.io/v1beta1")),
            "its apiVersion is \"admission.k8s.io/v1beta1\", and it must be admission.k8s.io/v1",
        ),
        (
            edited(|review| review["kind"] = json!(3)),
            "its kind is 3, and it must be AdmissionReview",
        ),
        (
            edited(|review| review["request"] = json!([])),
            "its request is a list, and it must be an object",
        ),
        (
            edited(|review| review["request"]["uid"] = json!("")),
            "its request.uid is \"\", and it must be a string that is not empty",
        ),
        (
            edited(|review| *review = json!({})),
            "its kind is missing, and it must be AdmissionReview",
        ),
    ] {
        assert_eq!(
            sentence,
            format!("failed to read the request body: {wanted}")
        );
    }
}

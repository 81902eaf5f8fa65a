//! What holds for every body that may come, however broken. The fuzz target checks the same.

use std::collections::BTreeSet;

use admission::{Options, answer, is_fraction, review};
use serde_json::{Value, json};

/// Answers a body and checks the answer; panics where something does not hold.
pub(crate) fn check(body: &[u8]) {
    let options = Options {
        gate: Some("cdmo.clear.ml/devices".into()),
        ..Options::default()
    };
    let Ok(answer) = answer(body, &options) else {
        return;
    };
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let envelope: Value = serde_json::from_slice(body).unwrap();
    let request = &envelope["request"];
    assert_eq!(answer["response"]["uid"], request["uid"]);

    let decision = review(request, &options);
    assert_eq!(
        answer["response"]["allowed"],
        json!(decision.denial.is_none())
    );
    assert!(decision.warnings.len() <= 9);
    if let Some(denial) = decision.denial {
        assert!(decision.patch.is_empty() && !denial.is_empty() && !denial.contains('\n'));
        return;
    }
    if decision.patch.is_empty() {
        return;
    }
    let pointer = match request["resource"]["resource"].as_str() {
        Some("pods") => "",
        Some("cronjobs") => "/spec/jobTemplate/spec/template",
        _ => "/spec/template",
    };
    let mut object = request["object"].clone();
    let patch: json_patch::Patch = serde_json::from_value(json!(decision.patch)).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    let template = object.pointer(pointer).unwrap();
    assert_ne!(
        *template,
        request["object"].pointer(pointer).cloned().unwrap()
    );
    let update = request["operation"] == "UPDATE";
    let containers = containers(template);
    if !update {
        assert!(!containers.iter().any(|container| has_fraction(container)));
    }
    // A name that is there twice is refused by the API server, and stands for one entry in the record.
    let names: BTreeSet<_> = containers
        .iter()
        .map(|c| c["name"].as_str().unwrap_or_default())
        .collect();
    if names.len() == containers.len() {
        let mut again = request.clone();
        again["object"] = object.clone();
        let said = request["object"]
            .pointer(pointer)
            .is_some_and(|template| self::containers(template).into_iter().any(has_fraction));
        if update && said {
            // An apply cannot take a fraction out of the manifest and put it into the object at once. Where
            // a body says both, the object counts, which after the change no longer shows it.
            again["oldObject"] = object.clone();
        }
        let decision = review(&again, &options);
        assert_eq!(
            (decision.patch, decision.denial),
            (Vec::new(), None),
            "the second time"
        );
    }
}

fn containers(template: &Value) -> Vec<&Value> {
    ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| template["spec"].get(list)?.as_array())
        .flatten()
        .collect()
}

/// Whether it asks for a fraction.
fn has_fraction(container: &Value) -> bool {
    ["limits", "requests"].into_iter().any(|list| {
        let amounts = container["resources"][list].as_object();
        amounts
            .into_iter()
            .flatten()
            .any(|(name, _)| is_fraction(name))
    })
}

#[test]
fn an_object_that_was_changed_keeps_no_fraction_and_is_changed_no_more() {
    for resource in ["pods", "deployments", "cronjobs"] {
        for share in ["0.5", "2", "1.3"] {
            let pod = json!({"spec": {"containers": [
                {"name": "a", "resources": {"limits": {"clear.ml/fraction": share}}},
            ]}});
            let object = match resource {
                "pods" => pod,
                "cronjobs" => json!({"spec": {"jobTemplate": {"spec": {"template": pod}}}}),
                _ => json!({"spec": {"template": pod}}),
            };
            let body = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "request": crate::server::request(resource, &object, None),
            });
            check(body.to_string().as_bytes());
        }
    }
}

//! What is refused, in a sentence that names the field, what is wrong and what is allowed.

use serde_json::{Value, json};

use crate::server::{create, request, yaml};

const ALLOWED: &str =
    "ask for a share of one GPU, like \"0.5\", or for a whole number of GPUs, at most 32";

#[test]
fn a_wrong_fraction_in_the_limits_is_refused() {
    for (value, why) in [
        ("0", "is \"0\", but that is nothing"),
        ("-1", "is \"-1\", but that is less than nothing"),
        (
            "1300m",
            "is \"1.3\", but above 1 only whole numbers of GPUs can be had",
        ),
        ("1k", "is \"1k\", but no machine has more than 32 GPUs"),
        ("33", "is \"33\", but no machine has more than 32 GPUs"),
        ("10E", "is \"10E\", but no machine has more than 32 GPUs"),
        ("abc", "is \"abc\", but that is no number"),
        ("", "is \"\", but that is no number"),
        ("NaN", "is \"NaN\", but that is no number"),
    ] {
        let pod = json!({"spec": {"containers": [{"name": "a"}, {
            "name": "main", "resources": {"limits": {"clear.ml/fraction-1": value}},
        }]}});
        let field = "containers[1].resources.limits[\"clear.ml/fraction-1\"] (container \"main\")";
        for (resource, object, outer) in [
            ("pods", pod.clone(), "spec"),
            (
                "deployments",
                json!({"spec": {"template": pod}}),
                "spec.template.spec",
            ),
            (
                "cronjobs",
                json!({"spec": {"jobTemplate": {"spec": {"template": pod}}}}),
                "spec.jobTemplate.spec.template.spec",
            ),
        ] {
            let denial = admission::review(
                &request(resource, &object, None),
                &admission::Options::default(),
            )
            .denial;
            assert_eq!(
                denial,
                Some(format!("{outer}.{field} {why}: {ALLOWED}")),
                "{value}"
            );
        }
    }
}

#[test]
fn a_wrong_label_or_annotation_is_refused() {
    for value in ["0", "-1", "1.3", "1e3", "abc", ""] {
        for (list, name) in [
            ("labels", "clearml-injector/fraction"),
            ("annotations", "gpu-fraction"),
        ] {
            let pod =
                json!({"metadata": {list: {name: value}}, "spec": {"containers": [{"name": "a"}]}});
            let denial = create("pods", &pod).unwrap_err();
            let start = format!("metadata.{list}[\"{name}\"] is \"{value}\", but ");
            assert!(
                denial.starts_with(&start) && denial.ends_with(ALLOWED),
                "{denial}"
            );
        }
    }
}

#[test]
fn a_request_that_differs_from_its_limit_is_refused() {
    let pod = yaml(
        "{spec: {containers: [{name: main, resources:
            {limits: {clear.ml/fraction-1: '0.5'}, requests: {clear.ml/fraction-1: '0.25'}}}]}}",
    );
    assert_eq!(
        create("pods", &pod).unwrap_err(),
        "spec.containers[0].resources.requests[\"clear.ml/fraction-1\"] (container \"main\") is 0.25, but the limit is \
         0.5: leave the request away, or make them equal"
    );
}

#[test]
fn a_fraction_where_no_device_can_be_is_refused() {
    let ephemeral = json!({"spec": {"containers": [], "ephemeralContainers": [
        {"name": "debug", "resources": {"limits": {"clear.ml/fraction": "0.5"}}},
    ]}});
    let whole = json!({"spec": {"containers": [], "resources": {"requests": {"clear.ml/fraction-1": "0.5"}}}});
    for (pod, field) in [
        (
            &ephemeral,
            "spec.ephemeralContainers[0].resources.limits[\"clear.ml/fraction\"]",
        ),
        (&whole, "spec.resources.requests[\"clear.ml/fraction-1\"]"),
    ] {
        assert_eq!(
            create("pods", pod).unwrap_err(),
            format!(
                "{field} asks for a fraction where there can be none: ask for it in the limits of a container or init \
                 container"
            )
        );
    }
    // As `kubectl debug` adds one.
    let mut debug = request("pods", &ephemeral, Some(&json!({})));
    debug["subResource"] = json!("ephemeralcontainers");
    let decision = admission::review(&debug, &admission::Options::default());
    assert!(decision.denial.is_some());
}

fn many(count: usize, container: impl Fn(usize) -> Value) -> Value {
    json!({"spec": {"containers": (0..count).map(container).collect::<Vec<_>>()}})
}

#[test]
fn ten_thousand_containers_without_fractions_are_let_through() {
    let pod = many(
        10_000,
        |n| json!({"name": format!("c{n}"), "resources": {"limits": {"cpu": "1"}}}),
    );
    assert!(create("pods", &pod).unwrap().patch.is_empty());
}

#[test]
fn ten_thousand_containers_with_fractions_are_refused_in_one_sentence() {
    let pod = many(
        10_000,
        |n| json!({"name": format!("c{n}"), "resources": {"limits": {"clear.ml/fraction-1": "500m"}}}),
    );
    assert_eq!(
        create("pods", &pod).unwrap_err(),
        "spec.containers has 10000 containers with fractions, and what they ask for does not fit into the annotation \
         cdmo.clear.ml/fractions, which may have 128 KiB: ask for fractions in fewer containers"
    );
}

#[test]
fn a_pod_of_three_megabytes_is_changed_where_it_must_be() {
    let padding = "x".repeat(3_000_000);
    let mut pod = many(
        500,
        |n| json!({"name": format!("c{n}"), "resources": {"limits": {"clear.ml/fraction-1": "500m"}}}),
    );
    pod["metadata"]["annotations"]["padding"] = json!(padding);
    let stored = create("pods", &pod).unwrap();
    assert_eq!(stored.patch.len(), 2 * 500 + 1);
    assert!(json!(stored.patch).to_string().len() < 200_000);
    assert!(create("pods", &stored.object).unwrap().patch.is_empty());
}

#[test]
fn of_many_warnings_the_first_are_said_and_the_rest_counted() {
    let pod = many(500, |n| {
        let limits = json!({"clear.ml/fraction-1": "1", "nvidia.com/mig-1g.5gb": "1"});
        json!({"name": format!("c{n}"), "resources": {"limits": limits}})
    });
    let warnings = create("pods", &pod).unwrap().warnings;
    assert_eq!(
        (warnings.len(), warnings[8].as_str()),
        (9, "and 492 more warnings")
    );
    assert!(warnings.iter().map(String::len).sum::<usize>() < 4096);
}

#[test]
fn many_containers_of_one_name_are_refused_before_anything_is_planned_for_them() {
    let pod = many(
        5000,
        |_| json!({"name": "same", "resources": {"limits": {"clear.ml/fraction-1": "500m"}}}),
    );
    let refused = create("pods", &pod).unwrap_err();
    assert!(
        refused.starts_with("spec.containers has 5000 containers with fractions"),
        "{refused}"
    );
}

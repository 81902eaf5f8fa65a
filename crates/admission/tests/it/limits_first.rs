//! The order of precedence: limits, then NVIDIA's names, then the label, then the annotation.

use serde_json::{Value, json};

use crate::server::{Stored, class, container, create, record, variable, yaml};

fn pod(metadata: &str, limits: &str) -> Stored {
    let manifest = yaml(&format!(
        "{{metadata: {{{metadata}}}, spec: {{containers: [{{name: main, resources: {{limits: {{{limits}}}}}}}]}}}}"
    ));
    let stored = create("pods", &manifest).unwrap();
    let again = create("pods", &stored.object).unwrap();
    assert!(again.patch.is_empty(), "{:?}", again.patch);
    stored
}

fn main(stored: &Stored) -> &Value {
    container("pods", &stored.object, 0)
}

#[test]
fn a_profile_beside_a_fraction_is_what_the_pod_gets() {
    for (limits, reported) in [
        ("nvidia.com/mig-7g.40gb: 1, clear.ml/fraction-1: '1'", "1"),
        (
            "nvidia.com/mig-3g.20gb: 1, clear.ml/fraction-1: '0.5'",
            "0.5",
        ),
        (
            "nvidia.com/mig-2g.10gb: 1, clear.ml/fraction-1: '0.25'",
            "0.25",
        ),
        (
            "nvidia.com/mig-4g.20gb: 1, clear.ml/fraction-1: '0.5'",
            "0.5",
        ),
        (
            "nvidia.com/mig-1g.6gb: 1, clear.ml/fraction-1: '0.25'",
            "0.25",
        ),
        (
            "nvidia.com/mig-3g.71gb: 2, clear.ml/fraction-1: '0.5', clear.ml/fraction-2: '0.5'",
            "0.5,0.5",
        ),
        ("nvidia.com/mig-3g.71gb: 2, clear.ml/fraction: '1'", "1"),
        // Rounded up, three eighths are a half.
        (
            "nvidia.com/mig-3g.20gb: 1, clear.ml/fraction-1: '0.375'",
            "0.375",
        ),
        (
            "nvidia.com/mig-1g.10gb: 1, clear.ml/fraction-1: '0.125'",
            "0.125",
        ),
        (
            "nvidia.com/mig-1g.10gb: 1, clear.ml/fraction-1: '0.25'",
            "0.25",
        ),
        ("nvidia.com/gpu: 1, clear.ml/fraction-1: '1'", "1"),
    ] {
        let stored = pod("", limits);
        let resources = &main(&stored)["resources"];
        assert_eq!(resources["limits"], resources["requests"]);
        let names: Vec<_> = resources["limits"].as_object().unwrap().keys().collect();
        assert!(
            names.len() == 1 && names[0].starts_with("nvidia.com/"),
            "{names:?}"
        );
        assert_eq!(variable(main(&stored)), Some(reported), "{limits}");
        assert_eq!(stored.warnings, [""; 0], "{limits}");
        assert_eq!(
            record("pods", &stored.object).unwrap()["main"].get("given"),
            None
        );
    }
}

#[test]
fn a_fraction_that_contradicts_the_profile_is_a_warning() {
    for (limits, reported, warning) in [
        (
            "nvidia.com/mig-3g.20gb: 1, clear.ml/fraction-1: '0.25'",
            "nvidia.com/mig-3g.20gb:1",
            "is 0.25, but nvidia.com/mig-3g.20gb stands for 0.5; nvidia.com/mig-3g.20gb counts",
        ),
        (
            "nvidia.com/mig-1g.10gb: 1, clear.ml/fraction-1: '1'",
            "nvidia.com/mig-1g.10gb:1",
            "is 1, but nvidia.com/mig-1g.10gb stands for 0.125 or 0.25; nvidia.com/mig-1g.10gb counts",
        ),
        (
            "nvidia.com/mig-3g.20gb: 2, clear.ml/fraction-1: '0.5'",
            "nvidia.com/mig-3g.20gb:2",
            "is 0.5, but nvidia.com/mig-3g.20gb stands for 1; nvidia.com/mig-3g.20gb counts",
        ),
        (
            "nvidia.com/gpu: 2, clear.ml/fraction-1: '0.5'",
            "1,1",
            "is 0.5, but nvidia.com/gpu stands for 2; nvidia.com/gpu counts",
        ),
    ] {
        let stored = pod("", limits);
        assert_eq!(variable(main(&stored)), Some(reported), "{limits}");
        let field =
            "spec.containers[0].resources.limits[\"clear.ml/fraction-1\"] (container \"main\")";
        assert_eq!(stored.warnings, [format!("{field} {warning}")], "{limits}");
    }
}

#[test]
fn names_that_cannot_be_read_are_not_compared() {
    let stored = pod("", "nvidia.com/mig-1c.3g.20gb: 1, clear.ml/fraction-1: '1'");
    assert_eq!(stored.warnings, [""; 0]);
    assert_eq!(
        main(&stored)["resources"]["limits"],
        json!({"nvidia.com/mig-1c.3g.20gb": "1"})
    );
}

#[test]
fn a_label_beside_limits_is_only_compared() {
    for (label, limits, warning) in [
        ("'0.500'", "clear.ml/fraction-1: '0.5'", None),
        (
            "'0.75'",
            "clear.ml/fraction-1: '0.5', clear.ml/fraction-2: '0.25'",
            None,
        ),
        (
            "'0.25'",
            "clear.ml/fraction-1: '0.5'",
            Some("is 0.25, but the limits ask for 0.5; the limits count"),
        ),
        (
            "abc",
            "clear.ml/fraction-1: '0.5'",
            Some(
                "is \"abc\", but that is no number: ask for a share of one GPU, like \"0.5\", or for a whole number \
                 of GPUs, at most 32, but the limits ask for 0.5; the limits count",
            ),
        ),
        ("'0.5'", "cdmo.clear.ml/fraction-0.500: 1", None),
        (
            "'1'",
            "cdmo.clear.ml/fraction-0.500: 1",
            Some("is 1, but the limits ask for 0.5; the limits count"),
        ),
        ("'0.5'", "nvidia.com/mig-3g.20gb: 1", None),
        (
            "'0.25'",
            "nvidia.com/mig-3g.20gb: 1",
            Some(
                "is 0.25, but nvidia.com/mig-3g.20gb stands for 0.5; nvidia.com/mig-3g.20gb counts",
            ),
        ),
        (
            "abc",
            "nvidia.com/mig-3g.20gb: 1",
            Some(
                "is \"abc\", but that is no number: ask for a share of one GPU, like \"0.5\", or for a whole number \
                 of GPUs, at most 32; nvidia.com/mig-3g.20gb counts",
            ),
        ),
    ] {
        let stored = pod(
            &format!("labels: {{clearml-injector/fraction: {label}}}"),
            limits,
        );
        let wanted: Vec<String> = warning
            .map(|warning| format!("metadata.labels[\"clearml-injector/fraction\"] {warning}"))
            .into_iter()
            .collect();
        assert_eq!(stored.warnings, wanted, "{label} {limits}");
        let without = pod("", limits);
        assert_eq!(
            main(&stored)["resources"],
            main(&without)["resources"],
            "{label} {limits}"
        );
    }
}

#[test]
fn a_label_beside_a_profile_is_reported_to_clearml() {
    let metadata = |share: &str| format!("labels: {{clearml-injector/fraction: '{share}'}}");
    let equal = pod(&metadata("0.5"), "nvidia.com/mig-3g.20gb: 1");
    assert_eq!(variable(main(&equal)), Some("0.5"));
    let other = pod(&metadata("0.25"), "nvidia.com/mig-3g.20gb: 1");
    assert_eq!(variable(main(&other)), Some("nvidia.com/mig-3g.20gb:1"));
}

#[test]
fn a_label_counts_more_than_the_annotation() {
    let metadata = |annotation: &str| {
        format!(
            "labels: {{clearml-injector/fraction: '0.5'}}, annotations: {{gpu-fraction: '{annotation}'}}"
        )
    };
    assert_eq!(pod(&metadata("500m"), "").warnings, [""; 0]);
    let stored = pod(&metadata("0.25"), "");
    assert_eq!(main(&stored)["resources"], class("0.500", 1));
    assert_eq!(
        stored.warnings,
        [
            "metadata.annotations[\"gpu-fraction\"] differs from metadata.labels[\"clearml-injector/fraction\"]; the \
          label counts, make them equal or leave one away"
        ]
    );
}

#[test]
fn a_label_is_compared_with_all_containers_that_run_beside_each_other() {
    let manifest = yaml(
        "{metadata: {labels: {clearml-injector/fraction: '0.75'}}, spec: {
            containers: [
                {name: a, resources: {limits: {clear.ml/fraction-1: '0.5'}}},
                {name: b, resources: {limits: {clear.ml/fraction-1: '0.125'}}}],
            initContainers: [
                {name: i, resources: {limits: {clear.ml/fraction-1: '1'}}},
                {name: s, restartPolicy: Always, resources: {limits: {clear.ml/fraction-1: '0.125'}}}]}}",
    );
    assert_eq!(create("pods", &manifest).unwrap().warnings, [""; 0]);
}

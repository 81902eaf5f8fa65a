//! Updates of what can be changed no more: pods, and the templates of Jobs.

use serde_json::{Value, json};

use crate::kubectl::apply;
use crate::server::{container, create, record, update, yaml};

fn manifest(limits: &str) -> Value {
    yaml(&format!(
        "{{metadata: {{name: p}}, spec: {{containers: [
            {{name: main, image: i, resources: {{limits: {{{limits}}}}}}}, {{name: other}}]}}}}"
    ))
}

fn job(limits: &str) -> Value {
    json!({"metadata": {"name": "j"}, "spec": {"template": manifest(limits)}})
}

fn applied(resource: &str, manifest: &Value) -> Value {
    create(resource, &apply(None, manifest)).unwrap().object
}

#[test]
fn applying_the_same_pod_or_job_again_changes_nothing() {
    for limits in [
        "clear.ml/fraction-1: '0.5'",
        "clear.ml/fraction-1: '0.5', clear.ml/fraction-2: 2, cpu: 1",
        "clear.ml/fraction-1: '0.5', nvidia.com/mig-3g.20gb: 1",
        "clear.ml/fraction-1: '1', nvidia.com/mig-3g.20gb: 1",
    ] {
        for (resource, manifest) in [("pods", manifest(limits)), ("jobs", job(limits))] {
            let live = applied(resource, &manifest);
            let again = update(resource, &live, &apply(Some(&live), &manifest)).unwrap();
            assert_eq!(again.object, live, "{resource} {limits}");
            assert!(
                !again.patch.is_empty(),
                "the fraction came again and must be taken out again"
            );
        }
    }
}

#[test]
fn a_changed_fraction_in_a_pod_or_job_that_exists_is_refused_with_the_way_out() {
    for (before, after) in [
        ("'0.5'", "'0.25'"),
        // The same class, but ClearML's variable would have to change.
        ("'0.4'", "'0.3'"),
    ] {
        let limits = |share: &str| format!("clear.ml/fraction-1: {share}");
        let said = after.trim_matches('\'');
        for (resource, called, field, before, after) in [
            (
                "pods",
                "pod",
                "spec",
                manifest(&limits(before)),
                manifest(&limits(after)),
            ),
            (
                "jobs",
                "job",
                "spec.template.spec",
                job(&limits(before)),
                job(&limits(after)),
            ),
        ] {
            let live = applied(resource, &before);
            assert_eq!(
                update(resource, &live, &apply(Some(&live), &after)).unwrap_err(),
                format!(
                    "{field}.containers[0].resources.limits (container \"main\") now has clear.ml/fraction-1: {said}, \
                     but the resources of a {called} that exists cannot be changed: delete the {called} and create it \
                     again"
                )
            );
        }
    }
}

#[test]
fn a_replaced_pod_with_the_same_words_becomes_the_same_pod() {
    let live = create("pods", &manifest("clear.ml/fraction-1: '0.5'"))
        .unwrap()
        .object;
    let replaced = update("pods", &live, &manifest("clear.ml/fraction-1: 500m")).unwrap();
    assert_eq!(replaced.object["spec"], live["spec"]);
    assert_eq!(record("pods", &replaced.object), record("pods", &live));
}

#[test]
fn other_updates_of_a_pod_go_through() {
    let live = create("pods", &manifest("clear.ml/fraction-1: '0.5'"))
        .unwrap()
        .object;
    for change in [
        |pod: &mut Value| pod["spec"]["containers"][0]["image"] = json!("j"),
        |pod: &mut Value| pod["metadata"]["labels"] = json!({"a": "b"}),
        |pod: &mut Value| pod["metadata"]["annotations"] = json!({}),
        |pod: &mut Value| pod["spec"]["nodeName"] = json!("n"),
        |pod: &mut Value| pod["status"] = json!({"phase": "Running"}),
    ] {
        let mut changed = live.clone();
        change(&mut changed);
        let decision = admission::review(
            &crate::server::request("pods", &changed, Some(&live)),
            &admission::Options::default(),
        );
        assert_eq!(decision, admission::Decision::default());
    }
}

#[test]
fn a_pod_that_was_created_without_the_webhook_is_left_alone() {
    for mut live in [
        manifest("clear.ml/fraction-1: 1"),
        manifest("clear.ml/fraction-1: 0"),
        json!({"metadata": {"labels": {"clearml-injector/fraction": "abc"}}, "spec": {"containers": [{"name": "a"}]}}),
    ] {
        let old = live.clone();
        live["metadata"]["annotations"] = json!({"a": "b"});
        let decision = admission::review(
            &crate::server::request("pods", &live, Some(&old)),
            &admission::Options::default(),
        );
        assert_eq!(decision, admission::Decision::default());
    }
}

#[test]
fn a_label_that_is_changed_too_late_is_a_warning() {
    let labelled = |share: &str| json!({"metadata": {"labels": {"clearml-injector/fraction": share}}, "spec": {"containers": [{"name": "a"}]}});
    let live = create("pods", &labelled("0.5")).unwrap().object;
    for share in ["0.25", "abc"] {
        let mut changed = live.clone();
        changed["metadata"]["labels"]["clearml-injector/fraction"] = json!(share);
        let stored = update("pods", &live, &changed).unwrap();
        assert!(stored.patch.is_empty());
        assert_eq!(
            stored.warnings,
            [
                "metadata.labels[\"clearml-injector/fraction\"] was changed, but the pod keeps what it was created with: \
              delete it and create it again to change its share"
            ]
        );
    }
    let mut unlabelled = live.clone();
    unlabelled["metadata"]["labels"] = json!({});
    assert!(update("pods", &live, &unlabelled).unwrap().patch.is_empty());
}

#[test]
fn a_suspended_job_may_still_be_changed() {
    let mut suspended = job("clear.ml/fraction-1: '0.5'");
    suspended["spec"]["suspend"] = json!(true);
    let live = applied("jobs", &suspended);
    let mut smaller = job("clear.ml/fraction-1: '0.25'");
    smaller["spec"]["suspend"] = json!(true);
    let stored = update("jobs", &live, &apply(Some(&live), &smaller)).unwrap();
    let limits = &container("jobs", &stored.object, 0)["resources"]["limits"];
    assert_eq!(*limits, json!({"cdmo.clear.ml/fraction-0.250": "1"}));
}

#[test]
fn a_patch_of_other_resources_of_a_pod_is_left_to_the_server() {
    let live = create("pods", &manifest("clear.ml/fraction-1: '0.5', cpu: 1"))
        .unwrap()
        .object;
    let mut changed = live.clone();
    changed["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("2");
    let decision = admission::review(
        &crate::server::request("pods", &changed, Some(&live)),
        &admission::Options::default(),
    );
    assert_eq!(decision, admission::Decision::default());
}

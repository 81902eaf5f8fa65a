//! What becomes of each form, in each kind of object.

use admission::Options;
use serde_json::{Value, json};

use crate::server::{class, container, create, record, request, store, update, variable, yaml};

const KINDS: [(&str, &str); 7] = [
    ("pods", "POD"),
    ("deployments", "{spec: {selector: {}, template: POD}}"),
    ("statefulsets", "{spec: {serviceName: s, template: POD}}"),
    ("daemonsets", "{spec: {selector: {}, template: POD}}"),
    ("replicasets", "{spec: {replicas: 3, template: POD}}"),
    ("jobs", "{spec: {backoffLimit: 0, template: POD}}"),
    (
        "cronjobs",
        "{spec: {schedule: '@daily', jobTemplate: {spec: {template: POD}}}}",
    ),
];

/// A pod with one container of these resources.
fn pod(resources: &str) -> String {
    format!(
        "{{metadata: {{labels: {{app: a}}}}, spec: {{containers: [{{name: main, resources: {resources}}}]}}}}"
    )
}

fn first(resource: &str, manifest: &Value) -> Value {
    let stored = create(resource, manifest).unwrap();
    container(resource, &stored.object, 0).clone()
}

#[test]
fn a_fraction_in_the_limits_becomes_a_class_in_every_kind_of_object() {
    for (resource, manifest) in KINDS {
        for resources in [
            "{limits: {clear.ml/fraction-1: '0.5'}}",
            "{limits: {clear.ml/fraction: '0.5'}, requests: {clear.ml/fraction: '0.5'}}",
            "{requests: {clear.ml/fraction-7: 500m}}",
        ] {
            let manifest = yaml(&manifest.replace("POD", &pod(resources)));
            let stored = create(resource, &manifest).unwrap();
            let main = container(resource, &stored.object, 0);
            assert_eq!(
                main["resources"],
                class("0.500", 1),
                "{resource} {resources}"
            );
            assert_eq!(variable(main), Some("0.5"));
            let asked = record(resource, &stored.object).unwrap()["main"]["asked"].clone();
            assert_eq!(
                asked.as_object().unwrap().values().next(),
                Some(&json!("0.5"))
            );
            assert_eq!(stored.warnings, [""; 0]);
        }
    }
}

#[test]
fn the_rules_name_every_kind_that_is_changed() {
    let named: Vec<_> = admission::resources()
        .map(|(_, resource)| resource)
        .collect();
    assert_eq!(named, KINDS.map(|(resource, _)| resource));
}

#[test]
fn what_is_written_down_can_be_read_by_people() {
    let manifest = yaml(&pod(
        "{limits: {clear.ml/fraction-1: '0.3', clear.ml/fraction-2: '2', cpu: 2}}",
    ));
    let stored = create("pods", &manifest).unwrap();
    assert_eq!(
        record("pods", &stored.object),
        Some(json!({"main": {
            "asked": {"clear.ml/fraction-1": "0.3", "clear.ml/fraction-2": "2"},
            "given": {"cdmo.clear.ml/fraction-0.500": 1, "cdmo.clear.ml/fraction-1.000": 2},
            "env": "0.3,1,1",
        }}))
    );
}

#[test]
fn every_number_of_a_container_is_one_gpus_share_and_like_ones_add_up() {
    for (limits, classes, reported) in [
        (
            "clear.ml/fraction-1: '0.5', clear.ml/fraction-2: '0.25'",
            vec![("0.250", 1), ("0.500", 1)],
            "0.5,0.25",
        ),
        (
            "clear.ml/fraction-1: '0.5', clear.ml/fraction-2: '0.4'",
            vec![("0.500", 2)],
            "0.5,0.4",
        ),
        (
            "clear.ml/fraction-1: '1', clear.ml/fraction-2: '1'",
            vec![("1.000", 2)],
            "1,1",
        ),
        ("clear.ml/fraction: 3", vec![("1.000", 3)], "1,1,1"),
        ("clear.ml/fraction: '0.0625'", vec![("0.125", 1)], "0.0625"),
        ("clear.ml/fraction: '0.750'", vec![("1.000", 1)], "0.75"),
        ("clear.ml/fraction: '5e-1'", vec![("0.500", 1)], "0.5"),
    ] {
        let main = first("pods", &yaml(&pod(&format!("{{limits: {{{limits}}}}}"))));
        let wanted: Value = classes
            .iter()
            .map(|(name, count)| {
                (
                    format!("cdmo.clear.ml/fraction-{name}"),
                    json!(count.to_string()),
                )
            })
            .collect::<serde_json::Map<_, _>>()
            .into();
        assert_eq!(
            main["resources"],
            json!({"limits": wanted, "requests": wanted}),
            "{limits}"
        );
        assert_eq!(variable(&main), Some(reported), "{limits}");
    }
}

#[test]
fn everything_else_in_a_container_stays_as_it_is() {
    let manifest = yaml(
        "{spec: {containers: [{name: main, image: i, env: [{name: A, value: b}], resources: {
            claims: [{name: c}],
            limits: {cpu: 2, clear.ml/fraction-1: '0.25', memory: 1Gi}, requests: {cpu: 1}}}]}}",
    );
    let mut wanted = manifest["spec"]["containers"][0].clone();
    wanted["env"] = json!([
        {"name": "A", "value": "b"},
        {"name": "CLEARML_AGENT_GPU_FRACTIONS", "value": "0.25"},
    ]);
    wanted["resources"] = json!({
        "claims": [{"name": "c"}],
        "limits": {"cpu": "2", "memory": "1Gi", "cdmo.clear.ml/fraction-0.250": "1"},
        "requests": {"cpu": "1", "cdmo.clear.ml/fraction-0.250": "1"},
    });
    let template = json!({"spec": {"template": manifest}});
    assert_eq!(first("deployments", &template), wanted);
}

#[test]
fn every_container_has_its_own_share() {
    let manifest = yaml(
        "{spec: {
            containers: [
                {name: a, resources: {limits: {clear.ml/fraction-1: '0.5'}}},
                {name: b},
                {name: c, resources: {limits: {clear.ml/fraction-1: '0.25'}}}],
            initContainers: [
                {name: d, resources: {limits: {clear.ml/fraction-1: '0.125'}}},
                {name: e, restartPolicy: Always, resources: {limits: {clear.ml/fraction: '1'}}}]}}",
    );
    let stored = create("pods", &manifest).unwrap();
    let resources = |index| container("pods", &stored.object, index)["resources"].clone();
    assert_eq!(resources(0), class("0.500", 1));
    assert_eq!(resources(1), Value::Null);
    assert_eq!(resources(2), class("0.250", 1));
    assert_eq!(resources(3), class("0.125", 1));
    assert_eq!(resources(4), class("1.000", 1));
    let names: Vec<_> = record("pods", &stored.object)
        .unwrap()
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(names, ["a", "c", "d", "e"]);
}

#[test]
fn label_and_annotation_are_for_the_one_container() {
    for (resource, manifest) in KINDS {
        for (metadata, name) in [
            (
                "labels: {clearml-injector/fraction: '0.250'}",
                "clearml-injector/fraction",
            ),
            ("annotations: {gpu-fraction: '0.25'}", "gpu-fraction"),
        ] {
            let pod =
                format!("{{metadata: {{{metadata}}}, spec: {{containers: [{{name: main}}]}}}}");
            let stored = create(resource, &yaml(&manifest.replace("POD", &pod))).unwrap();
            let main = container(resource, &stored.object, 0);
            assert_eq!(main["resources"], class("0.250", 1), "{resource} {name}");
            assert_eq!(variable(main), Some("0.25"));
            let asked = &record(resource, &stored.object).unwrap()["main"]["asked"];
            assert_eq!(*asked, json!({name: "0.25"}));
            assert_eq!(stored.warnings, [""; 0]);
        }
    }
}

#[test]
fn of_several_containers_the_first_gets_the_label_and_the_user_is_told() {
    let manifest = yaml(
        "{metadata: {labels: {clearml-injector/fraction: '2'}},
          spec: {initContainers: [{name: i}], containers: [{name: a}, {name: b}]}}",
    );
    let stored = create("pods", &manifest).unwrap();
    assert_eq!(
        container("pods", &stored.object, 0)["resources"],
        class("1.000", 2)
    );
    assert_eq!(
        container("pods", &stored.object, 1)["resources"],
        Value::Null
    );
    assert_eq!(
        stored.warnings,
        [
            "metadata.labels[\"clearml-injector/fraction\"] is for one container, and the pod has several; the first \
          one, \"a\", gets it: name clear.ml/fraction in the limits of those that shall have one"
        ]
    );
}

#[test]
fn a_variable_that_the_user_set_is_left_as_it_is() {
    for value in [
        "value: '0.9'",
        "valueFrom: {fieldRef: {fieldPath: metadata.name}}",
    ] {
        let manifest = yaml(&format!(
            "{{spec: {{containers: [{{name: main, env: [{{name: CLEARML_AGENT_GPU_FRACTIONS, {value}}}],
                resources: {{limits: {{clear.ml/fraction-1: '0.5'}}}}}}]}}}}"
        ));
        let stored = create("pods", &manifest).unwrap();
        let main = container("pods", &stored.object, 0);
        assert_eq!(main["env"], manifest["spec"]["containers"][0]["env"]);
        assert_eq!(
            record("pods", &stored.object).unwrap()["main"].get("env"),
            None
        );
    }
}

#[test]
fn what_has_no_form_is_never_touched() {
    for (resource, manifest) in KINDS {
        for pod in [
            "{spec: {containers: [{name: main}]}}",
            "{spec: {containers: [{name: main, resources: {limits: {nvidia.com/mig-3g.20gb: 1}}}]}}",
            "{spec: {containers: [{name: main, resources: {limits: {cdmo.clear.ml/fraction-0.500: 1}}}]}}",
            "{metadata: {labels: {required-resources: '0.5'}}, spec: {containers: []}}",
            "{metadata: {labels: {clearml-injector/fraction: '0.5'}}, spec: {containers: []}}",
            "{}",
            "3",
        ] {
            let manifest = yaml(&manifest.replace("POD", pod));
            let decision =
                admission::review(&request(resource, &manifest, None), &Options::default());
            assert_eq!(decision, admission::Decision::default(), "{resource} {pod}");
        }
    }
}

#[test]
fn our_own_namespace_and_deleted_objects_and_other_resources_are_never_touched() {
    let manifest = yaml(&pod("{limits: {clear.ml/fraction-1: '9.9'}}"));
    let untouched = |request: &Value| admission::review(request, &Options::default());
    let mut ours = request("pods", &manifest, None);
    ours["namespace"] = json!("cdmo-operator");
    assert_eq!(untouched(&ours), admission::Decision::default());

    let mut deleted = manifest.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let deleted = request("pods", &deleted, Some(&manifest));
    assert_eq!(untouched(&deleted), admission::Decision::default());

    for operation in ["DELETE", "CONNECT", "", "ANYTHING"] {
        let mut other = request("pods", &manifest, None);
        other["operation"] = json!(operation);
        assert_eq!(
            untouched(&other),
            admission::Decision::default(),
            "{operation}"
        );
    }
    let mut subresource = request("pods", &manifest, None);
    subresource["subResource"] = json!("status");
    assert_eq!(untouched(&subresource), admission::Decision::default());

    let mut service = request("pods", &manifest, None);
    service["resource"]["resource"] = json!("services");
    let decision = untouched(&service);
    assert!(decision.patch.is_empty() && decision.denial.is_none());
    assert_eq!(
        decision.warnings,
        [
            "the webhook for fractions was asked about \"services\", which it never changes: its rules are for pods, \
          deployments, statefulsets, daemonsets, replicasets, jobs and cronjobs only"
        ]
    );
}

#[test]
fn a_replicaset_of_a_deployment_is_left_to_its_owner() {
    let mut manifest = yaml(&format!(
        "{{spec: {{template: {}}}}}",
        pod("{limits: {clear.ml/fraction-1: 1}}")
    ));
    manifest["metadata"]["ownerReferences"] = json!([{"kind": "Deployment", "controller": true}]);
    assert!(create("replicasets", &manifest).unwrap().patch.is_empty());
    manifest["metadata"]["ownerReferences"] = json!([{"kind": "Whatever"}]);
    assert!(!create("replicasets", &manifest).unwrap().patch.is_empty());
    // A Job of a CronJob is created by somebody who does not look at it again.
    manifest["metadata"]["ownerReferences"] = json!([{"kind": "CronJob", "controller": true}]);
    assert!(!create("jobs", &manifest).unwrap().patch.is_empty());
}

#[test]
fn forms_that_the_administrator_turned_off_do_not_count() {
    let options = Options {
        label: false,
        annotation: false,
        ..Options::default()
    };
    let manifest = yaml(
        "{metadata: {labels: {clearml-injector/fraction: abc}, annotations: {gpu-fraction: '1.3'}},
          spec: {containers: [{name: main}]}}",
    );
    let stored = store("pods", &manifest, None, &options).unwrap();
    assert!(stored.patch.is_empty() && stored.warnings.is_empty());

    // What was given because of a label while it counted is not taken away from the pods of a template.
    let manifest = yaml(
        "{metadata: {labels: {clearml-injector/fraction: '0.5'}}, spec: {containers: [{name: main}]}}",
    );
    let given = create("pods", &manifest).unwrap().object;
    assert!(
        store("pods", &given, None, &options)
            .unwrap()
            .patch
            .is_empty()
    );
}

#[test]
fn pods_that_ask_for_slices_get_the_gate_and_others_do_not() {
    let options = Options {
        gate: Some("cdmo.clear.ml/devices".into()),
        ..Options::default()
    };
    let gates = |manifest: &str| {
        let stored = store("pods", &yaml(manifest), None, &options).unwrap();
        assert!(
            store("pods", &stored.object, None, &options)
                .unwrap()
                .patch
                .is_empty()
        );
        stored.object["spec"]["schedulingGates"].clone()
    };
    let ours = json!({"name": "cdmo.clear.ml/devices"});
    for limits in [
        "clear.ml/fraction-1: '0.5'",
        "cdmo.clear.ml/fraction-0.500: 1",
        "nvidia.com/mig-3g.20gb: 1",
        "nvidia.com/mig-3g.20gb: 1, clear.ml/fraction-1: '0.5'",
    ] {
        let manifest = pod(&format!("{{limits: {{{limits}}}}}"));
        assert_eq!(gates(&manifest), json!([ours]), "{limits}");
    }
    let label = "{metadata: {labels: {clearml-injector/fraction: '0.5'}},
        spec: {schedulingGates: [{name: other}], containers: [{name: main}]}}";
    assert_eq!(gates(label), json!([{"name": "other"}, ours]));

    assert_eq!(gates(&pod("{limits: {nvidia.com/gpu: 1}}")), Value::Null);
    assert_eq!(gates(&pod("{limits: {cpu: 1}}")), Value::Null);
    let bound = "{spec: {nodeName: a, containers: [{name: main, resources: {limits: {clear.ml/fraction: '1'}}}]}}";
    assert_eq!(gates(bound), Value::Null);

    let template =
        json!({"spec": {"template": yaml(&pod("{limits: {clear.ml/fraction-1: '0.5'}}"))}});
    let stored = store("deployments", &template, None, &options).unwrap();
    assert_eq!(
        stored.object["spec"]["template"]["spec"].get("schedulingGates"),
        None
    );

    let created = create(
        "pods",
        &yaml(&pod("{limits: {clear.ml/fraction-1: '0.5'}}")),
    )
    .unwrap();
    let mut changed = created.object.clone();
    changed["metadata"]["labels"]["x"] = json!("y");
    let stored = update("pods", &created.object, &changed).unwrap();
    assert!(
        stored.patch.is_empty(),
        "a gate can be set at creation only"
    );
}

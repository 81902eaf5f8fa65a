//! Updates of templates: the user's newest word counts, and what nobody said is not done.

use serde_json::{Value, json};

use crate::kubectl::apply;
use crate::server::{Stored, class, container, create, record, update, variable, yaml};

const KINDS: [&str; 5] = [
    "deployments",
    "statefulsets",
    "daemonsets",
    "replicasets",
    "cronjobs",
];

fn workload(resource: &str, pod: &Value) -> Value {
    match resource {
        "cronjobs" => json!({"spec": {"jobTemplate": {"spec": {"template": pod}}}}),
        _ => json!({"spec": {"template": pod}}),
    }
}

fn manifest(resource: &str, limits: &str) -> Value {
    let pod = yaml(&format!(
        "{{spec: {{containers: [{{name: main, image: i, resources: {{limits: {{{limits}}}}}}}]}}}}"
    ));
    workload(resource, &pod)
}

fn first<'a>(resource: &str, object: &'a Value) -> &'a Value {
    container(resource, object, 0)
}

/// One manifest after the other.
fn applied(resource: &str, manifests: &[&str]) -> Stored {
    let mut manifests = manifests.iter().map(|limits| manifest(resource, limits));
    let manifest = manifests.next().unwrap();
    let mut stored = create(resource, &apply(None, &manifest)).unwrap();
    for manifest in manifests {
        let live = stored.object;
        stored = update(resource, &live, &apply(Some(&live), &manifest)).unwrap();
    }
    stored
}

#[test]
fn applying_the_same_manifest_again_changes_nothing() {
    for resource in KINDS {
        for limits in [
            "clear.ml/fraction-1: '0.5'",
            "clear.ml/fraction-1: '0.5', clear.ml/fraction-2: '2', cpu: 2",
            "clear.ml/fraction-1: '0.5', nvidia.com/mig-3g.20gb: 1",
            "clear.ml/fraction-1: '1', nvidia.com/mig-3g.20gb: 1",
        ] {
            let once = applied(resource, &[limits]).object;
            assert_eq!(
                applied(resource, &[limits, limits]).object,
                once,
                "{resource} {limits}"
            );
        }
    }
}

#[test]
fn the_newest_fraction_counts() {
    for resource in KINDS {
        let stored = applied(
            resource,
            &["clear.ml/fraction-1: '0.5'", "clear.ml/fraction-1: '0.25'"],
        );
        let main = first(resource, &stored.object);
        assert_eq!(main["resources"], class("0.250", 1), "{resource}");
        assert_eq!(variable(main), Some("0.25"));
        assert_eq!(main["env"].as_array().unwrap().len(), 1);
        let asked = &record(resource, &stored.object).unwrap()["main"]["asked"];
        assert_eq!(*asked, json!({"clear.ml/fraction-1": "0.25"}));
    }
}

#[test]
fn every_way_of_words_ends_where_the_last_manifest_alone_would_end() {
    let words = [
        "clear.ml/fraction-1: '0.5'",
        "clear.ml/fraction-1: '0.25'",
        "clear.ml/fraction-2: '0.25'",
        "clear.ml/fraction-1: '0.5', clear.ml/fraction-2: '0.25'",
        "clear.ml/fraction: '2', cpu: 1",
        "clear.ml/fraction-1: '0.5', nvidia.com/mig-3g.20gb: 1",
        "clear.ml/fraction-1: '0.5', nvidia.com/mig-2g.10gb: 1",
        "nvidia.com/mig-3g.20gb: 1",
        "cpu: 1",
    ];
    let essence = |stored: &Stored| {
        let main = first("deployments", &stored.object);
        (
            main["resources"].clone(),
            variable(main).map(str::to_owned),
            record("deployments", &stored.object),
        )
    };
    for one in words {
        for two in words {
            for three in words {
                let alone = essence(&applied("deployments", &[three]));
                let mut after = essence(&applied("deployments", &[one, two, three]));
                // A list that became empty is as good as none.
                if after.0["requests"].is_null() && alone.0["requests"].is_null() {
                    after.0["requests"] = alone.0["requests"].clone();
                }
                assert_eq!(
                    after.0["limits"], alone.0["limits"],
                    "{one} | {two} | {three}"
                );
                assert_eq!(after.1, alone.1, "{one} | {two} | {three}");
                assert_eq!(after.2, alone.2, "{one} | {two} | {three}");
            }
        }
    }
}

#[test]
fn a_fraction_that_is_gone_from_the_applied_manifest_is_taken_back() {
    for resource in KINDS {
        let stored = applied(resource, &["clear.ml/fraction-1: '0.5', cpu: 1", "cpu: 1"]);
        let main = first(resource, &stored.object);
        assert_eq!(
            main["resources"]["limits"],
            json!({"cpu": "1"}),
            "{resource}"
        );
        assert_eq!(main["resources"].get("requests"), None);
        assert_eq!(
            (variable(main), record(resource, &stored.object)),
            (None, None)
        );
    }
}

#[test]
fn a_fraction_that_is_gone_from_a_server_side_apply_is_taken_back() {
    let fields = |limits: Value| {
        json!([{"manager": "argocd", "operation": "Apply", "fieldsV1": {
            "f:spec": {"f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"main\"}": {"f:resources": {"f:limits": limits}},
            }}}},
        }}])
    };
    let mut live = create(
        "deployments",
        &manifest("deployments", "clear.ml/fraction-1: '0.5'"),
    )
    .unwrap()
    .object;
    live["metadata"]["managedFields"] = fields(json!({"f:clear.ml/fraction-1": {}}));
    let mut next = live.clone();
    next["metadata"]["managedFields"] = fields(json!({}));
    next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j");
    let stored = update("deployments", &live, &next).unwrap();
    assert_eq!(first("deployments", &stored.object)["resources"], json!({}));
    assert_eq!(record("deployments", &stored.object), None);
}

#[test]
fn where_nothing_proves_that_it_was_taken_back_it_stays() {
    let live = create(
        "deployments",
        &manifest("deployments", "clear.ml/fraction-1: '0.5'"),
    )
    .unwrap()
    .object;
    let mut next = live.clone();
    next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j");
    let stored = update("deployments", &live, &next).unwrap();
    assert!(stored.patch.is_empty());
    // Also where the manifest in it never named one.
    next["metadata"]["annotations"] = json!({
        "kubectl.kubernetes.io/last-applied-configuration": manifest("deployments", "cpu: 1").to_string(),
    });
    assert!(
        update("deployments", &live, &next)
            .unwrap()
            .patch
            .is_empty()
    );
}

#[test]
fn a_patch_that_names_one_more_fraction_adds_it() {
    let live = create(
        "deployments",
        &manifest("deployments", "clear.ml/fraction-1: '0.5'"),
    )
    .unwrap()
    .object;
    let mut next = live.clone();
    let limits = &mut next["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    limits["clear.ml/fraction-2"] = json!("250m");
    let stored = update("deployments", &live, &next).unwrap();
    let main = first("deployments", &stored.object);
    assert_eq!(
        main["resources"]["limits"],
        json!({"cdmo.clear.ml/fraction-0.500": "1", "cdmo.clear.ml/fraction-0.250": "1"})
    );
    assert_eq!(variable(main), Some("0.5,0.25"));
}

#[test]
fn classes_changed_by_hand_are_the_users_own_word() {
    let live = create(
        "deployments",
        &manifest("deployments", "clear.ml/fraction-1: '0.5'"),
    )
    .unwrap()
    .object;
    for by_hand in [
        class("0.250", 1),
        class("0.500", 2),
        json!({"limits": {"cpu": "1"}}),
        json!({}),
    ] {
        let mut next = live.clone();
        next["spec"]["template"]["spec"]["containers"][0]["resources"] = by_hand.clone();
        let stored = update("deployments", &live, &next).unwrap();
        let main = first("deployments", &stored.object);
        assert_eq!(main["resources"], by_hand);
        assert_eq!(
            (variable(main), record("deployments", &stored.object)),
            (None, None)
        );
    }
}

#[test]
fn a_profile_added_later_rules_and_when_it_goes_the_fraction_is_back() {
    let live = create(
        "deployments",
        &manifest("deployments", "clear.ml/fraction-1: '0.5'"),
    )
    .unwrap()
    .object;
    let mut next = live.clone();
    let limits = &mut next["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    limits["nvidia.com/mig-3g.20gb"] = json!("1");
    let with = update("deployments", &live, &next).unwrap().object;
    let main = first("deployments", &with);
    assert_eq!(
        main["resources"],
        json!({"limits": {"nvidia.com/mig-3g.20gb": "1"}})
    );

    let mut next = with.clone();
    next["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({});
    let without = update("deployments", &with, &next).unwrap().object;
    assert_eq!(
        first("deployments", &without)["resources"],
        class("0.500", 1)
    );
}

#[test]
fn the_newest_label_counts_and_a_label_that_is_gone_is_gone() {
    let labelled = |share: Option<&str>| {
        let labels = share.map_or(
            json!({}),
            |share| json!({"clearml-injector/fraction": share}),
        );
        let pod =
            json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main"}]}});
        workload("statefulsets", &pod)
    };
    let half = create("statefulsets", &apply(None, &labelled(Some("0.5"))))
        .unwrap()
        .object;
    let quarter = update(
        "statefulsets",
        &half,
        &apply(Some(&half), &labelled(Some("0.25"))),
    )
    .unwrap();
    assert_eq!(
        first("statefulsets", &quarter.object)["resources"],
        class("0.250", 1)
    );
    let none = update("statefulsets", &half, &apply(Some(&half), &labelled(None))).unwrap();
    assert_eq!(first("statefulsets", &none.object)["resources"], json!({}));
    assert_eq!(record("statefulsets", &none.object), None);
}

#[test]
fn a_limit_in_another_container_takes_the_labels_place() {
    let mut pod = json!({
        "metadata": {"labels": {"clearml-injector/fraction": "0.5"}},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
    });
    let live = create("deployments", &workload("deployments", &pod))
        .unwrap()
        .object;
    assert_eq!(
        container("deployments", &live, 0)["resources"],
        class("0.500", 1)
    );
    pod = live["spec"]["template"].clone();
    pod["spec"]["containers"][1]["resources"] = json!({"limits": {"clear.ml/fraction": "0.5"}});
    let stored = update("deployments", &live, &workload("deployments", &pod)).unwrap();
    assert_eq!(
        container("deployments", &stored.object, 0)["resources"],
        json!({})
    );
    assert_eq!(variable(container("deployments", &stored.object, 0)), None);
    assert_eq!(
        container("deployments", &stored.object, 1)["resources"],
        class("0.500", 1)
    );
}

#[test]
fn an_update_that_leaves_the_template_alone_is_let_through_whatever_is_in_it() {
    for limits in [
        "clear.ml/fraction-1: 0",
        "clear.ml/fraction-1: abc",
        "clear.ml/fraction-1: 1",
    ] {
        let live = manifest("deployments", limits);
        let mut next = live.clone();
        next["spec"]["replicas"] = json!(3);
        next["metadata"] = json!({"finalizers": []});
        let request = crate::server::request("deployments", &next, Some(&live));
        let decision = admission::review(&request, &admission::Options::default());
        assert_eq!(decision, admission::Decision::default());
    }
}

#[test]
fn the_pods_of_a_changed_template_need_no_change() {
    for limits in [
        "clear.ml/fraction-1: '0.5', clear.ml/fraction-2: 1",
        "clear.ml/fraction-1: '0.5', nvidia.com/mig-3g.20gb: 1",
        "clear.ml/fraction-1: '1', nvidia.com/mig-3g.20gb: 1",
    ] {
        let stored = create("deployments", &manifest("deployments", limits)).unwrap();
        let pod = create("pods", &stored.object["spec"]["template"]).unwrap();
        assert!(pod.patch.is_empty(), "{limits}");
    }
}

#[test]
fn a_record_that_users_made_up_gives_them_nothing() {
    for text in [
        "{}",
        "garbage",
        "[1]",
        r#"{"main":{"asked":{"clear.ml/fraction-1":"1"},"given":{"cdmo.clear.ml/fraction-1.000":1}}}"#,
        r#"{"main":{"asked":{"clear.ml/fraction-1":"-1"}}}"#,
        r#"{"main":{"asked":{"clear.ml/fraction-1":"1e99"},"given":{}}}"#,
        r#"{"other":{"asked":{"clear.ml/fraction-1":"1"},"given":{}}}"#,
    ] {
        let mut deployment = manifest("deployments", "cpu: 1");
        deployment["spec"]["template"]["metadata"] =
            json!({"annotations": {admission::RECORD_ANNOTATION: text}});
        let stored = create("deployments", &deployment).unwrap();
        let main = first("deployments", &stored.object);
        assert_eq!(main["resources"], json!({"limits": {"cpu": "1"}}), "{text}");
    }
}

//! Laws of the patch types, and the cases that kubectl and kube send.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn by(manager: &str) -> Applied<'_> {
    Applied {
        manager,
        force: false,
        subresource: "",
        api_version: "v1",
        time: "2026-01-01T00:00:00Z",
    }
}

fn strategic_of(mut object: Value, patch: &Value) -> Value {
    strategic(&mut object, patch).unwrap();
    object
}

#[test]
fn containers_merge_by_name_and_keep_what_the_patch_does_not_name() {
    let pod = json!({"spec": {"containers": [
        {"name": "a", "image": "x", "env": [{"name": "P", "value": "1"}]},
        {"name": "b", "image": "y"},
    ]}});
    let patch = json!({"spec": {"containers": [
        {"name": "a", "image": "z", "env": [{"name": "Q", "value": "2"}]},
    ]}});
    assert_eq!(
        strategic_of(pod, &patch),
        json!({"spec": {"containers": [
            {"name": "a", "image": "z",
             "env": [{"name": "P", "value": "1"}, {"name": "Q", "value": "2"}]},
            {"name": "b", "image": "y"},
        ]}})
    );
}

#[test]
fn conditions_merge_by_type() {
    let pod = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"},
    ]}});
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(
        strategic_of(pod, &patch),
        json!({"status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"},
        ]}})
    );
}

#[test]
fn tolerations_and_taints_are_replaced_as_a_whole() {
    let node = json!({"spec": {"taints": [{"key": "a"}], "tolerations": [{"key": "a"}]}});
    let patch = json!({"spec": {"taints": [{"key": "b"}], "tolerations": [{"key": "b"}]}});
    assert_eq!(strategic_of(node, &patch), patch);
}

#[test]
fn a_delete_directive_takes_one_item_out() {
    let pod = json!({"spec": {"volumes": [{"name": "a"}, {"name": "b"}]}});
    let patch = json!({"spec": {"volumes": [{"name": "a", "$patch": "delete"}]}});
    assert_eq!(
        strategic_of(pod, &patch),
        json!({"spec": {"volumes": [{"name": "b"}]}})
    );
}

#[test]
fn a_replace_directive_replaces_the_list_or_the_object() {
    let pod = json!({"spec": {"volumes": [{"name": "a"}], "x": {"old": 1}}});
    let patch = json!({"spec": {
        "volumes": [{"$patch": "replace"}, {"name": "c"}],
        "x": {"$patch": "replace", "new": 2},
    }});
    assert_eq!(
        strategic_of(pod, &patch),
        json!({"spec": {"volumes": [{"name": "c"}], "x": {"new": 2}}})
    );
}

#[test]
fn retain_keys_removes_the_other_members() {
    let pod = json!({"spec": {"volumes": [{"name": "a", "emptyDir": {}}]}});
    let patch = json!({"spec": {"volumes": [
        {"name": "a", "hostPath": {"path": "/"}, "$retainKeys": ["name", "hostPath"]},
    ]}});
    assert_eq!(
        strategic_of(pod, &patch),
        json!({"spec": {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}})
    );
}

#[test]
fn the_order_of_the_users_file_wins_and_foreign_items_keep_their_place() {
    let pod = json!({"spec": {"containers": [
        {"name": "a"}, {"name": "injected"}, {"name": "b"},
    ]}});
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "c"}],
        "containers": [{"name": "c"}],
    }});
    let merged = strategic_of(pod, &patch);
    let names: Vec<_> = merged["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names
            .iter()
            .filter(|n| **n != "injected")
            .collect::<Vec<_>>(),
        [&"b", &"a", &"c"]
    );
    assert!(names.contains(&"injected"));
}

#[test]
fn finalizers_are_a_set() {
    let object = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {
        "finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"],
    }});
    assert_eq!(
        strategic_of(object, &patch),
        json!({"metadata": {"finalizers": ["b", "c"]}})
    );
}

#[test]
fn a_strategic_patch_without_merge_key_or_with_an_unknown_directive_is_refused() {
    let mut pod = json!({});
    let keyless = json!({"spec": {"containers": [{"image": "x"}]}});
    assert!(strategic(&mut pod, &keyless).is_err());
    assert!(strategic(&mut pod, &json!({"spec": {"$patch": "explode"}})).is_err());
    assert!(strategic(&mut pod, &json!([1])).is_err());
}

#[test]
fn apply_removes_what_its_manager_no_longer_states_and_nothing_else() {
    let mut object = json!({"metadata": {"name": "x", "labels": {"foreign": "1"}}});
    let first = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    apply(&mut object, &first, by("me")).unwrap();
    let second = json!({"metadata": {"labels": {"b": "3"}}});
    apply(&mut object, &second, by("me")).unwrap();
    assert_eq!(
        object["metadata"]["labels"],
        json!({"foreign": "1", "b": "3"})
    );
    assert_eq!(
        object["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn apply_is_refused_a_field_of_another_manager_unless_forced() {
    let mut object = json!({"metadata": {"name": "x"}});
    let mine = json!({"metadata": {"labels": {"a": "1"}}});
    apply(&mut object, &mine, by("me")).unwrap();
    apply(&mut object, &mine, by("agrees")).unwrap();
    let other = json!({"metadata": {"labels": {"a": "2"}}});
    let refused = apply(&mut object.clone(), &other, by("other")).unwrap_err();
    assert_eq!(
        refused,
        PatchError::Conflicts(vec![
            ("me".into(), ".metadata.labels.a".into()),
            ("agrees".into(), ".metadata.labels.a".into()),
        ])
    );
    apply(
        &mut object,
        &other,
        Applied {
            force: true,
            ..by("other")
        },
    )
    .unwrap();
    assert_eq!(object["metadata"]["labels"]["a"], "2");
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(
        managers.len(),
        1,
        "the others own nothing any more: {managers:?}"
    );
}

#[test]
fn apply_merges_keyed_lists_and_removes_its_own_items() {
    let mut pod = json!({"spec": {"containers": [{"name": "foreign", "image": "f"}]}});
    let two = json!({"spec": {"containers": [
        {"name": "a", "image": "x", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "y"},
    ]}});
    apply(&mut pod, &two, by("me")).unwrap();
    let one = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
    apply(&mut pod, &one, by("me")).unwrap();
    assert_eq!(
        pod["spec"]["containers"],
        json!([{"name": "foreign", "image": "f"}, {"name": "a", "image": "x"}])
    );
}

#[test]
fn a_plain_write_takes_over_the_applied_field_that_it_changes() {
    let mut object = json!({"metadata": {"name": "x"}});
    let mine = json!({"metadata": {"labels": {"a": "1", "b": "1"}}});
    apply(&mut object, &mine, by("me")).unwrap();
    let old = object.clone();
    object["metadata"]["labels"]["a"] = "2".into();
    note_update(&old, &mut object, by("editor"));
    let refused = apply(&mut object, &mine, by("me")).unwrap_err();
    assert_eq!(
        refused,
        PatchError::Conflicts(vec![("editor".into(), ".metadata.labels.a".into())])
    );
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..5_i32).prop_map(Value::from),
        "[a-c]{1,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn json_object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", json_value(), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn containers() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-e]", "[x-z]", 0..5).prop_map(|items| {
        let items: Vec<Value> = items
            .into_iter()
            .map(|(name, image)| json!({"name": name, "image": image}))
            .collect();
        json!({"spec": {"containers": items}})
    })
}

fn image<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    pod["spec"]["containers"]
        .as_array()?
        .iter()
        .find(|c| c["name"] == name)?
        .get("image")
}

proptest! {
    #[test]
    fn a_merge_patch_changes_nothing_the_second_time(
        object in json_object(), patch in json_object(),
    ) {
        let mut once = object;
        merge(&mut once, &patch).unwrap();
        let mut twice = once.clone();
        merge(&mut twice, &patch).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn without_keyed_lists_a_strategic_patch_is_a_merge_patch(
        object in json_object(), patch in json_object(),
    ) {
        let mut merged = object.clone();
        merge(&mut merged, &patch).unwrap();
        prop_assert_eq!(strategic_of(object, &patch), merged);
    }

    #[test]
    fn a_strategic_patch_of_a_keyed_list_is_a_union_in_which_the_patch_wins(
        object in containers(), patch in containers(),
    ) {
        let merged = strategic_of(object.clone(), &patch);
        for name in ["a", "b", "c", "d", "e"] {
            prop_assert_eq!(image(&merged, name), image(&patch, name).or(image(&object, name)));
        }
        prop_assert_eq!(strategic_of(merged.clone(), &patch), merged);
    }

    #[test]
    fn applying_the_same_twice_changes_nothing_and_applying_nothing_takes_all_back(
        object in json_object(), config in json_object(),
    ) {
        let mut start = json!({"spec": object, "metadata": {"name": "x"}});
        apply(&mut start, &json!({"metadata": {"labels": {"l": "1"}}}), by("base")).unwrap();
        let config = json!({"status": config});
        let mut once = start.clone();
        apply(&mut once, &config, by("me")).unwrap();
        let mut twice = once.clone();
        apply(&mut twice, &config, by("me")).unwrap();
        prop_assert_eq!(&once, &twice);
        apply(&mut twice, &json!({}), by("me")).unwrap();
        prop_assert_eq!(start, twice);
    }

    #[test]
    fn field_sets_survive_being_written_down(object in json_object(), pod in containers()) {
        for object in [json!({"spec": object}), pod] {
            let mut paths = fields::fields_of(&object);
            let mut again = fields::decode(&fields::encode(&paths));
            paths.sort_by_key(|path| fields::display(path));
            again.sort_by_key(|path| fields::display(path));
            prop_assert_eq!(paths, again);
        }
    }
}

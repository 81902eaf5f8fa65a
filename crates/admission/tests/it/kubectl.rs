//! `kubectl apply` from the client's side: the three-way merge, by names in lists.

use serde_json::{Value, json};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object that kubectl wants after a manifest is applied to what lives in the cluster.
pub(crate) fn apply(live: Option<&Value>, manifest: &Value) -> Value {
    let last = live
        .and_then(|live| live["metadata"]["annotations"][LAST_APPLIED].as_str())
        .map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
    let mut object = merge(&last, manifest, live.unwrap_or(&Value::Null));
    object["metadata"]["annotations"][LAST_APPLIED] = json!(manifest.to_string());
    object
}

fn merge(last: &Value, manifest: &Value, live: &Value) -> Value {
    match (manifest, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let mut merged = live.clone();
            for name in last.as_object().into_iter().flatten().map(|(name, _)| name) {
                if !wanted.contains_key(name) {
                    merged.remove(name);
                }
            }
            for (name, value) in wanted {
                let live = live.get(name).unwrap_or(&Value::Null);
                merged.insert(name.clone(), merge(&last[name], value, live));
            }
            Value::Object(merged)
        }
        (Value::Array(wanted), Value::Array(live))
            if wanted.iter().all(|item| item["name"].is_string()) =>
        {
            let find = |list: &[Value], name: &Value| {
                list.iter().find(|item| item["name"] == *name).cloned()
            };
            let last = last.as_array().cloned().unwrap_or_default();
            let kept = live.iter().filter(|item| {
                find(&last, &item["name"]).is_none() || find(wanted, &item["name"]).is_some()
            });
            let mut merged: Vec<Value> = kept
                .map(|item| match find(wanted, &item["name"]) {
                    Some(wanted) => merge(
                        &find(&last, &item["name"]).unwrap_or_default(),
                        &wanted,
                        item,
                    ),
                    None => item.clone(),
                })
                .collect();
            let added = wanted
                .iter()
                .filter(|item| find(live, &item["name"]).is_none());
            merged.extend(added.cloned());
            Value::Array(merged)
        }
        _ => manifest.clone(),
    }
}

#[test]
fn a_merge_keeps_what_others_added_and_drops_what_the_user_dropped() {
    let first = json!({"a": 1, "list": [{"name": "x", "v": 1}, {"name": "y"}]});
    let mut live = apply(None, &first);
    live["ours"] = json!(2);
    live["list"][0]["ours"] = json!(3);
    let second = json!({"b": 1, "list": [{"name": "x", "v": 2}]});
    let mut merged = apply(Some(&live), &second);
    merged.as_object_mut().unwrap().remove("metadata");
    let wanted = json!({"b": 1, "ours": 2, "list": [{"name": "x", "v": 2, "ours": 3}]});
    assert_eq!(merged, wanted);
}

//! What the API server does around the webhook: defaults before it, validation after it.

use admission::{Decision, Operation, Options};
use serde_json::{Map, Value, json};

pub(crate) const LISTS: [&str; 2] = ["containers", "initContainers"];

/// What was stored, and what the webhook said.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) object: Value,
    pub(crate) patch: Vec<Operation>,
    pub(crate) warnings: Vec<String>,
}

/// Reads a manifest.
pub(crate) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Where an object's pod is.
pub(crate) fn pointer(resource: &str) -> &'static str {
    match resource {
        "pods" => "",
        "cronjobs" => "/spec/jobTemplate/spec/template",
        _ => "/spec/template",
    }
}

fn group(resource: &str) -> &'static str {
    match resource {
        "pods" => "",
        "jobs" | "cronjobs" => "batch",
        _ => "apps",
    }
}

/// The request of an `AdmissionReview`.
pub(crate) fn request(resource: &str, object: &Value, old: Option<&Value>) -> Value {
    json!({
        "uid": "d6a1b1d0-6a0c-4a0e-8f0a-000000000001",
        "kind": {"group": group(resource), "version": "v1", "kind": "Whatever"},
        "resource": {"group": group(resource), "version": "v1", "resource": resource},
        "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
        "namespace": "tenant-a",
        "object": object,
        "oldObject": old,
    })
}

/// Creates an object.
pub(crate) fn create(resource: &str, manifest: &Value) -> Result<Stored, String> {
    store(resource, manifest, None, &Options::default())
}

/// Puts an object in the place of one.
pub(crate) fn update(resource: &str, old: &Value, new: &Value) -> Result<Stored, String> {
    store(resource, new, Some(old), &Options::default())
}

pub(crate) fn store(
    resource: &str,
    object: &Value,
    old: Option<&Value>,
    options: &Options,
) -> Result<Stored, String> {
    let mut object = object.clone();
    canonical(&mut object, resource);
    let Decision {
        patch,
        warnings,
        denial,
    } = admission::review(&request(resource, &object, old), options);
    if let Some(denial) = denial {
        assert!(patch.is_empty());
        return Err(denial);
    }
    let object = patched(&object, &patch);
    validate(resource, &object, old)?;
    Ok(Stored {
        object,
        patch,
        warnings,
    })
}

/// Applies a patch as the API server does, all or nothing.
pub(crate) fn patched(object: &Value, patch: &[Operation]) -> Value {
    let mut object = object.clone();
    let steps: json_patch::Patch = serde_json::from_value(json!(patch)).unwrap();
    json_patch::patch(&mut object, &steps).unwrap();
    object
}

/// Quantities as Kubernetes prints them; in pods, requests as limits.
fn canonical(object: &mut Value, resource: &str) {
    let Some(spec) = object.pointer_mut(&format!("{}/spec", pointer(resource))) else {
        return;
    };
    for list in LISTS {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let Some(resources) = container.get_mut("resources") else {
                continue;
            };
            for list in ["limits", "requests"] {
                for amount in resources
                    .get_mut(list)
                    .and_then(Value::as_object_mut)
                    .into_iter()
                    .flat_map(Map::values_mut)
                {
                    *amount = json!(quantity(amount));
                }
            }
            if resource == "pods"
                && let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned()
            {
                for (name, amount) in limits {
                    let requests = &mut resources["requests"];
                    if requests.get(&name).is_none() {
                        requests[name] = amount;
                    }
                }
            }
        }
    }
}

fn quantity(amount: &Value) -> String {
    let text = amount
        .as_str()
        .map_or_else(|| amount.to_string(), str::to_owned);
    match text.parse::<f64>() {
        Ok(number) if number.fract() != 0.0 => format!("{}m", number * 1000.0),
        Ok(number) if number.abs() < 1e15 => number.to_string(),
        _ => text,
    }
}

/// Containers of an object's pod, both lists.
pub(crate) fn containers<'a>(resource: &str, object: &'a Value) -> Vec<&'a Value> {
    let spec = object.pointer(&format!("{}/spec", pointer(resource)));
    LISTS
        .into_iter()
        .filter_map(|list| spec?.get(list)?.as_array())
        .flatten()
        .collect()
}

/// The API server's own rules, as far as they touch us.
fn validate(resource: &str, object: &Value, old: Option<&Value>) -> Result<(), String> {
    for container in containers(resource, object) {
        let amounts = |list: &str| {
            let amounts = container["resources"][list].as_object();
            amounts
                .into_iter()
                .flatten()
                .filter(|(name, _)| name.contains('/'))
        };
        for (name, amount) in amounts("limits").chain(amounts("requests")) {
            let whole = amount
                .as_str()
                .is_some_and(|text| text.parse::<u64>().is_ok());
            if !whole {
                return Err(format!(
                    "the API server refuses {name}: {amount}: must be an integer"
                ));
            }
        }
        for (name, amount) in amounts("requests") {
            if container["resources"]["limits"].get(name) != Some(amount) {
                return Err(format!(
                    "the API server refuses {name}: limits and requests differ"
                ));
            }
        }
    }
    let Some(old) = old else {
        return Ok(());
    };
    let part = |object: &Value| match resource {
        "pods" => object["spec"].clone(),
        "jobs" if old["spec"]["suspend"] != json!(true) => object["spec"]["template"].clone(),
        _ => Value::Null,
    };
    let without_images = |mut part: Value| {
        let mut forget = |list: &str| {
            for container in part[list].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
        };
        if resource == "pods" {
            LISTS.into_iter().for_each(&mut forget);
        }
        part
    };
    if without_images(part(old)) == without_images(part(object)) {
        Ok(())
    } else {
        Err("the API server refuses: field is immutable".into())
    }
}

/// The n-th container of an object's pod.
pub(crate) fn container<'a>(resource: &str, object: &'a Value, index: usize) -> &'a Value {
    containers(resource, object)[index]
}

/// The value of ClearML's variable in a container.
pub(crate) fn variable(container: &Value) -> Option<&str> {
    container["env"]
        .as_array()?
        .iter()
        .find(|variable| variable["name"] == admission::FRACTIONS_VARIABLE)?["value"]
        .as_str()
}

/// What is written down of an object.
pub(crate) fn record(resource: &str, object: &Value) -> Option<Value> {
    let text = object
        .pointer(pointer(resource))?
        .pointer("/metadata/annotations/cdmo.clear.ml~1fractions")?
        .as_str()?;
    Some(serde_json::from_str(text).unwrap())
}

/// Resources of one class, as limits and requests.
pub(crate) fn class(name: &str, count: u32) -> Value {
    let resource = format!("cdmo.clear.ml/fraction-{name}");
    json!({
        "limits": {&resource: count.to_string()},
        "requests": {&resource: count.to_string()},
    })
}

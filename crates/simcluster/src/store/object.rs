//! Reading and writing the parts of an object that every kind has.

use serde_json::{Map, Value};

/// `metadata.name`, or an empty string.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`, or an empty string.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `metadata.uid`, or an empty string.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// `metadata.resourceVersion` as a number, or 0.
pub fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion")
        .parse()
        .unwrap_or(0)
}

/// `metadata.deletionTimestamp` is set.
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// The string at a JSON pointer, or an empty string.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The array at a JSON pointer, or an empty one.
pub fn array<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The string map at a JSON pointer, as pairs.
pub fn pairs<'a>(
    object: &'a Value,
    pointer: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// The object member `key` of `parent`, made if it is missing or no object.
pub fn child<'a>(parent: &'a mut Value, key: &str) -> &'a mut Value {
    if !parent.is_object() {
        *parent = Value::Object(Map::new());
    }
    let slot = &mut parent[key];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot
}

/// Removes the member `key` of `parent`, if there is one.
pub fn remove(parent: &mut Value, key: &str) -> Option<Value> {
    parent.as_object_mut()?.remove(key)
}

/// Puts `default` at `key` unless something is there.
pub fn set_default(parent: &mut Value, key: &str, default: impl Into<Value>) {
    if parent.is_object() && parent.get(key).is_none_or(Value::is_null) {
        parent[key] = default.into();
    }
}

/// Replaces or adds a condition in `status.conditions`, by its type.
pub fn set_condition(object: &mut Value, condition: Value) {
    let status = child(object, "status");
    if !status["conditions"].is_array() {
        status["conditions"] = Value::Array(Vec::new());
    }
    if let Some(conditions) = status["conditions"].as_array_mut() {
        match conditions
            .iter_mut()
            .find(|c| c["type"] == condition["type"])
        {
            Some(found) => *found = condition,
            None => conditions.push(condition),
        }
    }
}

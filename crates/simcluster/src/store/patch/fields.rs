//! Sets of fields, in the notation of `managedFields` (`FieldsV1`): `f:spec`, `k:{"name":"x"}`,
//! `v:"finalizer"`, and `.` for an item itself.

use serde_json::{Map, Value};

use super::schema::{self, List};
use crate::store::object::child;

/// One step from an object to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A member.
    Field(String),
    /// The list item with these keys.
    Item(Map<String, Value>),
    /// The list item that equals this.
    Plain(Value),
}

/// A field, from the top of the object.
pub(super) type Path = Vec<Step>;

/// `metadata` members that nobody owns.
const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
];

/// Every field that a whole object sets; lists and objects count as fields where they are atomic
/// or empty.
pub(super) fn fields_of(object: &Value) -> Vec<Path> {
    let mut paths = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (member, value) in value.as_object().into_iter().flatten() {
                    if !UNOWNED_METADATA.contains(&member.as_str()) {
                        let start = vec![Step::Field(name.clone()), Step::Field(member.clone())];
                        collect(value, name, member, &start, &mut paths);
                    }
                }
            }
            _ => collect(
                value,
                "",
                name,
                &vec![Step::Field(name.clone())],
                &mut paths,
            ),
        }
    }
    paths
}

fn collect(value: &Value, parent: &str, field: &str, at: &Path, paths: &mut Vec<Path>) {
    let extended = |step: Step| {
        let mut path = at.clone();
        path.push(step);
        path
    };
    match value {
        Value::Null => {}
        Value::Object(members) if !members.is_empty() && !schema::is_atomic_object(field) => {
            for (name, value) in members {
                collect(
                    value,
                    field,
                    name,
                    &extended(Step::Field(name.clone())),
                    paths,
                );
            }
        }
        Value::Array(items) => match schema::list(parent, field) {
            List::Atomic => paths.push(at.clone()),
            List::Set => {
                paths.extend(items.iter().map(|item| extended(Step::Plain(item.clone()))));
            }
            List::Keyed { apply, .. } => {
                for item in items {
                    let path = extended(Step::Item(item_key(item, apply)));
                    paths.push(path.clone());
                    for (name, value) in item.as_object().into_iter().flatten() {
                        let mut path = path.clone();
                        path.push(Step::Field(name.clone()));
                        collect(value, field, name, &path, paths);
                    }
                }
            }
        },
        _ => paths.push(at.clone()),
    }
}

/// The key of a list item, with defaults filled in.
pub(super) fn item_key(item: &Value, keys: &[(&str, &str)]) -> Map<String, Value> {
    let mut found = Map::new();
    for (key, default) in keys {
        match item.get(*key) {
            Some(value) => found.insert((*key).to_owned(), value.clone()),
            None if default.is_empty() => None,
            None => found.insert((*key).to_owned(), (*default).into()),
        };
    }
    found
}

fn matches(item: &Value, key: &Map<String, Value>) -> bool {
    // Only `protocol` has a default, and it is the only key that may be missing.
    key.iter().all(|(name, wanted)| match item.get(name) {
        Some(found) => found == wanted,
        None => name == "protocol" && wanted == "TCP",
    })
}

/// The value of a field.
pub(super) fn get<'a>(object: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(object, |at, step| match step {
        Step::Field(name) => at.get(name),
        Step::Item(key) => at.as_array()?.iter().find(|item| matches(item, key)),
        Step::Plain(value) => at.as_array()?.iter().find(|item| *item == value),
    })
}

/// Removes a field, and the objects and lists that it leaves empty.
pub(super) fn remove(object: &mut Value, path: &[Step]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if let Step::Field(name) = first {
        let Some(members) = object.as_object_mut() else {
            return;
        };
        if let (Some(inner), false) = (members.get_mut(name), rest.is_empty()) {
            remove(inner, rest);
            if !is_empty(inner) {
                return;
            }
        }
        members.remove(name);
        return;
    }
    let Some(items) = object.as_array_mut() else {
        return;
    };
    let found = items.iter().position(|item| match first {
        Step::Item(key) => matches(item, key),
        Step::Plain(value) => item == value,
        Step::Field(_) => false,
    });
    let Some(position) = found else { return };
    if rest.is_empty() {
        items.remove(position);
    } else {
        remove(&mut items[position], rest);
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// As `managedFields` stores it.
pub(super) fn encode(paths: &[Path]) -> Value {
    let mut tree = Value::Object(Map::new());
    for path in paths {
        let mut at = &mut tree;
        for step in path {
            let name = match step {
                Step::Field(name) => format!("f:{name}"),
                Step::Item(key) => format!("k:{}", Value::Object(key.clone())),
                Step::Plain(value) => format!("v:{value}"),
            };
            at = child(at, &name);
        }
        if matches!(path.last(), Some(Step::Item(_))) {
            child(at, ".");
        }
    }
    tree
}

/// From what `managedFields` stores; what cannot be read is left out.
pub(super) fn decode(tree: &Value) -> Vec<Path> {
    let mut paths = Vec::new();
    walk(tree, &mut Vec::new(), &mut paths);
    paths
}

fn walk(tree: &Value, at: &mut Path, paths: &mut Vec<Path>) {
    let Some(members) = tree.as_object() else {
        return;
    };
    if members.is_empty() && !at.is_empty() {
        paths.push(at.clone());
    }
    for (name, inner) in members {
        let step = match name.split_once(':') {
            Some(("f", field)) => Step::Field(field.to_owned()),
            Some(("k", key)) => match serde_json::from_str(key) {
                Ok(key) => Step::Item(key),
                Err(_) => continue,
            },
            Some(("v", value)) => match serde_json::from_str(value) {
                Ok(value) => Step::Plain(value),
                Err(_) => continue,
            },
            _ => {
                if name == "." {
                    paths.push(at.clone());
                }
                continue;
            }
        };
        at.push(step);
        walk(inner, at, paths);
        at.pop();
    }
}

/// As in error messages: `.spec.containers[name="main"].image`.
pub(super) fn display(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) => {
                text.push('.');
                text.push_str(name);
            }
            Step::Item(key) => {
                let parts: Vec<String> = key
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                text.push('[');
                text.push_str(&parts.join(","));
                text.push(']');
            }
            Step::Plain(value) => {
                text.push('[');
                text.push_str(&value.to_string());
                text.push(']');
            }
        }
    }
    text
}

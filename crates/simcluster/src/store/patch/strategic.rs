//! Strategic merge: a merge patch that knows which lists are keyed, with the directives that
//! kubectl puts into it (`$patch`, `$retainKeys`, `$setElementOrder`, `$deleteFromPrimitiveList`).
//!
//! Behaviour follows k8s.io/apimachinery/pkg/util/strategicpatch/patch.go.

use serde_json::{Map, Value};

use super::PatchError;
use super::schema::{self, List};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Merges `patch` into `object`, a whole object of some kind.
pub(in crate::store) fn strategic(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed(
            "a strategic merge patch must be a JSON object".into(),
        ));
    };
    merge_member(object, patch, "")
}

/// Merges into a member that becomes an object if it is none.
fn merge_member(
    target: &mut Value,
    patch: &Map<String, Value>,
    field: &str,
) -> Result<(), PatchError> {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    match target.as_object_mut() {
        Some(target) => merge_object(target, patch, field),
        None => Ok(()),
    }
}

fn merge_object(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    field: &str,
) -> Result<(), PatchError> {
    match directive(patch)? {
        Some("replace") => target.clear(),
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        _ => {}
    }
    if let Some(retained) = patch.get(RETAIN) {
        let retained = retained
            .as_array()
            .ok_or_else(|| malformed(RETAIN, "must be a list"))?;
        target.retain(|name, _| retained.iter().any(|kept| kept == name));
    }
    for (name, gone) in members(patch, DELETE_PRIMITIVES) {
        let gone = gone
            .as_array()
            .ok_or_else(|| malformed(DELETE_PRIMITIVES, "must be a list"))?;
        if let Some(list) = target.get_mut(name).and_then(Value::as_array_mut) {
            list.retain(|item| !gone.contains(item));
        }
    }
    for (name, wanted) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        match wanted {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(wanted) => {
                merge_member(
                    target.entry(name.clone()).or_insert(Value::Null),
                    wanted,
                    name,
                )?;
            }
            Value::Array(wanted) => {
                let slot = target.entry(name.clone()).or_insert(Value::Null);
                let found = match slot.take() {
                    Value::Array(found) => found,
                    _ => Vec::new(),
                };
                *slot = Value::Array(merge_list(found, wanted, field, name)?);
            }
            plain => {
                target.insert(name.clone(), plain.clone());
            }
        }
    }
    for (name, order) in members(patch, ORDER) {
        let order = order
            .as_array()
            .ok_or_else(|| malformed(ORDER, "must be a list"))?;
        if let Some(Value::Array(list)) = target.get_mut(name) {
            let identity = identity(schema::list(field, name));
            *list = reorder(list, order, &identity);
        }
    }
    Ok(())
}

fn merge_list(
    mut found: Vec<Value>,
    wanted: &[Value],
    parent: &str,
    field: &str,
) -> Result<Vec<Value>, PatchError> {
    let key = match schema::list(parent, field) {
        List::Atomic => return Ok(wanted.to_vec()),
        List::Set => {
            for item in wanted {
                if !found.contains(item) {
                    found.push(item.clone());
                }
            }
            return Ok(found);
        }
        List::Keyed { merge, .. } => merge,
    };
    let mut items = Vec::new();
    for item in wanted {
        let Value::Object(item) = item else {
            return Err(PatchError::Malformed(format!(
                "every item of {field} must be an object"
            )));
        };
        let directive = directive(item)?;
        if directive == Some("replace") && item.len() == 1 {
            // An item that is nothing but this directive speaks of the whole list.
            found.clear();
        } else {
            items.push((item, directive));
        }
    }
    for (item, directive) in items {
        let Some(name) = item.get(key) else {
            return Err(PatchError::Malformed(format!(
                "an item of {field} does not contain the declared merge key: {key}"
            )));
        };
        if directive == Some("delete") {
            found.retain(|other| other.get(key) != Some(name));
            continue;
        }
        if let Some(other) = found.iter_mut().find(|other| other.get(key) == Some(name)) {
            merge_member(other, item, field)?;
        } else {
            let mut fresh = Value::Null;
            merge_member(&mut fresh, item, field)?;
            found.push(fresh);
        }
    }
    Ok(found)
}

/// Brings the items that `order` names into that order; the others keep their place among them.
fn reorder(items: &[Value], order: &[Value], identity: &impl Fn(&Value) -> Value) -> Vec<Value> {
    let ids: Vec<Value> = items.iter().map(identity).collect();
    let rank = |item: &Value| {
        let id = identity(item);
        order.iter().position(|wanted| identity(wanted) == id)
    };
    let place = |item: &Value| {
        let id = identity(item);
        ids.iter().position(|other| *other == id)
    };
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        items.iter().cloned().partition(|item| rank(item).is_some());
    named.sort_by_key(rank);
    let mut named = named.into_iter().peekable();
    let mut ordered = Vec::with_capacity(items.len());
    for other in others {
        while named.peek().is_some_and(|next| place(next) < place(&other)) {
            ordered.extend(named.next());
        }
        ordered.push(other);
    }
    ordered.extend(named);
    ordered
}

fn identity(list: List) -> impl Fn(&Value) -> Value {
    move |item| match list {
        List::Keyed { merge, .. } => item.get(merge).unwrap_or(&Value::Null).clone(),
        _ => item.clone(),
    }
}

fn directive(patch: &Map<String, Value>) -> Result<Option<&str>, PatchError> {
    match patch.get(DIRECTIVE).map(Value::as_str) {
        None => Ok(None),
        Some(Some(word @ ("merge" | "replace" | "delete"))) => Ok(Some(word)),
        Some(other) => Err(malformed(
            DIRECTIVE,
            &format!("unknown patch type: {}", other.unwrap_or("not a string")),
        )),
    }
}

fn members<'a>(
    patch: &'a Map<String, Value>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    patch
        .iter()
        .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value)))
}

fn malformed(directive: &str, why: &str) -> PatchError {
    PatchError::Malformed(format!("{directive}: {why}"))
}

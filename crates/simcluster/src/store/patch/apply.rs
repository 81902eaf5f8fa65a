//! Server-side apply: a manager states what it wants, keeps what it stated before and states no
//! longer from lingering, and is refused what others own and want otherwise.
//!
//! Ownership is recorded for apply, and for other writes only where they change something that
//! was applied; that is what conflicts and removals need.

use serde_json::{Value, json};

use super::PatchError;
use super::fields::{self, Path, Step};
use super::schema::{self, List};

/// Who applies, and how.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Applied<'a> {
    /// The field manager.
    pub(in crate::store) manager: &'a str,
    /// Take conflicting fields over.
    pub(in crate::store) force: bool,
    /// `status`, or empty.
    pub(in crate::store) subresource: &'a str,
    /// For `managedFields`.
    pub(in crate::store) api_version: &'a str,
    /// For `managedFields`.
    pub(in crate::store) time: &'a str,
}

/// One entry of `managedFields`, with its fields spelled out.
struct Entry {
    raw: Value,
    paths: Vec<Path>,
}

impl Entry {
    fn is(&self, operation: &str, by: &Applied<'_>) -> bool {
        self.raw["manager"] == by.manager
            && self.raw["operation"] == operation
            && self.raw["subresource"].as_str().unwrap_or_default() == by.subresource
    }

    fn new(operation: &str, by: &Applied<'_>, paths: Vec<Path>) -> Self {
        let mut raw = json!({
            "manager": by.manager,
            "operation": operation,
            "apiVersion": by.api_version,
            "fieldsType": "FieldsV1",
            "time": by.time,
        });
        if !by.subresource.is_empty() {
            raw["subresource"] = by.subresource.into();
        }
        Self { raw, paths }
    }
}

/// Applies `config` to `object`.
pub(in crate::store) fn apply(
    object: &mut Value,
    config: &Value,
    by: Applied<'_>,
) -> Result<(), PatchError> {
    let mut entries = read(object);
    let wanted = fields::fields_of(config);
    let mine = entries.iter().position(|entry| entry.is("Apply", &by));
    let previous = mine
        .map(|index| std::mem::take(&mut entries[index].paths))
        .unwrap_or_default();

    let differs = |path: &Path| {
        !matches!(path.last(), Some(Step::Item(_)))
            && fields::get(object, path) != fields::get(config, path)
    };
    let mut conflicts = Vec::new();
    for entry in &entries {
        for path in entry
            .paths
            .iter()
            .filter(|path| wanted.contains(path) && differs(path))
        {
            let manager = entry.raw["manager"].as_str().unwrap_or_default();
            conflicts.push((manager.to_owned(), path.clone()));
        }
    }
    if !by.force && !conflicts.is_empty() {
        let shown = conflicts
            .iter()
            .map(|(who, path)| (who.clone(), fields::display(path)));
        return Err(PatchError::Conflicts(shown.collect()));
    }
    for entry in &mut entries {
        entry
            .paths
            .retain(|path| !conflicts.iter().any(|(_, taken)| taken == path));
    }

    overlay(object, config, "", "");
    for path in previous.iter().filter(|path| !wanted.contains(path)) {
        let owned_elsewhere = entries
            .iter()
            .flat_map(|entry| &entry.paths)
            .chain(&wanted)
            .any(|other| other.starts_with(path));
        if !owned_elsewhere {
            fields::remove(object, path);
        }
    }
    match mine {
        // The same statement again is no change, not even of the time.
        Some(index) if previous == wanted => entries[index].paths = wanted,
        Some(index) => entries[index] = Entry::new("Apply", &by, wanted),
        None => entries.push(Entry::new("Apply", &by, wanted)),
    }
    write(object, entries);
    Ok(())
}

/// Moves the fields that a plain write changed from those who had applied them to the writer.
pub(in crate::store) fn note_update(old: &Value, new: &mut Value, by: Applied<'_>) {
    let mut entries = read(new);
    if entries.is_empty() {
        return;
    }
    let mut taken = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !entry.is("Update", &by)) {
        entry.paths.retain(|path| {
            let now = fields::get(new, path);
            let kept = match path.last() {
                Some(Step::Item(_)) => now.is_some(),
                _ => now == fields::get(old, path),
            };
            if !kept && now.is_some() && !taken.contains(path) {
                taken.push(path.clone());
            }
            kept
        });
    }
    if !taken.is_empty() {
        match entries.iter_mut().find(|entry| entry.is("Update", &by)) {
            Some(entry) => {
                entry.paths.retain(|path| !taken.contains(path));
                entry.paths.append(&mut taken);
            }
            None => entries.push(Entry::new("Update", &by, taken)),
        }
    }
    write(new, entries);
}

/// Puts what `config` says over `target`.
fn overlay(target: &mut Value, config: &Value, parent: &str, field: &str) {
    match config {
        Value::Object(members) if !schema::is_atomic_object(field) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                overlay(&mut target[name], value, field, name);
            }
        }
        Value::Array(items) => match schema::list(parent, field) {
            List::Atomic => *target = config.clone(),
            list => {
                if !target.is_array() {
                    *target = json!([]);
                }
                let Some(found) = target.as_array_mut() else {
                    return;
                };
                for item in items {
                    overlay_item(found, item, list, field);
                }
            }
        },
        plain => *target = plain.clone(),
    }
}

fn overlay_item(found: &mut Vec<Value>, item: &Value, list: List, field: &str) {
    let position = match list {
        List::Keyed { apply, .. } => {
            let key = fields::item_key(item, apply);
            found
                .iter()
                .position(|other| fields::item_key(other, apply) == key)
        }
        _ => found.iter().position(|other| other == item),
    };
    let position = position.unwrap_or_else(|| {
        found.push(Value::Null);
        found.len() - 1
    });
    overlay(&mut found[position], item, "", field);
}

fn read(object: &Value) -> Vec<Entry> {
    crate::store::object::array(object, "/metadata/managedFields")
        .iter()
        .map(|raw| Entry {
            raw: raw.clone(),
            paths: fields::decode(&raw["fieldsV1"]),
        })
        .collect()
}

fn write(object: &mut Value, entries: Vec<Entry>) {
    let kept: Vec<Value> = entries
        .into_iter()
        .filter(|entry| !entry.paths.is_empty())
        .map(|mut entry| {
            entry.raw["fieldsV1"] = fields::encode(&entry.paths);
            entry.raw
        })
        .collect();
    let metadata = crate::store::object::child(object, "metadata");
    if kept.is_empty() {
        crate::store::object::remove(metadata, "managedFields");
    } else {
        metadata["managedFields"] = Value::Array(kept);
    }
}

//! One container: what it asks for, and how its lists are rewritten.

use std::collections::BTreeMap;

use mig::fraction::{Class, FRACTION_PREFIX, Share};
use serde_json::{Map, Value};

use crate::devices::{Devices, count};
use crate::environment::FRACTIONS_VARIABLE;
use crate::template::Template;
use crate::words::{self, is_fraction, quoted};

/// When a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Beside the others.
    Main,
    /// Before them, and then beside them.
    Sidecar,
    /// Before them.
    Init,
}

/// A container of a pod or template.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Container<'a> {
    pub(crate) kind: Kind,
    list: &'static str,
    index: usize,
    value: &'a Value,
}

impl<'a> Container<'a> {
    pub(crate) fn new(list: &'static str, index: usize, value: &'a Value) -> Self {
        Self {
            kind: Kind::of(list, value),
            list,
            index,
            value,
        }
    }

    /// Its name; empty if it has none, which the API server refuses.
    pub(crate) fn name(&self) -> &'a str {
        self.value
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A JSON pointer to something in it.
    pub(crate) fn pointer(&self, template: Template<'_>, inner: &str) -> String {
        format!(
            "{}/spec/{}/{}/{inner}",
            template.pointer(),
            self.list,
            self.index
        )
    }

    /// A field in it, with its name, as a sentence begins.
    pub(crate) fn field(&self, template: Template<'_>, inner: &str) -> String {
        let field = template.field(&format!("spec.{}[{}]{inner}", self.list, self.index));
        format!("{field} (container {})", quoted(self.name()))
    }

    pub(crate) fn resources(&self) -> Option<&'a Value> {
        self.value.get("resources")
    }

    fn amounts(&self, list: &str) -> Option<&'a Map<String, Value>> {
        self.resources()?.get(list)?.as_object()
    }

    /// Whether it asks for a fraction now.
    pub(crate) fn has_fractions(&self) -> bool {
        ["limits", "requests"]
            .into_iter()
            .filter_map(|list| self.amounts(list))
            .any(|amounts| amounts.keys().any(|name| is_fraction(name)))
    }

    /// Whether it asks for this resource now.
    pub(crate) fn names(&self, resource: &str) -> bool {
        ["limits", "requests"]
            .into_iter()
            .filter_map(|list| self.amounts(list))
            .any(|amounts| amounts.contains_key(resource))
    }

    /// The fractions in its limits; one that is in its requests alone counts as well.
    ///
    /// # Errors
    /// A sentence, if one cannot be served, or if limit and request differ.
    pub(crate) fn fractions(
        &self,
        template: Template<'_>,
    ) -> Result<BTreeMap<String, Share>, String> {
        let mut found = BTreeMap::new();
        for list in ["limits", "requests"] {
            for (name, value) in self.amounts(list).into_iter().flatten() {
                if !is_fraction(name) {
                    continue;
                }
                let field =
                    || self.field(template, &format!(".resources.{list}[{}]", quoted(name)));
                let share =
                    words::servable(value).map_err(|wrong| format!("{} {wrong}", field()))?;
                match found.insert(name.clone(), share) {
                    Some(limit) if limit != share => {
                        return Err(format!(
                            "{} is {share}, but the limit is {limit}: leave the request away, or \
                             make them equal",
                            field()
                        ));
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Resources of ours that it asks for; a count that cannot be read is none.
    pub(crate) fn classes(&self) -> BTreeMap<String, u64> {
        let mut classes = BTreeMap::new();
        for list in ["requests", "limits"] {
            for (name, value) in self.amounts(list).into_iter().flatten() {
                if name.starts_with(FRACTION_PREFIX) && Class::from_resource(name).is_some() {
                    classes.insert(name.clone(), count(value).unwrap_or_default());
                }
            }
        }
        classes
    }

    /// What it asks for by NVIDIA's names.
    pub(crate) fn devices(&self) -> Devices {
        Devices::read(self.amounts("limits"))
    }

    /// Its resources without fractions and without classes, and with these classes in limits and
    /// requests; `None` if that is how they are.
    pub(crate) fn rewritten(&self, classes: &BTreeMap<String, u64>) -> Option<Value> {
        let lists = ["limits", "requests"];
        // Not the lists themselves, which may be most of the object.
        let mut resources: Map<String, Value> = self
            .resources()
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(name, value)| !(lists.contains(&name.as_str()) && value.is_object()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut changed = false;
        for list in lists {
            let before = self.amounts(list);
            let after = amounts(before, classes);
            changed |= before.map_or(!after.is_empty(), |before| *before != after);
            if !after.is_empty() || before.is_some_and(Map::is_empty) {
                resources.insert(list.to_owned(), Value::Object(after));
            }
        }
        changed.then_some(Value::Object(resources))
    }

    /// Whether it has a list of variables, which may be empty.
    pub(crate) fn has_environment(&self) -> bool {
        self.value.get("env").is_some_and(Value::is_array)
    }

    /// Where ClearML's variable is among its variables, and its value; that of a variable that is
    /// taken from elsewhere is not known.
    pub(crate) fn variable(&self) -> Option<(usize, Option<&'a str>)> {
        let variables = self.value.get("env")?.as_array()?;
        let named = |variable: &Value| {
            variable.get("name").and_then(Value::as_str) == Some(FRACTIONS_VARIABLE)
        };
        let index = variables.iter().position(named)?;
        let value = variables.get(index)?.get("value").and_then(Value::as_str);
        Some((index, value))
    }
}

/// A list of amounts without fractions, with just these classes.
fn amounts(
    before: Option<&Map<String, Value>>,
    classes: &BTreeMap<String, u64>,
) -> Map<String, Value> {
    let mut after: Map<String, Value> = before
        .into_iter()
        .flatten()
        .filter(|(name, _)| !is_fraction(name) && Class::from_resource(name).is_none())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, wanted) in classes {
        // 1 and "1" are the same amount.
        let as_it_was = before
            .and_then(|before| before.get(name))
            .filter(|value| count(value) == Some(*wanted))
            .cloned();
        after.insert(
            name.clone(),
            as_it_was.unwrap_or_else(|| Value::String(wanted.to_string())),
        );
    }
    after
}

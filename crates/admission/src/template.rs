//! Pods, alone or as the template in a workload.

use serde_json::{Map, Value};

use crate::container::{Container, Kind};

/// A pod or a pod template, and where in the object it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Template<'a> {
    value: &'a Value,
    pointer: &'static str,
}

impl<'a> Template<'a> {
    /// The one at a JSON pointer of the object, if there is one.
    pub(crate) fn of(object: &'a Value, pointer: &'static str) -> Option<Self> {
        let value = object.pointer(pointer)?;
        value.is_object().then_some(Self { value, pointer })
    }

    /// Its JSON pointer.
    pub(crate) const fn pointer(self) -> &'static str {
        self.pointer
    }

    /// A field in it, as users write it.
    pub(crate) fn field(self, inner: &str) -> String {
        let outer = self.pointer.trim_start_matches('/').replace('/', ".");
        if outer.is_empty() {
            inner.to_owned()
        } else {
            format!("{outer}.{inner}")
        }
    }

    pub(crate) const fn value(self) -> &'a Value {
        self.value
    }

    pub(crate) fn spec(self) -> Option<&'a Map<String, Value>> {
        self.value.get("spec")?.as_object()
    }

    pub(crate) fn metadata(self, list: &str) -> Option<&'a Map<String, Value>> {
        self.value.get("metadata")?.get(list)?.as_object()
    }

    pub(crate) fn has_metadata(self) -> bool {
        self.value.get("metadata").is_some_and(Value::is_object)
    }

    pub(crate) fn label(self, name: &str) -> Option<&'a Value> {
        self.metadata("labels")?.get(name)
    }

    pub(crate) fn annotation(self, name: &str) -> Option<&'a Value> {
        self.metadata("annotations")?.get(name)
    }

    /// Containers, then init containers.
    pub(crate) fn containers(self) -> Vec<Container<'a>> {
        let spec = self.spec();
        let list = |name: &'static str| {
            spec.and_then(|spec| spec.get(name)?.as_array())
                .into_iter()
                .flatten()
                .enumerate()
                .filter(|(_, value)| value.is_object())
                .map(move |(index, value)| Container::new(name, index, value))
        };
        list("containers").chain(list("initContainers")).collect()
    }

    /// Resource lists that no device can be asked for in: those of ephemeral containers and of the
    /// pod as a whole, each with its field.
    pub(crate) fn elsewhere(self) -> impl Iterator<Item = (String, &'a Map<String, Value>)> {
        let lists = |resources: &'a Value, field: String| {
            ["limits", "requests"].into_iter().filter_map(move |list| {
                let amounts = resources.get(list)?.as_object()?;
                Some((format!("{field}.{list}"), amounts))
            })
        };
        let ephemeral = self
            .spec()
            .and_then(|spec| spec.get("ephemeralContainers")?.as_array())
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(move |(index, container)| {
                let field = format!("spec.ephemeralContainers[{index}].resources");
                Some(lists(container.get("resources")?, self.field(&field)))
            })
            .flatten();
        let whole = self
            .spec()
            .and_then(|spec| spec.get("resources"))
            .into_iter()
            .flat_map(move |resources| lists(resources, self.field("spec.resources")));
        ephemeral.chain(whole)
    }
}

impl Kind {
    /// Of a container in a list.
    pub(crate) fn of(list: &str, container: &Value) -> Self {
        if list == "containers" {
            Self::Main
        } else if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            Self::Sidecar
        } else {
            Self::Init
        }
    }
}

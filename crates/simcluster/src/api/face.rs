//! One stored Event, two faces: `v1` with `involvedObject` and `message`, `events.k8s.io/v1` with
//! `regarding` and `note`. They differ in names only, so objects and patches translate alike.

use std::borrow::Cow;

use serde_json::Value;

use crate::store::{Kind, Patch};

/// Under which group and version an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    /// As it is stored.
    Core,
    /// `events.k8s.io/v1`.
    EventsV1,
}

/// Member in `v1`, member in `events.k8s.io/v1` (pkg/apis/core/v1/conversion.go and
/// pkg/apis/events/v1).
const NAMES: [(&str, &str); 8] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("related", "related"),
];

impl Face {
    /// apiVersion of a kind under this face.
    pub(super) fn api_version(self, kind: Kind) -> String {
        match self {
            Self::Core => kind.api_version(),
            Self::EventsV1 => "events.k8s.io/v1".to_owned(),
        }
    }

    /// A stored object as clients of this face see it.
    pub(super) fn show(self, object: &Value) -> Cow<'_, Value> {
        match self {
            Self::Core => Cow::Borrowed(object),
            Self::EventsV1 => {
                let mut shown = rename(object, |(core, new)| (core, new));
                shown["apiVersion"] = "events.k8s.io/v1".into();
                Cow::Owned(shown)
            }
        }
    }

    /// What a client of this face sent, as it is stored.
    pub(super) fn take(self, object: Value) -> Value {
        match self {
            Self::Core => object,
            Self::EventsV1 => {
                let mut taken = rename(&object, |(core, new)| (new, core));
                if taken["apiVersion"] == "events.k8s.io/v1" {
                    taken["apiVersion"] = "v1".into();
                }
                taken
            }
        }
    }

    pub(super) fn take_patch(self, patch: Patch) -> Patch {
        if self == Self::Core {
            return patch;
        }
        match patch {
            Patch::Merge(patch) => Patch::Merge(self.take(patch)),
            Patch::Strategic(patch) => Patch::Strategic(self.take(patch)),
            // Was translated when its fields were checked.
            Patch::Apply(config) => Patch::Apply(config),
            Patch::Json(operations) => Patch::Json(rename_paths(operations)),
        }
    }
}

fn rename<'a>(
    object: &Value,
    direction: impl Fn((&'a str, &'a str)) -> (&'a str, &'a str),
) -> Value {
    let Value::Object(members) = object else {
        return object.clone();
    };
    let renamed = members.iter().map(|(name, value)| {
        let found = NAMES
            .into_iter()
            .map(&direction)
            .find(|(from, _)| from == name);
        (
            found.map_or(name.as_str(), |(_, to)| to).to_owned(),
            value.clone(),
        )
    });
    Value::Object(renamed.collect())
}

fn rename_paths(mut operations: Value) -> Value {
    for operation in operations.as_array_mut().into_iter().flatten() {
        for member in ["path", "from"] {
            let Some(path) = operation.get(member).and_then(Value::as_str) else {
                continue;
            };
            let rest = path.strip_prefix('/').unwrap_or(path);
            let (first, rest) = rest
                .split_once('/')
                .map_or((rest, None), |(a, b)| (a, Some(b)));
            let Some((core, _)) = NAMES.iter().find(|(_, new)| *new == first) else {
                continue;
            };
            let path = rest.map_or_else(|| format!("/{core}"), |rest| format!("/{core}/{rest}"));
            operation[member] = path.into();
        }
    }
    operations
}

//! Steps of a JSON patch (RFC 6902), as far as we need them.

use serde::Serialize;
use serde_json::Value;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Puts a value where none is, replaces a member, or inserts into a list.
    Add {
        /// JSON pointer.
        path: String,
        /// The new value.
        value: Value,
    },
    /// Puts another value in the place of one.
    Replace {
        /// JSON pointer.
        path: String,
        /// The new value.
        value: Value,
    },
    /// Takes a value away.
    Remove {
        /// JSON pointer.
        path: String,
    },
}

impl Operation {
    pub(crate) const fn add(path: String, value: Value) -> Self {
        Self::Add { path, value }
    }

    pub(crate) const fn replace(path: String, value: Value) -> Self {
        Self::Replace { path, value }
    }

    pub(crate) const fn remove(path: String) -> Self {
        Self::Remove { path }
    }

    /// What it changes, as a JSON pointer.
    pub fn path(&self) -> &str {
        match self {
            Self::Add { path, .. } | Self::Replace { path, .. } | Self::Remove { path } => path,
        }
    }
}

//! What a user asked for and what became of it, kept in an annotation of the pod or template.
//!
//! It is there to be read, and it is how the webhook knows its own writing when the object comes by
//! again. It is only believed where it agrees with the object: users can write annotations.

use std::collections::BTreeMap;

use mig::fraction::Share;
use serde::{Deserialize, Serialize};

/// The annotation.
pub const RECORD_ANNOTATION: &str = "cdmo.clear.ml/fractions";

/// The same, as a part of a JSON pointer.
pub(crate) const RECORD_POINTER: &str = "cdmo.clear.ml~1fractions";

/// All annotations of an object together may have 256 KiB (apimachinery,
/// `TotalAnnotationSizeLimitB`); others want some of it, too.
pub(crate) const MAX_BYTES: usize = 128 << 10;

/// One container's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The user's words: limits, label or annotation, and the share.
    pub(crate) asked: BTreeMap<String, String>,
    /// Resources that were put in their place; none where a profile beside them rules.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) given: BTreeMap<String, u64>,
    /// The value of the variable, unless the user set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) env: Option<String>,
}

impl Entry {
    /// The words of a kind as shares; what cannot be read is left out.
    pub(crate) fn shares(&self, kind: impl Fn(&str) -> bool) -> BTreeMap<String, Share> {
        self.asked
            .iter()
            .filter(|(name, _)| kind(name))
            .filter_map(|(name, share)| {
                let share: Share = share.parse().ok()?;
                share.class().ok()?;
                Some((name.clone(), share))
            })
            .collect()
    }
}

/// Entries by the container's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Record(pub(crate) BTreeMap<String, Entry>);

impl Record {
    /// Reads an annotation; `None` if it is not one that we wrote.
    pub(crate) fn read(annotation: &str) -> Option<Self> {
        // We write none that is longer, and would not know what it takes in memory.
        let ours = annotation.len() <= MAX_BYTES;
        ours.then(|| serde_json::from_str(annotation).ok())?
    }

    /// Whether a container was given something because of such a word.
    pub(crate) fn mentions(&self, word: &str) -> bool {
        self.0.values().any(|entry| entry.asked.contains_key(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_longer_than_any_of_ours_is_not_read() {
        let entry = |name: &str| format!("{{\"{name}\":{{\"asked\":{{}}}}}}");
        let most = "x".repeat(MAX_BYTES - entry("").len());
        assert!(Record::read(&entry(&most)).is_some());
        assert!(Record::read(&entry(&format!("{most}x"))).is_none());
    }
}

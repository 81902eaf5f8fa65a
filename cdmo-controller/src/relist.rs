//! What a watch that starts over does to an index.
//!
//! When a watch restarts it lists everything again; rows that the list does not name are gone,
//! though no deletion was ever seen.

use std::{collections::HashSet, hash::Hash};

/// Remembers what a running list has named.
#[derive(Debug)]
pub struct Relist<K> {
    seen: Option<HashSet<K>>,
    synced: bool,
}

impl<K> Default for Relist<K> {
    fn default() -> Self {
        Self {
            seen: None,
            synced: false,
        }
    }
}

impl<K: Hash + Eq> Relist<K> {
    /// A list begins.
    pub fn begin(&mut self) {
        self.seen = Some(HashSet::new());
    }

    /// The list named this key.
    pub fn saw(&mut self, key: K) {
        if let Some(seen) = &mut self.seen {
            seen.insert(key);
        }
    }

    /// The list is complete: returns those of `known` that it did not name.
    pub fn finish(&mut self, known: impl Iterator<Item = K>) -> Vec<K> {
        self.synced = true;
        match self.seen.take() {
            Some(seen) => known.filter(|key| !seen.contains(key)).collect(),
            None => Vec::new(),
        }
    }

    /// Whether a list was ever completed.
    pub fn is_synced(&self) -> bool {
        self.synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let mut relist = Relist::default();
        assert!(!relist.is_synced());
        relist.begin();
        relist.saw("a");
        assert_eq!(relist.finish(["a", "b"].into_iter()), ["b"]);
        assert!(relist.is_synced());
    }

    #[test]
    fn nothing_is_forgotten_while_a_list_is_incomplete() {
        let mut relist = Relist::default();
        relist.begin();
        relist.saw("a");
        relist.begin();
        relist.saw("b");
        assert_eq!(relist.finish(["a", "b"].into_iter()), ["a"]);
    }
}

//! Classes of nodes that pods cannot tell apart, so that a constraint is a few bits and not a walk
//! over nodes.

use std::ops::Range;

/// A class of nodes. Numbers are the caller's and should be dense: memory grows with the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub u16);

/// Node classes that a pod may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClassSet {
    words: Vec<u64>,
}

impl ClassSet {
    /// No class.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a class.
    pub fn insert(&mut self, class: ClassId) {
        let word = usize::from(class.0) / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (class.0 % 64);
    }

    /// Takes a class out.
    pub fn remove(&mut self, class: ClassId) {
        if let Some(word) = self.words.get_mut(usize::from(class.0) / 64) {
            *word &= !(1 << (class.0 % 64));
        }
        // Equal sets are equal words.
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    /// Whether the class is in it.
    pub fn contains(&self, class: ClassId) -> bool {
        self.word(usize::from(class.0) / 64) >> (class.0 % 64) & 1 == 1
    }

    /// The words that have classes in them.
    pub(crate) fn span(&self) -> Range<usize> {
        let first = self.words.iter().position(|word| *word != 0);
        first.unwrap_or(self.words.len())..self.words.len()
    }

    /// Classes `64 * index` to `64 * index + 63` as bits.
    #[inline]
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }
}

impl FromIterator<ClassId> for ClassSet {
    fn from_iter<I: IntoIterator<Item = ClassId>>(classes: I) -> Self {
        let mut set = Self::new();
        for class in classes {
            set.insert(class);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_in_the_set_from_when_it_is_added_until_it_is_taken_out() {
        let mut set: ClassSet = [ClassId(3), ClassId(200)].into_iter().collect();
        assert!(set.contains(ClassId(3)) && set.contains(ClassId(200)));
        assert!(!set.contains(ClassId(4)) && !set.contains(ClassId(5_000)));
        set.remove(ClassId(200));
        set.remove(ClassId(5_000));
        assert_eq!(set, [ClassId(3)].into_iter().collect());
        assert!(!set.contains(ClassId(200)) && set.contains(ClassId(3)));
    }
}

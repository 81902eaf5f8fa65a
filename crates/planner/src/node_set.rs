//! Sets of nodes as bits.
//!
//! Ten thousand waiting pods times a thousand nodes are ten million questions, but only a hundred and
//! sixty thousand words of bits. So what is known of nodes is kept as sets, and the questions of one pod are
//! asked of all nodes at once.

use std::hash::{Hash, Hasher};

/// Bits in a word.
const BITS: usize = 64;

/// Nodes by their position in the cluster, from 0.
#[derive(Clone, Debug, Default)]
pub struct NodeSet {
    /// Those that are missing at the end are empty.
    words: Vec<u64>,
}

impl PartialEq for NodeSet {
    fn eq(&self, other: &Self) -> bool {
        let most = self.words.len().max(other.words.len());
        (0..most).all(|n| self.word(n) == other.word(n))
    }
}

impl Eq for NodeSet {}

impl Hash for NodeSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let last = self.words.iter().rposition(|word| *word != 0);
        self.words[..last.map_or(0, |last| last + 1)].hash(state);
    }
}

impl NodeSet {
    /// The nodes below a position.
    pub fn below(count: usize) -> Self {
        let mut words = vec![u64::MAX; count / BITS];
        if !count.is_multiple_of(BITS) {
            words.push((1 << (count % BITS)) - 1);
        }
        Self { words }
    }

    /// Whether the node is in it.
    pub fn contains(&self, node: usize) -> bool {
        self.word(node / BITS) >> (node % BITS) & 1 == 1
    }

    /// Puts the node in, or takes it out.
    pub fn set(&mut self, node: usize, is_in: bool) {
        let (word, bit) = (node / BITS, 1 << (node % BITS));
        if word >= self.words.len() {
            if !is_in {
                return;
            }
            self.words.resize(word + 1, 0);
        }
        if is_in {
            self.words[word] |= bit;
        } else {
            self.words[word] &= !bit;
        }
    }

    /// Makes room for a new node: those from this position on move up by one.
    pub fn insert(&mut self, node: usize, is_in: bool) {
        let word = node / BITS;
        if word < self.words.len() {
            let low = (1u64 << (node % BITS)) - 1;
            let old = self.words[word];
            self.words[word] = (old & low) | ((old & !low) << 1);
            let mut carry = old >> (BITS - 1);
            for later in &mut self.words[word + 1..] {
                let next = *later >> (BITS - 1);
                *later = *later << 1 | carry;
                carry = next;
            }
            if carry == 1 {
                self.words.push(1);
            }
        }
        self.set(node, is_in);
    }

    /// Closes the gap that a node leaves: those behind it move down by one.
    pub fn remove(&mut self, node: usize) {
        let word = node / BITS;
        if word >= self.words.len() {
            return;
        }
        let low = (1u64 << (node % BITS)) - 1;
        let old = self.words[word];
        self.words[word] = (old & low) | ((old >> 1) & !low);
        for later in word + 1..self.words.len() {
            self.words[later - 1] |= self.words[later] << (BITS - 1);
            self.words[later] >>= 1;
        }
    }

    /// Whether no node is in it.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many nodes are in it.
    pub fn len(&self) -> usize {
        count(self.words.iter().copied())
    }

    /// The nodes, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = |(word, bits): (usize, &u64)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then_some(left.trailing_zeros())?;
                left &= left - 1;
                Some(word * BITS + usize::try_from(bit).ok()?)
            })
        };
        self.words.iter().enumerate().flat_map(bits)
    }

    /// The same as bits, 64 nodes in a word, the first in its lowest bit; words that are missing at the end are 0.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The nodes that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let words = self.words.iter().zip(&other.words).map(|(a, b)| a & b);
        Self {
            words: words.collect(),
        }
    }

    /// Whether each of its nodes is in one of the others.
    pub fn is_within(&self, one: &Self, other: &Self) -> bool {
        let mut words = self.words.iter().enumerate();
        words.all(|(at, word)| word & !(one.word(at) | other.word(at)) == 0)
    }

    /// The first node that is in both.
    pub fn first_common(&self, other: &Self) -> Option<usize> {
        let mut words = self.words.iter().zip(&other.words).enumerate();
        words.find_map(|(word, (a, b))| {
            let both = a & b;
            let bit = (both != 0).then(|| both.trailing_zeros())?;
            Some(word * BITS + usize::try_from(bit).ok()?)
        })
    }

    /// How many nodes are in both.
    pub fn count_common(&self, other: &Self) -> usize {
        count(self.words.iter().zip(&other.words).map(|(a, b)| a & b))
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }
}

fn count(words: impl Iterator<Item = u64>) -> usize {
    words.map(|word| word.count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set_of(bits: &[bool]) -> NodeSet {
        let mut set = NodeSet::default();
        for (node, is_in) in bits.iter().enumerate() {
            set.set(node, *is_in);
        }
        set
    }

    proptest! {
        #[test]
        fn nodes_that_come_and_go_move_the_others(
            mut bits in prop::collection::vec(any::<bool>(), 1..200),
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), any::<prop::sample::Index>()), 0..20),
        ) {
            let mut set = set_of(&bits);
            for (comes, is_in, at) in steps {
                if comes {
                    let at = at.index(bits.len() + 1);
                    bits.insert(at, is_in);
                    set.insert(at, is_in);
                } else if !bits.is_empty() {
                    let at = at.index(bits.len());
                    bits.remove(at);
                    set.remove(at);
                }
                let expected: Vec<_> = (0..bits.len()).filter(|n| bits[*n]).collect();
                prop_assert_eq!(set.iter().collect::<Vec<_>>(), expected);
                prop_assert!(set == set_of(&bits));
            }
        }

        #[test]
        fn what_two_have_in_common_is_counted_from_the_first_on(
            a in prop::collection::vec(any::<bool>(), 0..200),
            b in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let both: Vec<_> = (0..a.len().min(b.len())).filter(|n| a[*n] && b[*n]).collect();
            let (a, b) = (set_of(&a), set_of(&b));
            prop_assert_eq!(a.first_common(&b), both.first().copied());
            prop_assert_eq!(a.count_common(&b), both.len());
            prop_assert_eq!(a.and(&b).iter().collect::<Vec<_>>(), both.clone());
            prop_assert_eq!(a.and(&b).len(), both.len());
            prop_assert_eq!(a.and(&b).is_empty(), both.is_empty());
            prop_assert_eq!(a.is_within(&b, &NodeSet::default()), both.len() == a.len());
            prop_assert_eq!(a.is_within(&NodeSet::default(), &b), both.len() == a.len());
            prop_assert!(a.is_within(&a, &b));
        }

        #[test]
        fn the_first_so_many_are_all_and_no_more(count in 0usize..300) {
            let set = NodeSet::below(count);
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
        }
    }
}

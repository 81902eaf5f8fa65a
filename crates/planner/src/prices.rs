//! What the same demand costs on each node, and where it costs least.
//!
//! A planning pass asks that for every demand, and changes it for every promise: both cost a look at a few numbers, for
//! the least is known of each 64 nodes, which are a word of a [`NodeSet`].

use crate::{cost::Cost, node_set::NodeSet};

/// Nodes that are looked at together.
const BLOCK: usize = 64;

/// Nodes by what serving costs there.
#[derive(Debug, Default)]
pub(crate) struct Prices {
    /// [`Cost::NEVER`] for those that do not serve.
    by_node: Vec<Cost>,
    /// Of each block.
    least: Vec<Cost>,
}

impl Prices {
    /// So many nodes, none of which serves.
    pub(crate) fn none(nodes: usize) -> Self {
        Self {
            by_node: vec![Cost::NEVER; nodes],
            least: vec![Cost::NEVER; nodes.div_ceil(BLOCK)],
        }
    }

    /// A node comes, which does not serve; those from this position on move up by one.
    pub(crate) fn insert(&mut self, node: usize) {
        self.by_node.insert(node, Cost::NEVER);
        self.look_again();
    }

    /// A node goes; those behind it move down by one.
    pub(crate) fn remove(&mut self, node: usize) {
        self.by_node.remove(node);
        self.look_again();
    }

    fn look_again(&mut self) {
        let blocks = self.by_node.chunks(BLOCK);
        self.least = blocks.map(least).collect();
    }

    /// What serving costs on a node.
    pub(crate) fn set(&mut self, node: usize, cost: Cost) {
        let old = std::mem::replace(&mut self.by_node[node], cost);
        let block = node / BLOCK;
        if cost <= self.least[block] {
            self.least[block] = cost;
        } else if old == self.least[block] {
            let rest = &self.by_node[block * BLOCK..];
            self.least[block] = least(&rest[..rest.len().min(BLOCK)]);
        }
    }

    /// The node where serving costs least; the first of several.
    pub(crate) fn best(&self, allowed: &NodeSet) -> Option<usize> {
        let mut best = (Cost::NEVER, 0, 0);
        for (block, (least, word)) in self.least.iter().zip(allowed.words()).enumerate() {
            if *least >= best.0 || *word == 0 {
                continue;
            }
            if *word == u64::MAX {
                best = (*least, block, *word);
                continue;
            }
            let least = self.of_block(block, *word).map(|(_, cost)| cost).min();
            if let Some(least) = least.filter(|least| *least < best.0) {
                best = (least, block, *word);
            }
        }
        let (cost, block, word) = best;
        let mut nodes = self.of_block(block, word);
        nodes.find_map(|(node, known)| (known == cost).then_some(node))
    }

    /// The nodes that serve, those where it costs least first.
    pub(crate) fn serving(&self, allowed: &NodeSet) -> Vec<usize> {
        let nodes = allowed.iter().take_while(|node| *node < self.by_node.len());
        let serving = nodes.map(|node| (self.by_node[node], node));
        let mut serving: Vec<_> = serving.filter(|(cost, _)| *cost < Cost::NEVER).collect();
        serving.sort_unstable();
        serving.into_iter().map(|(_, node)| node).collect()
    }

    /// Nodes of a block, by their bits in the word, with what serving costs there.
    fn of_block(&self, block: usize, word: u64) -> impl Iterator<Item = (usize, Cost)> {
        let start = block * BLOCK;
        let costs = self.by_node.get(start..).unwrap_or_default();
        let mut rest = word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some((start + bit, *costs.get(bit)?))
        })
    }
}

fn least(costs: &[Cost]) -> Cost {
    costs.iter().copied().min().unwrap_or(Cost::NEVER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Prices change, and nodes come and go.
    fn any_step() -> impl Strategy<Value = (u8, prop::sample::Index, Option<i64>)> {
        let price = prop::option::weighted(0.8, 0i64..4);
        (0u8..10, any::<prop::sample::Index>(), price)
    }

    proptest! {
        #[test]
        fn the_first_of_the_cheapest_allowed_nodes_is_the_best(
            nodes in 1usize..200,
            steps in prop::collection::vec(any_step(), 0..300),
            allowed in prop::collection::vec(any::<bool>(), 0..220),
            all in any::<bool>(),
        ) {
            let mut costs = vec![Cost::NEVER; nodes];
            let mut prices = Prices::none(nodes);
            for (what, at, price) in steps {
                let cost = price.map_or(Cost::NEVER, |price| Cost::new(price, 1));
                match what {
                    0 => {
                        let at = at.index(costs.len() + 1);
                        costs.insert(at, Cost::NEVER);
                        prices.insert(at);
                    }
                    1 if costs.len() > 1 => {
                        let at = at.index(costs.len());
                        costs.remove(at);
                        prices.remove(at);
                    }
                    _ => {
                        let at = at.index(costs.len());
                        costs[at] = cost;
                        prices.set(at, cost);
                    }
                }
            }
            let mut set = NodeSet::default();
            for (node, is_in) in allowed.iter().enumerate() {
                set.set(node, all || *is_in);
            }
            let serving = costs.iter().zip(0..).map(|(cost, node)| (*cost, node));
            let serving = serving.filter(|(cost, node)| *cost < Cost::NEVER && set.contains(*node));
            let mut expected: Vec<(Cost, usize)> = serving.collect();
            expected.sort_unstable();
            let expected: Vec<usize> = expected.into_iter().map(|(_, node)| node).collect();
            prop_assert_eq!(prices.best(&set), expected.first().copied());
            prop_assert_eq!(prices.serving(&set), expected);
        }
    }
}

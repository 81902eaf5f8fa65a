//! The cheapest way for one node to serve a demand, over all its GPUs.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    options::{Options, options},
    work::{Board, WorkNode},
};
use crate::{cost::Cost, options::Choice, work::Want};

/// Partial sums that one search may look at before it gives up. A demand of three profiles and
/// twenty devices stays far below.
const MOST_STATES: usize = 200_000;

/// What a search found.
pub(crate) enum Found {
    /// The cheapest choice for each GPU of the node, in order.
    Served { cost: Cost, choices: Vec<Choice> },
    /// There is none.
    Nothing,
    /// Cut off at [`MOST_STATES`].
    TooComplex,
}

/// Remembers what equal GPUs can do, for the wants of one demand.
#[derive(Default)]
pub(crate) struct Memo {
    known: Vec<(Board, Rc<Options>)>,
}

impl Memo {
    fn options(&mut self, board: &Board, wants: &[Want]) -> Rc<Options> {
        if let Some((_, options)) = self.known.iter().find(|(b, _)| b.is_alike(board)) {
            return Rc::clone(options);
        }
        let found = Rc::new(options(board, &board.model, wants));
        self.known.push((board.clone(), Rc::clone(&found)));
        found
    }
}

impl Board {
    /// Whether it offers the same choices. Ids and busyness do not matter for what is possible.
    fn is_alike(&self, other: &Self) -> bool {
        let alike = |a: &super::work::IdleInstance, b: &super::work::IdleInstance| {
            (a.profile, a.placement, &a.resource, a.arriving)
                == (b.profile, b.placement, &b.resource, b.arriving)
        };
        self.changeable == other.changeable
            && self.idle.len() == other.idle.len()
            && self.idle.iter().zip(&other.idle).all(|(a, b)| alike(a, b))
            && self.firm == other.firm
            && (std::sync::Arc::ptr_eq(&self.model, &other.model) || self.model == other.model)
    }
}

struct Partial {
    cost: Cost,
    /// Choice of each GPU so far, as the served counts that key its [`Options`].
    keys: Vec<Vec<u32>>,
}

/// Searches one node.
pub(crate) fn search(node: &WorkNode, wants: &[Want], memo: &mut Memo) -> Found {
    let goal: Vec<u32> = wants.iter().map(|w| w.count).collect();
    let start: Vec<u32> = wants.iter().map(|w| fixed(node, w)).collect();
    let mut partial = BTreeMap::from([(
        start,
        Partial {
            cost: Cost::default(),
            keys: Vec::new(),
        },
    )]);
    let mut per_gpu = Vec::with_capacity(node.boards.len());
    let mut states = 0;
    for board in &node.boards {
        let options = memo.options(board, wants);
        let mut next: BTreeMap<Vec<u32>, Partial> = BTreeMap::new();
        for (served, so_far) in &partial {
            for (key, choice) in options.iter() {
                states += 1;
                if states > MOST_STATES {
                    return Found::TooComplex;
                }
                let sum = add(served, key);
                if sum.iter().zip(&goal).any(|(sum, most)| sum > most) {
                    continue;
                }
                let cost = so_far.cost.plus(choice.cost);
                if next.get(&sum).is_none_or(|known| cost < known.cost) {
                    let mut keys = so_far.keys.clone();
                    keys.push(key.clone());
                    next.insert(sum, Partial { cost, keys });
                }
            }
        }
        partial = next;
        per_gpu.push(options);
    }
    let Some(best) = partial.remove(&goal) else {
        return Found::Nothing;
    };
    let choices = best
        .keys
        .iter()
        .zip(&per_gpu)
        .map(|(key, options)| options[key].clone())
        .collect();
    Found::Served {
        cost: best.cost,
        choices,
    }
}

fn fixed(node: &WorkNode, want: &Want) -> u32 {
    node.fixed
        .get(&*want.resource)
        .copied()
        .unwrap_or(0)
        .min(want.count)
}

fn add(served: &[u32], more: &[u32]) -> Vec<u32> {
    served.iter().zip(more).map(|(a, b)| a + b).collect()
}

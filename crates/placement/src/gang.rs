//! Several instances at once: all of them or none.
//!
//! First one after another, the profile with the fewest placements first, which nearly always
//! succeeds. If not: what could not fit even if everything were moved ([`crate::packable`]) cannot
//! fit at all. Otherwise a search over how many GPUs there are of each mask, bounded, whose answers
//! are told apart: there is no way, or none was found within the bound.

use std::collections::{BTreeMap, HashSet};

use crate::{
    classes::ClassSet,
    geometry::{PlacementId, ProfileId, placements},
    packable::{Fit, Packing},
    pool::{Ask, Choice, GpuId, NodeId, Pool},
};

/// Steps that a search takes by default before it gives up; some ten milliseconds.
pub const MOST_STEPS: u32 = 20_000;

/// What a gang asks for.
#[derive(Clone, Copy, Debug)]
pub struct Gang<'a> {
    /// A profile for each instance.
    pub profiles: &'a [ProfileId],
    /// Only on GPUs of these node classes.
    pub classes: Option<&'a ClassSet>,
    /// All on this node; the classes do not matter then.
    pub node: Option<NodeId>,
    /// See [`Ask::reuse_bonus`]; counts only as long as one after another succeeds.
    pub reuse_bonus: u32,
    /// Steps that the search may take.
    pub most_steps: u32,
}

impl<'a> Gang<'a> {
    /// A gang that may stand anywhere.
    pub fn new(profiles: &'a [ProfileId]) -> Self {
        Self {
            profiles,
            classes: None,
            node: None,
            reuse_bonus: 0,
            most_steps: MOST_STEPS,
        }
    }

    fn ask(&self, profile: ProfileId) -> Ask<'a> {
        let ask = Ask::new(profile).reuse_bonus(self.reuse_bonus);
        match self.classes {
            Some(classes) if self.node.is_none() => ask.within(classes),
            _ => ask,
        }
    }

    fn allows(&self, pool: &Pool, gpu: GpuId) -> bool {
        let place = pool.place(gpu);
        match self.node {
            Some(node) => place.node == node,
            None => self
                .classes
                .is_none_or(|classes| classes.contains(place.class)),
        }
    }
}

/// What became of a gang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All instances are held in the pool, as chosen, in the order of the profiles asked for.
    Placed(Vec<Choice>),
    /// There is no way without moving or waiting for others. The pool is as it was.
    CannotFit(Proof),
    /// None was found in so many steps; there may be one. The pool is as it was.
    NotFound {
        /// Steps taken.
        steps: u32,
    },
}

/// Why a gang cannot fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Not even if everything that stands there could be moved.
    NotEvenIfMoved,
    /// Every way was tried. Moving what stands there would help.
    Tried {
        /// Steps that it took.
        steps: u32,
    },
}

impl Pool {
    /// Places all instances of a gang, or none.
    pub fn place_gang(&mut self, gang: &Gang<'_>) -> Outcome {
        let order = self.order(gang);
        if let Some(choices) = self.one_after_another(gang, &order) {
            return Outcome::Placed(in_asked_order(&order, choices));
        }
        self.search_for(gang, &order)
    }

    /// Decides what one after another did not.
    fn search_for(&mut self, gang: &Gang<'_>, order: &[usize]) -> Outcome {
        let allowed: Vec<GpuId> = self.gpus().filter(|gpu| gang.allows(self, *gpu)).collect();
        if !self.could_if_moved(gang, &allowed) {
            return Outcome::CannotFit(Proof::NotEvenIfMoved);
        }
        let mut search = Search::new(self, gang, order, &allowed);
        let found = search.run(0, None);
        let Search { way, steps, .. } = search;
        match found {
            Found::Way => match self.go(gang, order, &way) {
                Some(choices) => Outcome::Placed(in_asked_order(order, choices)),
                None => Outcome::NotFound { steps },
            },
            Found::None => Outcome::CannotFit(Proof::Tried { steps }),
            Found::CutOff => Outcome::NotFound { steps },
        }
    }

    /// Places all instances of a gang on one of these nodes, or none: on the node where the scores
    /// sum up highest one after another, the first among equals; if that fails everywhere, on the
    /// first where the search finds a way, all searches together within the gang's bound. Looks at
    /// every GPU of every node; the gang's own node and classes do not matter.
    pub fn place_gang_on_one_of(&mut self, gang: &Gang<'_>, nodes: &[NodeId]) -> Outcome {
        let order = self.order(gang);
        let on = |node: NodeId| Gang {
            node: Some(node),
            ..*gang
        };
        let mut best: Option<(i64, NodeId)> = None;
        for node in nodes {
            let mark = self.mark();
            if let Some(choices) = self.one_after_another(&on(*node), &order) {
                let sum: i64 = choices.iter().map(|c| c.value(gang.reuse_bonus).0).sum();
                if best.is_none_or(|(most, _)| sum > most) {
                    best = Some((sum, *node));
                }
            }
            self.rollback(mark);
        }
        if let Some((_, node)) = best {
            return self.place_gang(&on(node));
        }
        let mut steps = 0;
        let mut proof = Proof::NotEvenIfMoved;
        for node in nodes {
            let left = gang.most_steps.saturating_sub(steps);
            match self.place_gang(&Gang {
                most_steps: left,
                ..on(*node)
            }) {
                Outcome::CannotFit(Proof::NotEvenIfMoved) => {}
                Outcome::CannotFit(Proof::Tried { steps: taken }) => {
                    proof = Proof::Tried {
                        steps: steps + taken,
                    };
                    steps += taken;
                }
                Outcome::NotFound { steps: taken } => {
                    return Outcome::NotFound {
                        steps: steps + taken,
                    };
                }
                placed @ Outcome::Placed(_) => return placed,
            }
        }
        Outcome::CannotFit(proof)
    }

    /// The positions of the profiles, those with the fewest placements first.
    fn order(&self, gang: &Gang<'_>) -> Vec<usize> {
        let mut order: Vec<usize> = (0..gang.profiles.len()).collect();
        order.sort_by_key(|at| {
            let profile = gang.profiles[*at];
            (self.geometry().profile(profile).count, profile)
        });
        order
    }

    fn one_after_another(&mut self, gang: &Gang<'_>, order: &[usize]) -> Option<Vec<Choice>> {
        let mark = self.mark();
        let mut choices = Vec::with_capacity(order.len());
        for at in order {
            let ask = gang.ask(gang.profiles[*at]);
            let choice = match gang.node {
                Some(node) => self.choose_on(&ask, node),
                None => self.choose(&ask),
            };
            match choice {
                Some(choice) if self.commit(&choice).is_ok() => choices.push(choice),
                _ => {
                    self.rollback(mark);
                    return None;
                }
            }
        }
        self.keep(mark);
        Some(choices)
    }

    /// Whether what is held and the gang fit side by side on the allowed GPUs. Blocked and reserved
    /// slices are left out, so that `false` is certain.
    fn could_if_moved(&self, gang: &Gang<'_>, allowed: &[GpuId]) -> bool {
        let geometry = self.geometry();
        let mut counts = vec![0u32; geometry.profiles().len()];
        let mut gpus = 0;
        for state in allowed
            .iter()
            .map(|gpu| self.state(*gpu))
            .filter(|s| !s.unhealthy)
        {
            gpus += 1;
            for id in placements(state.held) {
                counts[geometry.spot(id).profile.index()] += 1;
            }
        }
        for profile in gang.profiles {
            counts[profile.index()] += 1;
        }
        Packing::new(geometry).fits(&counts, gpus) != Fit::No
    }

    /// Does what the search found.
    fn go(&mut self, gang: &Gang<'_>, order: &[usize], way: &[Step]) -> Option<Vec<Choice>> {
        let mark = self.mark();
        let mut choices = Vec::with_capacity(way.len());
        for (at, step) in order.iter().zip(way) {
            let ask = gang.ask(gang.profiles[*at]);
            let gpu = match gang.node {
                Some(node) => {
                    let mut gpus = self.node_gpus(node).iter().copied();
                    gpus.find(|gpu| self.mask(*gpu) == step.mask)
                }
                None => self.with_mask(&ask, step.mask, step.placement),
            };
            let choice = gpu.map(|gpu| Choice {
                gpu,
                placement: step.placement,
                reuse: self.state(gpu).idle & step.placement.bit() != 0,
                score: self.index().table().score(step.mask, step.placement),
            });
            match choice {
                Some(choice) if self.commit(&choice).is_ok() => choices.push(choice),
                _ => {
                    self.rollback(mark);
                    return None;
                }
            }
        }
        self.keep(mark);
        Some(choices)
    }
}

fn in_asked_order(order: &[usize], choices: Vec<Choice>) -> Vec<Choice> {
    let mut sorted: Vec<_> = order.iter().zip(choices).collect();
    sorted.sort_by_key(|(at, _)| **at);
    sorted.into_iter().map(|(_, choice)| choice).collect()
}

/// A placement on some GPU with that mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Step {
    mask: u16,
    placement: PlacementId,
}

/// The next instance to place, the least step for it, and how many GPUs there are of each mask.
type State = (usize, Option<Step>, Vec<(u16, u32)>);

enum Found {
    Way,
    None,
    CutOff,
}

/// A search over how many GPUs there are of each mask; which GPU it is does not matter.
struct Search<'a> {
    pool: &'a Pool,
    profiles: Vec<ProfileId>,
    masks: BTreeMap<u16, u32>,
    /// States without a way.
    hopeless: HashSet<State>,
    way: Vec<Step>,
    steps: u32,
    most: u32,
}

impl<'a> Search<'a> {
    fn new(pool: &'a Pool, gang: &Gang<'_>, order: &[usize], allowed: &[GpuId]) -> Self {
        let mut masks = BTreeMap::new();
        for gpu in allowed {
            *masks.entry(pool.mask(*gpu)).or_insert(0u32) += 1;
        }
        // More GPUs of a mask than instances make no difference.
        let enough = u32::try_from(order.len()).unwrap_or(u32::MAX);
        for count in masks.values_mut() {
            *count = enough.min(*count);
        }
        Self {
            pool,
            profiles: order.iter().map(|at| gang.profiles[*at]).collect(),
            masks,
            hopeless: HashSet::new(),
            way: Vec::new(),
            steps: 0,
            most: gang.most_steps,
        }
    }

    /// Places the instances from `next` on. Equal ones are placed in ascending order of their steps,
    /// not below `least`: masks on one GPU only grow, so that every way has such an order.
    fn run(&mut self, next: usize, least: Option<Step>) -> Found {
        let Some(profile) = self.profiles.get(next).copied() else {
            return Found::Way;
        };
        let state = (
            next,
            least,
            self.masks.iter().map(|(m, n)| (*m, *n)).collect::<Vec<_>>(),
        );
        if self.hopeless.contains(&state) {
            return Found::None;
        }
        for step in self.options(profile, least) {
            self.steps += 1;
            if self.steps > self.most {
                return Found::CutOff;
            }
            let after = step.mask | self.pool.geometry().spot(step.placement).mask;
            self.change(step.mask, after);
            self.way.push(step);
            let same = self.profiles.get(next + 1) == Some(&profile);
            match self.run(next + 1, same.then_some(step)) {
                Found::None => {}
                other => return other,
            }
            self.way.pop();
            self.change(after, step.mask);
        }
        self.hopeless.insert(state);
        Found::None
    }

    /// What could be done for the profile, the best first.
    fn options(&self, profile: ProfileId, least: Option<Step>) -> Vec<Step> {
        let geometry = self.pool.geometry();
        let table = self.pool.index().table();
        let mut options: Vec<Step> = Vec::new();
        for mask in self.masks.keys() {
            let free = placements(geometry.free_of(*mask, profile));
            options.extend(free.map(|placement| Step {
                mask: *mask,
                placement,
            }));
        }
        options.retain(|step| least.is_none_or(|least| *step >= least));
        options.sort_by_key(|s| (std::cmp::Reverse(table.score(s.mask, s.placement)), *s));
        options
    }

    fn change(&mut self, from: u16, to: u16) {
        if let Some(count) = self.masks.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.masks.remove(&from);
            }
        }
        *self.masks.entry(to).or_insert(0) += 1;
    }
}

#[cfg(test)]
mod tests;

//! Demands that are served together or not at all.
//!
//! First the members of a group are served one after the other, as if each were alone. If one of them finds no room, what
//! the others were promised is taken back, and the members are dealt out over the nodes: whether some of them fit on
//! a node together is whether a demand fits there that asks for all they ask for, and to that the answer is exact. Node
//! after node it is noted of how many members of each kind there is room so far. A way is found if there is one, unless
//! the search reaches its bound.
//!
//! Members of a kind ask for the same and may use the same nodes.
//!
//! A group is served when the turn of its last member comes: none of them goes before demands that should go before it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{Planner, touch};
use crate::{
    answers::Answers,
    cost::Cost,
    demand::{Demand, Eligibilities, Group, Wants},
    node_set::NodeSet,
    outcome::{Outcome, Refusal, RefusalKind},
    search::Found,
    slot::State,
    work::WorkNode,
};

/// What all groups of a pass may look at. A look is one at a node with some members of a group in mind; one at many GPUs
/// for many members counts as several.
const MOST: Budget = Budget {
    looks: 8_192,
    sums: 2_000_000,
};
/// Sums of counts in one look; as many more count as another.
const SUMS_OF_A_LOOK: usize = 20_000;
/// Ways to choose some members of a group, by how many of each kind: 1,023 alike are one fewer than that.
const MOST_DEALS: usize = 1_024;
/// Groups refused that are remembered from pass to pass.
const MOST_FAILED: usize = 1_024;

/// What may be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    looks: usize,
    /// Partial sums of searches over counts without numbers.
    sums: usize,
}

/// A demand of a group.
pub(super) struct Member<'a> {
    /// Its position among the demands of the pass.
    pub(super) n: usize,
    pub(super) demand: &'a Demand,
    /// The number of the answers for what it wants, or why there are none.
    pub(super) wish: Result<usize, Refusal>,
}

/// What a group is made up of: for each kind what it wants, its nodes, and how many members it has.
type Makeup = Vec<(Arc<Wants>, Arc<Eligibilities>, usize)>;

/// A group that could not be served.
#[derive(Debug)]
struct Failed {
    /// [`Planner::state`] then.
    state: (u64, u64, u64),
    /// What could be looked at.
    budget: Budget,
    failure: Failure,
    /// The last pass in which somebody asked.
    pass: u64,
}

/// The groups of a pass, and what is remembered of those that were refused.
#[derive(Debug)]
pub(super) struct Gangs {
    /// Positions of demands whose groups were not looked at yet, in the order in which they are served.
    members: HashMap<Arc<str>, Vec<usize>>,
    most: Budget,
    left: Budget,
    /// Counts changes of nodes.
    changes: u64,
    failed: HashMap<Makeup, Failed>,
    /// Digests of the states of nodes that were touched in this pass, and their versions.
    digests: HashMap<usize, (u64, u64)>,
}

impl Default for Gangs {
    fn default() -> Self {
        Self {
            members: HashMap::new(),
            most: MOST,
            left: MOST,
            changes: 0,
            failed: HashMap::new(),
            digests: HashMap::new(),
        }
    }
}

impl Gangs {
    /// A pass over these demands begins.
    pub(super) fn begin(&mut self, demands: &[Demand], order: impl Iterator<Item = usize>) {
        self.left = self.most;
        for n in order {
            if let Some(group) = &demands[n].group {
                let members = self.members.entry(Arc::clone(&group.key));
                members.or_default().push(n);
            }
        }
    }

    /// The pass with this number ends.
    pub(super) fn end(&mut self, pass: u64) {
        self.members.clear();
        self.digests.clear();
        self.failed.retain(|_, failed| failed.pass == pass);
        if self.failed.len() > MOST_FAILED {
            self.failed.clear();
        }
    }

    /// A node is not what it was.
    pub(super) fn node_changed(&mut self) {
        self.changes += 1;
    }

    /// What one group may look at: half of what is left, so that none leaves nothing to those behind it.
    fn share(&self) -> Budget {
        Budget {
            looks: self.left.looks / 2,
            sums: self.left.sums / 2,
        }
    }

    /// So much of a share is left over.
    fn spent(&mut self, share: Budget, rest: Budget) {
        self.left.looks -= share.looks - rest.looks;
        self.left.sums -= share.sums - rest.sums;
    }

    /// Why such a group could not be served, if nothing has changed since and it may not look at more.
    fn known(
        &mut self,
        makeup: &Makeup,
        state: (u64, u64, u64),
        share: Budget,
        pass: u64,
    ) -> Option<Failure> {
        let known = self.failed.get_mut(makeup)?;
        known.pass = pass;
        let to_the_end = !matches!(known.failure, Failure::CutOff);
        let more = share.looks > known.budget.looks || share.sums > known.budget.sums;
        (known.state == state && (to_the_end || !more)).then(|| known.failure.clone())
    }

    /// All members of a group, when the turn of the last of them comes.
    pub(super) fn take(&mut self, group: &Group, n: usize) -> Vec<usize> {
        let members = self.members.get(&group.key);
        if members.and_then(|members| members.last()) == Some(&n) {
            self.members.remove(&group.key).unwrap_or_default()
        } else {
            Vec::new()
        }
    }
}

/// Members that ask for the same and may use the same nodes.
struct Kind<'a> {
    wish: usize,
    wants: &'a Arc<Wants>,
    nodes: &'a Arc<Eligibilities>,
    /// Positions among the members.
    members: Vec<usize>,
}

/// Why a group is not served.
#[derive(Clone, Debug)]
enum Failure {
    /// Members of the kind with this number could not be served if they were alone.
    Alone(usize, Refusal),
    /// No more than so many of its members fit at the same time.
    Room(usize),
    /// The search was cut off.
    CutOff,
}

/// How many members of each kind.
type Deal = Vec<u32>;

impl Planner {
    /// Says what becomes of the members of a group.
    pub(super) fn serve_gang(
        &mut self,
        group: &Group,
        members: &[Member<'_>],
        gangs: &mut Gangs,
        outcomes: &mut [Outcome],
    ) {
        if let Some(why) = &group.held_back {
            for member in members {
                outcomes[member.n] = Outcome::Refused(Refusal {
                    kind: RefusalKind::Group,
                    text: Arc::clone(why),
                });
            }
            return;
        }
        match self.serve_together(members, gangs) {
            Ok(served) => {
                for (member, outcome) in members.iter().zip(served) {
                    outcomes[member.n] = outcome;
                }
            }
            Err((failure, own)) => {
                let others = failure.words(&group.name, members.len());
                for (at, member) in members.iter().enumerate() {
                    outcomes[member.n] = Outcome::Refused(match &failure {
                        Failure::Alone(_, refusal) if own.contains(&at) => refusal.clone(),
                        _ => others.clone(),
                    });
                }
            }
        }
    }

    /// An outcome for each member, or why there is none; then with the members whose own failure it is.
    fn serve_together(
        &mut self,
        members: &[Member<'_>],
        gangs: &mut Gangs,
    ) -> Result<Vec<Outcome>, (Failure, Vec<usize>)> {
        let mut kinds: Vec<Kind<'_>> = Vec::new();
        for (at, member) in members.iter().enumerate() {
            let demand = member.demand;
            let wish = match &member.wish {
                Ok(wish) => *wish,
                Err(refusal) => return Err((Failure::Alone(0, refusal.clone()), vec![at])),
            };
            // Pods for which nodes were set aside have copies of their own.
            let same = |kind: &&mut Kind<'_>| kind.wish == wish && *kind.nodes == demand.nodes;
            match kinds.iter_mut().find(same) {
                Some(kind) => kind.members.push(at),
                None => kinds.push(Kind {
                    wish,
                    wants: &demand.wants,
                    nodes: &demand.nodes,
                    members: vec![at],
                }),
            }
        }
        let key = kinds.iter().map(|kind| {
            let (wants, nodes) = (Arc::clone(kind.wants), Arc::clone(kind.nodes));
            (wants, nodes, kind.members.len())
        });
        let key: Makeup = key.collect();
        let (state, share) = (self.state(gangs), gangs.share());
        let failure = if let Some(known) = gangs.known(&key, state, share, self.passes) {
            known
        } else {
            if let Some(outcomes) = self.one_by_one(members) {
                return Ok(outcomes);
            }
            let mut rest = share;
            let dealt = self.dealt_out(&kinds, members.len(), &mut rest);
            gangs.spent(share, rest);
            let failure = match dealt {
                Ok(outcomes) => return Ok(outcomes),
                Err(failure) => failure,
            };
            if !self.is_cut_off(&kinds) {
                let failed = Failed {
                    state,
                    budget: share,
                    failure: failure.clone(),
                    pass: self.passes,
                };
                gangs.failed.insert(key, failed);
            }
            failure
        };
        let own = match &failure {
            Failure::Alone(kind, _) => kinds[*kind].members.clone(),
            _ => Vec::new(),
        };
        Err((failure, own))
    }

    /// What decides about a group: the nodes, and what became of them in this pass so far.
    fn state(&self, gangs: &mut Gangs) -> (u64, u64, u64) {
        let mut sum = 0u64;
        for node in self.touched.keys() {
            let state = &self.slots[*node].state;
            let known = gangs.digests.entry(*node).or_default();
            if known.0 != state.version {
                *known = (state.version, digest(*node, state));
            }
            sum = sum.wrapping_add(known.1);
        }
        (gangs.changes, self.classes.version(), sum)
    }

    /// Whether some node was not asked to the end for one of them alone; the next pass goes on with it.
    fn is_cut_off(&self, kinds: &[Kind<'_>]) -> bool {
        let mut kinds = kinds.iter();
        kinds.any(|kind| self.answers[kind.wish].is_cut_off(kind.nodes.allowed()))
    }

    /// Serves the members as if each were alone; nothing is promised if that does not do.
    fn one_by_one(&mut self, members: &[Member<'_>]) -> Option<Vec<Outcome>> {
        let mut before: BTreeMap<usize, (WorkNode, State)> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(members.len());
        for member in members {
            let wish = *member.wish.as_ref().ok()?;
            let Some((node, choices)) = self.cheapest(member.demand, wish) else {
                self.take_back(before);
                return None;
            };
            let slot = touch(&mut self.touched, &mut self.slots, node);
            before
                .entry(node)
                .or_insert_with(|| (slot.work.clone(), slot.state.clone()));
            outcomes.push(self.grant(node, wish, &choices));
        }
        Some(outcomes)
    }

    /// Puts nodes back to what they were in this pass.
    fn take_back(&mut self, before: BTreeMap<usize, (WorkNode, State)>) {
        for (node, (work, state)) in before {
            self.versions += 1;
            let slot = &mut self.slots[node];
            slot.work = work;
            slot.state = State {
                version: self.versions,
                ..state
            };
            self.promised_on.push(node);
            for answers in &mut self.answers {
                answers.gives_back(node);
            }
        }
    }

    /// Deals the members out over the nodes.
    fn dealt_out(
        &mut self,
        kinds: &[Kind<'_>],
        members: usize,
        left: &mut Budget,
    ) -> Result<Vec<Outcome>, Failure> {
        let mut cut_off = false;
        let mut nodes = NodeSet::default();
        let mut order = Vec::new();
        for (number, kind) in kinds.iter().enumerate() {
            let answers = &mut self.answers[kind.wish];
            let (boards, search) = (&mut self.boards, &mut self.search);
            answers.refresh(&self.slots, &self.promised_on, boards, search);
            let allowed = kind.nodes.allowed();
            cut_off |= answers.is_cut_off(allowed);
            let known = order.len();
            let mut none = true;
            for node in answers.serving(allowed) {
                none = false;
                if !nodes.contains(node) {
                    order.push(node);
                }
            }
            if none {
                let (classes, nodes) = (&self.classes, kind.nodes);
                let why = answers.refusal(nodes, &self.slots, classes, boards, search);
                return Err(Failure::Alone(number, why));
            }
            order[known..]
                .iter()
                .for_each(|node| nodes.set(*node, true));
        }
        let goal = kinds.iter().map(|kind| count(kind.members.len()));
        let goal: Deal = goal.collect();
        let deals = goal.iter().fold(1usize, |deals, most| {
            deals.saturating_mul(
                usize::try_from(*most)
                    .unwrap_or(usize::MAX)
                    .saturating_add(1),
            )
        });
        if deals > MOST_DEALS || members < 2 {
            return Err(Failure::CutOff);
        }
        let mut table = Table::new(&goal);
        let mut asked = Asked::default();
        for node in order {
            if !self.look(node, kinds, &goal, &mut asked, left) {
                cut_off = true;
                break;
            }
            table.add(node, &asked.served);
            if let Some(way) = table.way(&goal) {
                return self.promise_way(kinds, members, way, asked);
            }
        }
        if cut_off || asked.cut_off {
            return Err(Failure::CutOff);
        }
        Err(Failure::Room(table.most()))
    }

    /// Finds out which members a node serves together. False if too much was looked at.
    fn look(
        &mut self,
        node: usize,
        kinds: &[Kind<'_>],
        goal: &Deal,
        asked: &mut Asked,
        left: &mut Budget,
    ) -> bool {
        asked.served.clear();
        let mut layer = vec![vec![0; goal.len()]];
        while !layer.is_empty() {
            let mut next = BTreeSet::new();
            for deal in &layer {
                for (number, kind) in kinds.iter().enumerate() {
                    let allowed = kind.nodes.allowed().contains(node);
                    if allowed && deal[number] < goal[number] {
                        let mut more = deal.clone();
                        more[number] += 1;
                        next.insert(more);
                    }
                }
            }
            layer.clear();
            for deal in next {
                if !asked.may_serve(&deal) {
                    continue;
                }
                let Some(answers) = asked.answers(&deal, kinds, self.passes) else {
                    continue;
                };
                let slot = &self.slots[node];
                let counts = answers.goal.numbers();
                let sums = counts * counts * slot.state.boards.len();
                let Some(looks) = left.looks.checked_sub(1 + sums / SUMS_OF_A_LOOK) else {
                    left.looks = 0;
                    return false;
                };
                left.looks = looks;
                let tools = (&mut self.boards, &mut self.search);
                match answers.look_within(&mut left.sums, slot, tools) {
                    Found::Served(cost) => {
                        let cost = cost.queued(slot.state.busy);
                        asked.served.insert(deal.clone(), cost);
                        layer.push(deal);
                    }
                    Found::Nothing => {}
                    Found::TooComplex => asked.cut_off = true,
                }
            }
        }
        true
    }

    fn promise_way(
        &mut self,
        kinds: &[Kind<'_>],
        members: usize,
        way: Vec<(usize, Deal)>,
        mut asked: Asked,
    ) -> Result<Vec<Outcome>, Failure> {
        let mut all = Vec::new();
        for (node, deal) in way {
            let answers = asked.by_deal.get_mut(&deal).ok_or(Failure::CutOff)?;
            let state = &self.slots[node].state;
            let choices = answers.choices(state, &mut self.boards, &mut self.search);
            all.push((node, deal, choices.ok_or(Failure::CutOff)?));
        }
        let mut left: Vec<_> = kinds.iter().map(|kind| kind.members.iter()).collect();
        let mut outcomes = vec![Outcome::Wait { node: 0 }; members];
        for (node, deal, choices) in all {
            let Some(answers) = asked.by_deal.get(&deal) else {
                continue;
            };
            let first = self.promise(node, &answers.wants, &choices);
            let rest = match first {
                Outcome::Covered { node } => Outcome::Covered { node },
                _ => Outcome::Wait { node },
            };
            let mut outcome = Some(first);
            for (left, count) in left.iter_mut().zip(&deal) {
                for at in left.take(usize::try_from(*count).unwrap_or(usize::MAX)) {
                    outcomes[*at] = outcome.take().unwrap_or_else(|| rest.clone());
                }
            }
        }
        Ok(outcomes)
    }
}

/// What nodes were asked about some members together.
#[derive(Debug, Default)]
struct Asked {
    by_deal: HashMap<Deal, Answers>,
    /// What the last node serves.
    served: BTreeMap<Deal, Cost>,
    cut_off: bool,
}

impl Asked {
    /// Whether the node served whatever is one less.
    fn may_serve(&self, deal: &Deal) -> bool {
        let mut fewer = (0..deal.len()).filter(|at| deal[*at] > 0).map(|at| {
            let mut fewer = deal.clone();
            fewer[at] -= 1;
            fewer
        });
        fewer.all(|fewer| fewer.iter().all(|n| *n == 0) || self.served.contains_key(&fewer))
    }

    fn answers(&mut self, deal: &Deal, kinds: &[Kind<'_>], pass: u64) -> Option<&mut Answers> {
        if !self.by_deal.contains_key(deal) {
            let mut wants = Wants::new();
            for (kind, times) in kinds.iter().zip(deal).filter(|(_, times)| **times > 0) {
                for (resource, count) in kind.wants.iter() {
                    let all = wants.entry(resource.clone()).or_default();
                    *all = all.saturating_add(count.saturating_mul(*times));
                }
            }
            let mut new = Answers::new(&wants, 0).ok()?;
            new.begin(pass, 0, 0);
            self.by_deal.insert(deal.clone(), new);
        }
        self.by_deal.get_mut(deal)
    }
}

/// Which members find room on the nodes so far, at what cost.
struct Table {
    goal: Deal,
    reached: BTreeMap<Deal, Cost>,
    /// After each node, which deal on it led to what is reached more cheaply by that.
    steps: Vec<(usize, BTreeMap<Deal, Deal>)>,
}

impl Table {
    fn new(goal: &Deal) -> Self {
        Self {
            goal: goal.clone(),
            reached: BTreeMap::from([(vec![0; goal.len()], Cost::default())]),
            steps: Vec::new(),
        }
    }

    fn add(&mut self, node: usize, served: &BTreeMap<Deal, Cost>) {
        let mut better: BTreeMap<Deal, (Cost, Deal)> = BTreeMap::new();
        for (so_far, cost) in &self.reached {
            for (deal, more) in served {
                let sum = so_far.iter().zip(deal).zip(&self.goal);
                let sum = sum.map(|((a, b), most)| Some(a + b).filter(|sum| sum <= most));
                let Some(sum) = sum.collect::<Option<Deal>>() else {
                    continue;
                };
                let cost = cost.plus(*more);
                let known = better.get(&sum).map(|(cost, _)| cost);
                if known
                    .or(self.reached.get(&sum))
                    .is_none_or(|known| cost < *known)
                {
                    better.insert(sum, (cost, deal.clone()));
                }
            }
        }
        let mut step = BTreeMap::new();
        for (sum, (cost, deal)) in better {
            self.reached.insert(sum.clone(), cost);
            step.insert(sum, deal);
        }
        self.steps.push((node, step));
    }

    /// The cheapest way to a number of members, if there is one: nodes, and who goes there.
    fn way(&self, to: &Deal) -> Option<Vec<(usize, Deal)>> {
        self.reached.get(to)?;
        let mut left = to.clone();
        let mut way = Vec::new();
        for (node, step) in self.steps.iter().rev() {
            if let Some(deal) = step.get(&left) {
                for (left, there) in left.iter_mut().zip(deal) {
                    *left -= there;
                }
                way.push((*node, deal.clone()));
            }
        }
        Some(way)
    }

    /// The most members that find room at the same time.
    fn most(&self) -> usize {
        let sizes = self.reached.keys().map(|deal| deal.iter().sum::<u32>());
        usize::try_from(sizes.max().unwrap_or(0)).unwrap_or(usize::MAX)
    }
}

impl Failure {
    /// For the members of a group of which so many wait.
    fn words(&self, name: &str, waiting: usize) -> Refusal {
        let text = match self {
            Self::Alone(_, refusal) => {
                format!("another pod of its group {name} cannot be served: {refusal}").into()
            }
            Self::Room(most) => format!(
                "of the {waiting} waiting pods of its group {name}, {most} would fit at the same time; they start \
                 together or not at all"
            )
            .into(),
            Self::CutOff => format!(
                "no way was found to start the {waiting} waiting pods of its group {name} at the same time, but not \
                 all ways could be tried; a group with fewer pods, or fewer kinds of them, is tried to the end"
            )
            .into(),
        };
        Refusal {
            kind: RefusalKind::Group,
            text,
        }
    }
}

/// Equal for what gives the same answers, and for nothing else that anybody would come upon.
fn digest(node: usize, state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    (node, &state.boards, &state.fixed).hash(&mut hasher);
    (&state.closed, state.busy).hash(&mut hasher);
    hasher.finish()
}

fn count(members: usize) -> u32 {
    u32::try_from(members).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

//! What is kept from pass to pass, so that a pass costs what changed.
//!
//! For each different wish (the wants of a demand) it is known what serving it costs on each node. A node that
//! changes is asked again, by the wishes that are used; a demand takes the first node of the lowest
//! price that it may use. What is promised in a pass changes the nodes it is promised on, and is taken back
//! at the end of the pass.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use placement::Geometry;

use crate::{
    answers::{Answers, MOST_SUMS},
    blocked::Names,
    boards::Boards,
    classes::{self, Classes},
    demand::{Demand, Wants},
    outcome::{NodePlan, Outcome, Refusal},
    pass,
    search::Search,
    slot::{Slot, State},
    state::{Cluster, Idle, Node},
    ways::Choices,
    work::{Want, WorkNode},
};

mod gang;
mod granting;
mod parking;
mod reserving;
mod turns;

use gang::{Gangs, Member};
use reserving::Windows;

/// Different wishes that are remembered from pass to pass.
const MOST_WISHES: usize = 64;
/// Ways of GPUs to serve something that are remembered from pass to pass, over all wishes. One takes up
/// about 20 bytes.
const MOST_WAYS: usize = 600_000;
/// Passes until all is forgotten again for the sake of that bound, so that what no GPU is any more goes, too.
const SWEEP: u64 = 16;
/// States of GPUs that are remembered from pass to pass, or twice as many as there are GPUs. One takes up about 500
/// bytes.
const MOST_BOARDS: usize = 20_000;
/// Classes of nodes that are remembered, empty ones included, or twice as many as there are nodes.
const MOST_CLASSES: usize = 256;

/// Plans for a cluster that changes.
///
/// A pass over demands costs what changed on the nodes since the last one, what is promised in it, and a
/// look-up for each demand. What is remembered for that is bounded: 64 different wishes, 600,000 ways of GPUs to
/// serve something, and 20,000 states of GPUs, or twice as many as there are GPUs. Beyond that the next pass
/// finds out again what it needs; its answers are the same.
#[derive(Debug)]
pub struct Planner {
    slots: Vec<Slot>,
    boards: Boards,
    classes: Classes,
    /// What nodes can do, by wish.
    answers: Vec<Answers>,
    /// Numbers of the answers.
    wishes: HashMap<Wants, usize>,
    search: Search,
    versions: u64,
    /// The newest version when the pass began.
    began: u64,
    passes: u64,
    /// The pass after which all was forgotten for the last time.
    swept: u64,
    /// Nodes touched by promises in this pass, as they were.
    touched: BTreeMap<usize, State>,
    /// The same nodes, once for each promise.
    promised_on: Vec<usize>,
    /// Slices that are kept free.
    windows: Windows,
    gangs: Gangs,
    /// What the last pass left idle and offered, if such instances are parked.
    parking: Vec<NodePlan>,
    /// Partial sums that each wish may look at in a pass: [`MOST_SUMS`].
    sums: usize,
}

impl Default for Planner {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            boards: Boards::default(),
            classes: Classes::default(),
            answers: Vec::new(),
            wishes: HashMap::new(),
            search: Search::default(),
            versions: 0,
            began: 0,
            passes: 0,
            swept: 0,
            touched: BTreeMap::new(),
            promised_on: Vec::new(),
            windows: Windows::default(),
            gangs: Gangs::default(),
            parking: Vec::new(),
            sums: MOST_SUMS,
        }
    }
}

impl From<&Cluster> for Planner {
    fn from(cluster: &Cluster) -> Self {
        let mut new = Self::default();
        for (at, node) in cluster.nodes.iter().enumerate() {
            new.insert(at, node.clone());
        }
        new
    }
}

impl Planner {
    /// A planner for a cluster without nodes yet.
    pub fn new(idle: Idle) -> Self {
        Self {
            boards: Boards::new(idle),
            ..Self::default()
        }
    }

    /// GPUs of models with this geometry are worth these values from now on, one for each of
    /// [`Geometry::masks`], in any unit; more free slices must not be worth less. All that was remembered is forgotten if
    /// that changes anything; another number of values changes nothing.
    pub fn set_values(&mut self, geometry: &Arc<Geometry>, values: &Arc<[i32]>) {
        if self.boards.chosen.set(geometry, values) {
            self.forget_all();
        }
    }

    /// The nodes, in the order in which ties between them are decided.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.slots.iter().map(|slot| &slot.node)
    }

    /// A node by its position.
    pub fn node(&self, at: usize) -> Option<&Node> {
        self.slots.get(at).map(|slot| &slot.node)
    }

    /// The node with this name in nodes that are sorted by name, or where it belongs.
    pub fn find(&self, name: &str) -> Result<usize, usize> {
        self.slots
            .binary_search_by(|slot| slot.node.name.as_str().cmp(name))
    }

    /// A node comes; those from this position on, which is the number of nodes at most, move up by one.
    pub fn insert(&mut self, at: usize, node: Node) {
        let at = at.min(self.slots.len());
        let (work, state) = self.look_at(&node);
        self.windows.granting.node_changed();
        self.gangs.node_changed();
        let class = self.classes.of(&node, &mut self.boards);
        self.classes.insert(at, class);
        let slot = Slot {
            node,
            class,
            work,
            state,
            put: self.versions,
            idle: None,
            touched: false,
        };
        self.slots.insert(at, slot);
        for answers in &mut self.answers {
            answers.insert(at);
        }
    }

    /// A node changed. Without such a node nothing happens, nor if it is as it was.
    pub fn replace(&mut self, at: usize, node: Node) {
        if self.slots.get(at).is_none_or(|slot| slot.node == node) {
            return;
        }
        let slot = &self.slots[at];
        let class = if classes::are_alike(&slot.node, &node) {
            slot.class
        } else {
            self.classes.of(&node, &mut self.boards)
        };
        self.put(at, node, class);
    }

    fn put(&mut self, at: usize, node: Node, class: usize) {
        let (work, state) = self.look_at(&node);
        let slot = &mut self.slots[at];
        self.classes.change(at, slot.class, class);
        let alike = slot.state.is_alike(&state);
        if slot.node.soon_changeable != node.soon_changeable {
            self.windows.granting.node_changed();
        }
        slot.node = node;
        slot.work = work;
        slot.class = class;
        slot.put = self.versions;
        slot.idle = None;
        if !alike {
            self.windows.granting.node_changed();
            self.gangs.node_changed();
            slot.state = state;
            for answers in &mut self.answers {
                answers.change(at);
            }
        }
    }

    /// Other idle devices of a node may be given to pods at this moment; see [`Node::reserved`].
    pub fn reserve(&mut self, at: usize, reserved: BTreeMap<String, u32>) {
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        if slot.node.reserved != reserved {
            let mut node = std::mem::take(&mut slot.node);
            // Nothing else of the node changes.
            slot.node.soon_changeable.clone_from(&node.soon_changeable);
            node.reserved = reserved;
            let class = slot.class;
            self.put(at, node, class);
        }
    }

    /// A node goes; those behind it move down by one. Without such a node nothing happens.
    pub fn remove(&mut self, at: usize) {
        if at >= self.slots.len() {
            return;
        }
        self.slots.remove(at);
        self.windows.granting.node_changed();
        self.gangs.node_changed();
        self.classes.remove(at);
        for answers in &mut self.answers {
            answers.remove(at);
        }
    }

    /// Says what becomes of each demand; the answers are in the order of `demands`.
    ///
    /// Demands are served by priority, then age, then position, those of a group when the turn of the last of them
    /// comes. A demand whose number of `nodes` is not
    /// the cluster's is looked at on the nodes that both have.
    pub fn plan(&mut self, demands: &[Demand]) -> Vec<Outcome> {
        self.passes += 1;
        self.began = self.versions;
        let mut order: Vec<_> = demands
            .iter()
            .enumerate()
            .map(|(n, demand)| (-i64::from(demand.priority), demand.created, n))
            .collect();
        order.sort_unstable();
        // Pods share their wants, so that each copy is read once.
        let mut known: HashMap<usize, Result<usize, Refusal>> = HashMap::new();
        let mut outcomes = vec![Outcome::Covered { node: 0 }; demands.len()];
        let mut gangs = std::mem::take(&mut self.gangs);
        gangs.begin(demands, order.iter().map(|(.., n)| *n));
        self.begin_windows(demands);
        for (.., n) in order {
            let demand = &demands[n];
            let mut wish = |planner: &mut Self, demand: &Demand| {
                let wish = known
                    .entry(Arc::as_ptr(&demand.wants).addr())
                    .or_insert_with(|| planner.wish(&demand.wants));
                wish.clone()
            };
            if let Some(group) = &demand.group {
                let members = gangs.take(group, n);
                let members = members.into_iter().map(|n| Member {
                    n,
                    demand: &demands[n],
                    wish: wish(self, &demands[n]),
                });
                let members: Vec<_> = members.collect();
                if !members.is_empty() {
                    self.keep_for_others(demand.priority);
                    self.serve_gang(group, &members, &mut gangs, &mut outcomes);
                }
                continue;
            }
            self.keep_for_others(demand.priority);
            outcomes[n] = match wish(self, demand) {
                Ok(wish) => self.serve(demand, wish),
                Err(refusal) => Outcome::Refused(refusal),
            };
        }
        gangs.end(self.passes);
        self.gangs = gangs;
        self.parking = self.surplus();
        self.end();
        self.end_windows();
        self.forget();
        outcomes
    }

    /// Says the same, and what is kept free stays as the last [`Planner::plan`] left it, with whose turn is next: for
    /// demands that are only supposed.
    pub fn suppose(&mut self, demands: &[Demand]) -> Vec<Outcome> {
        let (kept, parking) = (self.windows.kept.clone(), self.parking.clone());
        let granting = self.windows.granting.clone();
        let outcomes = self.plan(demands);
        (self.windows.kept, self.parking) = (kept, parking);
        self.windows.granting = granting;
        outcomes
    }

    /// Puts into words why a demand is not served, with who is in the way.
    ///
    /// It looks at the nodes as they are, without what the last pass promised, and so is meant for demands that the
    /// last pass refused. It costs a look at every node that changed since it was last asked about the same wants, and
    /// is meant for when somebody is going to read the answer. The text has no more bytes than an Event can have
    /// (1,024), if names of nodes and pods are not longer than most.
    pub fn explain(&mut self, demand: &Demand, names: &dyn Names) -> Refusal {
        let known = self.answers.len();
        let wish = match self.wish(&demand.wants) {
            Ok(wish) => wish,
            Err(refusal) => return refusal,
        };
        let (classes, boards, search) = (&self.classes, &mut self.boards, &mut self.search);
        let answers = &mut self.answers[wish];
        let refusal = answers.explain(
            &demand.nodes,
            (&mut self.slots, self.versions),
            classes,
            (boards, search),
            (&self.windows.kept, names),
        );
        if self.answers.len() > known {
            self.forget();
        }
        refusal
    }

    fn look_at(&mut self, node: &Node) -> (WorkNode, State) {
        self.versions += 1;
        let work = WorkNode::new(node);
        let state = State::new(&work, &mut self.boards, self.versions);
        (work, state)
    }

    /// The number of the answers for these wants.
    fn wish(&mut self, wants: &Wants) -> Result<usize, Refusal> {
        let number = if let Some(known) = self.wishes.get(wants) {
            *known
        } else {
            let new = Answers::new(wants, self.slots.len())?;
            self.answers.push(new);
            self.wishes.insert(wants.clone(), self.answers.len() - 1);
            self.answers.len() - 1
        };
        self.answers[number].begin(self.passes, self.began, self.sums);
        Ok(number)
    }

    fn serve(&mut self, demand: &Demand, wish: usize) -> Outcome {
        let own = self.open_window(demand);
        let Some((node, choices)) = self.cheapest(demand, wish) else {
            let refusal = self.refusal(demand, wish);
            return self.reserve_for(demand, own, wish, refusal);
        };
        let outcome = self.grant(node, wish, &choices);
        if let Some(own) = own {
            self.keep_on(own, node);
        }
        outcome
    }

    /// Promises what these choices give for these wants on a node.
    fn promise(&mut self, node: usize, wants: &[Want], choices: &Choices) -> Outcome {
        let slot = touch(&mut self.touched, &mut self.slots, node);
        let outcome = pass::promise(node, &slot.node.gpus, &mut slot.work, wants, choices);
        self.versions += 1;
        let gpus = choices.iter().map(|(gpu, _)| *gpu);
        slot.state
            .promised(&slot.work, gpus, &mut self.boards, self.versions);
        self.promised_on.push(node);
        outcome
    }

    /// The same, for wants of which there are answers.
    fn grant(&mut self, node: usize, wish: usize, choices: &Choices) -> Outcome {
        let wants = Arc::clone(&self.answers[wish].wants);
        self.promise(node, &wants, choices)
    }

    /// The node that serves a demand at the lowest price, and what its GPUs do.
    fn cheapest(&mut self, demand: &Demand, wish: usize) -> Option<(usize, Choices)> {
        let answers = &mut self.answers[wish];
        let (boards, search) = (&mut self.boards, &mut self.search);
        answers.refresh(&self.slots, &self.promised_on, boards, search);
        let node = answers.best(demand.nodes.allowed())?;
        let choices = answers.choices(&self.slots[node].state, boards, search)?;
        Some((node, choices))
    }

    /// Why no node serves a demand, as [`Planner::cheapest`] found.
    fn refusal(&mut self, demand: &Demand, wish: usize) -> Refusal {
        let (boards, search) = (&mut self.boards, &mut self.search);
        self.answers[wish].refusal(&demand.nodes, &self.slots, &self.classes, boards, search)
    }

    /// Takes back what was promised.
    fn end(&mut self) {
        for (node, state) in std::mem::take(&mut self.touched) {
            let slot = &mut self.slots[node];
            slot.work.end();
            slot.state = state;
            slot.touched = false;
        }
        self.promised_on.clear();
        for answers in &mut self.answers {
            answers.end(&self.slots, self.passes);
        }
    }

    /// Keeps what is remembered within its bounds.
    fn forget(&mut self) {
        let ways = |answers: &[Answers]| answers.iter().map(|a| a.ways.remembered).sum::<usize>();
        // What the cluster itself has would be there again at once.
        let gpus: usize = self.slots.iter().map(|slot| slot.state.boards.len()).sum();
        let too_many_boards = self.boards.len() > MOST_BOARDS.max(2 * gpus);
        let too_many_classes = self.classes.len() > MOST_CLASSES.max(2 * self.slots.len());
        if too_many_boards || too_many_classes {
            self.forget_all();
        } else if ways(&self.answers) > MOST_WAYS && self.passes - self.swept > SWEEP {
            self.forget_all();
            self.swept = self.passes;
        } else if self.answers.len() > MOST_WISHES || ways(&self.answers) > MOST_WAYS {
            self.forget_wishes();
        }
    }

    /// Forgets everything but the nodes.
    pub(crate) fn forget_all(&mut self) {
        self.answers.clear();
        self.wishes.clear();
        self.boards.forget();
        self.classes.clear();
        let nodes: Vec<_> = self.slots.drain(..).map(|slot| slot.node).collect();
        for (at, node) in nodes.into_iter().enumerate() {
            self.insert(at, node);
        }
    }

    /// Forgets the wishes that were not asked for the longest time.
    pub(crate) fn forget_wishes(&mut self) {
        let mut keys: Vec<_> = std::mem::take(&mut self.wishes).into_iter().collect();
        keys.sort_unstable_by_key(|(_, number)| *number);
        let mut all: Vec<_> = keys
            .into_iter()
            .map(|(wants, _)| wants)
            .zip(std::mem::take(&mut self.answers))
            .collect();
        all.sort_by_key(|(_, answers)| std::cmp::Reverse(answers.pass));
        let mut ways = 0;
        for (wants, answers) in all.into_iter().take(MOST_WISHES) {
            if ways + answers.ways.remembered > MOST_WAYS {
                continue;
            }
            ways += answers.ways.remembered;
            self.wishes.insert(wants, self.answers.len());
            self.answers.push(answers);
        }
    }
}

/// A node that changes in this pass.
fn touch<'a>(
    touched: &mut BTreeMap<usize, State>,
    slots: &'a mut [Slot],
    node: usize,
) -> &'a mut Slot {
    let slot = &mut slots[node];
    if !slot.touched {
        slot.touched = true;
        slot.work.begin();
        touched.insert(node, slot.state.clone());
    }
    slot
}

#[cfg(test)]
mod tests;

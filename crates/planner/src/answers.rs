//! What every node can do for demands that ask for the same, kept up to date with the nodes that change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    blocked::{Blocked, Names},
    boards::{BoardId, Boards},
    classes::Classes,
    cost::Cost,
    demand::{Eligibilities, Wants},
    explain::{self, Verdict},
    node_set::NodeSet,
    outcome::Refusal,
    prices::Prices,
    search::{Found, Goal, Search},
    slot::{Slot, State},
    wants,
    ways::{Choices, Ways},
    window::Window,
    work::{Board, Want},
};

/// What a node can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Served(Cost),
    Nothing,
    TooComplex,
}

/// An answer, and the version of the node's state that gave it; 0 if none did.
#[derive(Clone, Copy, Debug)]
struct Given {
    answer: Answer,
    version: u64,
}

/// Version of an answer that the next pass looks for again.
const UNFINISHED: u64 = u64::MAX;
/// Partial sums that demands which ask for the same may look at in one pass, over all nodes and GPU states. Only
/// demands of many devices of several kinds have so many; nodes that are left over then are asked in the next pass.
pub(crate) const MOST_SUMS: usize = 4_000_000;
/// Nodes of different content whose searches are remembered.
const MOST_SEARCHES: usize = 4096;

const NEVER_ASKED: Given = Given {
    answer: Answer::Nothing,
    version: 0,
};

/// A refusal of those who ask for this and could run on these nodes.
#[derive(Debug)]
struct Refused {
    /// Kept, so that no others get its address.
    nodes: Arc<Eligibilities>,
    classes: u64,
    pass: u64,
    refusal: Refusal,
}

/// Everything known for demands that ask for the same.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) wants: Arc<[Want]>,
    pub(crate) goal: Arc<Goal>,
    /// What GPUs can do.
    pub(crate) ways: Ways,
    /// What nodes of these states and fixed devices can do, where counts have no numbers: most nodes are like another.
    searches: HashMap<(Vec<u32>, Vec<BoardId>), Found>,
    /// Partial sums that may still be looked at in this pass.
    left: usize,
    given: Vec<Given>,
    prices: Prices,
    complex: NodeSet,
    /// Whether nodes of each class could ever serve, once somebody asked.
    could: Vec<Option<bool>>,
    /// Nodes to be asked again.
    stale: NodeSet,
    /// How much of the pass's list of touched nodes was looked at.
    looked_at: usize,
    /// Answers that were given before something was promised in this pass.
    undo: Vec<(usize, Given)>,
    /// The newest version of a node's state when the pass began: answers to newer ones are of this pass.
    began: u64,
    /// Why nodes of each class refuse.
    verdicts: Vec<Option<Verdict>>,
    /// What is in the way, once somebody asked.
    blocked: Blocked,
    /// By the address of the nodes that the pods could run on.
    refusals: HashMap<usize, Refused>,
    /// The last pass that asked.
    pub(crate) pass: u64,
}

impl Answers {
    /// Nothing is known yet of the nodes, which are so many.
    pub(crate) fn new(wanted: &Wants, nodes: usize) -> Result<Self, Refusal> {
        let wants: Arc<[Want]> = wants::read(wanted)?.into();
        let goal = Goal::new(wants.iter().map(|want| want.count).collect());
        let goal = Arc::new(goal);
        Ok(Self {
            ways: Ways::new(Arc::clone(&wants), Arc::clone(&goal)),
            wants,
            goal,
            searches: HashMap::new(),
            left: 0,
            given: vec![NEVER_ASKED; nodes],
            prices: Prices::none(nodes),
            complex: NodeSet::default(),
            could: Vec::new(),
            stale: NodeSet::below(nodes),
            looked_at: 0,
            undo: Vec::new(),
            began: 0,
            verdicts: Vec::new(),
            blocked: Blocked::default(),
            refusals: HashMap::new(),
            // None has asked.
            pass: u64::MAX,
        })
    }

    /// A pass asks that began with this version, in which so many partial sums may be looked at.
    pub(crate) fn begin(&mut self, pass: u64, began: u64, sums: usize) {
        if self.pass != pass {
            self.pass = pass;
            self.began = began;
            self.left = sums;
        }
    }

    /// A node comes; those from this position on move up by one.
    pub(crate) fn insert(&mut self, node: usize) {
        self.given.insert(node, NEVER_ASKED);
        self.prices.insert(node);
        self.complex.insert(node, false);
        self.stale.insert(node, true);
        self.blocked.clear();
    }

    /// A node goes; those behind it move down by one.
    pub(crate) fn remove(&mut self, node: usize) {
        self.write(node, NEVER_ASKED);
        self.given.remove(node);
        self.prices.remove(node);
        self.complex.remove(node);
        self.stale.remove(node);
        self.blocked.clear();
    }

    /// A node is not what it was.
    pub(crate) fn change(&mut self, node: usize) {
        self.stale.set(node, true);
    }

    /// Asks the nodes that changed, `touched` among them, for what was promised in this pass.
    pub(crate) fn refresh(
        &mut self,
        slots: &[Slot],
        touched: &[usize],
        boards: &mut Boards,
        search: &mut Search,
    ) {
        if !self.stale.is_empty() && self.left > 0 {
            for node in std::mem::take(&mut self.stale).iter() {
                self.ask(node, slots, boards, search);
            }
        }
        for node in &touched[self.looked_at.min(touched.len())..] {
            // Promises take away, they never give: what could be done after one could have been done before,
            // with what it gives up given up, too. (Instances of one GPU never overlap.)
            if self.is_hopeless(*node, slots) {
                continue;
            }
            self.ask(*node, slots, boards, search);
        }
        self.looked_at = touched.len();
    }

    /// Whether a node that could do nothing can do nothing after further promises either. Where a search may be cut off,
    /// nothing found means less.
    fn is_hopeless(&mut self, node: usize, slots: &[Slot]) -> bool {
        let (Some(slot), Some(given)) = (slots.get(node), self.given.get_mut(node)) else {
            return true;
        };
        let hopeless = given.answer == Answer::Nothing && given.version > 0;
        if !hopeless || !self.goal.is_numbered(slot.state.boards.len()) {
            return false;
        }
        if given.version != slot.state.version {
            let old = *given;
            given.version = slot.state.version;
            self.keep(node, old);
        }
        true
    }

    fn ask(&mut self, node: usize, slots: &[Slot], boards: &mut Boards, search: &mut Search) {
        let (Some(slot), Some(given)) = (slots.get(node), self.given.get(node)) else {
            return;
        };
        if given.version == slot.state.version {
            return;
        }
        if slot.touched {
            let old = *given;
            self.keep(node, old);
        }
        let found = self.look(slot, boards, search);
        let mut version = slot.state.version;
        let answer = match found {
            Found::Served(cost) => Answer::Served(cost.queued(slot.state.busy)),
            Found::Nothing => Answer::Nothing,
            Found::TooComplex => Answer::TooComplex,
        };
        if found == Found::TooComplex && self.left == 0 {
            version = UNFINISHED;
            self.stale.set(node, true);
        }
        self.write(node, Given { answer, version });
    }

    /// Remembers the answer for the end of the pass, unless the pass itself gave it.
    fn keep(&mut self, node: usize, given: Given) {
        if given.version <= self.began || given.version == UNFINISHED {
            self.undo.push((node, given));
        }
    }

    /// What a node can do as it is now.
    pub(crate) fn look(&mut self, slot: &Slot, boards: &mut Boards, search: &mut Search) -> Found {
        let closed = &slot.state.closed;
        let is_closed = |want: &Want| closed.contains(&*want.resource);
        if self.could(slot) && (closed.is_empty() || !self.wants.iter().any(is_closed)) {
            self.search(&slot.state.fixed, &slot.state.boards, boards, search)
        } else {
            Found::Nothing
        }
    }

    /// Whether the node could ever serve: all nodes of its class could then.
    fn could(&mut self, slot: &Slot) -> bool {
        if let Some(Some(known)) = self.could.get(slot.class) {
            return *known;
        }
        let could = explain::has_all(&slot.node, &self.wants);
        if self.could.len() <= slot.class {
            self.could.resize(slot.class + 1, None);
        }
        self.could[slot.class] = Some(could);
        could
    }

    /// The same, with so many partial sums that may be looked at, whatever the pass may.
    pub(crate) fn look_within(
        &mut self,
        left: &mut usize,
        slot: &Slot,
        (boards, search): (&mut Boards, &mut Search),
    ) -> Found {
        self.left = *left;
        let found = self.look(slot, boards, search);
        *left = self.left;
        found
    }

    fn write(&mut self, node: usize, new: Given) {
        let old = std::mem::replace(&mut self.given[node], new);
        if old.answer == new.answer {
            return;
        }
        if old.answer == Answer::TooComplex {
            self.complex.set(node, false);
        }
        let price = match new.answer {
            Answer::Served(price) => price,
            Answer::Nothing => Cost::NEVER,
            Answer::TooComplex => {
                self.complex.set(node, true);
                Cost::NEVER
            }
        };
        self.prices.set(node, price);
    }

    /// More can be done on a node than before in this pass.
    pub(crate) fn gives_back(&mut self, node: usize) {
        if let Some(given) = self.given.get_mut(node) {
            let old = *given;
            given.version = NEVER_ASKED.version;
            self.keep(node, old);
        }
    }

    /// Forgets what was promised in this pass.
    pub(crate) fn end(&mut self, slots: &[Slot], pass: u64) {
        self.looked_at = 0;
        for (node, given) in std::mem::take(&mut self.undo).into_iter().rev() {
            self.write(node, given);
            if slots[node].state.version != given.version {
                self.stale.set(node, true);
            }
        }
        self.refusals.retain(|_, refused| refused.pass == pass);
    }

    /// How many refusals are remembered.
    #[cfg(test)]
    pub(crate) fn refusals(&self) -> usize {
        self.refusals.len()
    }

    /// The node that serves at the lowest price.
    pub(crate) fn best(&self, allowed: &NodeSet) -> Option<usize> {
        self.prices.best(allowed)
    }

    /// The nodes that serve, those of the lowest price first.
    pub(crate) fn serving(&self, allowed: &NodeSet) -> Vec<usize> {
        self.prices.serving(allowed)
    }

    /// Whether some search that these nodes were asked for was cut off.
    pub(crate) fn is_cut_off(&self, allowed: &NodeSet) -> bool {
        self.complex.first_common(allowed).is_some()
    }

    /// What each GPU of a node does to serve it.
    pub(crate) fn choices(
        &mut self,
        state: &State,
        boards: &mut Boards,
        search: &mut Search,
    ) -> Option<Choices> {
        let ids = &state.boards;
        if self.goal.is_numbered(ids.len()) {
            let start = self.start_number(&state.fixed);
            return self.ways.choices(start, ids, boards, search);
        }
        let start: Vec<_> = self.start(&state.fixed).collect();
        // It was found before, so that it ends.
        let mut left = usize::MAX;
        self.ways.by_counts(&start, ids, boards, &mut left).1
    }

    /// Why none of these nodes serves it.
    pub(crate) fn refusal(
        &mut self,
        nodes: &Arc<Eligibilities>,
        slots: &[Slot],
        classes: &Classes,
        boards: &mut Boards,
        search: &mut Search,
    ) -> Refusal {
        if self.is_cut_off(nodes.allowed()) {
            return explain::too_complex(&self.wants);
        }
        let key = Arc::as_ptr(nodes).addr();
        if let Some(known) = self.refusals.get_mut(&key)
            && known.classes == classes.version()
            && Arc::ptr_eq(&known.nodes, nodes)
        {
            known.pass = self.pass;
            return known.refusal.clone();
        }
        self.look_at_classes(slots, classes, boards, search);
        let refusal = explain::refusal(&self.wants, nodes, slots.len(), classes, &self.verdicts);
        let refused = Refused {
            nodes: Arc::clone(nodes),
            classes: classes.version(),
            pass: self.pass,
            refusal: refusal.clone(),
        };
        self.refusals.insert(key, refused);
        refusal
    }

    /// Looks what is in the way on the nodes that changed; `version` rises whenever one does.
    pub(crate) fn look_at_blockers(&mut self, slots: &mut [Slot], version: u64) {
        self.blocked
            .refresh(slots, &self.wants, &self.goal, version);
    }

    /// Of these nodes those on which something has to end, by how much that is at least, as it was last looked at.
    pub(crate) fn blocked_nodes<'a>(
        &'a self,
        nodes: &'a NodeSet,
    ) -> impl Iterator<Item = (u32, usize)> + 'a {
        self.blocked.dear(nodes)
    }

    /// Why none of these nodes serves it, with who is in the way, or for whom these slices are kept free.
    pub(crate) fn explain(
        &mut self,
        nodes: &Eligibilities,
        (slots, version): (&mut [Slot], u64),
        classes: &Classes,
        (boards, search): (&mut Boards, &mut Search),
        words: (&[Window], &dyn Names),
    ) -> Refusal {
        self.look_at_classes(slots, classes, boards, search);
        let mut verdicts = self.verdicts.clone();
        self.look_at_blockers(slots, version);
        for (number, class) in classes.iter() {
            let Some(Some(verdict)) = verdicts.get_mut(number) else {
                continue;
            };
            let nodes = class.nodes.and(nodes.allowed());
            let asked = (&self.wants[..], self.goal.as_ref());
            if verdict.is_for_running_pods()
                && let Some(words) = self.blocked.words(&nodes, slots, asked, words)
            {
                verdict.say(words);
            }
        }
        explain::refusal(&self.wants, nodes, slots.len(), classes, &verdicts)
    }

    fn look_at_classes(
        &mut self,
        slots: &[Slot],
        classes: &Classes,
        boards: &mut Boards,
        search: &mut Search,
    ) {
        self.verdicts.resize(classes.len(), None);
        for (number, class) in classes.iter() {
            let sample = class.nodes.iter().next().and_then(|node| slots.get(node));
            if let (None, Some(sample)) = (&self.verdicts[number], sample) {
                self.verdicts[number] = Some(self.verdict(sample, boards, search));
            }
        }
    }

    fn verdict(&mut self, slot: &Slot, boards: &mut Boards, search: &mut Search) -> Verdict {
        let node = &slot.node;
        if let Some(verdict) = explain::at_first_sight(node, &self.wants) {
            return verdict;
        }
        let models = node.gpus.iter().map(|gpu| &gpu.model);
        let empty: Vec<_> = models
            .map(|model| boards.id(&Board::empty(Arc::clone(model))))
            .collect();
        // How many whole GPUs an empty node would have is not known here; leave the benefit of the doubt.
        let all = node.fixed.keys().map(|name| (name.clone(), u32::MAX));
        let could_be = self.search(&all.collect(), &empty, boards, search);
        explain::if_empty(node, &self.wants, could_be)
    }

    /// What is served of each want by devices that no plan can change.
    fn start(&self, fixed: &BTreeMap<String, u32>) -> impl Iterator<Item = u32> {
        let free = |want: &Want| match fixed.get(&*want.resource) {
            Some(free) => want.count.min(*free),
            None => 0,
        };
        self.wants.iter().map(free)
    }

    /// The number of these counts.
    fn start_number(&self, fixed: &BTreeMap<String, u32>) -> usize {
        if fixed.is_empty() {
            return 0;
        }
        self.goal.number_of(self.start(fixed))
    }

    fn search(
        &mut self,
        fixed: &BTreeMap<String, u32>,
        ids: &[BoardId],
        boards: &Boards,
        search: &mut Search,
    ) -> Found {
        if self.goal.is_numbered(ids.len()) {
            let start = self.start_number(fixed);
            return self.ways.cost(start, ids, boards, search);
        }
        let key = (self.start(fixed).collect(), ids.to_vec());
        if let Some(known) = self.searches.get(&key) {
            return *known;
        }
        if self.left == 0 {
            return Found::TooComplex;
        }
        let (found, _) = self.ways.by_counts(&key.0, ids, boards, &mut self.left);
        if found != Found::TooComplex || self.left > 0 {
            if self.searches.len() >= MOST_SEARCHES {
                self.searches.clear();
            }
            self.searches.insert(key, found);
        }
        found
    }
}

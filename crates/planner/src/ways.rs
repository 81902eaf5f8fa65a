//! What GPUs can do for demands that ask for the same.
//!
//! It depends on nothing but their state, so it is found out once for each state that a GPU is in, and nodes are
//! asked with what is known by then. Most demands ask for one device: then one number for each state says it all.

use std::{collections::HashMap, sync::Arc};

use crate::{
    boards::{BoardId, Boards},
    cost::Cost,
    options::{Choice, GpuOption, Options, Way, options},
    search::{Found, Goal, Search, by_counts},
    work::Want,
};

/// What a GPU does, by its position on the node. Those that do nothing are left out.
pub(crate) type Choices = Vec<(usize, Arc<Choice>)>;

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

/// Of which nothing is known yet.
const UNKNOWN: Span = Span {
    start: u32::MAX,
    end: u32::MAX,
};

/// Everything known of GPUs for demands that ask for the same.
#[derive(Debug)]
pub(crate) struct Ways {
    wants: Arc<[Want]>,
    goal: Arc<Goal>,
    /// What the only device that is wanted costs on a GPU, by the number of its state.
    single: Vec<Cost>,
    /// What GPUs can do, one after the other; nothing for one that can only do nothing.
    all: Vec<Way>,
    /// Where in that, by the number of their state.
    at: Vec<Span>,
    /// How, where it was chosen: by the number of their state and that of the counts served.
    choices: HashMap<(BoardId, u16), Arc<Choice>>,
    /// The same, for wants of which there are too many counts for numbers.
    options: Vec<Option<Arc<Options>>>,
    /// Ways of GPUs to serve something that are remembered.
    pub(crate) remembered: usize,
}

impl Ways {
    /// Nothing is known yet.
    pub(crate) fn new(wants: Arc<[Want]>, goal: Arc<Goal>) -> Self {
        Self {
            wants,
            goal,
            single: Vec::new(),
            all: Vec::new(),
            at: Vec::new(),
            choices: HashMap::new(),
            options: Vec::new(),
            remembered: 0,
        }
    }

    /// What GPUs in these states can do together for a demand whose counts have numbers; those with the number `start`
    /// are served already.
    pub(crate) fn cost(
        &mut self,
        start: usize,
        ids: &[BoardId],
        boards: &Boards,
        search: &mut Search,
    ) -> Found {
        if self.goal.is_single() && start == 0 {
            let costs = ids.iter().map(|id| self.cost_of_one(*id, boards));
            return match costs.min() {
                Some(cost) if cost < Cost::NEVER => Found::Served(cost),
                _ => Found::Nothing,
            };
        }
        for id in ids {
            self.find(*id, boards);
        }
        search.cost(&self.goal, start, ids.iter().map(|id| self.of(*id)))
    }

    /// What each of these GPUs does then.
    pub(crate) fn choices(
        &mut self,
        start: usize,
        ids: &[BoardId],
        boards: &Boards,
        search: &mut Search,
    ) -> Option<Choices> {
        if self.goal.is_single() && start == 0 {
            // Of equal ones the last, as in a search.
            let costs = ids.iter().enumerate().rev();
            let costs = costs.map(|(gpu, id)| (self.cost_of_one(*id, boards), gpu));
            let (cost, gpu) = costs.min_by_key(|(cost, _)| *cost)?;
            let choice = (cost < Cost::NEVER).then(|| self.choice(ids[gpu], 1, boards))??;
            return Some(vec![(gpu, choice)]);
        }
        for id in ids {
            self.find(*id, boards);
        }
        let ways: Vec<_> = ids.iter().map(|id| self.of(*id)).collect();
        let numbers = search.numbers(&self.goal, start, &ways)?;
        let served = numbers.into_iter().enumerate();
        let served = served.filter(|(_, number)| *number != 0);
        let choice = |(gpu, number)| Some((gpu, self.choice(ids[gpu], number, boards)?));
        served.map(choice).collect()
    }

    /// The same where counts have no numbers. Each partial sum is taken off `left`.
    pub(crate) fn by_counts(
        &mut self,
        start: &[u32],
        ids: &[BoardId],
        boards: &Boards,
        left: &mut usize,
    ) -> (Found, Option<Choices>) {
        let options: Vec<_> = ids.iter().map(|id| self.options_of(*id, boards)).collect();
        let (found, choices) = by_counts(&self.goal, start, &options, left);
        let choices = choices.map(|choices| {
            let all = choices.into_iter().enumerate();
            let busy = all.filter(|(_, choice)| **choice != Choice::default());
            busy.map(|(gpu, choice)| (gpu, Arc::new(choice.clone())))
                .collect()
        });
        (found, choices)
    }

    fn cost_of_one(&mut self, id: BoardId, boards: &Boards) -> Cost {
        match self.single.get(id.index()) {
            Some(known) if *known != Cost::UNKNOWN => return *known,
            _ => {}
        }
        let all = self.look_at(id, boards);
        let one = all.iter().find(|option| option.number == 1);
        let cost = one.map_or(Cost::NEVER, |option| option.choice.cost);
        if self.single.len() <= id.index() {
            self.single.resize(id.index() + 1, Cost::UNKNOWN);
        }
        self.single[id.index()] = cost;
        self.remembered += 1;
        cost
    }

    fn choice(&mut self, id: BoardId, number: u16, boards: &Boards) -> Option<Arc<Choice>> {
        if let Some(known) = self.choices.get(&(id, number)) {
            return Some(Arc::clone(known));
        }
        let all = self.look_at(id, boards);
        let same = |option: &GpuOption| option.number == usize::from(number);
        let choice = Arc::new(all.into_iter().find(same)?.choice);
        self.choices.insert((id, number), Arc::clone(&choice));
        self.remembered += 1;
        Some(choice)
    }

    fn of(&self, id: BoardId) -> &[Way] {
        let at = self.at.get(id.index()).copied();
        let Span { start, end } = at.unwrap_or(UNKNOWN);
        self.all.get(start as usize..end as usize).unwrap_or(&[])
    }

    fn find(&mut self, id: BoardId, boards: &Boards) {
        let known = self.at.get(id.index());
        if known.is_some_and(|at| *at != UNKNOWN) {
            return;
        }
        let all = self.look_at(id, boards);
        let way = |option: &GpuOption| Way {
            cost: option.choice.cost,
            number: u16::try_from(option.number).unwrap_or(u16::MAX),
        };
        let start = self.all.len();
        self.all.extend(all.iter().map(way));
        if matches!(self.all[start..], [Way { cost, number: 0 }] if !cost.changes()) {
            // Every GPU can do nothing.
            self.all.truncate(start);
        }
        self.remembered += self.all.len() - start;
        if self.at.len() <= id.index() {
            self.at.resize(id.index() + 1, UNKNOWN);
        }
        // So many are never remembered.
        let at = |at: usize| u32::try_from(at).unwrap_or(0);
        self.at[id.index()] = Span {
            start: at(start),
            end: at(self.all.len()),
        };
    }

    fn options_of(&mut self, id: BoardId, boards: &Boards) -> Arc<Options> {
        if let Some(Some(known)) = self.options.get(id.index()) {
            return Arc::clone(known);
        }
        let all = Arc::new(self.look_at(id, boards));
        // They take up more than a way.
        self.remembered += 4 * all.len();
        if self.options.len() <= id.index() {
            self.options.resize(id.index() + 1, None);
        }
        self.options[id.index()] = Some(Arc::clone(&all));
        all
    }

    fn look_at(&self, id: BoardId, boards: &Boards) -> Options {
        let board = boards.with_worth(id);
        let all = board.map(|(board, worth)| options(board, worth, &self.wants, &self.goal));
        all.unwrap_or_default()
    }
}

//! Equal GPUs are looked at once.
//!
//! What a GPU can do for a demand depends on what stands on it, not on which GPU it is. So every state of a
//! GPU gets a number, and everything that was found out about a state is found again by it.

use std::{collections::HashMap, sync::Arc};

use mig::{GpuModel, Placement};

use crate::{
    state::Idle,
    work::Board,
    worth::{Chosen, Worth},
};

/// Number of a state of a GPU. Ids of instances and busyness are no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BoardId(u32);

impl BoardId {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// All states that were seen.
#[derive(Debug, Default)]
pub(crate) struct Boards {
    /// What becomes of idle instances.
    pub(crate) idle: Idle,
    /// Values that count instead of our own.
    pub(crate) chosen: Chosen,
    models: Vec<(Arc<GpuModel>, Worth)>,
    /// Numbers of resource names.
    names: HashMap<String, u32>,
    ids: HashMap<Box<[u32]>, BoardId>,
    known: Vec<Board>,
    key: Vec<u32>,
}

impl Boards {
    pub(crate) fn new(idle: Idle) -> Self {
        Self {
            idle,
            ..Self::default()
        }
    }

    /// No state is known any more.
    pub(crate) fn forget(&mut self) {
        *self = Self {
            idle: self.idle,
            chosen: std::mem::take(&mut self.chosen),
            ..Self::default()
        };
    }

    /// The number of a GPU's state.
    pub(crate) fn id(&mut self, board: &Board) -> BoardId {
        let mut key = std::mem::take(&mut self.key);
        self.write_key(board, &mut key);
        let id = self.ids.get(key.as_slice()).copied().unwrap_or_else(|| {
            // There is memory for far fewer.
            let id = BoardId(u32::try_from(self.known.len()).unwrap_or(u32::MAX));
            self.known.push(board.clone());
            self.ids.insert(key.as_slice().into(), id);
            id
        });
        self.key = key;
        id
    }

    /// A GPU in the state of that number.
    pub(crate) fn get(&self, id: BoardId) -> Option<&Board> {
        self.known.get(id.index())
    }

    /// The same, with what GPUs of its model are worth.
    pub(crate) fn with_worth(&self, id: BoardId) -> Option<(&Board, (&Worth, Idle))> {
        let board = self.get(id)?;
        let mut models = self.models.iter();
        let (_, worth) = models.find(|(known, _)| is_same(known, &board.model))?;
        Some((board, (worth, self.idle)))
    }

    /// How many states there are.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The number of a model.
    pub(crate) fn model(&mut self, model: &Arc<GpuModel>) -> u32 {
        let same = |(known, _): &(Arc<GpuModel>, Worth)| is_same(known, model);
        let at = self.models.iter().position(same).unwrap_or_else(|| {
            let worth = Worth::with(model, &self.chosen);
            self.models.push((Arc::clone(model), worth));
            self.models.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn name(&mut self, resource: &str) -> u32 {
        if let Some(known) = self.names.get(resource) {
            return *known;
        }
        let new = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.insert(resource.to_owned(), new);
        new
    }

    fn write_key(&mut self, board: &Board, key: &mut Vec<u32>) {
        let at = |p: Placement| u32::from(p.start) << 8 | u32::from(p.size);
        key.clear();
        key.push(self.model(&board.model) << 1 | u32::from(board.changeable));
        let firm = board.firm.occupants();
        key.extend(
            firm.iter()
                .map(|o| u32::from(o.profile.0) << 16 | at(o.placement)),
        );
        // In which order they were placed makes no difference to what else fits.
        key[1..].sort_unstable();
        // No occupant is so large.
        key.push(u32::MAX);
        key.push(u32::from(board.firm.occupied().bits()));
        for idle in &board.idle {
            key.push(u32::from(idle.profile.0) << 16 | at(idle.placement));
            let name = idle.resource.as_deref().map(|name| self.name(name) + 1);
            key.push(
                name.unwrap_or(0) << 2 | u32::from(idle.hidden) << 1 | u32::from(idle.arriving),
            );
        }
    }
}

fn is_same(a: &Arc<GpuModel>, b: &Arc<GpuModel>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

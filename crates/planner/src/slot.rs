//! A node as the planner keeps it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use mig::ProfileName;

use crate::{
    boards::{BoardId, Boards},
    state::Node,
    work::WorkNode,
};

/// What decides about the answers of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Rises with every change; equal versions are equal states.
    pub(crate) version: u64,
    pub(crate) boards: Vec<BoardId>,
    /// Free devices that no plan can change.
    pub(crate) fixed: BTreeMap<String, u32>,
    /// Resources of which nothing is shown: [`WorkNode::closed`].
    pub(crate) closed: BTreeSet<String>,
    /// A plan is under way on some GPU, or was made in this pass.
    pub(crate) busy: bool,
}

impl State {
    pub(crate) fn new(work: &WorkNode, boards: &mut Boards, version: u64) -> Self {
        Self {
            version,
            boards: work.boards.iter().map(|board| boards.id(board)).collect(),
            fixed: work.fixed.clone(),
            closed: work.closed.clone(),
            busy: work.is_busy(),
        }
    }

    /// More was promised on these GPUs of the node.
    pub(crate) fn promised(
        &mut self,
        work: &WorkNode,
        gpus: impl Iterator<Item = usize>,
        boards: &mut Boards,
        version: u64,
    ) {
        if work.hides() {
            // What is promised hides devices of other GPUs, too.
            self.changed(work, boards, version);
            return;
        }
        for gpu in gpus {
            self.boards[gpu] = boards.id(&work.boards[gpu]);
        }
        self.version = version;
        if self.fixed != work.fixed {
            self.fixed.clone_from(&work.fixed);
        }
        self.busy = work.is_busy();
    }

    /// Slices of the node are kept free, or free again, and that may change all GPUs.
    pub(crate) fn changed(&mut self, work: &WorkNode, boards: &mut Boards, version: u64) {
        *self = Self::new(work, boards, version);
    }

    /// Whether it gives the same answers.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        self.boards == other.boards && self.fixed == other.fixed && self.busy == other.busy
    }
}

/// A node.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) node: Node,
    /// Number of its [`crate::classes::Classes`].
    pub(crate) class: usize,
    /// With what is promised in this pass taken out.
    pub(crate) work: WorkNode,
    pub(crate) state: State,
    /// Rises whenever the node is put here anew, however little of it changed.
    pub(crate) put: u64,
    /// Idle instances that could be given up, by profile; nothing until somebody asks.
    pub(crate) idle: Option<Box<[(ProfileName, u32)]>>,
    /// Something on it was promised in this pass.
    pub(crate) touched: bool,
}

impl Slot {
    /// What pods have of the node, without what is promised in this pass.
    pub(crate) fn without_promises(&self) -> Cow<'_, WorkNode> {
        if self.touched {
            Cow::Owned(WorkNode::new(&self.node))
        } else {
            Cow::Borrowed(&self.work)
        }
    }
}

//! Slices that are kept free for a demand that waited too long.
//!
//! Small demands fill every gap as it comes, so that a large one could wait for ever. After a while it gets
//! a window: slices of one node that nobody else is given any more, so that it starts once the pods end
//! that have some of them.
//!
//! Nobody knows when a pod ends, but what has run for long goes on for long more often than what has just started. As a
//! rule of thumb a pod goes on for as long as it has run: then the time after which several have ended, with some
//! certainty, grows with the sum of their ages. So the window is one for which that sum is the least; where all are
//! young, or nothing is known of their ages, the fewest have to end.
//!
//! Who waits for one device gets none for the sake of which pods would have to end that have a device of that very
//! kind: whichever pod the stock scheduler gives the next of them, nothing is gained by hiding one.

use std::sync::Arc;

use mig::SliceMask;

use crate::{
    state::{Instance, Node, Usage},
    work::Kept,
};

/// That slices be kept free for a demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Under which name: no two demands have the same.
    pub key: Arc<str>,
    /// Equal for demands that ask for the same and could run on the same nodes, and the same from pass to pass though
    /// those nodes are others by then: such demands take turns with the others together. Where two kinds have the same
    /// number by chance, one of them may get no window for a while.
    pub kind: u64,
    /// How long it has had windows in vain, in the unit of [`crate::Demand::created`]: it stands in line as if it were
    /// younger by so much.
    pub spent: i64,
    /// Uuids of the GPUs on which they were: the new one is elsewhere, if it can be.
    pub avoid: Arc<[String]>,
    /// Its window stays where it is though the demand is not allowed there now: what keeps it from there is soon over, or
    /// may be.
    pub stays: bool,
    /// Its window is given up wherever it is, for its GPUs could not be partitioned for long; the next one may be
    /// elsewhere.
    pub leaves: bool,
    /// The present, in seconds since the Unix epoch, as [`crate::Instance::since`].
    pub now: i64,
    /// Pods that started at most so many seconds ago are all taken for equally young.
    pub grain: i64,
}

/// Slices kept free for one demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whose it is: [`Ask::key`].
    pub key: Arc<str>,
    /// The priority of its demand: who has a higher one may use the slices.
    pub priority: i32,
    /// Name of the node.
    pub node: String,
    /// The GPUs, and the slices of each; none is without.
    pub parts: Vec<Part>,
    /// Whether the node's status has to leave out what stands there. Not while something on the same node is promised
    /// to the demand itself, which could not be shown to it then.
    pub hides: bool,
}

/// Slices of one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index into [`crate::Node::gpus`].
    pub gpu: usize,
    /// NVML's uuid.
    pub uuid: String,
    /// The slices.
    pub slices: SliceMask,
}

impl Window {
    /// What is kept free, as half a sentence about the demand.
    pub fn words(&self) -> String {
        let slices = |part: &Part| {
            let bits = part.slices.bits();
            // There may be gaps, which nobody needs to be told of.
            let (first, last) = (bits.trailing_zeros(), bits.checked_ilog2().unwrap_or(0));
            format!("slices {first}-{last} of {}", part.uuid)
        };
        let parts: Vec<_> = self.parts.iter().map(slices).collect();
        let parts = parts.join(" and ");
        format!("{parts} on node {} are kept free for it", self.node)
    }

    /// How many instances in use stand on the slices as the node is now, and when the last of the pods that have those
    /// got them: the greatest [`Instance::since`]. Nothing as long as nothing is known of the node's GPUs.
    pub fn left(&self, node: &Node) -> Option<(usize, i64)> {
        self.is_on(node).filter(|is_on| *is_on)?;
        let newest = self.held(node).map(|i| i.since).max().unwrap_or(0);
        Some((self.held(node).count(), newest))
    }

    /// Whether all its GPUs can be partitioned, as the node is now.
    pub fn is_changeable(&self, node: &Node) -> bool {
        let changeable = |part: &Part| node.gpus.get(part.gpu).is_some_and(|gpu| gpu.changeable);
        self.is_on(node) == Some(true) && self.parts.iter().all(changeable)
    }

    /// The instances in use on the slices.
    pub(crate) fn held<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Instance> {
        self.parts.iter().flat_map(|part| {
            let gpu = node.gpus.get(part.gpu);
            let all = gpu.into_iter().flat_map(|gpu| &gpu.instances);
            all.filter(|i| i.usage == Usage::Held && i.placement.mask().overlaps(part.slices))
        })
    }

    /// Whether its GPUs are where they were; nothing if nothing is known of the node's GPUs now, as while its agent
    /// starts.
    pub(crate) fn is_on(&self, node: &Node) -> Option<bool> {
        let there = |part: &Part| {
            let gpu = node.gpus.get(part.gpu);
            gpu.is_some_and(|gpu| gpu.uuid == part.uuid)
        };
        (!node.gpus.is_empty()).then(|| self.parts.iter().all(there))
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let mut pairs = self
            .parts
            .iter()
            .flat_map(|a| other.parts.iter().map(move |b| (a, b)));
        let shared = |(a, b): (&Part, &Part)| a.uuid == b.uuid && a.slices.overlaps(b.slices);
        self.node == other.node && pairs.any(shared)
    }

    /// What is kept on a GPU of the node.
    pub(crate) fn kept(&self, part: &Part) -> Kept {
        Kept {
            slices: part.slices,
            hides: self.hides,
        }
    }
}

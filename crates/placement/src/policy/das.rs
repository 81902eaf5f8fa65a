//! Dynamic Accelerator Slicer (`InstaSlice`) of `OpenShift`: spread over nodes, first fit on the node.
//!
//! Rule read in openshift/instaslice-operator, `pkg/scheduler/plugins/mig/mig.go`: on a node the
//! first GPU of the list with a free start of the profile, lowest start; among nodes the one with
//! the largest share of free slots. It destroys instances as soon as their pod is gone. Emulated for
//! one pod at a time: GPUs that hold another pod's staged claim, which it leaves out altogether, do
//! not occur then. Among equal nodes the first.

use std::{cmp::Reverse, sync::Arc};

use super::{
    Policy, in_order,
    nodes::{choice, has_room, nodes, occupied},
};
use crate::{
    geometry::{Geometry, ProfileId},
    index::Index,
    pool::{Choice, Pool},
    score::TableError,
};

/// Spread over nodes, first fit on the node.
#[derive(Clone, Debug)]
pub struct Das {
    index: Arc<Index>,
}

impl Das {
    /// The policy.
    ///
    /// # Errors
    /// None; the signature is that of its table.
    pub fn new(geometry: &Geometry) -> Result<Self, TableError> {
        let index = Arc::new(Index::new(geometry, &in_order::by_start(geometry))?);
        Ok(Self { index })
    }
}

impl Policy for Das {
    fn name(&self) -> &'static str {
        "DAS (InstaSlice)"
    }

    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    fn place(&mut self, pool: &Pool, profile: ProfileId) -> Option<Choice> {
        let node = nodes(pool)
            .filter(|node| has_room(pool, *node, profile))
            .max_by_key(|node| {
                let (used, all) = occupied(pool, *node);
                // Parts of a million, so that nodes of different sizes compare.
                ((all - used) * 1_000_000 / all.max(1), Reverse(*node))
            })?;
        let mut gpus = pool.node_gpus(node).iter().copied();
        gpus.find_map(|gpu| {
            let placement = self.index.best(profile, pool.mask(gpu))?;
            Some(choice(pool, gpu, placement))
        })
    }

    fn keeps_idle(&self) -> bool {
        false
    }
}

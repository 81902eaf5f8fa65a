//! What a pod asks for.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// What one pod asks of one node.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The caller's key; comes back nowhere but in its own bookkeeping.
    pub id: String,
    /// Higher goes first.
    pub priority: i32,
    /// Lower goes first among equal priorities; for example the creation time.
    pub created: i64,
    /// Devices by resource name, each at least 1. All must come from one node.
    pub wants: BTreeMap<String, u32>,
    /// For each node of the cluster, in its order, whether the pod could run there.
    pub nodes: Arc<[Eligibility]>,
}

/// Whether a pod could run on a node, devices aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// It could.
    Allowed,
    /// It could not; a few words that fit behind "2 nodes: ".
    Excluded(Cow<'static, str>),
}

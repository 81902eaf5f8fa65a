//! The straightforward planner, which looks at every node for every demand and remembers nothing from pass
//! to pass. The tests hold the other one against it.

mod explain;
mod node_search;
mod options;
mod pass;
mod work;

use crate::demand::{Demand, Eligibility};

pub(crate) use pass::plan;

fn eligibilities(demand: &Demand) -> impl Iterator<Item = Eligibility> {
    (0..demand.nodes.len()).filter_map(|node| demand.nodes.get(node))
}

//! Turns cluster state and demands into plans, and explains them. Pure: no I/O, no clock.
//!
//! A [`Planner`] looks at every [`Demand`] once, highest priority and oldest first, and says what
//! becomes of it: [`Outcome::Covered`] by devices that are there, a [`NodePlan`] that makes what is
//! missing, [`Outcome::Wait`] for an operation under way, or a [`Refusal`] in words. What one demand
//! was promised is not promised to the next. [`Planner::explain`] adds who is in the way, for when somebody
//! is to read it.
//!
//! For a single demand the search is exact: if any choice of idle instances to give up, of idle
//! instances to offer under another name, and of placements to use serves it on a node it may use, one
//! is found, and none is cheaper (the tests compare with brute force). What it costs is in `cost.rs`: devices
//! that are idle are used first, for the stock scheduler uses them anyway; what is missing is made or moved where
//! the cluster loses least by it, by the value that [`placement`] has for what is left of each GPU; and
//! an idle instance is given up, or another plan of the node waited for, rather than a place taken
//! that is much worse.
//!
//! A demand that waited too long gets a [`Window`]: slices that no other demand is given that does not come before it
//! by priority. The planner keeps it from pass to pass until the demand is gone, or asks for it no more.
//!
//! Demands of a [`Group`] are served together or not at all. Which pods of it go to which node is found exactly, too, as
//! long as the search does not reach its bound; then it says so.
//!
//! A demand names profiles or fractions. A fraction is served by the profile that
//! [`mig::fraction::Class::profile`] says for the GPU, so that one demand can be served on any model; an
//! instance has one name at a time, and only one that is idle moves to another.

#![forbid(unsafe_code)]

mod answers;
mod blocked;
mod blockers;
mod boards;
mod classes;
mod cost;
mod demand;
mod explain;
mod node_set;
mod options;
mod outcome;
mod pass;
mod planner;
mod prices;
mod room;
mod search;
mod slot;
mod state;
mod wants;
mod ways;
mod window;
mod work;
mod worth;

#[cfg(test)]
mod reference;

pub use blocked::Names;
pub use demand::{Demand, Eligibilities, Eligibility, Group, Wants};
pub use node_set::NodeSet;
pub use outcome::{Creation, Exposure, GivenUp, GpuPlan, NodePlan, Outcome, Refusal, RefusalKind};
pub use pass::plan;
pub use planner::Planner;
pub use state::{Cluster, Gpu, Idle, Instance, Node, Usage};
pub use window::{Ask, Part, Window};

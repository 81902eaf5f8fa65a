//! Turns cluster state and demands into plans, and explains them. Pure: no I/O, no clock.
//!
//! [`plan`] looks at every [`Demand`] once, highest priority and oldest first, and says what
//! becomes of it: [`Outcome::Covered`] by devices that are there, a [`NodePlan`] that makes what is
//! missing, [`Outcome::Wait`] for an operation under way, or a [`Refusal`] in words. What one demand
//! was promised is not promised to the next.
//!
//! For a single demand the search is exact: if any choice of idle instances to give up and of
//! placements to use serves it on a node it may use, one is found, and none that gives up fewer
//! instances exists (the tests compare with brute force). Among equals it takes the plan that
//! makes the fewest instances and then the one that leaves the most to be made.

#![forbid(unsafe_code)]

mod demand;
mod explain;
mod node_search;
mod options;
mod outcome;
mod pass;
mod state;
mod work;

pub use demand::{Demand, Eligibility};
pub use outcome::{Creation, GivenUp, GpuPlan, NodePlan, Outcome, Refusal, RefusalKind};
pub use pass::plan;
pub use state::{Cluster, Gpu, Instance, Node, Usage};

//! The cluster's controller: watches pods, nodes and agents, plans, and drives the agents.
//!
//! [`world::World`] knows everything and decides everything, without I/O and without a clock. Around
//! it stand thin shells: [`watches`] feed it what the API server says, [`session`] what agents say,
//! and [`writer`] carries its decisions to the API server. [`mod@run`] wires them together, and [`mod@start`] chooses what
//! the program runs as.
//!
//! Inside the world, each idea has its module: compact rows of [`pods`], [`nodes`], [`agents`] and
//! their [`snapshot`]s; what a pod asks for ([`requests`], [`constraints`], [`set_aside`]); the
//! planner's [`view`] of a node; the life of a plan ([`operation`]); level-triggered
//! [`node_status`]; whose a node is, and what its labels say of it ([`takeover`]); and what people read
//! ([`words`], [`notes`]).
//!
//! Beside it all, [`mod@certificates`] keeps what controller, agents and API servers know each other
//! by, [`webhook`] is the process that turns fractions into slices, and [`cleanup`] takes the system
//! out of a cluster.

#![forbid(unsafe_code)]

pub mod agents;
pub mod args;
pub mod arrivals;
pub mod certificates;
pub mod cleanup;
pub mod constraints;
pub mod engine;
pub mod epoch;
pub mod exit;
pub mod grants;
pub mod groups;
pub mod interner;
pub mod kube_client;
pub mod kubelet_beat;
mod locking;
pub mod metrics;
pub mod names;
pub mod node_status;
pub mod nodes;
pub mod notes;
pub mod objects;
pub mod operation;
pub mod page;
pub mod pods;
pub mod quantity;
pub mod relist;
pub mod requests;
pub mod run;
pub mod session;
pub mod set_aside;
pub mod slices;
pub mod snapshot;
pub mod start;
pub mod takeover;
pub mod view;
pub mod watches;
pub mod webhook;
pub mod words;
pub mod world;
pub mod writer;

pub use args::Args;
pub use run::run;
pub use start::start;

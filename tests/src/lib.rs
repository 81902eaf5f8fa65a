//! The whole system under test: scenarios that start the embedded cluster with agents and the
//! controller as processes of their own, put pods in, break things, and watch what comes of it.
//!
//! Scenarios that go through the Kubernetes API alone run on a real cluster as well, see [`ground`].
//!
//! The package holds what scenarios share; each file under `tests/` is one idea. A scenario says
//! what hosts there are and what happens; that no promise of the design was broken meanwhile is
//! watched all along, by looking at what the kubelets, the API and the driver say of themselves.

#![forbid(unsafe_code)]

mod dump;
pub mod ground;
pub mod invariants;
pub mod pods;
mod scenario;
pub mod spec;
mod start;
pub mod system;
pub mod watcher;

pub use ground::{
    Answer, Chart, Device, Disturbance, Ground, Held, Needs, Way, api_scenario, installation,
};
pub use pods::{NAMESPACE, Pod};
pub use scenario::{Failure, Outcome, Verdict, scenario};
pub use spec::{NodeSpec, Spec, Tls};
pub use system::{Given, LIMIT, System};

//! The agent that runs on each GPU node.
//!
//! It owns the node's NVML and its device plugins: it makes and destroys GPU instances on a
//! controller's orders, hands them to the kubelet, and never touches what a pod holds. It has no
//! Kubernetes credentials; what it must know of pods, the controller tells it.
//!
//! Start reading at [`node`], which decides everything and does nothing; [`work`] does it, [`agent`]
//! is the loop between them, and [`run`](mod@run) puts it all together.

pub mod agent;
pub mod args;
pub mod cdi;
pub mod driver;
pub mod evidence;
pub mod exit;
pub mod health;
pub mod journal;
pub mod metrics;
pub mod node;
pub mod run;
pub mod session;
pub mod specs;
pub mod work;

pub use args::Args;
pub use run::{Listeners, run};

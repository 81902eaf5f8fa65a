//! The embedded cluster: Kubernetes API subset, scheduler and kubelets in one process.

pub mod api;
pub mod behaviour;
mod duration;
mod events;
pub mod kubelet;
mod nodematch;
pub mod resources;
pub mod runtime;
pub mod scheduler;
pub mod store;
pub mod timeline;

//! The embedded cluster: Kubernetes API subset, scheduler and kubelets in one process.

mod addresses;
pub mod admission;
pub mod api;
pub mod behaviour;
pub mod cluster;
mod conditions;
pub mod daemonset;
mod duration;
mod events;
mod feed;
pub mod kubelet;
mod nodematch;
pub mod resources;
pub mod runtime;
pub mod scheduler;
pub mod store;
pub mod timeline;
pub mod workloads;

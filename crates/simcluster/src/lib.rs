//! The embedded cluster: Kubernetes API subset, scheduler and kubelets in one process.

pub mod store;

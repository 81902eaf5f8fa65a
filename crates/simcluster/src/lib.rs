//! The embedded cluster: Kubernetes API subset, scheduler and kubelets in one process.

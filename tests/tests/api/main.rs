//! Scenarios through the Kubernetes API alone: on embedded clusters of their own, or one after the other
//! on the cluster that `KUBECONFIG` names.

mod clearml_queues;
mod disturbances;
mod fractions;
mod giving_up;
mod queue;
mod refusals;
mod reuse;
mod slices;
mod webhook;
mod workloads;

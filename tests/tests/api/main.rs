//! Scenarios through the Kubernetes API alone: on an embedded cluster each, or one after the other
//! on the cluster that `KUBECONFIG` names.

mod disturbances;
mod giving_up;
mod queue;
mod refusals;
mod reuse;
mod slices;
mod workloads;

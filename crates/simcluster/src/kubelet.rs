//! The kubelets.

pub mod devices;

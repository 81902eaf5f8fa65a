//! The node half of the cluster as a whole: kubelets, a device plugin and podresources over real
//! sockets.

mod admission;
mod life;
mod support;
mod toy_plugin;

//! The node half of the cluster as a whole: kubelets, a device plugin and podresources over real
//! sockets.

mod admission;
mod life;
mod scale;
#[cfg(test)]
mod support;
#[cfg(test)]
mod toy_plugin;

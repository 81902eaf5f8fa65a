//! Beside NVIDIA's own device plugin: while it listens, it may give out the same GPUs and instances, under
//! the same names or others. Nothing is registered then (the device-plugin library sees to that), and
//! here nothing is changed either.

use super::{Failure, Node};

impl Node {
    /// Why nothing is offered or changed, while another plugin serves this node's devices.
    pub(super) fn other_plugin(&self) -> Option<Failure> {
        let sockets = self.plugins.rivals.join(", ");
        (!sockets.is_empty()).then(|| {
            let message = format!(
                "NVIDIA's device plugin still runs here ({sockets}), so nothing is offered: two plugins \
                 would give a GPU out twice. Keep its DaemonSet off this node; the GPU operator does so \
                 by the label nvidia.com/gpu.deploy.device-plugin=false."
            );
            Failure::new("other_plugin", message)
        })
    }
}

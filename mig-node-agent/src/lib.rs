//! The per-node agent: owns the node's NVML and its kubelet device plugins.

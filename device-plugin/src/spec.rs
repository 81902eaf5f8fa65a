//! A device as the agent describes it.

/// A device node that a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Path on the host, for example `/dev/nvidia0`.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// A device that can be offered to the kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// MIG uuid, or GPU uuid for a whole GPU. At most 63 characters; letters, digits, `-`, `_`, `.`.
    pub id: String,
    /// What the device is a part of (the GPU's uuid): a container that wants several devices gets
    /// them from as few groups as possible.
    pub group: String,
    /// Device nodes passed to the container if
    /// [`Config::pass_device_specs`](crate::Config::pass_device_specs) says so.
    pub specs: Vec<DeviceSpec>,
    /// Fully qualified CDI name, `vendor/class=name`, for strategies that pass one. Its spec file must
    /// exist before the device is offered.
    pub cdi: Option<String>,
}

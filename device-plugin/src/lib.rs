//! A kubelet device-plugin server for devices that come and go.

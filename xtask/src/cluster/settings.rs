//! The configuration files of containerd, of the pods' network and of the kubelet.

use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::network::{NODE, PODS};
use super::{images, pki, place};

/// Magic number of overlayfs (linux/magic.h), which cannot lie on itself.
const OVERLAYFS: u64 = 0x794c_7630;

/// Writes them all.
pub(super) fn write() -> anyhow::Result<()> {
    place::make(&place::home("cni"))?;
    place::write(&place::home("containerd.toml"), containerd()?)?;
    place::write(
        &place::home("cni/10-cdmo.conflist"),
        format!("{:#}\n", cni()),
    )?;
    place::write(&place::home("kubelet.json"), format!("{:#}\n", kubelet()))
}

fn containerd() -> anyhow::Result<String> {
    let lies_on = rustix::fs::statfs(place::root())
        .with_context(|| format!("failed to look at {}", place::root().display()))?
        .f_type;
    let snapshotter = if u64::try_from(lies_on) == Ok(OVERLAYFS) {
        "native"
    } else {
        "overlayfs"
    };
    Ok(format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without CAP_SYS_RESOURCE runc fails where it would lower a score: "can't get final child's PID".
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        root = place::home_text("containerd/root"),
        state = place::home_text("containerd/state"),
        opt = place::home_text("containerd/opt"),
        cni = place::home_text("cni"),
        socket = place::containerd_socket(),
        pause = images::PAUSE,
    ))
}

/// A cable of its own for each pod, so that all traffic passes the node's packet filter, where
/// Services are made, whether or not the kernel filters what passes a bridge.
fn cni() -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": place::home_text("cni/addresses"),
                    "ranges": [[{"subnet": PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// The pods' network, as CNI's own notes name it.
pub(super) const NETWORK: &str = "cdmo-cluster";

fn kubelet() -> serde_json::Value {
    let ca = pki::file("ca.crt");
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": ca},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki::file("kubelet-server.crt"),
        "tlsPrivateKeyFile": pki::file("kubelet-server.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        // kube-proxy makes the chains that it needs.
        "makeIPTablesUtilChains": false,
        "volumePluginDir": place::home_text("volume-plugins"),
        // An image that was removed could not be pulled again, and a developer's disk may be full.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "maxPods": 200,
    })
}

/// The kubelet's own folder, where charts look for it. One of its own would not be wholly its own:
/// device plugins always register below this one.
pub(super) fn kubelet_root() -> &'static Path {
    Path::new("/var/lib/kubelet")
}

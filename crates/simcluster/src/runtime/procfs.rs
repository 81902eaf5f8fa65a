//! The node's own `/proc`: one directory per running container with the cgroup that a kubelet of
//! the time would have put it into, so that whoever looks for a pod's processes finds simulated
//! ones, too, and never those of another node of the same machine.

use super::{Record, RuntimeConfig};
use crate::behaviour::Behaviour;

/// The largest process id of Linux; simulated ones lie above.
const PID_MAX: u64 = 4_194_304;

pub(super) fn simulated_pid(number: u64) -> u32 {
    u32::try_from(PID_MAX + number).unwrap_or(u32::MAX)
}

/// Shows a process; a node without a `/proc` is served all the same.
pub(super) fn appear(config: &RuntimeConfig, record: &Record, qos: &str) {
    let directory = config.host_root.join("proc").join(record.pid.to_string());
    let cgroup = cgroup(config.behaviour, record, qos);
    let written = std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::write(directory.join("cgroup"), cgroup));
    if let Err(error) = written {
        tracing::warn!(node = config.node, %error, "Failed to show a process in the node's /proc");
    }
}

pub(super) fn vanish(config: &RuntimeConfig, pid: u32) {
    let directory = config.host_root.join("proc").join(pid.to_string());
    // It is missing if it could not be written.
    let _ = std::fs::remove_dir_all(directory);
}

/// As cgroup v1 with cgroupfs in 1.20, as cgroup v2 with systemd later.
fn cgroup(behaviour: Behaviour, record: &Record, qos: &str) -> String {
    let class = match qos {
        "Guaranteed" => None,
        "Burstable" => Some("burstable"),
        _ => Some("besteffort"),
    };
    if behaviour == Behaviour::V1_20 {
        let class = class.map(|class| format!("/{class}")).unwrap_or_default();
        let path = format!("/kubepods{class}/pod{}/{}", record.pod_uid, record.id);
        return ["9:pids", "8:memory", "7:devices", "1:name=systemd"]
            .map(|controller| format!("{controller}:{path}\n"))
            .concat();
    }
    let uid = record.pod_uid.replace('-', "_");
    let parent = class
        .map(|class| format!("/kubepods-{class}.slice"))
        .unwrap_or_default();
    let class = class.map(|class| format!("-{class}")).unwrap_or_default();
    format!(
        "0::/kubepods.slice{parent}/kubepods{class}-pod{uid}.slice/cri-containerd-{}.scope\n",
        record.id
    )
}

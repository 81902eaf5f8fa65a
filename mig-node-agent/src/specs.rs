//! The device nodes that a container needs for a device.
//!
//! Paths and the capability formula: mig-facts 4.3, checked against the driver's own table there.
//! Only nodes that exist under the host root are passed: a runtime refuses a container whose device
//! node is missing, and capability nodes are made lazily.

use std::path::{Path, PathBuf};

use device_plugin::DeviceSpec;

const CONTROL: [&str; 4] = [
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
];

/// Where device nodes and the driver's description of them are looked for.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// The host's root directory.
    pub host_root: PathBuf,
    /// The host's `/proc`.
    pub proc_dir: PathBuf,
}

impl Nodes {
    /// Nodes for a whole GPU, or for the GPU instance and compute instance of one.
    pub fn specs(&self, gpu_minor: u32, instance: Option<(u32, u32)>) -> Vec<DeviceSpec> {
        let mut paths = vec![format!("/dev/nvidia{gpu_minor}")];
        paths.extend(CONTROL.map(str::to_owned));
        if let Some((gi, ci)) = instance {
            let base = self.proc_dir.join(format!(
                "driver/nvidia/capabilities/gpu{gpu_minor}/mig/gi{gi}"
            ));
            let gi_minor = described(&base.join("access"))
                .unwrap_or(3 + 135 * u64::from(gpu_minor) + 9 * u64::from(gi));
            let ci_minor = described(&base.join(format!("ci{ci}/access")))
                .unwrap_or(gi_minor + 1 + u64::from(ci));
            paths.push(format!("/dev/nvidia-caps/nvidia-cap{gi_minor}"));
            paths.push(format!("/dev/nvidia-caps/nvidia-cap{ci_minor}"));
        }
        paths
            .into_iter()
            .filter(|path| self.host_root.join(&path[1..]).exists())
            .map(|path| DeviceSpec {
                container_path: path.clone(),
                host_path: path,
                permissions: "rw".into(),
            })
            .collect()
    }
}

/// The minor number that the driver wrote into its description of a capability.
fn described(access: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(access).ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("DeviceFileMinor:"))?;
    line.split(':').nth(1)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(nodes: &[&str]) -> (tempfile::TempDir, Nodes) {
        let root = tempfile::tempdir().unwrap();
        for node in nodes {
            let path = root.path().join(&node[1..]);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let nodes = Nodes {
            host_root: root.path().to_owned(),
            proc_dir: root.path().join("proc"),
        };
        (root, nodes)
    }

    fn paths(specs: &[DeviceSpec]) -> Vec<&str> {
        specs.iter().map(|spec| spec.host_path.as_str()).collect()
    }

    #[test]
    fn capability_minors_follow_the_drivers_formula() {
        // Seen on a real machine: gi 9 of GPU 0 has capability 84, its ci 0 has 85.
        let caps = [
            "/dev/nvidia-caps/nvidia-cap84",
            "/dev/nvidia-caps/nvidia-cap85",
        ];
        let (_root, nodes) = host(&caps);
        assert_eq!(paths(&nodes.specs(0, Some((9, 0)))), caps);
    }

    #[test]
    fn the_drivers_own_description_wins_over_the_formula() {
        let (root, nodes) = host(&["/dev/nvidia-caps/nvidia-cap500", "/dev/nvidia1"]);
        let access = root
            .path()
            .join("proc/driver/nvidia/capabilities/gpu1/mig/gi2/access");
        std::fs::create_dir_all(access.parent().unwrap()).unwrap();
        std::fs::write(&access, "DeviceFileMinor: 500\nDeviceFileMode: 292\n").unwrap();
        assert_eq!(
            paths(&nodes.specs(1, Some((2, 0)))),
            ["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap500"]
        );
    }

    #[test]
    fn nodes_that_the_host_lacks_are_not_passed() {
        let (_root, nodes) = host(&["/dev/nvidiactl"]);
        assert_eq!(paths(&nodes.specs(0, None)), ["/dev/nvidiactl"]);
        let (_root, nodes) = host(&[]);
        assert!(nodes.specs(0, Some((1, 0))).is_empty());
    }
}

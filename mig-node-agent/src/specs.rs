//! The device nodes that a container needs for a device.
//!
//! Paths and the capability formula: mig-facts 4.3, checked against the driver's own table there.
//! To the kubelet, only nodes that exist under the host root are passed: a runtime refuses a container
//! whose device node is missing, and capability nodes are made lazily. A CDI spec can name a node by
//! its numbers, too; then the runtime makes it for the container, and the host need not have it.

use std::path::{Path, PathBuf};

use device_plugin::DeviceSpec;

const CONTROL: [&str; 4] = [
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
];

const CAPABILITY: &str = "/dev/nvidia-caps/nvidia-cap";

/// Where device nodes and the driver's description of them are looked for.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// The host's root directory.
    pub host_root: PathBuf,
    /// The host's `/proc`.
    pub proc_dir: PathBuf,
}

/// A device node as a CDI spec names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdiNode {
    /// Path on the host and in the container.
    pub path: String,
    /// Major and minor number of a character device, if the host does not have the node.
    pub numbers: Option<(u64, u64)>,
}

impl Nodes {
    /// Nodes for a whole GPU, or for the GPU instance and compute instance of one.
    pub fn specs(&self, gpu_minor: u32, instance: Option<(u32, u32)>) -> Vec<DeviceSpec> {
        let mut paths = vec![format!("/dev/nvidia{gpu_minor}")];
        paths.extend(CONTROL.map(str::to_owned));
        if let Some(instance) = instance {
            let minors = self.capabilities(gpu_minor, instance);
            paths.extend(minors.map(|minor| format!("{CAPABILITY}{minor}")));
        }
        paths
            .into_iter()
            .filter(|path| self.is_there(path))
            .map(|path| DeviceSpec {
                container_path: path.clone(),
                host_path: path,
                permissions: "rw".into(),
            })
            .collect()
    }

    /// The same nodes for a CDI spec. Those of the GPU and of the instance cannot be done without;
    /// where the host has no NVIDIA driver at all, because its GPUs are simulated, there are none.
    ///
    /// # Errors
    /// One sentence: which node there is no way to.
    pub fn cdi(
        &self,
        gpu_minor: u32,
        instance: Option<(u32, u32)>,
    ) -> Result<Vec<CdiNode>, String> {
        let mut needed = vec![(
            format!("/dev/nvidia{gpu_minor}"),
            ["nvidia", "nvidia-frontend"].as_slice(),
            u64::from(gpu_minor),
        )];
        if let Some(instance) = instance {
            let minors = self.capabilities(gpu_minor, instance);
            needed.extend(minors.map(|minor| {
                let path = format!("{CAPABILITY}{minor}");
                (path, ["nvidia-caps"].as_slice(), minor)
            }));
        }
        let mut nodes = Vec::new();
        for (path, drivers, minor) in needed {
            let numbers = if self.is_there(&path) {
                None
            } else if let Some(major) = self.major(drivers) {
                Some((major, minor))
            } else if self.has_driver() {
                return Err(format!(
                    "The node has no {path}, and /proc/devices does not say how to make it; load the driver's kernel modules (nvidia-modprobe)."
                ));
            } else {
                continue;
            };
            nodes.push(CdiNode { path, numbers });
        }
        let control = CONTROL.iter().filter(|path| self.is_there(path));
        nodes.extend(control.map(|path| CdiNode {
            path: (*path).to_owned(),
            numbers: None,
        }));
        Ok(nodes)
    }

    /// Whether NVIDIA's kernel driver is on this host.
    pub fn has_driver(&self) -> bool {
        self.is_there(CONTROL[0]) || self.major(&["nvidia", "nvidia-frontend"]).is_some()
    }

    /// Minor numbers of the capabilities of a GPU instance and a compute instance of it.
    fn capabilities(&self, gpu_minor: u32, (gi, ci): (u32, u32)) -> [u64; 2] {
        let base = self.proc_dir.join(format!(
            "driver/nvidia/capabilities/gpu{gpu_minor}/mig/gi{gi}"
        ));
        let gi_minor = described(&base.join("access"))
            .unwrap_or(3 + 135 * u64::from(gpu_minor) + 9 * u64::from(gi));
        let ci_minor =
            described(&base.join(format!("ci{ci}/access"))).unwrap_or(gi_minor + 1 + u64::from(ci));
        [gi_minor, ci_minor]
    }

    fn is_there(&self, path: &str) -> bool {
        self.host_root.join(&path[1..]).exists()
    }

    /// Major number of the first of these character drivers that the kernel has.
    fn major(&self, drivers: &[&str]) -> Option<u64> {
        let text = std::fs::read_to_string(self.proc_dir.join("devices")).ok()?;
        let characters = text.split("Block devices:").next().unwrap_or_default();
        drivers.iter().find_map(|driver| {
            characters.lines().find_map(|line| {
                let (major, name) = line.trim().split_once(' ')?;
                (name == *driver).then(|| major.parse().ok())?
            })
        })
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
    fn a_cdi_spec_names_missing_nodes_by_number() {
        let (root, nodes) = host(&["/dev/nvidia0", "/dev/nvidiactl"]);
        std::fs::create_dir_all(root.path().join("proc")).unwrap();
        let devices = "Character devices:\n195 nvidia\n242 nvidia-caps\n\nBlock devices:\n  8 sd\n";
        std::fs::write(root.path().join("proc/devices"), devices).unwrap();
        let node = |path: &str, numbers| CdiNode {
            path: path.to_owned(),
            numbers,
        };
        assert_eq!(
            nodes.cdi(0, Some((9, 0))).unwrap(),
            [
                node("/dev/nvidia0", None),
                node("/dev/nvidia-caps/nvidia-cap84", Some((242, 84))),
                node("/dev/nvidia-caps/nvidia-cap85", Some((242, 85))),
                node("/dev/nvidiactl", None),
            ]
        );
    }

    #[test]
    fn a_real_driver_without_a_way_to_a_node_is_an_error_and_a_simulated_one_is_not() {
        let (_root, real) = host(&["/dev/nvidiactl"]);
        let error = real.cdi(0, None).unwrap_err();
        assert!(error.contains("/dev/nvidia0"), "{error}");
        let (_root, simulated) = host(&[]);
        assert!(!simulated.has_driver());
        assert!(simulated.cdi(0, Some((1, 0))).unwrap().is_empty());
    }

    #[test]
    fn nodes_that_the_host_lacks_are_not_passed() {
        let (_root, nodes) = host(&["/dev/nvidiactl"]);
        assert_eq!(paths(&nodes.specs(0, None)), ["/dev/nvidiactl"]);
        let (_root, nodes) = host(&[]);
        assert!(nodes.specs(0, Some((1, 0))).is_empty());
    }
}

//! The answer to Allocate: what the container runtime is told.
//!
//! The container toolkit reads `NVIDIA_VISIBLE_DEVICES`. If that is the path below, it takes the
//! names of the mounts there as device ids instead, which only the kubelet can have put there.

use std::collections::HashMap;

use cdmo_proto::deviceplugin::{ContainerAllocateResponse, DeviceSpec, Mount};

use crate::{Device, DeviceListStrategy};

const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
const MOUNTED_DEVICES: &str = "/var/run/nvidia-container-devices";

/// The answer for one container.
pub(crate) fn answer(
    devices: &[Device],
    strategy: DeviceListStrategy,
    pass_device_specs: bool,
) -> ContainerAllocateResponse {
    let mut answer = ContainerAllocateResponse::default();
    match strategy {
        DeviceListStrategy::VolumeMounts => {
            answer.envs = HashMap::from([(VISIBLE_DEVICES.to_owned(), MOUNTED_DEVICES.to_owned())]);
            answer.mounts = devices.iter().map(mount).collect();
        }
        DeviceListStrategy::Envvar => {
            let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
            answer.envs = HashMap::from([(VISIBLE_DEVICES.to_owned(), ids.join(","))]);
        }
    }
    if pass_device_specs {
        for spec in devices.iter().flat_map(|device| &device.specs) {
            // Devices share nodes such as /dev/nvidiactl; a runtime may refuse one that comes twice.
            if answer
                .devices
                .iter()
                .all(|known| known.container_path != spec.container_path)
            {
                answer.devices.push(DeviceSpec {
                    container_path: spec.container_path.clone(),
                    host_path: spec.host_path.clone(),
                    permissions: spec.permissions.clone(),
                });
            }
        }
    }
    answer
}

fn mount(device: &Device) -> Mount {
    Mount {
        container_path: format!("{MOUNTED_DEVICES}/{}", device.id),
        host_path: "/dev/null".to_owned(),
        read_only: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, nodes: &[&str]) -> Device {
        let spec = |path: &&str| crate::DeviceSpec {
            host_path: format!("/host{path}"),
            container_path: (*path).to_owned(),
            permissions: "rw".to_owned(),
        };
        Device {
            id: id.to_owned(),
            group: "GPU-0".to_owned(),
            specs: nodes.iter().map(spec).collect(),
        }
    }

    #[test]
    fn volume_mounts_name_each_device_by_a_mount() {
        let devices = [device("MIG-a", &[]), device("MIG-b", &[])];
        let answer = answer(&devices, DeviceListStrategy::VolumeMounts, true);
        assert_eq!(
            answer.envs[VISIBLE_DEVICES],
            "/var/run/nvidia-container-devices"
        );
        let mounts: Vec<_> = answer
            .mounts
            .iter()
            .map(|mount| (mount.host_path.as_str(), mount.container_path.as_str()))
            .collect();
        assert_eq!(
            mounts,
            [
                ("/dev/null", "/var/run/nvidia-container-devices/MIG-a"),
                ("/dev/null", "/var/run/nvidia-container-devices/MIG-b")
            ]
        );
    }

    #[test]
    fn envvar_lists_the_ids_and_mounts_nothing() {
        let devices = [device("MIG-a", &[]), device("MIG-b", &[])];
        let answer = answer(&devices, DeviceListStrategy::Envvar, true);
        assert_eq!(answer.envs[VISIBLE_DEVICES], "MIG-a,MIG-b");
        assert!(answer.mounts.is_empty());
    }

    #[test]
    fn shared_device_nodes_are_passed_once_and_only_if_wanted() {
        let devices = [
            device("a", &["/dev/nvidiactl", "/dev/x"]),
            device("b", &["/dev/nvidiactl"]),
        ];
        let with = answer(&devices, DeviceListStrategy::VolumeMounts, true);
        let paths: Vec<_> = with
            .devices
            .iter()
            .map(|spec| spec.container_path.as_str())
            .collect();
        assert_eq!(paths, ["/dev/nvidiactl", "/dev/x"]);
        assert_eq!(with.devices[0].host_path, "/host/dev/nvidiactl");
        let without = answer(&devices, DeviceListStrategy::VolumeMounts, false);
        assert!(without.devices.is_empty());
    }
}

//! The answer to Allocate: what the container runtime is told.
//!
//! The container toolkit reads `NVIDIA_VISIBLE_DEVICES`. If that is the path below, it takes the
//! names of the mounts there as device ids instead, which only the kubelet can have put there.
//! A runtime with CDI is told names that it looks up in spec files.

use std::collections::HashMap;

use cdmo_proto::deviceplugin::{CdiDevice, ContainerAllocateResponse, DeviceSpec, Mount};

use crate::{Device, DeviceListStrategy};

const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
const MOUNTED_DEVICES: &str = "/var/run/nvidia-container-devices";
/// Annotations that a runtime takes for CDI names begin so. The rest has at most 63 characters and
/// has to differ between everything that annotates one container.
const CDI_ANNOTATION: &str = "cdi.k8s.io/cdmo_";

/// The answer for one container.
pub(crate) fn answer(
    devices: &[Device],
    strategies: &[DeviceListStrategy],
    pass_device_specs: bool,
) -> ContainerAllocateResponse {
    let mut answer = ContainerAllocateResponse::default();
    let wanted = |strategy| strategies.contains(&strategy);
    if wanted(DeviceListStrategy::VolumeMounts) {
        answer.envs = HashMap::from([(VISIBLE_DEVICES.to_owned(), MOUNTED_DEVICES.to_owned())]);
        answer.mounts = devices.iter().map(mount).collect();
    } else if wanted(DeviceListStrategy::Envvar) {
        let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        answer.envs = HashMap::from([(VISIBLE_DEVICES.to_owned(), ids.join(","))]);
    }
    let named = devices
        .iter()
        .filter_map(|device| Some((device.id.as_str(), device.cdi.as_ref()?)));
    for (id, name) in named {
        if wanted(DeviceListStrategy::CdiCri) {
            answer.cdi_devices.push(CdiDevice { name: name.clone() });
        }
        if wanted(DeviceListStrategy::CdiAnnotations) {
            answer
                .annotations
                .insert(format!("{CDI_ANNOTATION}{id}"), name.clone());
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
            cdi: Some(format!("example.com/gpu={id}")),
        }
    }

    #[test]
    fn volume_mounts_name_each_device_by_a_mount() {
        let devices = [device("MIG-a", &[]), device("MIG-b", &[])];
        let answer = answer(&devices, &[DeviceListStrategy::VolumeMounts], true);
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
        let answer = answer(&devices, &[DeviceListStrategy::Envvar], true);
        assert_eq!(answer.envs[VISIBLE_DEVICES], "MIG-a,MIG-b");
        assert!(answer.mounts.is_empty());
        assert!(answer.cdi_devices.is_empty() && answer.annotations.is_empty());
    }

    #[test]
    fn cdi_names_go_into_their_field_and_nothing_else_does() {
        let devices = [device("MIG-a", &[]), device("MIG-b", &[])];
        let answer = answer(&devices, &[DeviceListStrategy::CdiCri], false);
        let names: Vec<_> = answer.cdi_devices.iter().map(|cdi| &*cdi.name).collect();
        assert_eq!(names, ["example.com/gpu=MIG-a", "example.com/gpu=MIG-b"]);
        assert!(answer.envs.is_empty() && answer.mounts.is_empty());
        assert!(answer.annotations.is_empty() && answer.devices.is_empty());
    }

    #[test]
    fn cdi_annotations_differ_from_device_to_device_and_fit_a_mig_uuid() {
        let id = "MIG-5f2f2a9c-0b6e-5b0c-8d5e-0123456789ab";
        let devices = [device(id, &[]), device("MIG-b", &[])];
        let answer = answer(&devices, &[DeviceListStrategy::CdiAnnotations], false);
        assert_eq!(answer.annotations.len(), 2);
        let key = format!("cdi.k8s.io/cdmo_{id}");
        assert_eq!(answer.annotations[&key], format!("example.com/gpu={id}"));
        assert!(key.split_once('/').unwrap().1.len() <= 63);
        assert!(answer.cdi_devices.is_empty());
    }

    #[test]
    fn several_strategies_each_say_their_part_and_mounts_win_over_the_list() {
        let all = [
            DeviceListStrategy::Envvar,
            DeviceListStrategy::VolumeMounts,
            DeviceListStrategy::CdiAnnotations,
            DeviceListStrategy::CdiCri,
        ];
        let answer = answer(&[device("MIG-a", &[])], &all, true);
        assert_eq!(answer.envs[VISIBLE_DEVICES], MOUNTED_DEVICES);
        assert_eq!(answer.mounts.len(), 1);
        assert_eq!((answer.cdi_devices.len(), answer.annotations.len()), (1, 1));
    }

    #[test]
    fn shared_device_nodes_are_passed_once_and_only_if_wanted() {
        let devices = [
            device("a", &["/dev/nvidiactl", "/dev/x"]),
            device("b", &["/dev/nvidiactl"]),
        ];
        let with = answer(&devices, &[DeviceListStrategy::VolumeMounts], true);
        let paths: Vec<_> = with
            .devices
            .iter()
            .map(|spec| spec.container_path.as_str())
            .collect();
        assert_eq!(paths, ["/dev/nvidiactl", "/dev/x"]);
        assert_eq!(with.devices[0].host_path, "/host/dev/nvidiactl");
        let without = answer(&devices, &[DeviceListStrategy::VolumeMounts], false);
        assert!(without.devices.is_empty());
    }
}

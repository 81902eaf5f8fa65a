//! The resource names that an instance may be given to pods under: that of its profile, and those of
//! the classes of fractions that its profile serves on its GPU.

use fake_nvml::control::{GpuState, InstanceState};
use mig::fraction::Class;
use mig::{Engines, GpuModel, ProfileName};

/// Whether the system serves a resource: profiles, whole GPUs and fractions.
pub fn is_ours(resource: &str) -> bool {
    resource.starts_with(mig::RESOURCE_PREFIX)
        || resource == mig::GPU_RESOURCE
        || resource.starts_with(mig::fraction::FRACTION_PREFIX)
}

/// All names of an instance, that of its profile first. None for a profile that has no name.
pub fn of_instance(gpu: &GpuState, instance: &InstanceState) -> Vec<String> {
    let Ok(profile) = instance.profile.parse::<ProfileName>() else {
        return Vec::new();
    };
    let classes = Class::ALL
        .into_iter()
        .filter(|class| serves(gpu, profile, *class));
    let classes = classes.map(Class::resource_name);
    std::iter::once(profile.resource_name())
        .chain(classes)
        .collect()
}

fn serves(gpu: &GpuState, profile: ProfileName, class: Class) -> bool {
    if let Some(model) = GpuModel::known(gpu.name) {
        let served = class.profile(&model);
        return served.is_some_and(|(_, served)| served.name == profile);
    }
    // Without a table: the plain profile of that many slices.
    let full = if gpu.memory_slices == 8 { 7 } else { 4 };
    profile.engines() == Engines::Shared && profile.compute_slices() == class.compute_slices(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &'static str, memory_slices: u32, profile: &'static str) -> Vec<String> {
        let gpu = GpuState {
            index: 0,
            uuid: "GPU-0".to_owned(),
            name,
            minor: 0,
            memory_slices,
            mig_mode: true,
            pending_mig_mode: true,
            instances: Vec::new(),
            processes: Vec::new(),
        };
        let instance = InstanceState {
            gi: 1,
            serial: 1,
            profile,
            start: 0,
            size: 1,
            compute: Vec::new(),
        };
        of_instance(&gpu, &instance)
    }

    fn fraction(digits: &str) -> String {
        format!("cdmo.clear.ml/fraction-{digits}")
    }

    #[test]
    fn an_instance_goes_by_its_profile_and_by_the_classes_it_serves() {
        let half = ["nvidia.com/mig-3g.20gb".to_owned(), fraction("0.500")];
        assert_eq!(names("NVIDIA A100-SXM4-40GB", 8, "3g.20gb"), half);
        let small = [
            "nvidia.com/mig-1g.6gb".to_owned(),
            fraction("0.125"),
            fraction("0.250"),
        ];
        assert_eq!(names("NVIDIA A30", 4, "1g.6gb"), small);
        let four = ["nvidia.com/mig-4g.20gb".to_owned()];
        assert_eq!(names("NVIDIA A100-SXM4-40GB", 8, "4g.20gb"), four);
        let media = ["nvidia.com/mig-1g.6gb.me".to_owned()];
        assert_eq!(names("NVIDIA A30", 4, "1g.6gb+me"), media);
    }

    #[test]
    fn a_board_without_a_table_goes_by_its_slices() {
        let half = ["nvidia.com/mig-3g.71gb".to_owned(), fraction("0.500")];
        assert_eq!(names("NVIDIA H200", 8, "3g.71gb"), half);
    }
}

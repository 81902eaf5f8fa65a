//! Creations that fail half-way.

use fake_nvml::control::Effect;
use mig::Placement;
use nvml_mig::{Code, Error};

use crate::machine::{A100, Machine, create, uuid};

const ONE: Placement = Placement::new(0, 1);

#[test]
fn a_gpu_instance_without_compute_instance_is_seen_and_can_be_completed() {
    let machine = Machine::new(&format!(
        "{A100}[[instance]]\nprofile = \"3g.20gb\"\nstart = 4\ncompute = false\n"
    ));
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let found = nvml.instances(&gpu).unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].compute.is_empty());
    assert_eq!(found[0].device_uuid(), None);

    let completed = nvml.create_compute_instance(&gpu, found[0].gi_id).unwrap();
    assert!(completed.device_uuid().is_some());
    assert_eq!(
        nvml.instances(&gpu).unwrap(),
        std::slice::from_ref(&completed)
    );
    // Asked for again, it is returned as it is.
    assert_eq!(
        nvml.create_compute_instance(&gpu, completed.gi_id).unwrap(),
        completed
    );
}

#[test]
fn a_gpu_instance_without_compute_instance_can_be_destroyed() {
    let machine = Machine::new(&format!(
        "{A100}[[instance]]\nprofile = \"1g.5gb\"\ncompute = false\n"
    ));
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let found = nvml.instances(&gpu).unwrap();
    nvml.destroy(&gpu, found[0].gi_id).unwrap();
    assert!(nvml.instances(&gpu).unwrap().is_empty());
}

#[test]
fn wherever_a_creation_fails_nothing_is_left_behind() {
    for call in [
        "nvmlDeviceCreateGpuInstanceWithPlacement",
        "nvmlGpuInstanceGetInfo",
        "nvmlGpuInstanceGetComputeInstanceProfileInfo",
        "nvmlGpuInstanceCreateComputeInstance",
        "nvmlDeviceGetGpuInstanceById",
        "nvmlGpuInstanceGetComputeInstances",
        "nvmlComputeInstanceGetInfo_v2",
        "nvmlDeviceGetUUID",
    ] {
        let machine = Machine::new(A100);
        let nvml = machine.nvml();
        let gpu = uuid(&nvml);
        machine.refuse(call, 999);
        let error = nvml.create(&gpu, 19, ONE).unwrap_err();
        assert_eq!(error.code(), Some(Code::Unknown), "{call}: {error}");
        assert!(error.to_string().contains(call), "{error}");
        assert!(
            machine.host().state().unwrap().gpus[0].instances.is_empty(),
            "{call}"
        );
        // And the next attempt works.
        nvml.create(&gpu, 19, ONE).unwrap();
    }
}

#[test]
fn a_compute_instance_that_was_made_in_spite_of_an_error_is_cleaned_up_too() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    machine.fault("nvmlGpuInstanceCreateComputeInstance", 999, Effect::Perform);
    nvml.create(&gpu, 19, ONE).unwrap_err();
    assert!(machine.host().state().unwrap().gpus[0].instances.is_empty());
}

#[test]
fn when_cleaning_up_fails_as_well_the_error_says_what_remains() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    machine.refuse("nvmlGpuInstanceCreateComputeInstance", 23);
    machine.refuse("nvmlGpuInstanceDestroy", 19);
    let error = nvml.create(&gpu, 19, ONE).unwrap_err();
    let left = nvml.instances(&gpu).unwrap();
    assert_eq!(left.len(), 1);
    let Error::Remains {
        gi_id,
        source,
        cleanup,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(*gi_id, Some(left[0].gi_id));
    assert_eq!(source.code(), Some(Code::InsufficientResources));
    assert_eq!(cleanup.code(), Some(Code::InUse));
    assert_eq!(error.category(), "remains");
    nvml.destroy(&gpu, left[0].gi_id).unwrap();
}

#[test]
fn an_instance_that_vanishes_while_it_is_listed_is_left_out() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    create(&nvml, &gpu, "1g.5gb", 0);
    let stays = create(&nvml, &gpu, "1g.5gb", 1);
    // As if the first one listed had gone: handles of destroyed instances are invalid arguments.
    machine.refuse("nvmlGpuInstanceGetInfo", 2);
    let found = nvml.instances(&gpu).unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0] == stays || found[0].placement.start == 0);
    assert_eq!(nvml.instances(&gpu).unwrap().len(), 2);
}

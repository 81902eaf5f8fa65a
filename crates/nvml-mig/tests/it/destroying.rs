//! Destruction, and the ways in which drivers do it by halves.

use fake_nvml::control::{Effect, Fault, Process, ProcessKind};
use nvml_mig::{Code, DestroyError};

use crate::machine::{A100, Machine, create, uuid};

pub(crate) fn process(pid: u32, gi: u32) -> Process {
    Process {
        pid,
        gi: Some(gi),
        ci: Some(0),
        kind: ProcessKind::Compute,
        memory_mib: 100,
        name: "train".to_owned(),
    }
}

#[test]
fn an_instance_with_a_process_is_not_touched() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let made = create(&nvml, &gpu, "3g.20gb", 0);
    machine
        .host()
        .add_process(0, process(4711, made.gi_id))
        .unwrap();

    let error = nvml.destroy(&gpu, made.gi_id).unwrap_err();
    assert!(matches!(error, DestroyError::NothingDone { .. }), "{error}");
    assert_eq!(error.code(), Some(Code::InUse));
    assert_eq!(error.category(), "in_use");
    assert_eq!(nvml.instances(&gpu).unwrap(), std::slice::from_ref(&made));

    machine.host().remove_process(0, 4711).unwrap();
    nvml.destroy(&gpu, made.gi_id).unwrap();
}

#[test]
fn an_instance_may_lose_its_compute_instance_and_refuse_to_go() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let made = create(&nvml, &gpu, "3g.20gb", 0);
    machine
        .host()
        .inject(&Fault {
            repeat: 2,
            ..Fault::new("nvmlGpuInstanceDestroy", 19)
        })
        .unwrap();

    let error = nvml.destroy(&gpu, made.gi_id).unwrap_err();
    assert!(
        matches!(error, DestroyError::Halfway { left: 0, .. }),
        "{error}"
    );
    assert!(nvml.instances(&gpu).unwrap()[0].compute.is_empty());
    // Refused once more, still half-way.
    let error = nvml.destroy(&gpu, made.gi_id).unwrap_err();
    assert!(
        matches!(error, DestroyError::Halfway { left: 0, .. }),
        "{error}"
    );
    // It can be filled again and used.
    assert!(
        nvml.create_compute_instance(&gpu, made.gi_id)
            .unwrap()
            .device_uuid()
            .is_some()
    );
    nvml.destroy(&gpu, made.gi_id).unwrap();
}

#[test]
fn a_success_that_was_none_is_found_out() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let made = create(&nvml, &gpu, "3g.20gb", 0);
    machine.fault("nvmlGpuInstanceDestroy", 0, Effect::Pretend);
    let error = nvml.destroy(&gpu, made.gi_id).unwrap_err();
    assert!(matches!(error, DestroyError::StillThere { .. }), "{error}");
    assert_eq!(error.category(), "still_there");
    nvml.destroy(&gpu, made.gi_id).unwrap();
}

#[test]
fn a_compute_instance_that_only_seems_to_go_leaves_the_device_whole() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let made = create(&nvml, &gpu, "3g.20gb", 0);
    machine.fault("nvmlComputeInstanceDestroy", 0, Effect::Pretend);
    let error = nvml.destroy(&gpu, made.gi_id).unwrap_err();
    assert!(matches!(error, DestroyError::NothingDone { .. }), "{error}");
    assert_eq!(nvml.instances(&gpu).unwrap(), [made]);
}

#[test]
fn a_compute_instance_that_goes_with_an_error_does_not_count_as_untouched() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let made = create(&nvml, &gpu, "3g.20gb", 0);
    machine.fault("nvmlComputeInstanceDestroy", 999, Effect::Perform);
    let error = nvml.destroy(&gpu, made.gi_id).unwrap_err();
    assert!(
        matches!(error, DestroyError::Halfway { left: 0, .. }),
        "{error}"
    );
}

#[test]
fn an_instance_that_goes_with_an_error_is_gone() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let made = create(&nvml, &gpu, "3g.20gb", 0);
    machine.fault("nvmlGpuInstanceDestroy", 999, Effect::Perform);
    nvml.destroy(&gpu, made.gi_id).unwrap();
    assert!(nvml.instances(&gpu).unwrap().is_empty());
}

#[test]
fn an_instance_that_is_not_there_is_reported_as_absent() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let error = nvml.destroy(&uuid(&nvml), 9).unwrap_err();
    assert!(error.is_absent(), "{error}");
    assert!(
        nvml.destroy("GPU-elsewhere", 9)
            .is_err_and(|error| !error.is_absent())
    );
}

#[test]
fn a_gpu_that_is_lost_on_the_way_leaves_the_outcome_open() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let made = create(&nvml, &gpu, "3g.20gb", 0);
    machine.refuse("nvmlGpuInstanceDestroy", 15);
    // The first look finds the instance, the one after the destruction fails.
    let lost = Fault {
        nth: 2,
        ..Fault::new("nvmlDeviceGetGpuInstanceById", 15)
    };
    machine.host().inject(&lost).unwrap();
    let error = nvml.destroy(&gpu, made.gi_id).unwrap_err();
    assert!(matches!(error, DestroyError::Unseen { .. }), "{error}");
    assert_eq!(error.code(), Some(Code::GpuIsLost));
}

//! MIG mode, as Ampere and as Hopper switch it.

use nvml_mig::{Activation, Code, MigMode};

use crate::{
    destroying::process,
    machine::{Machine, create, uuid},
};

const BUSY: fake_nvml::control::Process = fake_nvml::control::Process {
    gi: None,
    ci: None,
    pid: 1,
    kind: fake_nvml::control::ProcessKind::Compute,
    memory_mib: 0,
    name: String::new(),
};

fn off(board: &str) -> Machine {
    Machine::new(&format!("[[gpu]]\nboard = \"{board}\"\n"))
}

#[test]
fn an_idle_gpu_switches_on_and_off() {
    for board in ["A100-SXM4-40GB", "A30", "H100-80GB-HBM3"] {
        let machine = off(board);
        let nvml = machine.nvml();
        let gpu = uuid(&nvml);
        assert_eq!(nvml.mig_mode(&gpu).unwrap(), MigMode::Off);
        assert!(nvml.instances(&gpu).unwrap().is_empty());
        assert_eq!(
            nvml.set_mig_mode(&gpu, true).unwrap(),
            Activation::Done,
            "{board}"
        );
        assert_eq!(nvml.mig_mode(&gpu).unwrap(), MigMode::On);
        assert_eq!(
            nvml.set_mig_mode(&gpu, true).unwrap(),
            Activation::Done,
            "{board}"
        );
        assert_eq!(
            nvml.set_mig_mode(&gpu, false).unwrap(),
            Activation::Done,
            "{board}"
        );
        assert_eq!(nvml.mig_mode(&gpu).unwrap(), MigMode::Off);
    }
}

#[test]
fn a_busy_ampere_waits_for_its_reset_and_says_what_to_do() {
    let machine = off("A100-SXM4-40GB");
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    machine.host().add_process(0, BUSY).unwrap();
    let Activation::Pending { reason } = nvml.set_mig_mode(&gpu, true).unwrap() else {
        panic!("a reset under a running program");
    };
    assert!(reason.contains("a program uses the GPU"), "{reason}");
    assert_eq!(nvml.mig_mode(&gpu).unwrap(), MigMode::PendingOn);
    assert!(nvml.instances(&gpu).unwrap().is_empty());
}

#[test]
fn an_ampere_that_cannot_be_reset_from_here_says_so() {
    let machine = Machine::new("[[gpu]]\nreset_works = false\n");
    let nvml = machine.nvml();
    let Activation::Pending { reason } = nvml.set_mig_mode(&uuid(&nvml), true).unwrap() else {
        panic!("there is no reset");
    };
    assert_eq!(reason, "reset the GPU or reboot the node");
    drop(nvml);
    machine.host().reboot().unwrap();
    let nvml = machine.nvml();
    assert_eq!(nvml.mig_mode(&uuid(&nvml)).unwrap(), MigMode::On);
}

#[test]
fn a_busy_hopper_refuses_and_stays_as_it_is() {
    let machine = off("H100-80GB-HBM3");
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    machine.host().add_process(0, BUSY).unwrap();
    let error = nvml.set_mig_mode(&gpu, true).unwrap_err();
    assert_eq!(error.code(), Some(Code::InUse));
    assert!(error.to_string().contains("stop all programs"), "{error}");
    assert_eq!(nvml.mig_mode(&gpu).unwrap(), MigMode::Off);
}

#[test]
fn a_gpu_with_a_running_instance_does_not_lose_it_to_a_mode_switch() {
    for board in ["A100-SXM4-40GB", "H100-80GB-HBM3"] {
        let machine = Machine::with_board(board);
        let nvml = machine.nvml();
        let gpu = uuid(&nvml);
        let profile = nvml.model(&gpu).unwrap().profiles[0].name.to_string();
        let made = create(&nvml, &gpu, &profile, 0);
        machine
            .host()
            .add_process(0, process(7, made.gi_id))
            .unwrap();
        assert!(
            !matches!(nvml.set_mig_mode(&gpu, false), Ok(Activation::Done)),
            "{board}"
        );
        assert!(nvml.mig_mode(&gpu).unwrap().is_on());
        assert_eq!(nvml.instances(&gpu).unwrap(), [made], "{board}");
    }
}

#[test]
fn a_gpu_without_mig_has_no_mode_no_instances_and_no_profiles() {
    let machine = off("T4");
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    assert!(!nvml.gpus()[0].mig_capable);
    assert_eq!(nvml.mig_mode(&gpu).unwrap(), MigMode::NotCapable);
    assert!(nvml.instances(&gpu).unwrap().is_empty());
    assert!(nvml.model(&gpu).unwrap().profiles.is_empty());
    assert_eq!(
        nvml.set_mig_mode(&gpu, true).unwrap_err().code(),
        Some(Code::NotSupported)
    );
}

#[test]
fn hopper_is_known_to_switch_without_reset() {
    for (board, resetless) in [
        ("A100-SXM4-40GB", false),
        ("A30", false),
        ("H100-80GB-HBM3", true),
    ] {
        let machine = off(board);
        assert_eq!(machine.nvml().gpus()[0].resetless_mig, resetless, "{board}");
    }
}

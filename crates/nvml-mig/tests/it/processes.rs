//! Who runs where.

use fake_nvml::control::{Process as Running, ProcessKind as Kind};
use nvml_mig::{Code, ProcessKind};

use crate::{
    destroying::process,
    machine::{A100, Machine, create, uuid},
};

#[test]
fn processes_of_all_kinds_are_found_with_their_instances() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    assert!(nvml.processes(&gpu).unwrap().is_empty());
    let made = create(&nvml, &gpu, "3g.20gb", 0);
    for (pid, kind) in [(1, Kind::Compute), (2, Kind::Mps), (3, Kind::Graphics)] {
        machine
            .host()
            .add_process(
                0,
                Running {
                    kind,
                    ..process(pid, made.gi_id)
                },
            )
            .unwrap();
    }
    let mut found = nvml.processes(&gpu).unwrap();
    found.sort_by_key(|process| process.pid);
    let kinds: Vec<_> = found
        .iter()
        .map(|process| (process.pid, process.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            (1, ProcessKind::Compute),
            (2, ProcessKind::Mps),
            (3, ProcessKind::Graphics)
        ]
    );
    assert!(
        found
            .iter()
            .all(|process| process.gi_id == Some(made.gi_id))
    );
    assert!(found.iter().all(|process| process.ci_id == Some(0)));
}

#[test]
fn a_process_on_a_whole_gpu_has_no_instance() {
    let machine = Machine::new("[[gpu]]\n[[process]]\npid = 9\n");
    let nvml = machine.nvml();
    let found = nvml.processes(&uuid(&nvml)).unwrap();
    assert_eq!(
        (found[0].pid, found[0].gi_id, found[0].ci_id),
        (9, None, None)
    );
}

#[test]
fn many_processes_are_all_listed() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let made = create(&nvml, &gpu, "7g.40gb", 0);
    for pid in 1..=50 {
        machine
            .host()
            .add_process(0, process(pid, made.gi_id))
            .unwrap();
    }
    assert_eq!(nvml.processes(&gpu).unwrap().len(), 50);
}

#[test]
fn a_list_that_grows_while_it_is_read_is_read_again() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let made = create(&nvml, &gpu, "7g.40gb", 0);
    machine
        .host()
        .add_process(0, process(1, made.gi_id))
        .unwrap();
    let call = "nvmlDeviceGetComputeRunningProcesses_v3";
    let grown = fake_nvml::control::Fault {
        nth: 2,
        ..fake_nvml::control::Fault::new(call, 7)
    };
    machine.host().inject(&grown).unwrap();
    assert_eq!(nvml.processes(&gpu).unwrap().len(), 1);
}

#[test]
fn a_list_that_cannot_be_read_is_never_taken_for_an_empty_one() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    for code in [3, 4, 15, 999] {
        machine.refuse("nvmlDeviceGetComputeRunningProcesses_v3", code);
        assert_eq!(
            nvml.processes(&gpu).unwrap_err().code(),
            Code::from_raw(code)
        );
    }
    machine.refuse("nvmlDeviceGetMPSComputeRunningProcesses_v3", 999);
    assert!(nvml.processes(&gpu).is_err());
    // A GPU that cannot do MPS or graphics has no such processes.
    machine.refuse("nvmlDeviceGetMPSComputeRunningProcesses_v3", 3);
    machine.refuse("nvmlDeviceGetGraphicsRunningProcesses_v3", 3);
    assert!(nvml.processes(&gpu).unwrap().is_empty());
}

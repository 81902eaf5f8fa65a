//! MIG mode of both kinds of architecture.

use super::Mode;
use crate::model::board::Board;
use crate::model::code::Code;
use crate::model::gpu::{Chip, Gpu, Process, ProcessKind};

const ON: Mode = Mode {
    current: true,
    pending: true,
};
const OFF: Mode = Mode {
    current: false,
    pending: false,
};

fn chip(board: &str) -> Chip {
    let board = Board::find(board).unwrap();
    Chip {
        board,
        grid: board.grid(7),
        reset_works: true,
    }
}

fn client() -> Process {
    Process {
        pid: 1,
        gi: None,
        ci: None,
        kind: ProcessKind::Compute,
        memory_mib: 0,
        name: String::new(),
    }
}

#[test]
fn ampere_changes_by_a_reset_which_clients_forbid() {
    let chip = chip("A100-SXM4-40GB");
    let mut gpu = Gpu::default();
    gpu.start_process(client()).unwrap();
    assert_eq!(gpu.set_mode(&chip, true, false), Err(Code::IN_USE));
    assert_eq!(
        gpu.mode,
        Mode {
            current: false,
            pending: true
        }
    );
    gpu.processes.clear();
    assert_eq!(
        gpu.set_mode(&chip, true, true),
        Err(Code::IN_USE),
        "another NVML session"
    );
    assert_eq!(gpu.set_mode(&chip, true, false), Ok(()));
    assert_eq!(gpu.mode, ON);
}

#[test]
fn a_pending_mode_is_taken_back_by_asking_for_the_current_one() {
    let chip = chip("A100-SXM4-40GB");
    let mut gpu = Gpu::default();
    gpu.set_mode(&chip, true, true).unwrap_err();
    assert_eq!(gpu.set_mode(&chip, false, true), Ok(()));
    assert_eq!(gpu.mode, OFF);
}

#[test]
fn ampere_takes_the_pending_mode_and_keeps_it_over_reboots() {
    let chip = chip("A30");
    let mut gpu = Gpu::default();
    gpu.set_mode(&chip, true, true).unwrap_err();
    gpu.reboot(&chip);
    assert_eq!(gpu.mode, ON);
    gpu.create_instance(&chip, 14, None, 1).unwrap();
    gpu.reboot(&chip);
    assert_eq!(gpu.mode, ON);
    assert!(gpu.instances.is_empty(), "instances never survive");
}

#[test]
fn ampere_without_a_reset_says_that_one_is_required() {
    let chip = Chip {
        reset_works: false,
        ..chip("A100-SXM4-40GB")
    };
    let mut gpu = Gpu::default();
    assert_eq!(gpu.set_mode(&chip, true, false), Err(Code::RESET_REQUIRED));
    assert_eq!(
        gpu.mode,
        Mode {
            current: false,
            pending: true
        }
    );
}

#[test]
fn hopper_changes_at_once_and_forgets_at_a_reboot() {
    let chip = chip("H100-80GB-HBM3");
    let mut gpu = Gpu::default();
    assert_eq!(
        gpu.set_mode(&chip, true, true),
        Ok(()),
        "other sessions do not matter"
    );
    assert_eq!(gpu.mode, ON);
    gpu.reboot(&chip);
    assert_eq!(gpu.mode, OFF);
}

#[test]
fn hopper_refuses_while_a_process_uses_the_gpu_and_keeps_nothing_pending() {
    let chip = chip("H200");
    let mut gpu = Gpu::default();
    gpu.start_process(client()).unwrap();
    assert_eq!(gpu.set_mode(&chip, true, false), Err(Code::IN_USE));
    assert_eq!(gpu.mode, OFF);
}

#[test]
fn mig_mode_is_not_turned_off_under_instances() {
    for (board, pending) in [("A100-SXM4-40GB", false), ("H100-80GB-HBM3", true)] {
        let chip = chip(board);
        let mut gpu = Gpu::default();
        gpu.set_mode(&chip, true, false).unwrap();
        gpu.create_instance(&chip, 19, None, 1).unwrap();
        assert_eq!(gpu.set_mode(&chip, false, false), Err(Code::IN_USE));
        assert_eq!(
            gpu.mode,
            Mode {
                current: true,
                pending
            }
        );
        assert_eq!(gpu.instances.len(), 1);
    }
}

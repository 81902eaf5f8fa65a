//! One GPU: what is refused, and properties of every layout that can come about.

use proptest::prelude::*;
use proptest::sample::Index;

use super::{Chip, Gpu, Process, ProcessKind};
use crate::model::board::{BOARDS, Board, Profile};
use crate::model::code::Code;
use crate::model::grid::Placement;
use crate::model::mode::Mode;

fn chip(board: &str, fused: u32) -> Chip {
    let board = Board::find(board).unwrap();
    Chip {
        board,
        grid: board.grid(fused),
        reset_works: true,
    }
}

fn in_mig_mode() -> Gpu {
    Gpu {
        mode: Mode {
            current: true,
            pending: true,
        },
        ..Gpu::default()
    }
}

fn create(gpu: &mut Gpu, chip: &Chip, profile: &str, start: Option<u32>) -> Result<u32, Code> {
    static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let profile = chip.board.by_name(profile).unwrap();
    let size = (chip.grid.slots >> profile.shape.level) * chip.grid.unit;
    let place = start.map(|start| Placement { start, size });
    gpu.create_instance(chip, profile.id, place, serial)
}

fn remaining(gpu: &Gpu, chip: &Chip, profile: &str) -> u32 {
    gpu.remaining(chip, chip.board.by_name(profile).unwrap())
}

fn process(gi: Option<u32>) -> Process {
    Process {
        pid: 9,
        gi,
        ci: gi.map(|_| 0),
        kind: ProcessKind::Compute,
        memory_mib: 0,
        name: String::new(),
    }
}

#[test]
fn an_occupied_place_is_no_room_and_an_impossible_one_is_a_wrong_argument() {
    let chip = chip("A100-SXM4-40GB", 7);
    let mut gpu = in_mig_mode();
    create(&mut gpu, &chip, "3g.20gb", Some(0)).unwrap();
    let refused = |gpu: &mut Gpu, profile, start| create(gpu, &chip, profile, Some(start));
    assert_eq!(
        refused(&mut gpu, "2g.10gb", 2),
        Err(Code::INSUFFICIENT_RESOURCES)
    );
    assert_eq!(refused(&mut gpu, "2g.10gb", 3), Err(Code::INVALID_ARGUMENT));
    assert_eq!(refused(&mut gpu, "4g.20gb", 4), Err(Code::INVALID_ARGUMENT));
    let odd = Some(Placement { start: 4, size: 3 });
    assert_eq!(
        gpu.create_instance(&chip, 9, odd, 7),
        Err(Code::INVALID_ARGUMENT)
    );
    assert_eq!(
        gpu.create_instance(&chip, 99, None, 7),
        Err(Code::INVALID_ARGUMENT)
    );
}

#[test]
fn nothing_is_created_while_mig_mode_is_off_or_unknown_to_the_gpu() {
    let mut off = Gpu::default();
    let refused = create(&mut off, &chip("A30", 7), "1g.6gb", None);
    assert_eq!(refused, Err(Code::NOT_SUPPORTED));
    let refused = in_mig_mode().create_instance(&chip("T4", 7), 19, None, 1);
    assert_eq!(refused, Err(Code::NOT_SUPPORTED));
}

#[test]
fn the_first_instance_needs_a_gpu_without_clients() {
    let chip = chip("H100-80GB-HBM3", 7);
    let mut gpu = in_mig_mode();
    gpu.start_process(process(None)).unwrap();
    assert_eq!(create(&mut gpu, &chip, "1g.10gb", None), Err(Code::IN_USE));
    gpu.processes.clear();
    create(&mut gpu, &chip, "1g.10gb", None).unwrap();
    assert_eq!(gpu.start_process(process(None)), Err(Code::NOT_FOUND));
}

#[test]
fn one_instance_has_the_media_extensions_and_takes_the_place_of_a_plain_one() {
    let chip = chip("H100-80GB-HBM3", 7);
    let mut gpu = in_mig_mode();
    assert_eq!(create(&mut gpu, &chip, "1g.10gb", None), Ok(13));
    assert_eq!(create(&mut gpu, &chip, "3g.40gb", Some(0)), Ok(1));
    assert_eq!(create(&mut gpu, &chip, "1g.10gb+me", None), Ok(11));
    let left = |profile| remaining(&gpu, &chip, profile);
    assert_eq!(left("1g.10gb"), 1);
    for none in [
        "1g.10gb+me",
        "1g.20gb",
        "2g.20gb",
        "3g.40gb",
        "4g.40gb",
        "7g.80gb",
    ] {
        assert_eq!(left(none), 0, "{none}");
    }
}

#[test]
fn both_media_profiles_of_an_a30_want_the_same_engine() {
    let chip = chip("A30", 7);
    let mut gpu = in_mig_mode();
    create(&mut gpu, &chip, "1g.6gb+me", None).unwrap();
    assert_eq!(remaining(&gpu, &chip, "2g.12gb"), 1);
    let refused = create(&mut gpu, &chip, "2g.12gb+me", None);
    assert_eq!(refused, Err(Code::INSUFFICIENT_RESOURCES));
}

#[test]
fn all_media_engines_at_once_leave_only_profiles_without() {
    let chip = chip("RTX-PRO-6000", 7);
    let mut gpu = in_mig_mode();
    create(&mut gpu, &chip, "1g.24gb+me.all", Some(3)).unwrap();
    assert_eq!(remaining(&gpu, &chip, "1g.24gb-me"), 3);
    assert_eq!(remaining(&gpu, &chip, "2g.48gb-me"), 1);
    for profile in chip
        .board
        .profiles
        .iter()
        .filter(|profile| !profile.name.ends_with("-me"))
    {
        assert_eq!(gpu.remaining(&chip, profile), 0, "{}", profile.name);
    }
}

#[test]
fn destroying_needs_the_inner_things_gone_first() {
    let chip = chip("A100-SXM4-40GB", 3);
    let mut gpu = in_mig_mode();
    let gi = create(&mut gpu, &chip, "3g.20gb", Some(0)).unwrap();
    let outer = gpu.instances[0].serial;
    gpu.create_compute(&chip, outer, 2, None, 1000).unwrap();
    gpu.start_process(process(Some(gi))).unwrap();
    assert_eq!(gpu.destroy_compute(1000), Err(Code::IN_USE));
    gpu.processes.clear();
    assert_eq!(gpu.destroy_instance(outer), Err(Code::IN_USE));
    gpu.destroy_compute(1000).unwrap();
    assert_eq!(gpu.destroy_compute(1000), Err(Code::INVALID_ARGUMENT));
    gpu.destroy_instance(outer).unwrap();
    assert_eq!(gpu.destroy_instance(outer), Err(Code::INVALID_ARGUMENT));
}

#[test]
fn compute_instances_fill_up_and_reuse_the_lowest_id() {
    let chip = chip("A100-SXM4-40GB", 7);
    let mut gpu = in_mig_mode();
    create(&mut gpu, &chip, "3g.20gb", None).unwrap();
    let outer = gpu.instances[0].serial;
    let make =
        |gpu: &mut Gpu, profile, serial| gpu.create_compute(&chip, outer, profile, None, serial);
    assert_eq!(make(&mut gpu, 0, 50), Ok(0));
    assert_eq!(make(&mut gpu, 2, 51), Err(Code::INSUFFICIENT_RESOURCES));
    assert_eq!(make(&mut gpu, 1, 51), Ok(1));
    assert_eq!(make(&mut gpu, 0, 52), Err(Code::INSUFFICIENT_RESOURCES));
    gpu.destroy_compute(50).unwrap();
    assert_eq!(make(&mut gpu, 0, 53), Ok(0));
    assert_eq!(make(&mut gpu, 4, 54), Err(Code::NOT_SUPPORTED));
    assert_eq!(make(&mut gpu, 9, 54), Err(Code::INVALID_ARGUMENT));
}

#[test]
fn a_lower_id_shifts_the_devices_that_follow() {
    let chip = chip("H100-80GB-HBM3", 7);
    let mut gpu = in_mig_mode();
    for (profile, start) in [("1g.10gb", 6), ("1g.10gb", 4), ("3g.40gb", 0)] {
        create(&mut gpu, &chip, profile, Some(start)).unwrap();
    }
    let serials: Vec<_> = gpu
        .instances
        .iter()
        .map(|instance| instance.serial)
        .collect();
    for (at, serial) in serials.into_iter().enumerate().skip(1) {
        gpu.create_compute(&chip, serial, 0, None, 100 + at as u64)
            .unwrap();
    }
    let order = |gpu: &Gpu| {
        gpu.devices()
            .map(|(instance, _)| instance.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        order(&gpu),
        [11, 13],
        "without a compute instance there is no device"
    );
    let first = gpu.instances[0].serial;
    gpu.create_compute(&chip, first, 2, None, 200).unwrap();
    assert_eq!(order(&gpu), [1, 11, 13]);
}

/// A step in the life of a GPU.
#[derive(Clone, Debug)]
enum Step {
    Anywhere(Index),
    At(Index, Index),
    Destroy(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<Index>().prop_map(Step::Anywhere),
        any::<(Index, Index)>().prop_map(|(profile, place)| Step::At(profile, place)),
        any::<Index>().prop_map(Step::Destroy),
    ]
}

fn some_chip() -> impl Strategy<Value = Chip> {
    let capable: Vec<_> = BOARDS.iter().filter(|board| board.mig_capable()).collect();
    (proptest::sample::select(capable), 0..8u32).prop_map(|(board, fused)| Chip {
        board,
        grid: board.grid(fused),
        reset_works: true,
    })
}

fn places(chip: &Chip, profile: &Profile) -> Vec<Placement> {
    chip.grid
        .candidates(profile.shape)
        .map(|id| chip.grid.placement(id))
        .collect()
}

fn take(gpu: &mut Gpu, chip: &Chip, step: &Step, serial: u64) -> Result<(), Code> {
    match step {
        Step::Anywhere(profile) => {
            let profile = profile.get(chip.board.profiles);
            gpu.create_instance(chip, profile.id, None, serial)
                .map(drop)
        }
        Step::At(profile, place) => {
            let profile = profile.get(chip.board.profiles);
            let place = *place.get(&places(chip, profile));
            gpu.create_instance(chip, profile.id, Some(place), serial)
                .map(drop)
        }
        Step::Destroy(_) if gpu.instances.is_empty() => Ok(()),
        Step::Destroy(which) => {
            let serial = which.get(&gpu.instances).serial;
            gpu.destroy_instance(serial)
        }
    }
}

/// Whether two instances share a memory slice, computed from what NVML shows.
fn overlapping(gpu: &Gpu, chip: &Chip) -> bool {
    let mut taken = [false; 16];
    gpu.instances.iter().any(|instance| {
        let Placement { start, size } = chip.grid.placement(instance.id);
        (start..start + size).any(|slice| std::mem::replace(&mut taken[slice as usize], true))
    })
}

proptest! {
    #[test]
    fn no_two_instances_ever_share_a_slice(
        chip in some_chip(),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut gpu = in_mig_mode();
        for (serial, step) in steps.iter().enumerate() {
            let before = gpu.clone();
            let done = take(&mut gpu, &chip, step, serial as u64);
            prop_assert!(!overlapping(&gpu, &chip));
            prop_assert!(gpu.instances.is_sorted_by_key(|instance| instance.id));
            if done.is_err() {
                prop_assert_eq!(&gpu, &before, "a refusal changes nothing");
            } else if !matches!(step, Step::Destroy(_)) {
                let mut others = gpu.clone();
                others.instances.retain(|instance| instance.serial != serial as u64);
                prop_assert_eq!(others, before, "a creation leaves the others alone");
            }
        }
    }

    #[test]
    fn capacity_is_the_number_of_creations_that_succeed(
        chip in some_chip(),
        steps in prop::collection::vec(step(), 0..20),
    ) {
        let mut gpu = in_mig_mode();
        for (serial, step) in steps.iter().enumerate() {
            let _ = take(&mut gpu, &chip, step, serial as u64);
        }
        for profile in chip.board.profiles {
            let promised = gpu.remaining(&chip, profile);
            let mut anywhere = gpu.clone();
            let made = (0..20)
                .take_while(|n| anywhere.create_instance(&chip, profile.id, None, 100 + n).is_ok());
            prop_assert_eq!(made.count(), promised as usize, "{}", profile.name);
            let mut placed = gpu.clone();
            let made = places(&chip, profile).into_iter().zip(100..).filter(|&(place, n)| {
                placed.create_instance(&chip, profile.id, Some(place), n).is_ok()
            });
            prop_assert_eq!(made.count(), promised as usize, "{} by place", profile.name);
        }
    }
}

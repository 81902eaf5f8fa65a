//! The whole life of instances, on every board.

use fake_nvml::model::board::BOARDS;
use mig::Placement;
use nvml_mig::{Code, Error, MigMode};

use crate::machine::{A100, Machine, create, profile, uuid};

#[test]
fn every_profile_of_every_board_lives_at_every_placement() {
    for board in BOARDS.iter().filter(|board| board.mig_capable()) {
        let machine = Machine::with_board(board.key);
        let nvml = machine.nvml();
        let gpu = uuid(&nvml);
        assert_eq!(nvml.mig_mode(&gpu).unwrap(), MigMode::On);
        let model = nvml.model(&gpu).unwrap();
        assert_eq!(model.profiles.len(), board.profiles.len(), "{}", board.key);
        for profile in &model.profiles {
            assert!(
                !profile.placements.is_empty(),
                "{} {}",
                board.key,
                profile.name
            );
            for placement in &profile.placements {
                let what = format!("{} {} at {placement}", board.key, profile.name);
                let made = nvml.create(&gpu, profile.id, *placement);
                let made = made.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(
                    (made.profile, made.placement),
                    (profile.name, *placement),
                    "{what}"
                );
                let device = made
                    .device_uuid()
                    .unwrap_or_else(|| panic!("{what}: {made:?}"));
                assert!(device.starts_with("MIG-"), "{what}");
                assert_eq!(
                    nvml.instances(&gpu).unwrap(),
                    std::slice::from_ref(&made),
                    "{what}"
                );
                nvml.destroy(&gpu, made.gi_id).unwrap();
                assert!(nvml.instances(&gpu).unwrap().is_empty(), "{what}");
            }
        }
    }
}

#[test]
fn on_hopper_an_instance_of_double_memory_gets_all_its_multiprocessors() {
    let machine = Machine::with_board("H100-80GB-HBM3");
    let nvml = machine.nvml();
    let made = create(&nvml, &uuid(&nvml), "1g.20gb", 6);
    // As the simulated driver sees it, not as we do.
    let state = machine.host().state().unwrap();
    let seen = &state.gpus[0].instances[0];
    assert_eq!((seen.profile, seen.start), ("1g.20gb", 6));
    assert!(seen.compute[0].full);
    assert_eq!(made.device_uuid(), Some(seen.compute[0].uuid.as_str()));
}

#[test]
fn instances_stand_where_they_were_asked_to_stand_on_flipped_boards_too() {
    for flipped in [false, true] {
        let machine = Machine::new(&format!("[[gpu]]\nmig = true\nflipped = {flipped}\n"));
        let nvml = machine.nvml();
        let gpu = uuid(&nvml);
        for (name, start) in [
            ("3g.20gb", 4),
            ("1g.5gb+me", 0),
            ("1g.5gb", 1),
            ("2g.10gb", 2),
        ] {
            let made = create(&nvml, &gpu, name, start);
            assert_eq!(
                (made.profile.to_string(), made.placement.start),
                (name.to_owned(), start)
            );
        }
        assert_eq!(nvml.instances(&gpu).unwrap().len(), 4);
    }
}

#[test]
fn a_full_row_of_small_instances_is_listed_completely() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    for start in 0..7 {
        create(&nvml, &gpu, "1g.5gb", start);
    }
    let found = nvml.instances(&gpu).unwrap();
    let mut starts: Vec<_> = found
        .iter()
        .map(|instance| instance.placement.start)
        .collect();
    starts.sort_unstable();
    assert_eq!(starts, [0, 1, 2, 3, 4, 5, 6]);
    assert!(found.is_sorted_by_key(|instance| instance.gi_id));
}

#[test]
fn what_another_program_makes_and_destroys_is_seen() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let gi_id = machine
        .host()
        .create_instance(0, "3g.20gb", Some(4))
        .unwrap();
    let found = nvml.instances(&gpu).unwrap();
    assert_eq!(found[0].gi_id, gi_id);
    assert_eq!(found[0].placement, Placement::new(4, 4));
    assert!(found[0].device_uuid().is_some());
    machine.host().destroy_instance(0, gi_id).unwrap();
    assert!(nvml.instances(&gpu).unwrap().is_empty());
}

#[test]
fn instances_outlive_the_library() {
    let machine = Machine::new(A100);
    let made = {
        let nvml = machine.nvml();
        create(&nvml, &uuid(&nvml), "2g.10gb", 0)
    };
    let nvml = machine.nvml();
    assert_eq!(nvml.instances(&uuid(&nvml)).unwrap(), [made]);
}

#[test]
fn an_occupied_place_is_a_typed_refusal_and_changes_nothing() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let first = create(&nvml, &gpu, "3g.20gb", 0);
    let error = nvml.create(&gpu, 19, Placement::new(1, 1)).unwrap_err();
    assert_eq!(error.code(), Some(Code::InsufficientResources));
    assert_eq!(error.category(), "insufficient_resources");
    assert!(error.to_string().contains(&gpu), "{error}");
    assert_eq!(nvml.instances(&gpu).unwrap(), [first]);
}

#[test]
fn an_impossible_place_and_an_unknown_profile_are_told_apart() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let three = profile(&nvml.model(&gpu).unwrap(), "3g.20gb");
    let error = nvml
        .create(&gpu, three.id, Placement::new(2, 4))
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument));
    let error = nvml.create(&gpu, 77, Placement::new(0, 1)).unwrap_err();
    assert!(
        matches!(error, Error::UnknownProfile { profile_id: 77, .. }),
        "{error}"
    );
    let error = nvml
        .create("GPU-elsewhere", 19, Placement::new(0, 1))
        .unwrap_err();
    assert!(matches!(error, Error::UnknownGpu { .. }), "{error}");
}

#[test]
fn the_same_place_may_bear_the_same_uuid_again() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let first = create(&nvml, &gpu, "1g.5gb", 3);
    nvml.destroy(&gpu, first.gi_id).unwrap();
    let second = create(&nvml, &gpu, "1g.5gb+me", 3);
    assert_eq!(first.device_uuid(), second.device_uuid());
    assert_ne!(first.profile, second.profile);
}

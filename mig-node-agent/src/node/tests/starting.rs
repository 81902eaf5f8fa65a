//! What is found at start, and what becomes of it.

use nvml_mig::{Activation, GpuInstance, MigMode};

use super::world::{World, info, instance, model};
use super::*;
use crate::journal::Change;

fn found(mode: MigMode, instances: Vec<GpuInstance>) -> Found {
    Found {
        info: info(0),
        model: (mode != MigMode::NotCapable).then(model),
        view: View { mode, instances },
    }
}

fn adopted(instances: Vec<GpuInstance>, recorded: &Recorded) -> World {
    let mut world = World::new(vec![found(MigMode::On, instances)], recorded);
    world.drain();
    world.pass(upkeep::WHOLE_PATIENCE);
    world.drain();
    world
}

fn begun(change: Change) -> Recorded {
    let mut recorded = Recorded::default();
    recorded.apply(&Record::Begin {
        op: 7,
        gpu: "GPU-0".into(),
        change,
    });
    recorded
}

fn states(world: &World) -> Vec<State> {
    world.instances().iter().map(api::Instance::state).collect()
}

#[test]
fn instances_that_exist_are_offered_at_once_after_a_restart_before_any_controller_comes() {
    let mut recorded = Recorded::default();
    let intent = crate::journal::Intent::default();
    recorded.apply(&Record::Intended { intent });
    let there = vec![instance("GPU-0", "3g.20gb", 4, true)];
    let mut world = World::new(vec![found(MigMode::On, there)], &recorded);
    world.drain();
    assert_eq!(states(&world), [State::Idle]);
    assert_eq!(world.hardware_changes, 0);
}

#[test]
fn instances_that_exist_are_offered_although_no_controller_ever_comes() {
    let world = adopted(
        vec![instance("GPU-0", "3g.20gb", 4, true)],
        &Recorded::default(),
    );
    assert_eq!(states(&world), [State::Idle]);
    assert_eq!(world.hardware_changes, 0);
}

#[test]
fn every_profile_and_fraction_of_the_node_is_registered_at_zero_devices() {
    let world = World::new(vec![found(MigMode::On, Vec::new())], &Recorded::default());
    let ensured: Vec<_> = world
        .pending
        .iter()
        .filter_map(|action| match action {
            Action::Ensure(resource) => Some(resource.as_str()),
            _ => None,
        })
        .collect();
    let classes = mig::fraction::Class::ALL;
    assert_eq!(ensured.len(), model().profiles.len() + classes.len() + 1);
    assert!(ensured.contains(&"cdmo.clear.ml/fraction-0.500"));
    assert!(ensured.contains(&"nvidia.com/mig-1g.5gb.me"));
    assert!(ensured.contains(&"nvidia.com/gpu"));
}

#[test]
fn an_instance_without_compute_instance_that_is_not_ours_is_left_alone() {
    let mut world = adopted(
        vec![instance("GPU-0", "3g.20gb", 4, false)],
        &Recorded::default(),
    );
    world.connect();
    world.pass(Duration::from_hours(1));
    world.drain();
    assert_eq!(states(&world), [State::Parked]);
    assert!(world.instances()[0].reason.contains("no compute instance"));
    assert_eq!(world.gpus[0].instances.len(), 1);
}

#[test]
fn an_instance_that_others_divided_is_never_given_up() {
    let mut divided = instance("GPU-0", "3g.20gb", 4, true);
    divided.compute[0].full = false;
    let mut world = adopted(vec![divided], &Recorded::default());
    world.connect();
    let parked = world.instances();
    let plan = world.plan(&[&parked[0]], &[]);
    world.input(Input::Plan(plan));
    assert_eq!(world.last().category, "foreign");
}

#[test]
fn a_creation_cut_short_between_its_two_halves_is_finished() {
    let recorded = begun(Change::Create {
        profile: "3g.20gb".into(),
        start: 4,
    });
    let world = adopted(vec![instance("GPU-0", "3g.20gb", 4, false)], &recorded);
    assert_eq!(states(&world), [State::Idle]);
}

#[test]
fn a_destruction_cut_short_is_undone_without_a_controller() {
    let bare = instance("GPU-0", "3g.20gb", 4, false);
    let recorded = begun(Change::Destroy {
        instance: bare.gi_id,
        profile: "3g.20gb".into(),
        start: 4,
    });
    let world = adopted(vec![bare], &recorded);
    assert_eq!(states(&world), [State::Idle]);
}

#[test]
fn half_done_changes_that_left_nothing_behind_are_struck_out() {
    let recorded = begun(Change::Create {
        profile: "3g.20gb".into(),
        start: 4,
    });
    let world = World::new(vec![found(MigMode::On, Vec::new())], &recorded);
    let end = Action::Note(Record::End { op: 7 });
    assert!(world.pending.contains(&end), "{:?}", world.pending);
}

#[test]
fn the_name_an_instance_was_offered_under_survives_a_restart() {
    let made = instance("GPU-0", "3g.20gb", 4, true);
    let mut recorded = Recorded::default();
    recorded.apply(&Record::Exposed {
        gpu: "GPU-0".into(),
        instance: made.gi_id,
        profile: "3g.20gb".into(),
        start: 4,
        resource: Some("cdmo.clear.ml/fraction-0.500".into()),
    });
    let world = adopted(vec![made], &recorded);
    assert_eq!(
        world.instances()[0].resource,
        "cdmo.clear.ml/fraction-0.500"
    );
}

#[test]
fn a_hold_on_a_uuid_that_came_back_for_another_profile_lends_it_no_name() {
    let mut recorded = Recorded::default();
    let made = instance("GPU-0", "1g.5gb", 4, true);
    recorded.apply(&Record::Grant {
        resource: "nvidia.com/mig-3g.20gb".into(),
        ids: vec![made.device_uuid().unwrap().to_owned()],
    });
    let world = adopted(vec![made], &recorded);
    assert_eq!(world.instances()[0].resource, "nvidia.com/mig-1g.5gb");
}

#[test]
fn mig_mode_is_turned_on_once_a_controller_has_named_the_pods() {
    let mut world = World::new(vec![found(MigMode::Off, Vec::new())], &Recorded::default());
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::Off);
    assert!(world.devices.is_empty(), "kept back: {:?}", world.devices);
    world.connect();
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::On);
    let gpu = &world.node.snapshot().gpus[0];
    assert_eq!((gpu.mig_mode(), &gpu.whole), (api::MigMode::On, &None));
}

#[test]
fn a_free_gpu_is_offered_whole_while_no_controller_comes_and_turned_on_when_one_does() {
    let mut world = World::new(vec![found(MigMode::Off, Vec::new())], &Recorded::default());
    world.drain();
    world.pass(upkeep::WHOLE_PATIENCE);
    world.drain();
    let whole = world.node.snapshot().gpus[0].whole.clone().unwrap();
    assert_eq!(
        (whole.state(), &*whole.resource),
        (State::Idle, "nvidia.com/gpu")
    );
    world.connect();
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::On);
    assert!(world.devices.is_empty());
}

#[test]
fn a_whole_gpu_is_offered_again_if_the_controller_goes_before_mig_mode_is_on() {
    let mut world = World::new(vec![found(MigMode::Off, Vec::new())], &Recorded::default());
    world.drain();
    world.pass(upkeep::WHOLE_PATIENCE);
    world.drain();
    world.connect();
    world.input(Input::SessionClosed);
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::Off);
    let whole = world.node.snapshot().gpus[0].whole.clone().unwrap();
    assert_eq!(whole.state(), State::Idle);
}

#[test]
fn a_gpu_that_a_pod_holds_whole_is_not_switched() {
    let mut recorded = Recorded::default();
    recorded.apply(&Record::Grant {
        resource: "nvidia.com/gpu".into(),
        ids: vec!["GPU-0".into()],
    });
    let mut world = World::new(vec![found(MigMode::Off, Vec::new())], &recorded);
    world.drain();
    world.grant("GPU-0");
    world.show_plugins();
    world.connect();
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::Off);
    let whole = world.node.snapshot().gpus[0].whole.clone().unwrap();
    assert_eq!(whole.state(), State::Held);
}

#[test]
fn a_mode_that_needs_a_reset_is_said_on_the_node() {
    let mut world = World::new(vec![found(MigMode::Off, Vec::new())], &Recorded::default());
    world.connect();
    while let Some(action) = world.pending.pop_front() {
        match action {
            Action::TurnOn { op, .. } => {
                let reason = "other processes use the GPU".into();
                let pending = Outcome::TurnedOn(Ok(Activation::Pending { reason }));
                world.input(Input::Done(op, pending));
            }
            action => world.perform(action, true),
        }
    }
    let snapshot = world.node.snapshot();
    assert_eq!(snapshot.gpus[0].mig_mode(), api::MigMode::PendingOn);
    assert!(
        snapshot.problems[0].contains("needs a reset"),
        "{:?}",
        snapshot.problems
    );
}

#[test]
fn a_gpu_without_mig_is_offered_whole_and_said_so() {
    let mut world = World::new(
        vec![found(MigMode::NotCapable, Vec::new())],
        &Recorded::default(),
    );
    world.drain();
    let snapshot = world.node.snapshot();
    assert_eq!(
        snapshot.gpus[0].whole.as_ref().unwrap().state(),
        State::Idle
    );
    assert!(snapshot.problems[0].contains("cannot do MIG"));
}

#[test]
fn a_node_without_gpus_says_so() {
    let world = World::new(Vec::new(), &Recorded::default());
    assert!(world.node.snapshot().problems[0].contains("no GPU"));
}

/// The journal says that a 3g.20gb at slice 4 is exposed so.
fn exposed(resource: &str) -> Recorded {
    let mut recorded = Recorded::default();
    recorded.apply(&Record::Exposed {
        gpu: "GPU-0".into(),
        instance: instance("GPU-0", "3g.20gb", 4, true).gi_id,
        profile: "3g.20gb".into(),
        start: 4,
        resource: Some(resource.into()),
    });
    recorded
}

const HALF: &str = "cdmo.clear.ml/fraction-0.500";

#[test]
fn an_idle_instance_keeps_the_name_that_it_was_exposed_under() {
    let three = || vec![instance("GPU-0", "3g.20gb", 4, true)];
    let world = adopted(three(), &exposed(HALF));
    assert_eq!(states(&world), [State::Idle]);
    assert_eq!(world.instances()[0].resource, HALF);
    // Another instance in its place is another instance.
    let four = vec![instance("GPU-0", "4g.20gb", 0, true)];
    let world = adopted(four, &exposed(HALF));
    assert_eq!(world.instances()[0].resource, "nvidia.com/mig-4g.20gb");
}

#[test]
fn an_instance_that_a_pod_has_as_a_fraction_is_taken_over_as_that_fraction() {
    let mut world = adopted(
        vec![instance("GPU-0", "3g.20gb", 4, true)],
        &Recorded::default(),
    );
    assert_eq!(world.instances()[0].resource, "nvidia.com/mig-3g.20gb");
    let id = world.instances()[0].device_id.clone();
    for (resource, expected) in [
        // No fraction that it could be: the pod has what was there before.
        ("cdmo.clear.ml/fraction-1.000", "nvidia.com/mig-3g.20gb"),
        (HALF, HALF),
    ] {
        let key = (resource.to_owned(), id.clone());
        let held = world::Listed {
            phase: device_plugin::DevicePhase::Lost,
            held: true,
        };
        world.devices.insert(key.clone(), held);
        world.show_plugins();
        assert_eq!(states(&world), [State::Held]);
        assert_eq!(world.instances()[0].resource, expected);
        world.devices.remove(&key);
    }
    let noted = world
        .pending
        .iter()
        .any(|action| matches!(action, Action::Note(Record::Exposed { resource, .. }) if resource.as_deref() == Some(HALF)));
    assert!(noted, "{:?}", world.pending);
    world.drain();
    assert_eq!(states(&world), [State::Idle]);
    assert_eq!(world.instances()[0].resource, HALF);
    assert_eq!(world.hardware_changes, 0);
}

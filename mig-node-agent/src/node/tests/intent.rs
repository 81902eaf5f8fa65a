//! What the controller means to do with the node, and life beside another plugin.

use nvml_mig::{GpuInstance, MigMode};

use super::world::{World, info, instance, model};
use super::*;
use crate::journal::Intent;

fn one(mode: MigMode, recorded: &Recorded) -> World {
    let found = Found {
        info: info(0),
        model: Some(model()),
        view: View {
            mode,
            instances: Vec::new(),
        },
    };
    World::new(vec![found], recorded)
}

fn give_back(world: &mut World) {
    world.intend(|intent| (intent.give_back, intent.turn_mig_on) = (true, false));
    world.drain();
}

fn whole(world: &World) -> api::Instance {
    world.node.snapshot().gpus[0].whole.clone().unwrap()
}

#[test]
fn an_idle_device_of_a_gpu_left_alone_is_taken_off_and_comes_back_untouched() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let changes = world.hardware_changes;
    world.intend(|intent| intent.leave_alone = vec!["0".into()]);
    world.drain();
    assert!(world.devices.is_empty(), "{:?}", world.devices);
    let parked = world.instances();
    assert_eq!(
        (parked[0].state(), &*parked[0].resource),
        (State::Parked, "")
    );
    assert!(parked[0].reason.contains("leave-alone"));
    assert!(world.node.snapshot().gpus[0].left_alone);
    world.intend(|intent| intent.leave_alone.clear());
    world.drain();
    assert_eq!(world.instances()[0].state(), State::Idle);
    assert_eq!(world.hardware_changes, changes);
}

#[test]
fn a_device_that_a_pod_holds_is_taken_off_once_the_pod_is_gone() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let id = world.instances()[0].device_id.clone();
    world.grant(&id);
    world.show_plugins();
    world.intend(|intent| intent.leave_alone = vec!["GPU-0".into()]);
    world.drain();
    assert_eq!(world.instances()[0].state(), State::Held);
    for listed in world.devices.values_mut() {
        listed.held = false;
    }
    world.show_plugins();
    world.drain();
    assert_eq!(world.instances()[0].state(), State::Parked);
}

#[test]
fn no_plan_touches_a_gpu_left_alone_and_a_name_without_gpu_is_told() {
    let mut world = World::connected(1);
    world.intend(|intent| intent.leave_alone = vec!["0".into(), "GPU-7".into()]);
    world.drain();
    let plan = world.plan(&[], &[("1g.5gb", 0)]);
    world.input(Input::Plan(plan));
    assert_eq!(world.last().category, "left_alone");
    let problems = world.node.snapshot().problems;
    assert!(problems[0].contains("\"GPU-7\""), "{problems:?}");
    assert!(!problems[0].contains("\"0\""), "{problems:?}");
}

#[test]
fn a_gpu_whose_mode_is_not_to_be_touched_is_offered_whole() {
    let mut world = one(MigMode::Off, &Recorded::default());
    world.input(Input::SessionOpened);
    world.input(Input::Pods(1));
    world.intend(|intent| intent.turn_mig_on = false);
    world.drain();
    assert_eq!(whole(&world).state(), State::Idle);
    assert_eq!(world.gpus[0].mode, MigMode::Off);
}

#[test]
fn a_mode_that_the_agent_turned_on_is_turned_off_again_and_the_gpu_is_not_offered() {
    let mut world = one(MigMode::Off, &Recorded::default());
    world.connect();
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::On);
    give_back(&mut world);
    assert_eq!(world.gpus[0].mode, MigMode::Off);
    assert!(world.devices.is_empty(), "{:?}", world.devices);
    assert!(world.stood_down);
    assert_eq!(whole(&world).state(), State::Parked);
    // And round again.
    world.intend(|intent| (intent.give_back, intent.turn_mig_on) = (false, true));
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::On);
    assert!(!world.stood_down);
}

#[test]
fn a_mode_that_was_on_before_stays_on() {
    let mut world = one(MigMode::On, &Recorded::default());
    world.connect();
    world.drain();
    give_back(&mut world);
    assert_eq!(world.gpus[0].mode, MigMode::On);
    assert!(world.stood_down);
}

#[test]
fn a_mode_that_was_being_turned_on_when_the_agent_died_was_turned_on_by_it() {
    let mut recorded = Recorded::default();
    recorded.apply(&Record::Begin {
        op: 3,
        gpu: "GPU-0".into(),
        change: crate::journal::Change::TurnOn,
    });
    let mut world = one(MigMode::On, &recorded);
    world.connect();
    world.drain();
    give_back(&mut world);
    assert_eq!(world.gpus[0].mode, MigMode::Off);
}

#[test]
fn nothing_is_given_back_while_an_instance_stands_or_a_pod_holds_one() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    give_back(&mut world);
    assert!(!world.stood_down && !world.node.snapshot().given_back);
    assert_eq!(
        world.instances()[0].state(),
        State::Idle,
        "that takes a plan"
    );
    let idle = world.instances();
    let plan = world.plan(&[&idle[0]], &[]);
    world.input(Input::Plan(plan));
    world.drain();
    world.commit();
    world.drain();
    assert_eq!(world.last().stage(), Stage::Done, "{:?}", world.last());
    assert!(world.stood_down);
}

#[test]
fn what_was_meant_is_kept_to_after_a_restart_before_any_controller_comes() {
    let mut recorded = Recorded::default();
    let intent = Intent {
        give_back: true,
        ..Intent::default()
    };
    recorded.apply(&Record::Intended { intent });
    let mut world = one(MigMode::Off, &recorded);
    world.drain();
    world.pass(upkeep::WHOLE_PATIENCE);
    world.drain();
    assert!(world.devices.is_empty(), "{:?}", world.devices);
}

#[test]
fn beside_another_plugin_nothing_is_changed_and_the_node_says_so() {
    let mut world = one(MigMode::Off, &Recorded::default());
    world.rivals = vec!["nvidia-gpu.sock".into()];
    world.show_plugins();
    world.connect();
    world.drain();
    world.pass(upkeep::WHOLE_PATIENCE);
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::Off);
    let plan = world.plan(&[], &[]);
    world.input(Input::Plan(plan));
    assert_eq!(world.last().category, "other_plugin");
    let problems = world.node.snapshot().problems;
    assert!(problems[0].contains("nvidia-gpu.sock"), "{problems:?}");
    world.rivals.clear();
    world.show_plugins();
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::On, "at once");
}

fn fresh(instances: Vec<GpuInstance>, recorded: &Recorded) -> World {
    let found = Found {
        info: info(0),
        model: Some(model()),
        view: View {
            mode: MigMode::On,
            instances,
        },
    };
    World::new(vec![found], recorded)
}

fn turned_on_by_us() -> Recorded {
    let mut recorded = Recorded::default();
    recorded.apply(&Record::TurnedOn {
        gpu: "GPU-0".into(),
    });
    recorded
}

#[test]
fn a_gpu_left_alone_from_the_first_is_never_offered() {
    let mut world = fresh(
        vec![instance("GPU-0", "3g.20gb", 4, true)],
        &Recorded::default(),
    );
    world.drain();
    assert!(world.devices.is_empty(), "{:?}", world.devices);
    world.input(Input::SessionOpened);
    world.intend(|intent| intent.leave_alone = vec!["0".into()]);
    world.drain();
    world.pass(upkeep::WHOLE_PATIENCE);
    world.drain();
    assert!(world.devices.is_empty(), "{:?}", world.devices);
}

#[test]
fn the_first_intent_has_everything_offered_at_once() {
    let mut world = fresh(
        vec![instance("GPU-0", "3g.20gb", 4, true)],
        &Recorded::default(),
    );
    world.connect();
    world.drain();
    assert_eq!(world.instances()[0].state(), State::Idle);
}

#[test]
fn a_gpu_waits_for_its_mode_while_somebody_works_on_the_driver() {
    let mut world = one(MigMode::Off, &Recorded::default());
    world.intent.paused = true;
    world.connect();
    world.drain();
    world.pass(2 * upkeep::WHOLE_PATIENCE);
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::Off);
    assert!(world.devices.is_empty(), "{:?}", world.devices);
    world.intend(|intent| intent.paused = false);
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::On);
}

#[test]
fn a_paused_node_without_a_controller_offers_what_it_has() {
    let mut recorded = Recorded::default();
    let intent = Intent {
        turn_mig_on: true,
        paused: true,
        ..Intent::default()
    };
    recorded.apply(&Record::Intended { intent });
    let mut world = one(MigMode::Off, &recorded);
    world.drain();
    world.pass(upkeep::WHOLE_PATIENCE);
    world.drain();
    assert_eq!(whole(&world).state(), State::Idle);
}

#[test]
fn another_plugin_that_comes_early_gets_the_node_as_it_is() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let changes = world.hardware_changes;
    world.intend(|intent| (intent.give_back, intent.turn_mig_on) = (true, false));
    world.rivals = vec!["nvidia-gpu.sock".into()];
    world.show_plugins();
    world.drain();
    assert!(world.stood_down);
    assert_eq!(world.hardware_changes, changes);
    assert_eq!(world.gpus[0].mode, MigMode::On);
    assert_eq!(world.node.snapshot().problems, [""; 0]);
}

#[test]
fn another_plugin_is_told_of_while_a_pod_keeps_the_node_from_going_back() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let id = world.instances()[0].device_id.clone();
    world.grant(&id);
    world.rivals = vec!["nvidia-gpu.sock".into()];
    give_back(&mut world);
    assert!(!world.stood_down);
    let problems = world.node.snapshot().problems;
    assert!(problems[0].contains("nvidia-gpu.sock"), "{problems:?}");
    for listed in world.devices.values_mut() {
        listed.held = false;
    }
    world.show_plugins();
    world.drain();
    assert!(world.stood_down);
}

#[test]
fn instances_that_nobody_may_give_up_are_given_back_with_their_mode() {
    let mut divided = instance("GPU-0", "3g.20gb", 4, true);
    divided.compute[0].full = false;
    let mut unknown = instance("GPU-0", "3g.20gb", 4, true);
    unknown.profile = "3g.99gb".parse().unwrap();
    for found in [divided, unknown] {
        let mut world = fresh(vec![found], &turned_on_by_us());
        world.connect();
        world.drain();
        give_back(&mut world);
        assert!(world.devices.is_empty(), "{:?}", world.devices);
        assert!(world.stood_down, "{:?}", world.node);
        assert_eq!(world.gpus[0].mode, MigMode::On);
        assert_eq!(world.gpus[0].instances.len(), 1);
        let problems = world.node.snapshot().problems;
        assert!(
            problems[0].contains("given back in MIG mode"),
            "{problems:?}"
        );
    }
}

#[test]
fn a_mode_that_others_turned_off_is_not_ours_any_more() {
    let mut world = fresh(Vec::new(), &turned_on_by_us());
    world.connect();
    world.intend(|intent| intent.turn_mig_on = false);
    world.drain();
    world.gpus[0].mode = MigMode::Off;
    world.pass(upkeep::READ_EVERY);
    world.drain();
    world.gpus[0].mode = MigMode::On;
    world.pass(upkeep::READ_EVERY);
    world.drain();
    give_back(&mut world);
    assert!(world.stood_down);
    assert_eq!(world.gpus[0].mode, MigMode::On);
}

#[test]
fn a_mode_is_not_turned_off_once_the_controller_is_gone() {
    let mut world = fresh(Vec::new(), &turned_on_by_us());
    world.connect();
    world.drain();
    world.intend(|intent| (intent.give_back, intent.turn_mig_on) = (true, false));
    let proves = |action: &Action| matches!(action, Action::ProveFree { .. });
    assert!(world.pending.iter().any(proves), "{:?}", world.pending);
    world.input(Input::SessionClosed);
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::On);
    world.connect();
    give_back(&mut world);
    world.drain();
    assert_eq!(world.gpus[0].mode, MigMode::Off);
}

#[test]
fn a_plan_gives_way_to_a_gpu_that_is_to_be_left_alone() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let changes = world.hardware_changes;
    let idle = world.instances();
    let plan = world.plan(&[&idle[0]], &[]);
    world.input(Input::Plan(plan));
    world.drain();
    assert_eq!(world.last().stage(), Stage::Withdrawn);
    world.intend(|intent| intent.leave_alone = vec!["0".into()]);
    world.drain();
    assert_eq!(world.last().stage(), Stage::Failed);
    assert_eq!(world.last().category, "left_alone");
    assert_eq!(world.instances()[0].state(), State::Parked);
    assert_eq!(world.hardware_changes, changes);
}

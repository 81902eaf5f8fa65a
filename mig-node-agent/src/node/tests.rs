//! The state machine, asked directly.

mod intent;
mod promises;
mod starting;
mod world;

use cdmo_proto::agent as api;
use cdmo_proto::agent::instance::State;
use cdmo_proto::agent::plan_progress::Stage;

use super::*;
use world::World;

fn reference(instance: &api::Instance) -> api::InstanceRef {
    api::InstanceRef {
        gpu_instance_id: instance.gpu_instance_id,
        profile: instance.profile.clone(),
        start: instance.start,
    }
}

fn create(profile: &str, start: u32) -> api::Create {
    api::Create {
        profile: profile.into(),
        start,
        resource: String::new(),
    }
}

impl World {
    /// A plan for GPU 0 as it is now.
    fn plan(&self, give_up: &[&api::Instance], create: &[(&str, u32)]) -> api::Plan {
        let gpu = &self.node.snapshot().gpus[0];
        api::Plan {
            id: format!("p{}", self.reports.len()),
            gpus: vec![api::GpuPlan {
                gpu_uuid: gpu.uuid.clone(),
                state_version: gpu.state_version,
                give_up: give_up.iter().map(|instance| reference(instance)).collect(),
                create: create
                    .iter()
                    .map(|(p, start)| self::create(p, *start))
                    .collect(),
                expose: Vec::new(),
            }],
        }
    }

    fn instances(&self) -> Vec<api::Instance> {
        self.node.snapshot().gpus[0].instances.clone()
    }

    fn last(&self) -> &api::PlanProgress {
        self.reports.last().unwrap()
    }

    fn made(profiles: &[(&str, u32)]) -> Self {
        let mut world = Self::connected(1);
        let plan = world.plan(&[], profiles);
        world.input(Input::Plan(plan));
        world.drain();
        assert_eq!(world.last().stage(), Stage::Done, "{:?}", world.last());
        world
    }
}

#[test]
fn instances_are_made_offered_and_reported() {
    let world = World::made(&[("3g.20gb", 4), ("1g.5gb", 0)]);
    assert_eq!(world.last().made.len(), 2);
    let states: Vec<_> = world.instances().iter().map(api::Instance::state).collect();
    assert_eq!(states, [State::Idle, State::Idle]);
}

#[test]
fn a_plan_made_from_an_older_state_is_refused_as_stale() {
    let mut world = World::connected(1);
    let plan = world.plan(&[], &[("1g.5gb", 0)]);
    world.input(Input::Plan(plan.clone()));
    world.drain();
    world.input(Input::Plan(plan));
    assert_eq!(
        (world.last().stage(), &*world.last().category),
        (Stage::Refused, "stale")
    );
}

#[test]
fn what_cannot_be_made_is_refused_with_the_reason() {
    let mut world = World::connected(1);
    let cases = [
        (("1g.10gb+nonsense", 0), "no_such_profile"),
        (("4g.24gb", 0), "no_such_profile"),
        (("3g.20gb", 2), "bad_placement"),
    ];
    for ((profile, start), category) in cases {
        let plan = world.plan(&[], &[(profile, start)]);
        world.input(Input::Plan(plan));
        assert_eq!(world.last().category, category);
        assert!(
            world.last().message.contains(profile),
            "{}",
            world.last().message
        );
    }
    let plan = world.plan(&[], &[("3g.20gb", 0), ("1g.5gb", 3)]);
    world.input(Input::Plan(plan));
    assert_eq!(world.last().category, "bad_placement");
    assert!(world.pending.is_empty());
}

#[test]
fn giving_up_waits_for_the_commit_and_makes_afterwards() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let idle = world.instances();
    let plan = world.plan(&[&idle[0]], &[("1g.5gb", 0)]);
    world.input(Input::Plan(plan));
    world.drain();
    assert_eq!(world.last().stage(), Stage::Withdrawn);
    assert_eq!(world.instances()[0].state(), State::Withdrawing);
    world.commit();
    world.drain();
    assert_eq!(world.last().stage(), Stage::Done);
    let profiles: Vec<_> = world
        .instances()
        .iter()
        .map(|i| i.profile.clone())
        .collect();
    assert_eq!(profiles, ["1g.5gb"]);
}

#[test]
fn an_abort_offers_everything_again_and_makes_nothing() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let idle = world.instances();
    let plan = world.plan(&[&idle[0]], &[("1g.5gb", 0)]);
    world.input(Input::Plan(plan));
    world.drain();
    world.input(Input::Abort(api::Abort {
        plan_id: world.last().plan_id.clone(),
    }));
    world.drain();
    assert_eq!(world.last().stage(), Stage::Aborted);
    assert_eq!(world.instances()[0].state(), State::Idle);
    assert_eq!(world.instances()[0].profile, "3g.20gb");
}

#[test]
fn a_device_that_a_pod_takes_while_it_is_withdrawn_is_kept() {
    let mut world = World::made(&[("3g.20gb", 0), ("3g.20gb", 4)]);
    let idle = world.instances();
    let plan = world.plan(&[&idle[0], &idle[1]], &[("7g.40gb", 0)]);
    world.input(Input::Plan(plan));
    world.grant(&idle[1].device_id);
    world.drain();
    if world.last().stage() == Stage::Withdrawn {
        world.commit();
        world.drain();
    }
    assert_eq!(
        (world.last().stage(), &*world.last().category),
        (Stage::Failed, "held")
    );
    let states: Vec<_> = world.instances().iter().map(api::Instance::state).collect();
    assert!(states.contains(&State::Held), "{states:?}");
    assert!(
        states.contains(&State::Idle),
        "the other one is offered again: {states:?}"
    );
}

#[test]
fn a_held_instance_is_not_even_withdrawn() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let idle = world.instances();
    world.grant(&idle[0].device_id);
    world.show_plugins();
    let plan = world.plan(&[&idle[0]], &[]);
    world.input(Input::Plan(plan));
    assert_eq!(
        (world.last().stage(), &*world.last().category),
        (Stage::Refused, "held")
    );
}

#[test]
fn nothing_is_destroyed_once_the_controller_is_gone() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let idle = world.instances();
    let plan = world.plan(&[&idle[0]], &[]);
    world.input(Input::Plan(plan));
    world.drain();
    world.commit();
    world.input(Input::SessionClosed);
    world.drain();
    assert_eq!(world.last().category, "session_lost");
    assert_eq!(world.instances()[0].state(), State::Idle);
}

#[test]
fn a_withdrawn_plan_that_nobody_commits_is_given_up() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let idle = world.instances();
    let plan = world.plan(&[&idle[0]], &[]);
    world.input(Input::Plan(plan));
    world.drain();
    world.pass(COMMIT_PATIENCE);
    world.drain();
    assert_eq!(world.last().category, "commit_timeout");
    assert_eq!(world.instances()[0].state(), State::Idle);
}

#[test]
fn an_instance_that_the_driver_will_not_destroy_is_made_whole_and_offered_again() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let idle = world.instances();
    let plan = world.plan(&[&idle[0]], &[("1g.5gb", 0)]);
    world.input(Input::Plan(plan));
    world.drain();
    world.bare_after_destroy = true;
    world.commit();
    for _ in 0..8 {
        world.drain();
        world.pass(Duration::from_secs(5));
    }
    assert_eq!(
        (world.last().stage(), &*world.last().category),
        (Stage::Failed, "in_use")
    );
    assert_eq!(world.instances()[0].state(), State::Idle);
    assert_eq!(world.instances()[0].profile, "3g.20gb");
}

#[test]
fn an_idle_device_moves_to_another_name_without_touching_the_hardware() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let idle = world.instances();
    let mut plan = world.plan(&[], &[]);
    plan.gpus[0].expose.push(api::Expose {
        instance: Some(reference(&idle[0])),
        resource: "cdmo.clear.ml/fraction-0.500".into(),
    });
    let changes = world.hardware_changes;
    world.input(Input::Plan(plan));
    world.drain();
    world.commit();
    world.drain();
    assert_eq!(world.last().stage(), Stage::Done);
    assert_eq!(
        world.instances()[0].resource,
        "cdmo.clear.ml/fraction-0.500"
    );
    assert_eq!(world.instances()[0].state(), State::Idle);
    assert_eq!(world.hardware_changes, changes);
}

#[test]
fn a_name_that_says_something_else_cannot_be_taken_over() {
    let mut world = World::connected(1);
    let mut plan = world.plan(&[], &[("3g.20gb", 0)]);
    for name in [
        "intel.com/gpu",
        "nvidia.com/gpu",
        "nvidia.com/mig-1g.5gb",
        "cdmo.clear.ml/fraction-1.000",
        "cdmo.clear.ml/fraction-0.5",
        "cdmo.clear.ml/gpu-partitioning",
    ] {
        plan.gpus[0].create[0].resource = name.into();
        world.input(Input::Plan(plan.clone()));
        assert_eq!(world.last().category, "bad_resource");
        assert!(world.last().message.contains(name), "{:?}", world.last());
    }
}

#[test]
fn a_device_is_exposed_only_as_what_it_is() {
    let mut world = World::made(&[("4g.20gb", 0)]);
    let idle = world.instances();
    let mut plan = world.plan(&[], &[]);
    plan.gpus[0].expose.push(api::Expose {
        instance: Some(reference(&idle[0])),
        resource: "cdmo.clear.ml/fraction-0.500".into(),
    });
    world.input(Input::Plan(plan));
    assert_eq!(
        (world.last().stage(), &*world.last().category),
        (Stage::Refused, "bad_resource")
    );
    assert_eq!(world.instances()[0].state(), State::Idle);
}

#[test]
fn a_stuck_call_makes_the_gpu_unhealthy_until_it_returns() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let plan = world.plan(&[], &[("3g.20gb", 4)]);
    world.input(Input::Plan(plan));
    let op = world.pending_op(|action| matches!(action, Action::Create { .. }));
    world.input(Input::Late(op));
    assert_eq!(
        (world.last().stage(), &*world.last().category),
        (Stage::Failed, "driver_stuck")
    );
    assert_eq!(world.instances()[0].state(), State::Unhealthy);
    assert!(world.node.snapshot().problems[0].contains("GPU 0"));
    world.drain();
    let states: Vec<_> = world.instances().iter().map(api::Instance::state).collect();
    assert_eq!(
        states,
        [State::Idle, State::Idle],
        "what was made late is adopted"
    );
    assert!(world.node.snapshot().problems.is_empty());
}

#[test]
fn a_destroy_that_fails_after_its_plan_was_given_up_leaves_the_device_offered() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    let idle = world.instances();
    let plan = world.plan(&[&idle[0]], &[]);
    world.input(Input::Plan(plan));
    world.drain();
    world.commit();
    while !matches!(world.pending.front(), Some(Action::Destroy { .. })) {
        let action = world.pending.pop_front().unwrap();
        world.perform(action, true);
    }
    let op = world.pending_op(|action| matches!(action, Action::Destroy { .. }));
    world.input(Input::Late(op));
    assert_eq!(world.last().category, "driver_stuck");
    let failure = Failure::new("in_use", "It is in use.");
    world.pending.clear();
    let outcome = Outcome::Destroyed(Err((Remains::Whole, failure)));
    world.input(Input::Done(op, outcome));
    world.drain();
    assert_eq!(world.instances()[0].state(), State::Idle);
}

#[test]
fn a_fault_of_an_instance_takes_only_that_one_out_of_service() {
    let mut world = World::made(&[("3g.20gb", 0), ("3g.20gb", 4)]);
    let made = world.instances();
    let gpu = world.node.snapshot().gpus[0].uuid.clone();
    world.input(Input::Fault {
        gpu,
        instance: Some(made[0].gpu_instance_id),
        reason: "XID 94".into(),
    });
    world.drain();
    let states: Vec<_> = world.instances().iter().map(api::Instance::state).collect();
    assert_eq!(states, [State::Unhealthy, State::Idle]);
    assert_eq!(world.instances()[0].reason, "XID 94");
}

#[test]
fn an_answer_about_a_lost_instance_says_nothing_of_the_one_in_its_place() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    // Somebody else cut the same place anew while the kubelet was slow to take the old one.
    world.pass(upkeep::READ_EVERY);
    let op = match world.pending.pop_front() {
        Some(Action::Read { op, .. }) => op,
        other => panic!("{other:?} instead of a look"),
    };
    world.gpus[0].instances[0].compute[0].uuid = "MIG-new".into();
    let view = View {
        mode: MigMode::On,
        instances: world.gpus[0].instances.clone(),
    };
    world.input(Input::Done(op, Outcome::Read(Ok(view))));
    while !matches!(world.pending.front(), Some(Action::Offer { .. })) {
        let action = world.pending.pop_front().unwrap();
        world.perform(action, true);
    }
    let Some(Action::Offer { op: slow, .. }) = world.pending.pop_front() else {
        panic!("not offered");
    };
    world.pass(upkeep::READ_EVERY);
    world.gpus[0].instances[0].compute[0].uuid = "MIG-newer".into();
    world.drain();
    let unconfirmed = Failure::new("void", "It was taken back meanwhile.");
    world.input(Input::Done(slow, Outcome::Offered(Err(unconfirmed))));
    world.drain();
    assert_eq!(world.instances()[0].state(), State::Idle);
    assert_eq!(world.instances()[0].device_id, "MIG-newer");
}

#[test]
fn an_instance_that_somebody_else_destroyed_is_lost_not_offered() {
    let mut world = World::made(&[("3g.20gb", 0)]);
    world.gpus[0].instances.clear();
    world.pass(upkeep::READ_EVERY);
    world.drain();
    assert!(world.instances().is_empty());
    assert!(world.devices.is_empty(), "{:?}", world.devices);
}

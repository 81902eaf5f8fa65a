use mig::Placement;

use super::*;

const SETTLE: Duration = Duration::from_millis(100);

fn gpu_plan(gives_up: bool) -> GpuPlan {
    let name = "1g.5gb".parse().unwrap();
    let old = GivenUp {
        gi_id: 9,
        profile: name,
        placement: Placement::new(0, 1),
        resource: Some("nvidia.com/mig-1g.5gb".into()),
    };
    GpuPlan {
        gpu: 0,
        uuid: "GPU-0".into(),
        version: 4,
        give_up: if gives_up { vec![old] } else { Vec::new() },
        expose: Vec::new(),
        create: vec![planner::Creation {
            profile: "3g.20gb".parse().unwrap(),
            placement: Placement::new(0, 4),
            resource: "nvidia.com/mig-3g.20gb".into(),
        }],
    }
}

fn operation(gives_up: bool) -> (Operation, Option<Output>, Instant) {
    let now = Instant::now();
    let pod = (PodKey::new("ns", "pod"), "uid".to_owned());
    let (operation, output) = Operation::new(
        "1-1".into(),
        "a".into(),
        vec![gpu_plan(gives_up)],
        pod,
        SETTLE,
        now,
    );
    (operation, output, now)
}

fn progress(stage: Reported) -> Input {
    Input::Progress(agent::PlanProgress {
        plan_id: "1-1".into(),
        stage: stage.into(),
        category: "in_use".into(),
        message: "the instance is in use".into(),
        made: Vec::new(),
    })
}

/// Drives an operation that gives up to the stage after its plan was sent.
fn sent() -> (Operation, Instant) {
    let (mut operation, output, now) = operation(true);
    assert_eq!(output, None);
    operation.step(now, Input::Lowered);
    let later = now + SETTLE;
    assert_eq!(operation.step(later, Input::Tick), Some(Output::List));
    assert_eq!(
        operation.step(later, Input::Looked(Ok(()))),
        Some(Output::Send)
    );
    (operation, later)
}

#[test]
fn a_plan_that_gives_nothing_up_is_sent_at_once() {
    let (mut operation, output, now) = operation(false);
    assert_eq!(output, Some(Output::Send));
    assert_eq!(
        operation.step(now, progress(Reported::Done)),
        Some(Output::Made(Vec::new()))
    );
    assert!(!operation.hides());
    assert_eq!(operation.step(now, Input::Shown), Some(Output::Ready));
    assert_eq!(operation.stage(), Stage::Over);
}

#[test]
fn a_plan_that_moves_a_device_goes_through_withdraw_and_tells_the_agent_where_to() {
    let now = Instant::now();
    let mut plan = gpu_plan(false);
    plan.create.clear();
    plan.expose.push(planner::Exposure {
        gi_id: 9,
        profile: "1g.5gb".parse().unwrap(),
        placement: Placement::new(0, 1),
        from: Some("nvidia.com/mig-1g.5gb".into()),
        to: "cdmo.clear.ml/fraction-0.125".into(),
    });
    let pod = (PodKey::new("ns", "pod"), "uid".to_owned());
    let (operation, output) =
        Operation::new("1-1".into(), "a".into(), vec![plan], pod, SETTLE, now);
    assert_eq!((output, operation.stage()), (None, Stage::Lowering));
    let sent = operation.to_proto();
    let moved = &sent.gpus[0].expose[0];
    assert_eq!(moved.resource, "cdmo.clear.ml/fraction-0.125");
    assert_eq!(moved.instance.as_ref().unwrap().gpu_instance_id, 9);
}

#[test]
fn nothing_is_sent_before_the_status_is_down_and_time_has_passed() {
    let (mut operation, _, now) = operation(true);
    assert_eq!(
        operation.step(now + SETTLE, Input::Tick),
        None,
        "the status is not down yet"
    );
    assert_eq!(operation.step(now, Input::Lowered), None);
    assert_eq!(
        operation.step(now, Input::Tick),
        None,
        "pods under way get their moment"
    );
    assert!(!operation.is_sent() && operation.lowers());
}

#[test]
fn a_status_that_went_up_again_is_lowered_and_settles_anew() {
    let (mut operation, _, now) = operation(true);
    operation.step(now, Input::Lowered);
    assert_eq!(operation.step(now, Input::Raised), None);
    assert_eq!(operation.stage(), Stage::Lowering);
    let later = now + SETTLE;
    assert_eq!(operation.step(later, Input::Tick), None);
    operation.step(later, Input::Lowered);
    assert_eq!(operation.times.lowered, Some(later));
    assert_eq!(
        operation.step(later + SETTLE, Input::Tick),
        Some(Output::List)
    );
}

#[test]
fn a_plan_ends_without_blame_when_a_pod_gets_what_it_would_give_up() {
    let (mut operation, _, now) = operation(true);
    operation.step(now, Input::Lowered);
    let ended = operation.step(now, Input::Taken);
    assert!(
        matches!(&ended, Some(Output::Failed { category, blame: false, .. }) if category == "held")
    );
    assert_eq!(operation.stage(), Stage::Over);
}

#[test]
fn what_was_read_before_the_status_went_up_again_does_not_count() {
    let (mut operation, _, now) = operation(true);
    operation.step(now, Input::Lowered);
    operation.step(now + SETTLE, Input::Tick);
    operation.step(now + SETTLE, Input::Raised);
    operation.step(now + SETTLE, Input::Lowered);
    let later = now + 2 * SETTLE;
    assert_eq!(operation.step(later, Input::Tick), Some(Output::List));
    assert_eq!(operation.step(later, Input::Looked(Ok(()))), None);
    assert_eq!(
        operation.step(later, Input::Looked(Ok(()))),
        Some(Output::Send)
    );
}

#[test]
fn a_pod_that_arrived_meanwhile_keeps_its_device() {
    let (mut operation, _, now) = operation(true);
    operation.step(now, Input::Lowered);
    operation.step(now + SETTLE, Input::Tick);
    let output = operation.step(
        now + SETTLE,
        Input::Looked(Err("pod ns/x counts on it".into())),
    );
    assert!(matches!(output, Some(Output::Failed { blame: false, .. })));
    assert!(!operation.lowers());
}

#[test]
fn a_commit_follows_only_on_an_assertion_and_a_look_at_the_api() {
    let (mut operation, now) = sent();
    assert_eq!(
        operation.step(now, progress(Reported::Withdrawn)),
        Some(Output::Assert)
    );
    assert_eq!(
        operation.step(now, Input::Looked(Ok(()))),
        None,
        "the status is not asserted"
    );
    assert_eq!(operation.step(now, Input::Asserted), Some(Output::List));
    assert_eq!(
        operation.step(now, Input::Looked(Ok(()))),
        Some(Output::Commit)
    );
    assert_eq!(
        operation.step(now, progress(Reported::Done)),
        Some(Output::Made(Vec::new()))
    );
}

#[test]
fn a_pod_found_at_the_last_look_aborts() {
    let (mut operation, now) = sent();
    operation.step(now, progress(Reported::Withdrawn));
    operation.step(now, Input::Asserted);
    assert_eq!(
        operation.step(now, Input::Looked(Err("a pod".into()))),
        Some(Output::Abort)
    );
    assert!(
        !operation.lowers(),
        "the devices count again as soon as the agent offers them"
    );
    let output = operation.step(now, progress(Reported::Aborted));
    assert!(matches!(output, Some(Output::Failed { .. })));
}

#[test]
fn every_stage_ends_by_itself() {
    let (mut operation, now) = sent();
    for _ in 0..10 {
        let Some(at) = operation.wake_at() else { break };
        operation.step(at, Input::Tick);
    }
    assert_eq!(operation.stage(), Stage::Over);
    let (mut lowering, _, _) = super::tests::operation(true);
    let at = lowering.wake_at().unwrap();
    assert!(at > now && lowering.step(at, Input::Tick).is_some());
}

#[test]
fn a_stale_plan_is_nobodys_fault_and_a_busy_instance_is_the_gpus() {
    let mut stale = agent::PlanProgress {
        category: "stale".into(),
        ..Default::default()
    };
    stale.set_stage(Reported::Refused);
    let (mut one, now) = sent();
    let output = one.step(now, Input::Progress(stale));
    assert!(matches!(output, Some(Output::Failed { blame: false, .. })));
    let (mut other, now) = sent();
    let output = other.step(now, progress(Reported::Failed));
    assert!(matches!(output, Some(Output::Failed { blame: true, .. })));
}

#[test]
fn a_withdrawal_of_nothing_is_committed_without_further_ado() {
    let (mut operation, _, now) = operation(false);
    assert_eq!(
        operation.step(now, progress(Reported::Withdrawn)),
        Some(Output::Commit)
    );
    assert_eq!(
        operation.step(now, progress(Reported::Withdrawn)),
        None,
        "but only once"
    );
}

#[test]
fn the_wire_form_names_instances_so_that_a_reused_id_is_noticed() {
    let (operation, _, _) = operation(true);
    let plan = operation.to_proto();
    let gpu = &plan.gpus[0];
    assert_eq!((gpu.gpu_uuid.as_str(), gpu.state_version), ("GPU-0", 4));
    assert_eq!(gpu.give_up[0].gpu_instance_id, 9);
    assert_eq!(gpu.give_up[0].profile, "1g.5gb");
    assert_eq!(
        (gpu.create[0].profile.as_str(), gpu.create[0].start),
        ("3g.20gb", 0)
    );
}

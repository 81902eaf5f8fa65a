use cdmo_proto::agent::MigMode;
use mig::Placement;
use planner::{Creation, GivenUp, GpuPlan};
use serde_json::json;

use super::*;
use crate::{names::PodKey, snapshot::GpuRow};

const ONE: &str = "nvidia.com/mig-1g.5gb";
const THREE: &str = "nvidia.com/mig-3g.20gb";

fn device(gi_id: u32, resource: &str, start: u8, state: State) -> InstanceRow {
    InstanceRow {
        gi_id,
        profile: None,
        placement: Placement::new(start, if resource == ONE { 1 } else { 4 }),
        device_id: format!("MIG-{gi_id}"),
        resource: Some(resource.into()),
        state,
        holders: Vec::new(),
        since: 0,
        reason: "".into(),
    }
}

fn snapshot(devices: Vec<InstanceRow>, resources: &[(&str, u32, u32)]) -> SnapshotRow {
    let gpu = GpuRow {
        left_alone: false,
        uuid: "GPU-0".into(),
        index: 0,
        product: "NVIDIA A100-SXM4-40GB".into(),
        version: 1,
        model: None,
        mode: MigMode::On,
        instances: devices,
        whole: None,
        consistent: true,
    };
    let counts = |&(name, capacity, allocatable): &(&str, u32, u32)| {
        (
            name.to_owned(),
            Counts {
                capacity,
                allocatable,
            },
        )
    };
    SnapshotRow {
        gpus: vec![gpu],
        resources: resources.iter().map(counts).collect(),
        ..SnapshotRow::default()
    }
}

/// An operation that gives the 1g instance `gi_id` 1 at slice 0 up and makes a 3g at slice 4.
fn operation() -> Operation {
    let plan = GpuPlan {
        gpu: 0,
        uuid: "GPU-0".into(),
        version: 1,
        give_up: vec![GivenUp {
            gi_id: 1,
            profile: "1g.5gb".parse().unwrap(),
            placement: Placement::new(0, 1),
            resource: Some(ONE.into()),
        }],
        expose: Vec::new(),
        create: vec![Creation {
            profile: "3g.20gb".parse().unwrap(),
            placement: Placement::new(4, 4),
            resource: THREE.into(),
        }],
    };
    let pod = (PodKey::new("ns", "pod"), "uid".to_owned());
    Operation::new(
        "1".into(),
        "a".into(),
        vec![plan],
        pod,
        Duration::ZERO,
        Instant::now(),
    )
    .0
}

fn row(version: &str, counts: &[(&str, u32)]) -> NodeRow {
    let amounts: Amounts = counts
        .iter()
        .map(|(n, c)| ((*n).to_owned(), i64::from(*c)))
        .collect();
    NodeRow {
        name: "a".into(),
        resource_version: version.into(),
        allocatable: amounts.clone(),
        capacity: amounts,
        ..NodeRow::default()
    }
}

#[test]
fn confirmed_devices_count_whether_held_or_idle() {
    let devices = vec![
        device(1, ONE, 0, State::Idle),
        device(2, ONE, 1, State::Held),
        device(3, ONE, 2, State::Offering),
        device(4, ONE, 3, State::Unhealthy),
    ];
    let wanted = wanted(
        &snapshot(devices, &[(ONE, 3, 2)]),
        [].iter(),
        &[],
        &BTreeMap::new(),
    );
    assert_eq!(
        wanted[ONE],
        Counts {
            capacity: 3,
            allocatable: 2
        }
    );
}

#[test]
fn more_than_the_kubelet_confirmed_is_never_claimed() {
    let devices = vec![
        device(1, ONE, 0, State::Idle),
        device(2, ONE, 1, State::Idle),
    ];
    let wanted = wanted(
        &snapshot(devices, &[(ONE, 1, 1)]),
        [].iter(),
        &[],
        &BTreeMap::new(),
    );
    assert_eq!(
        wanted[ONE],
        Counts {
            capacity: 1,
            allocatable: 1
        }
    );
}

#[test]
fn what_is_to_be_given_up_does_not_count_again_because_a_pod_got_it_at_the_last_moment() {
    let devices = vec![
        device(1, ONE, 0, State::Held),
        device(2, ONE, 1, State::Idle),
    ];
    let wanted = wanted(
        &snapshot(devices, &[(ONE, 2, 2)]),
        [operation()].iter(),
        &[],
        &BTreeMap::new(),
    );
    assert_eq!(wanted[ONE].allocatable, 1);
}

#[test]
fn what_is_to_be_given_up_stops_counting_before_the_agent_hears_of_it() {
    let devices = vec![
        device(1, ONE, 0, State::Idle),
        device(2, ONE, 1, State::Idle),
    ];
    let wanted = wanted(
        &snapshot(devices, &[(ONE, 2, 2)]),
        [operation()].iter(),
        &[],
        &BTreeMap::new(),
    );
    assert_eq!(
        wanted[ONE],
        Counts {
            capacity: 2,
            allocatable: 1
        }
    );
}

#[test]
fn what_moves_goes_down_under_its_old_name_and_up_under_the_new_one_when_all_is_done() {
    const EIGHTH: &str = "cdmo.clear.ml/fraction-0.125";
    let mut moving = operation();
    let plan = &mut moving.gpus[0];
    plan.create.clear();
    let gone = plan.give_up.remove(0);
    plan.expose.push(planner::Exposure {
        gi_id: gone.gi_id,
        profile: gone.profile,
        placement: gone.placement,
        from: gone.resource,
        to: EIGHTH.into(),
    });
    let resources = |old, new| vec![(ONE, old, old), (EIGHTH, new, new)];
    let before = snapshot(vec![device(1, ONE, 0, State::Idle)], &resources(1, 0));
    let mut moved = device(1, ONE, 0, State::Idle);
    moved.resource = Some(EIGHTH.into());
    let after = snapshot(vec![moved], &resources(0, 1));
    let shown = |state: &SnapshotRow, operations: &[Operation]| {
        let wanted = wanted(state, operations.iter(), &[], &BTreeMap::new());
        (wanted[ONE].allocatable, wanted[EIGHTH].allocatable)
    };
    assert_eq!(shown(&before, &[]), (1, 0));
    assert_eq!(shown(&before, &[moving.clone()]), (0, 0));
    assert_eq!(shown(&after, &[moving]), (0, 0));
    assert_eq!(shown(&after, &[]), (0, 1));
}

#[test]
fn what_a_plan_makes_counts_only_when_all_of_it_is_there() {
    let devices = vec![device(7, THREE, 4, State::Idle)];
    let state = snapshot(devices, &[(THREE, 1, 1)]);
    assert_eq!(
        wanted(&state, [operation()].iter(), &[], &BTreeMap::new())[THREE],
        Counts::default()
    );
    assert_eq!(
        wanted(&state, [].iter(), &[], &BTreeMap::new())[THREE],
        Counts {
            capacity: 1,
            allocatable: 1
        }
    );
}

#[test]
fn the_status_is_written_when_it_differs_and_only_once_at_a_time() {
    let now = Instant::now();
    let wanted = BTreeMap::from([(
        ONE.to_owned(),
        Counts {
            capacity: 2,
            allocatable: 2,
        },
    )]);
    let mut keeper = StatusKeeper::default();
    let patch = keeper
        .next(&row("5", &[(ONE, 1)]), &wanted, true, now)
        .unwrap();
    assert_eq!(
        patch,
        json!({"metadata": {"resourceVersion": "5"}, "status": {
            "capacity": {ONE: "2"}, "allocatable": {ONE: "2"},
        }})
    );
    assert_eq!(
        keeper.next(&row("6", &[(ONE, 1)]), &wanted, true, now),
        None,
        "one at a time"
    );
    keeper.answered(Answer::Written, now);
    assert_eq!(
        keeper.next(&row("7", &[(ONE, 2)]), &wanted, true, now),
        None,
        "all is well"
    );
    // The kubelet copies its own, older count over ours.
    assert!(
        keeper
            .next(&row("8", &[(ONE, 1)]), &wanted, true, now)
            .is_some()
    );
}

#[test]
fn a_refused_patch_waits_for_the_next_version_of_the_node() {
    let now = Instant::now();
    let wanted = BTreeMap::from([(
        ONE.to_owned(),
        Counts {
            capacity: 2,
            allocatable: 2,
        },
    )]);
    let mut keeper = StatusKeeper::default();
    keeper.next(&row("5", &[]), &wanted, true, now).unwrap();
    assert!(!keeper.answered(Answer::Conflict, now));
    assert_eq!(keeper.next(&row("5", &[]), &wanted, true, now), None);
    assert!(keeper.next(&row("6", &[]), &wanted, true, now).is_some());
    // Nor does a missed event keep it waiting for ever.
    keeper.answered(Answer::Conflict, now);
    let later = keeper.wake_at().unwrap();
    assert!(keeper.next(&row("6", &[]), &wanted, true, later).is_some());
}

#[test]
fn an_assertion_writes_even_what_seems_right_and_counts_only_if_begun_after_the_wish() {
    let now = Instant::now();
    let wanted = BTreeMap::from([(
        ONE.to_owned(),
        Counts {
            capacity: 1,
            allocatable: 1,
        },
    )]);
    let mut keeper = StatusKeeper::default();
    keeper.next(&row("5", &[]), &wanted, true, now).unwrap();
    keeper.assert();
    assert!(
        !keeper.answered(Answer::Written, now),
        "that patch was older than the wish"
    );
    assert!(
        keeper
            .next(&row("6", &[(ONE, 1)]), &wanted, true, now)
            .is_some()
    );
    assert!(keeper.answered(Answer::Written, now));
    assert_eq!(
        keeper.next(&row("7", &[(ONE, 1)]), &wanted, true, now),
        None
    );
}

#[test]
fn a_second_wish_to_assert_is_not_fulfilled_by_a_patch_that_was_already_sent() {
    let now = Instant::now();
    let wanted = BTreeMap::new();
    let mut keeper = StatusKeeper::default();
    keeper.assert();
    assert!(keeper.next(&row("5", &[]), &wanted, true, now).is_some());
    keeper.assert();
    assert!(!keeper.answered(Answer::Written, now));
    assert!(keeper.next(&row("6", &[]), &wanted, true, now).is_some());
    assert!(keeper.answered(Answer::Written, now));
}

#[test]
fn a_difference_in_capacity_alone_waits_until_no_operation_is_under_way() {
    let now = Instant::now();
    let wanted = BTreeMap::from([(
        ONE.to_owned(),
        Counts {
            capacity: 2,
            allocatable: 1,
        },
    )]);
    let mut keeper = StatusKeeper::default();
    assert_eq!(
        keeper.next(&row("5", &[(ONE, 1)]), &wanted, false, now),
        None
    );
    assert!(
        keeper
            .next(&row("5", &[(ONE, 1)]), &wanted, true, now)
            .is_some()
    );
}

#[test]
fn resources_that_the_agent_does_not_report_are_never_written() {
    let now = Instant::now();
    let mut keeper = StatusKeeper::default();
    let nvidia = row("5", &[("nvidia.com/mig-2g.10gb", 3)]);
    assert_eq!(keeper.next(&nvidia, &BTreeMap::new(), true, now), None);
}

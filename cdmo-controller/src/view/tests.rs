use std::sync::Arc;

use mig::{GpuModel, Placement};
use planner::{Creation, GivenUp, GpuPlan};

use super::*;
use crate::{constraints::Constraints, session::Problem};
use Usage::{Arriving, Held, Idle, Stuck};

const ONE: &str = "nvidia.com/mig-1g.5gb";

/// Marks of a GPU by name.
#[derive(Default)]
struct Marked {
    outdated: bool,
    resting: bool,
}

impl Marks for Marked {
    fn is_outdated(&self, _: &GpuRow, _: Instant) -> bool {
        self.outdated
    }

    fn is_resting(&self, _: &str, _: Instant) -> bool {
        self.resting
    }
}

fn device(gi_id: u32, start: u8, state: State) -> InstanceRow {
    InstanceRow {
        gi_id,
        profile: Some(mig::ProfileIndex(0)),
        placement: Placement::new(start, 1),
        device_id: format!("MIG-{gi_id}"),
        resource: Some(ONE.into()),
        state,
        holders: Vec::new(),
        since: 0,
        reason: "".into(),
    }
}

fn snapshot(devices: Vec<InstanceRow>) -> SnapshotRow {
    let model = Arc::new(GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap());
    let gpu = GpuRow {
        left_alone: false,
        uuid: "GPU-0".into(),
        index: 0,
        product: "NVIDIA A100-SXM4-40GB".into(),
        version: 7,
        model: Some(model),
        mode: MigMode::On,
        instances: devices,
        whole: None,
        consistent: true,
    };
    SnapshotRow {
        gpus: vec![gpu],
        ..SnapshotRow::default()
    }
}

fn agent(snapshot: SnapshotRow, now: Instant) -> AgentState {
    AgentState {
        session: 0,
        serial: 1,
        uid: "uid".into(),
        address: ([127, 0, 0, 1], 7443).into(),
        up: true,
        since: now,
        problem: None,
        snapshot: Some(snapshot),
        grants: crate::grants::Grants::default(),
        revision: 0,
    }
}

fn managed() -> NodeRow {
    NodeRow {
        name: "a".into(),
        managed: true,
        ..NodeRow::default()
    }
}

fn see(agent: &AgentState, operations: &[&Operation], marks: &Marked, now: Instant) -> Node {
    let row = managed();
    let facts = Facts {
        row: &row,
        load: None,
        agent: Some(agent),
        operations,
        bound: &[],
        now,
    };
    node(&facts, marks)
}

fn usages(node: &Node) -> Vec<Usage> {
    node.gpus[0]
        .instances
        .iter()
        .map(|instance| instance.usage)
        .collect()
}

/// Gives the instance at slice 0 up and makes one at slice 1.
fn operation(now: Instant) -> Operation {
    let name = "1g.5gb".parse().unwrap();
    let plan = GpuPlan {
        gpu: 0,
        uuid: "GPU-0".into(),
        version: 7,
        give_up: vec![GivenUp {
            gi_id: 1,
            profile: name,
            placement: Placement::new(0, 1),
            resource: Some(ONE.into()),
        }],
        expose: Vec::new(),
        create: vec![Creation {
            profile: name,
            placement: Placement::new(1, 1),
            resource: ONE.into(),
        }],
    };
    let pod = (PodKey::new("ns", "pod"), "uid".to_owned());
    Operation::new(
        "1".into(),
        "a".into(),
        vec![plan],
        pod,
        std::time::Duration::ZERO,
        now,
    )
    .0
}

#[test]
fn each_state_allows_what_it_should() {
    let now = Instant::now();
    let mut parked = device(7, 6, State::Parked);
    parked.device_id.clear();
    let devices = vec![
        device(1, 0, State::Held),
        device(2, 1, State::Idle),
        device(3, 2, State::Offering),
        device(4, 3, State::Withdrawing),
        device(5, 4, State::Stuck),
        device(6, 5, State::Parked),
        parked,
    ];
    let view = see(&agent(snapshot(devices), now), &[], &Marked::default(), now);
    assert_eq!(
        usages(&view),
        [Held, Idle, Arriving, Stuck, Stuck, Idle, Stuck]
    );
    assert!(view.gpus[0].changeable && !view.gpus[0].busy);
}

#[test]
fn an_operation_under_way_shows_as_its_outcome() {
    let now = Instant::now();
    let devices = vec![device(1, 0, State::Idle)];
    let operation = operation(now);
    let view = see(
        &agent(snapshot(devices), now),
        &[&operation],
        &Marked::default(),
        now,
    );
    assert_eq!(usages(&view), [Usage::Leaving, Usage::Arriving]);
    assert!(view.gpus[0].busy);
}

#[test]
fn a_device_that_is_being_moved_counts_under_its_new_name_only() {
    let now = Instant::now();
    let mut operation = operation(now);
    let plan = &mut operation.gpus[0];
    plan.create.clear();
    let gone = plan.give_up.remove(0);
    plan.expose.push(planner::Exposure {
        gi_id: gone.gi_id,
        profile: gone.profile,
        placement: gone.placement,
        from: gone.resource,
        to: "cdmo.clear.ml/fraction-0.125".into(),
    });
    for (state, resource, usage) in [
        (State::Idle, "cdmo.clear.ml/fraction-0.125", Arriving),
        (State::Withdrawing, "cdmo.clear.ml/fraction-0.125", Arriving),
        (State::Held, ONE, Held),
    ] {
        let agent = agent(snapshot(vec![device(1, 0, state)]), now);
        let view = see(&agent, &[&operation], &Marked::default(), now);
        let instance = &view.gpus[0].instances[0];
        assert_eq!(instance.resource.as_deref(), Some(resource));
        assert_eq!(usages(&view), [usage]);
    }
}

#[test]
fn a_device_that_turns_out_to_be_held_is_not_leaving() {
    let now = Instant::now();
    let devices = vec![device(1, 0, State::Held)];
    let operation = operation(now);
    let view = see(
        &agent(snapshot(devices), now),
        &[&operation],
        &Marked::default(),
        now,
    );
    assert_eq!(usages(&view)[0], Usage::Held);
}

#[test]
fn nothing_is_planned_on_a_gpu_that_rests_or_whose_report_is_old() {
    let now = Instant::now();
    let agent = agent(snapshot(Vec::new()), now);
    let resting = Marked {
        resting: true,
        ..Marked::default()
    };
    assert!(!see(&agent, &[], &resting, now).gpus[0].changeable);
    let outdated = Marked {
        outdated: true,
        ..Marked::default()
    };
    assert!(see(&agent, &[], &outdated, now).gpus[0].busy);
}

#[test]
fn without_a_session_nothing_changes_and_devices_count_only_for_a_while() {
    let now = Instant::now();
    let mut agent = agent(snapshot(vec![device(1, 0, State::Idle)]), now);
    agent.up = false;
    agent.problem = Some(Problem::passing("closed", "gone"));
    let soon = see(&agent, &[], &Marked::default(), now);
    assert!(!soon.gpus[0].changeable);
    assert_eq!(usages(&soon), [Usage::Idle]);
    let later = see(&agent, &[], &Marked::default(), now + crate::agents::GRACE);
    assert_eq!(usages(&later), [Usage::Stuck]);
}

#[test]
fn a_node_that_was_taken_from_us_is_not_cut_anew() {
    let now = Instant::now();
    let agent = agent(snapshot(Vec::new()), now);
    let row = NodeRow {
        managed: false,
        ..managed()
    };
    let facts = Facts {
        row: &row,
        load: None,
        agent: Some(&agent),
        operations: &[],
        bound: &[],
        now,
    };
    assert!(!node(&facts, &Marked::default()).gpus[0].changeable);
}

#[test]
fn only_gpus_with_mig_on_are_changed_and_whole_ones_are_counted() {
    let now = Instant::now();
    let mut snapshot = snapshot(Vec::new());
    snapshot.gpus[0].mode = MigMode::PendingOn;
    let mut whole = device(0, 0, State::Idle);
    whole.resource = Some("nvidia.com/gpu".into());
    snapshot.gpus[0].whole = Some(whole);
    let view = see(&agent(snapshot, now), &[], &Marked::default(), now);
    assert!(!view.gpus[0].changeable);
    assert_eq!(view.fixed, BTreeMap::from([("nvidia.com/gpu".into(), 1)]));
}

#[test]
fn bound_pods_claim_what_they_do_not_hold_yet() {
    let pod = |wants: u32, terminal: bool| PodRow {
        group: None,
        succeeded: false,
        gate: None,
        uid: "uid".into(),
        node: Some("a".into()),
        terminal,
        deleting: false,
        gated: false,
        priority: 0,
        age: 0,
        started: 0,
        wants: BTreeMap::from([(ONE.to_owned(), wants)]).into(),
        containers: Arc::default(),
        constraints: Arc::new(Constraints::default()),
    };
    let (first, second, done) = (
        PodKey::new("ns", "x"),
        PodKey::new("ns", "y"),
        PodKey::new("ns", "z"),
    );
    let (two, one, ended) = (pod(2, false), pod(1, false), pod(5, true));
    let bound = [(&first, &two), (&second, &one), (&done, &ended)];
    let mut held = device(1, 0, State::Held);
    held.holders = vec![first.clone()];
    assert_eq!(claimed(&snapshot(vec![held.clone()]), &bound)[ONE], 2);
    // A grant whose holder is not known yet is one of theirs.
    let granted = device(2, 1, State::Held);
    assert_eq!(claimed(&snapshot(vec![held, granted]), &bound)[ONE], 1);
}

#[test]
fn a_node_without_agent_offers_what_its_status_has_left() {
    let row = NodeRow {
        name: "static".into(),
        allocatable: BTreeMap::from([(ONE.to_owned(), 3), ("cpu".to_owned(), 8000)]),
        ..NodeRow::default()
    };
    let load = NodeLoad {
        used: BTreeMap::from([(ONE.to_owned(), 2)]),
        ..NodeLoad::default()
    };
    let facts = Facts {
        row: &row,
        load: Some(&load),
        agent: None,
        operations: &[],
        bound: &[],
        now: Instant::now(),
    };
    let view = node(&facts, &Marked::default());
    assert_eq!(view.fixed, BTreeMap::from([(ONE.into(), 1)]));
    assert!(view.gpus.is_empty());
}

#[test]
fn an_instance_is_as_old_as_the_first_pod_that_has_it() {
    let pod = |started: i64| PodRow {
        group: None,
        succeeded: false,
        gate: None,
        uid: "uid".into(),
        node: Some("a".into()),
        terminal: false,
        deleting: false,
        gated: false,
        priority: 0,
        age: 0,
        started,
        wants: BTreeMap::from([(ONE.to_owned(), 1)]).into(),
        containers: Arc::default(),
        constraints: Arc::new(Constraints::default()),
    };
    let (first, second) = (PodKey::new("ns", "x"), PodKey::new("ns", "y"));
    let (early, late) = (pod(1_000), pod(2_000));
    let now = Instant::now();
    let mut shared = device(1, 0, State::Held);
    shared.holders = vec![second.clone(), first.clone()];
    let mut one = device(2, 1, State::Held);
    one.holders = vec![second.clone()];
    let mut stray = device(3, 2, State::Held);
    stray.holders = vec![PodKey::new("ns", "gone")];
    let mut idle = device(4, 3, State::Idle);
    for device in [&mut shared, &mut one, &mut stray, &mut idle] {
        device.since = 3_000;
    }
    let agent = agent(snapshot(vec![shared, one, stray, idle]), now);
    let row = managed();
    let facts = Facts {
        row: &row,
        load: None,
        agent: Some(&agent),
        operations: &[],
        bound: &[(&first, &early), (&second, &late)],
        now,
    };
    let view = node(&facts, &Marked::default());
    let since: Vec<_> = view.gpus[0].instances.iter().map(|i| i.since).collect();
    assert_eq!(since, [1_000, 2_000, 3_000, 0]);
}

use anstream::adapter::strip_str;
use status_report::{API_VERSION, Controller, Gpu, MigMode, PodRef, Rest, Stage, WaitingPod};

use super::*;

fn at(ago: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 - ago).unwrap()
}

fn pod(name: &str) -> PodRef {
    PodRef {
        namespace: "clearml".into(),
        name: name.into(),
    }
}

fn instance(profile: &str, start: u8, size: u8, state: InstanceState, ago: i64) -> Instance {
    Instance {
        profile: profile.into(),
        start,
        size,
        gpu_instance_id: start.into(),
        device_id: format!("MIG-{start}"),
        resource: Some(format!("nvidia.com/mig-{profile}")),
        state,
        since: Some(at(ago)),
        holders: Vec::new(),
        reason: None,
    }
}

fn held(profile: &str, start: u8, size: u8, by: &str, ago: i64) -> Instance {
    Instance {
        holders: vec![pod(by)],
        ..instance(profile, start, size, InstanceState::Held, ago)
    }
}

fn a100(index: u32, instances: Vec<Instance>) -> Gpu {
    Gpu {
        index,
        uuid: format!("GPU-{index}"),
        product: "NVIDIA A100-SXM4-40GB".into(),
        slices: 8,
        mig: MigMode::On,
        instances,
        whole: None,
        out_of_reach: Vec::new(),
        rest: None,
        kept_free: Vec::new(),
    }
}

fn node(name: &str, gpus: Vec<Gpu>) -> Node {
    Node {
        name: name.into(),
        managed: true,
        agent: Agent {
            state: AgentState::Up,
            since: Some(at(3600)),
            reason: None,
        },
        gpus,
        operations: Vec::new(),
        problems: Vec::new(),
    }
}

fn report(nodes: Vec<Node>) -> Report {
    Report {
        api_version: API_VERSION.into(),
        revision: 1,
        time: at(0),
        controller: Controller {
            name: "cdmo-controller-7d9f".into(),
            version: "0.1.0".into(),
            since: at(7200),
        },
        nodes,
        waiting: Vec::new(),
    }
}

/// A node in full work: two GPUs in use, one being cut, one in trouble.
fn busy_node() -> Node {
    let task = "clearml-id-0a1b2c3d4e5f60718293a4b5c6d7e8f9";
    let mut stuck = instance("2g.10gb", 4, 2, InstanceState::Stuck, 40);
    stuck.reason = Some(
        "The driver would not destroy it: something still uses it (NVML code 19); tried again."
            .into(),
    );
    let mut last = a100(3, vec![held("3g.20gb", 0, 4, "train-3", 90), stuck]);
    last.out_of_reach = vec![7];
    last.rest = Some(Rest {
        until: at(-75),
        failures: 3,
        reason: "something still uses it".into(),
    });
    let gpus = vec![
        a100(0, vec![held("7g.40gb", 0, 8, task, 86_400)]),
        a100(
            1,
            vec![
                held("3g.20gb", 0, 4, "train-1", 754),
                instance("2g.10gb", 4, 2, InstanceState::Idle, 31),
                held(
                    "1g.5gb+me",
                    6,
                    1,
                    "a-pod-with-a-very-long-name-that-no-column-holds",
                    5,
                ),
            ],
        ),
        a100(
            2,
            vec![instance("1g.5gb", 0, 1, InstanceState::Withdrawing, 2)],
        ),
        last,
    ];
    let operation = Operation {
        id: "7-3".into(),
        stage: Stage::Making,
        since: at(1),
        planned: at(3),
        pod: pod("train-4"),
        makes: vec![Piece {
            gpu: "GPU-2".into(),
            profile: "7g.40gb".into(),
            start: 0,
            size: 8,
        }],
        gives_up: vec![Piece {
            gpu: "GPU-2".into(),
            profile: "1g.5gb".into(),
            start: 0,
            size: 1,
        }],
        moves: Vec::new(),
    };
    Node {
        operations: vec![operation],
        problems: vec!["GPU 3 (NVIDIA A100-SXM4-40GB) reported XID 79.".into()],
        ..node("gpu-node-1", gpus)
    }
}

fn whole_node() -> Node {
    let mut free = a100(0, Vec::new());
    free.mig = MigMode::PendingOn;
    let whole = |state, by: Option<&str>| Instance {
        profile: String::new(),
        size: 0,
        holders: by.map(pod).into_iter().collect(),
        ..instance("", 0, 0, state, 600)
    };
    free.whole = Some(whole(InstanceState::Idle, None));
    let mut small = a100(1, Vec::new());
    small.product = "Tesla T4".into();
    (small.slices, small.mig) = (0, MigMode::NotCapable);
    small.whole = Some(whole(InstanceState::Held, Some("old-style")));
    Node {
        managed: false,
        agent: Agent {
            state: AgentState::Down,
            since: Some(at(125)),
            reason: Some("the agent ended the session".into()),
        },
        ..node("gpu-node-2", vec![free, small])
    }
}

fn waiting() -> Vec<WaitingPod> {
    let pod = |name: &str, resource: &str, count, reason: &str, message: &str| WaitingPod {
        pod: pod(name),
        since: at(64),
        wants: [(resource.to_owned(), count)].into(),
        reason: reason.into(),
        message: message.into(),
    };
    vec![
        pod(
            "train-4",
            "nvidia.com/mig-7g.40gb",
            1,
            "Planned",
            "devices are being made for it on node gpu-node-1",
        ),
        pod(
            "greedy",
            "nvidia.com/mig-1g.5gb",
            99,
            "TooMany",
            "99x nvidia.com/mig-1g.5gb is more than any node can give: 1 node: at most 28; ask for \
             less in one pod",
        ),
    ]
}

fn page(report: &Report, width: usize, cut: bool) -> String {
    let page = Page {
        width,
        cut,
        now: at(0),
    };
    strip_str(&page.write(report, "cdmo-operator")).to_string()
}

#[test]
fn a_cluster_at_work_on_80_columns() {
    let mut report = report(vec![busy_node(), whole_node()]);
    report.waiting = waiting();
    let text = page(&report, 80, true);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "too long: {line}");
        assert_eq!(line, line.trim_end(), "blanks at the end of a line");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_cluster_without_nodes_says_what_to_do() {
    let text = page(&report(Vec::new()), 80, true);
    insta::assert_snapshot!(text);
}

#[test]
fn a_node_without_a_report_is_named_with_what_is_wrong() {
    let mut silent = node("gpu-node-3", Vec::new());
    silent.agent = Agent {
        state: AgentState::Absent,
        since: None,
        reason: None,
    };
    silent.problems = vec!["no agent runs on this node; look at the DaemonSet".into()];
    let mut fresh = silent.clone();
    fresh.name = "gpu-node-3b".into();
    fresh.problems.clear();
    let mut called = node("gpu-node-4", Vec::new());
    called.agent.state = AgentState::Connecting;
    insta::assert_snapshot!(page(&report(vec![silent, fresh, called]), 80, true));
}

#[test]
fn names_are_whole_where_a_program_reads() {
    let report = report(vec![busy_node()]);
    let name = "a-pod-with-a-very-long-name-that-no-column-holds";
    assert!(!page(&report, 80, true).contains(name));
    assert!(page(&report, 80, false).contains(name));
    assert!(page(&report, 120, true).contains(name));
}

#[test]
fn colours_repeat_what_words_say() {
    let page = Page {
        width: 80,
        cut: true,
        now: at(0),
    };
    let text = page.write(&report(vec![busy_node()]), "cdmo-operator");
    assert!(text.contains("\u{1b}[32mheld"), "a held instance is green");
    let plain = strip_str(&text).to_string();
    assert!(plain.contains("held") && plain.contains("stuck") && plain.contains("! "));
}

#[test]
fn an_instance_that_is_offered_as_a_fraction_says_so() {
    const HALF: &str = "cdmo.clear.ml/fraction-0.500";
    let mut three = held("3g.20gb", 0, 4, "half", 5);
    three.resource = Some(HALF.into());
    let free = instance("3g.20gb", 4, 4, InstanceState::Withdrawing, 1);
    let mut report = report(vec![node("gpu-node-1", vec![a100(0, vec![three, free])])]);
    report.nodes[0].operations.push(Operation {
        id: "7-4".into(),
        stage: Stage::Withdrawing,
        since: at(1),
        planned: at(2),
        pod: pod("other-half"),
        makes: Vec::new(),
        gives_up: Vec::new(),
        moves: vec![Move {
            gpu: "GPU-0".into(),
            profile: "3g.20gb".into(),
            start: 4,
            size: 4,
            from: Some("nvidia.com/mig-3g.20gb".into()),
            to: HALF.into(),
        }],
    });
    let mut waits = waiting();
    waits[0].wants = [(HALF.to_owned(), 1)].into();
    report.waiting = waits;
    let text = page(&report, 100, true);
    for words in [
        "3g.20gb as fraction-0.500",
        "moving idle 3g.20gb at slice 4 of GPU 0 to fraction-0.500, for clearml/other-half",
        "1x fraction-0.500",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
}

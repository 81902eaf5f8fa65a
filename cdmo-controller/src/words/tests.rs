use cdmo_proto::agent::Made;
use mig::Placement;
use planner::{Creation, GivenUp, GpuPlan};
use tokio::time::Instant;

use super::*;

fn plan() -> NodePlan {
    let creation = |name: &str, start: u8, size: u8| Creation {
        profile: name.parse().unwrap(),
        placement: Placement::new(start, size),
        resource: format!("nvidia.com/mig-{name}"),
    };
    let old = |start: u8| GivenUp {
        gi_id: u32::from(start),
        profile: "1g.5gb".parse().unwrap(),
        placement: Placement::new(start, 1),
        resource: Some("nvidia.com/mig-1g.5gb".into()),
    };
    let gpu = |uuid: &str, give_up, create| GpuPlan {
        gpu: 0,
        uuid: uuid.into(),
        version: 1,
        give_up,
        expose: Vec::new(),
        create,
    };
    NodePlan {
        node: 0,
        gpus: vec![
            gpu(
                "GPU-aaaa",
                vec![old(0), old(1)],
                vec![creation("3g.20gb", 0, 4)],
            ),
            gpu(
                "GPU-bbbb",
                Vec::new(),
                vec![creation("1g.5gb", 2, 1), creation("1g.5gb", 3, 1)],
            ),
        ],
    }
}

fn finished() -> Operation {
    let pod = (PodKey::new("ns", "pod"), "uid".to_owned());
    let mut operation = Operation::new(
        "1-1".into(),
        "gpu-node-7".into(),
        plan().gpus,
        pod,
        Duration::ZERO,
        Instant::now(),
    )
    .0;
    let made = |resource: &str| Made {
        resource: resource.into(),
        ..Made::default()
    };
    operation.made = vec![
        made("nvidia.com/mig-1g.5gb"),
        made("nvidia.com/mig-3g.20gb"),
        made("nvidia.com/mig-1g.5gb"),
    ];
    operation
}

#[test]
fn sentences_on_pods_and_nodes() {
    let index = |uuid: &str| (uuid == "GPU-aaaa").then_some(2);
    let stages = Stages {
        planning: Duration::from_millis(3),
        withdrawing: Some(Duration::from_millis(1210)),
        making: Duration::from_millis(640),
        showing: Duration::from_millis(9),
    };
    let all = [
        planned("gpu-node-7", &plan(), index),
        ready(&finished(), &stages),
        failed("gpu-node-7", "instance 1g.5gb at slice 0 is in use."),
        unreachable("the agent ended the session"),
        no_agent("cdmo-operator"),
        agent_fails(
            &PodKey::new("cdmo-operator", "mig-node-agent-x"),
            "mig-node-agent: failed to load it; install it (exit code 65)",
        ),
        agent_waits(
            &PodKey::new("cdmo-operator", "mig-node-agent-x"),
            "ContainerCreating",
        ),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_is_made_or_moved_for_a_fraction_is_called_by_it() {
    const HALF: &str = "cdmo.clear.ml/fraction-0.500";
    let mut plan = plan();
    plan.gpus.truncate(1);
    let gpu = &mut plan.gpus[0];
    gpu.create[0].resource = HALF.into();
    gpu.expose.push(Exposure {
        gi_id: 9,
        profile: "3g.20gb".parse().unwrap(),
        placement: Placement::new(4, 4),
        from: None,
        to: HALF.into(),
    });
    assert_eq!(
        planned("a", &plan, |_| None),
        "Making 3g.20gb at slice 0 as cdmo.clear.ml/fraction-0.500 and idle 3g.20gb at slice 4 \
         available as cdmo.clear.ml/fraction-0.500 on GPU (GPU-aaaa) in place of idle 1g.5gb at slice 0 \
         and 1g.5gb at slice 1 of node a"
    );
}

#[test]
fn a_note_is_cut_to_what_the_api_takes_between_characters() {
    let note = Note::new(
        PodKey::new("ns", "pod"),
        "uid".into(),
        "NoRoom",
        &"ü".repeat(900),
        true,
    );
    assert!(note.text.len() <= LONGEST_NOTE && note.text.ends_with('…'));
}

#[test]
fn a_node_without_problems_has_no_annotation() {
    assert_eq!(problems(&[]), None);
    assert_eq!(problems(&["a".into(), "b".into()]).as_deref(), Some("a; b"));
}

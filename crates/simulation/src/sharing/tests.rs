use proptest::prelude::*;

use super::fragmentation::Fragmentation;
use super::workload::{GPUS, Kind, State};
use super::*;
use crate::trace::{Node, Pod};

fn state(cpu: u64, left: &[u16]) -> State {
    let mut all = [0; GPUS];
    all[..left.len()].copy_from_slice(left);
    State {
        cpu,
        left: all,
        gpus: u8::try_from(left.len()).unwrap(),
        model: 1,
        classes: 0,
    }
}

fn kind(cpu: u64, gpus: u8, milli: u16) -> Kind {
    Kind {
        cpu,
        milli,
        gpus,
        models: u64::MAX,
    }
}

fn node(name: &str, gpus: u32, model: &str) -> Node {
    Node {
        name: name.into(),
        cpu_milli: 64_000,
        memory_mib: 65_536,
        gpus,
        model: model.into(),
    }
}

fn pod(gpus: u32, gpu_milli: u32, models: &[&str]) -> Pod {
    Pod {
        name: "pod".into(),
        cpu_milli: 1000,
        memory_mib: 1024,
        gpus,
        gpu_milli,
        models: models.iter().map(|model| (*model).to_owned()).collect(),
        created: None,
        deleted: None,
    }
}

#[test]
fn what_no_pod_can_use_is_fragmented() {
    let popular = [(kind(1000, 1, 500), 3), (kind(8000, 2, 1000), 1)];
    let measure = Fragmentation::new(&popular);
    assert_eq!(measure.of(&state(64_000, &[1000, 1000])), 0);
    // The half is too small for a half and a bit less; two whole GPUs are not there.
    assert_eq!(measure.of(&state(64_000, &[1000, 400])), 3 * 400 + 1400);
    // Without CPU nothing of the machine is of use to anybody.
    assert_eq!(measure.of(&state(0, &[1000, 400])), 4 * 1400);
    // A pod without GPUs can use none.
    let measure = Fragmentation::new(&[(kind(1000, 0, 0), 2)]);
    assert_eq!(measure.of(&state(64_000, &[1000])), 2000);
}

#[test]
fn descent_takes_the_gpu_whose_rest_stays_of_use() {
    let popular = [(kind(1000, 1, 500), 1)];
    let measure = Fragmentation::new(&popular);
    let fgd = Rule::FragmentationGradientDescent;
    let mut never = |_: usize| unreachable!();
    // A best fit would take the GPU with 900 and leave 400, which nobody can use.
    let before = state(64_000, &[900, 1000]);
    let after = fgd.place(&before, &kind(1000, 1, 500), &measure, &mut never);
    assert_eq!(after.left[..2], [900, 500]);
    let after = Rule::BestFit.place(&before, &kind(1000, 1, 500), &measure, &mut never);
    assert_eq!(after.left[..2], [400, 1000]);
}

#[test]
fn packing_prefers_shared_gpus_to_idle_ones_to_empty_machines() {
    let measure = Fragmentation::new(&[]);
    let score =
        |left: &[u16]| Rule::Packing.score(&state(64_000, left), &kind(1000, 1, 300), &measure);
    assert!(score(&[400, 1000]) > score(&[900, 1000]));
    assert!(score(&[900, 1000]) > score(&[200, 1000]));
    assert!(score(&[200, 1000]) > score(&[1000, 1000]));
}

#[test]
fn pods_run_on_the_models_that_they_name_only() {
    let nodes = [node("a", 1, "T4"), node("b", 1, "P100")];
    let workload = Workload::new(&nodes, &[pod(1, 1000, &["P100"])]).unwrap();
    let filled = Filler::new(&workload, Rule::BestFit).fill(1, 100);
    assert_eq!((filled.pods, filled.refused), (2, 1));
}

#[test]
fn memory_limits_what_a_machine_holds() {
    let nodes = [node("a", 8, "T4")];
    let mut large = pod(1, 1000, &[]);
    large.memory_mib = 65_536 / 2;
    let workload = Workload::new(&nodes, &[large]).unwrap();
    let filled = Filler::new(&workload, Rule::Packing).fill(1, 100);
    assert_eq!((filled.pods, filled.refused), (8, 6));
}

#[test]
fn whole_gpus_fill_a_cluster_completely_by_every_rule() {
    let nodes: Vec<Node> = (0..10).map(|n| node(&n.to_string(), 4, "T4")).collect();
    let workload = Workload::new(&nodes, &[pod(1, 1000, &[])]).unwrap();
    for (name, rule) in Rule::ALL {
        let filled = Filler::new(&workload, rule).fill(7, 130);
        assert_eq!(filled.allocated.last(), Some(&Some(100.0)), "{name}");
        assert_eq!(filled.refused, 12, "{name}");
    }
}

#[test]
fn remembered_scores_change_nothing() {
    let nodes: Vec<Node> = (0..6).map(|n| node(&n.to_string(), 2, "T4")).collect();
    let pods = [pod(1, 470, &[]), pod(1, 810, &[]), pod(2, 1000, &[])];
    let workload = Workload::new(&nodes, &pods).unwrap();
    for (name, rule) in Rule::ALL {
        let mut warm = Filler::new(&workload, rule);
        warm.fill(1, 130);
        let fresh = Filler::new(&workload, rule).fill(2, 130);
        assert_eq!(warm.fill(2, 130), fresh, "{name}");
    }
}

#[test]
fn what_cannot_be_simulated_is_refused_with_a_reason() {
    let refused = |nodes: &[Node], pods: &[Pod]| Workload::new(nodes, pods).unwrap_err();
    assert_eq!(
        refused(&[node("a", 9, "T4")], &[pod(1, 1000, &[])]).to_string(),
        "the node \"a\" has 9 GPUs; at most 8 can be simulated"
    );
    assert_eq!(refused(&[], &[pod(1, 1, &[])]), WorkloadError::NoGpus);
    assert_eq!(refused(&[node("a", 1, "T4")], &[]), WorkloadError::NoPods);
}

proptest! {
    #[test]
    fn no_rule_gives_away_more_than_there_is(
        gpus in proptest::collection::vec(1_u32..=8, 1..6),
        shares in proptest::collection::vec(1_u32..=1000, 1..6),
        seed: u64,
    ) {
        let nodes: Vec<Node> = gpus.iter().map(|gpus| node("n", *gpus, "T4")).collect();
        let pods: Vec<Pod> = shares.iter().map(|milli| pod(1, *milli, &[])).collect();
        let workload = Workload::new(&nodes, &pods).unwrap();
        for (_, rule) in Rule::ALL {
            let filled = Filler::new(&workload, rule).fill(seed, 130);
            let shares = filled.allocated.iter().zip(&filled.fragmented);
            for (allocated, fragmented) in shares {
                let (Some(allocated), Some(fragmented)) = (allocated, fragmented) else {
                    continue;
                };
                prop_assert!(*allocated >= 0.0 && *fragmented >= 0.0);
                prop_assert!(allocated + fragmented < 100.0 + 1e-6);
            }
        }
    }
}

//! Nodes that were handed over and cannot do what is wanted.

use scenarios::{NodeSpec, Pod, Spec, Verdict, scenario};

use crate::others_are_served;

fn beside_a_good_node(bad: NodeSpec) -> Spec {
    Spec::new()
        .node(NodeSpec::new("good", "A100-40GB:1"))
        .node(bad)
}

#[test]
fn a_labelled_node_without_gpus_says_so_on_the_node() -> Verdict {
    scenario(
        beside_a_good_node(NodeSpec::new("bad", "")),
        async |system| {
            let why = system
                .problem("bad", "NVML knows no GPU on this node")
                .await?;
            assert!(why.contains("label"), "it says what to do: {why}");
            others_are_served(system).await
        },
    )
}

#[test]
fn a_labelled_node_whose_gpu_has_no_mig_says_so_on_the_node() -> Verdict {
    scenario(
        beside_a_good_node(NodeSpec::new("bad", "T4:1")),
        async |system| {
            system.problem("bad", "cannot do MIG").await?;
            let pod = Pod::of("p", "1g.5gb").on_nodes_with("kubernetes.io/hostname", "bad");
            system.create(&pod)?;
            let why = system.event("p", "NoSuchProfile").await?;
            assert!(why.contains("no GPU has it"), "{why}");
            others_are_served(system).await
        },
    )
}

#[test]
fn a_node_without_the_nvml_library_is_one_sentence_in_the_log_and_a_problem_of_the_node() -> Verdict
{
    let bad = NodeSpec::new("bad", "").without_library();
    scenario(beside_a_good_node(bad), async |system| {
        assert_eq!(system.agent_exit("bad").await?, 65);
        let log = system.agent_log("bad");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("mig-node-agent: "), "{log}");
        assert!(last.contains("libnvidia-ml.so.1"), "{last}");
        system.problem("bad", "agent").await?;
        others_are_served(system).await
    })
}

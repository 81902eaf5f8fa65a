//! What cannot be served is told why, on the pod, and disturbs nobody else.

use scenarios::{NodeSpec, Outcome, Pod, Spec, System, Verdict, scenario};

async fn others_are_served(system: &System) -> Outcome {
    system.run(&Pod::of("other", "3g.20gb")).await?;
    system.consistent().await
}

#[test]
fn a_profile_that_no_gpu_here_has_is_named_with_those_that_there_are() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").node(NodeSpec::new("b", "A30:1"));
    scenario(spec, async |system| {
        system.create(&Pod::of("p", "1g.24gb"))?;
        let why = system.event("p", "NoSuchProfile").await?;
        assert!(why.contains("1x nvidia.com/mig-1g.24gb"), "{why}");
        assert!(why.contains("1g.5gb") && why.contains("4g.24gb"), "{why}");
        others_are_served(system).await
    })
}

#[test]
fn a_name_that_is_no_profile_is_called_that() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.create(&Pod::of("p", "banana"))?;
        let why = system.event("p", "InvalidProfile").await?;
        assert!(why.contains("nvidia.com/mig-banana"), "{why}");
        others_are_served(system).await
    })
}

#[test]
fn a_count_of_99_is_answered_with_what_a_node_can_give() -> Verdict {
    scenario(Spec::gpus("A100-40GB:2"), async |system| {
        system.create(&Pod::new("p").asks(&[("1g.5gb", 99)]))?;
        let why = system.event("p", "TooMany").await?;
        assert!(why.contains("99x nvidia.com/mig-1g.5gb"), "{why}");
        assert!(why.contains("at most 14"), "{why}");
        others_are_served(system).await
    })
}

#[test]
fn a_pod_that_no_managed_node_may_run_is_told_so() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.create(&Pod::of("p", "3g.20gb").on_nodes_with("pool", "none"))?;
        let why = system.event("p", "NoNode").await?;
        assert!(why.contains("1x nvidia.com/mig-3g.20gb"), "{why}");
        others_are_served(system).await
    })
}

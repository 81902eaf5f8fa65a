//! Slices are made where the pod can run.

use scenarios::{NodeSpec, Pod, Spec, Verdict, scenario};
use simcluster::store::object;

#[test]
fn the_slice_is_made_on_a_node_that_the_pods_selector_allows() -> Verdict {
    let spec =
        Spec::gpus("A100-40GB:1").node(NodeSpec::new("b", "A100-40GB:1").label("pool", "training"));
    scenario(spec, async |system| {
        let pod = Pod::of("p", "3g.20gb").on_nodes_with("pool", "training");
        let pod = system.run(&pod).await?;
        assert_eq!(object::text(&pod, "/spec/nodeName"), "b");
        assert!(system.instances("a")?.is_empty());
        system.consistent().await
    })
}

#[test]
fn each_profile_is_made_on_the_model_that_has_it() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").node(NodeSpec::new("b", "H100-80GB:1"));
    scenario(spec, async |system| {
        for (name, profile, node) in [("p", "3g.20gb", "a"), ("q", "3g.40gb", "b")] {
            let pod = system.run(&Pod::of(name, profile)).await?;
            assert_eq!(object::text(&pod, "/spec/nodeName"), node);
            assert_eq!(system.profiles(name).await?, [profile]);
        }
        system.consistent().await
    })
}

#[test]
fn when_one_node_is_full_the_next_is_used() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").node(NodeSpec::new("b", "A100-40GB:1"));
    scenario(spec, async |system| {
        system.create(&Pod::of("p", "7g.40gb"))?;
        system.create(&Pod::of("q", "7g.40gb"))?;
        let (p, q) = (system.running("p").await?, system.running("q").await?);
        assert_ne!(p["spec"]["nodeName"], q["spec"]["nodeName"]);
        system.consistent().await
    })
}

#[test]
fn nodes_that_nobody_handed_over_are_left_alone() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1")
        .node(NodeSpec::new("b", "A100-40GB:4").label(testbed::manifests::NODE_LABEL.0, "none"));
    scenario(spec, async |system| {
        system.run(&Pod::of("p", "7g.40gb")).await?;
        system.create(&Pod::of("q", "7g.40gb"))?;
        system.event("q", "NoRoom").await?;
        let state = system.driver("b")?.state()?;
        assert!(
            state
                .gpus
                .iter()
                .all(|gpu| !gpu.mig_mode && gpu.instances.is_empty())
        );
        Ok(())
    })
}

//! `kill -9` of an agent at the worst moments.

use scenarios::{NodeSpec, Pod, Spec, Verdict, scenario};

#[test]
fn an_idle_agent_that_is_killed_comes_back_and_serves() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("before", "1g.5gb")).await?;
        system.remove("before").await?;
        let standing = system.instances("a")?;
        system.kill_agent("a").await?;
        // Until it is back, the kubelet fails pods that the scheduler still sends to its devices.
        system.offers("a", 1).await?;
        system.run(&Pod::of("after", "1g.5gb")).await?;
        assert_eq!(
            system.instances("a")?,
            standing,
            "it was adopted and reused"
        );
        system.consistent().await
    })
}

#[test]
fn pods_keep_their_slices_while_their_agent_dies() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("stays", "3g.20gb")).await?;
        let kept = system.device("stays").await?;
        system.kill_agent("a").await?;
        system.create(&Pod::of("large", "7g.40gb"))?;
        system.event("large", "NoRoom").await?;
        system.run(&Pod::of("beside", "4g.20gb")).await?;
        assert_eq!(system.device("stays").await?, kept);
        system.remove("stays").await?;
        system.remove("beside").await?;
        system.running("large").await?;
        system.consistent().await
    })
}

#[test]
fn an_agent_killed_while_it_makes_an_instance_wastes_nothing() -> Verdict {
    let node = NodeSpec::new("a", "A100-40GB:1").latency(500, 0);
    scenario(Spec::new().node(node), async |system| {
        system.create(&Pod::of("p", "3g.20gb"))?;
        system.event("p", "SlicePlanned").await?;
        system.kill_agent("a").await?;
        system.running("p").await?;
        assert_eq!(system.instances("a")?.len(), 1);
        system.consistent().await
    })
}

#[test]
fn an_agent_killed_between_making_and_offering_adopts_what_it_made() -> Verdict {
    // It looks at what it made before it offers it.
    let node = NodeSpec::new("a", "A100-40GB:1").look_latency(500);
    scenario(Spec::new().node(node), async |system| {
        // Warm: MIG is on, and the controller knows the agent.
        system.run(&Pod::of("warm", "1g.5gb")).await?;
        let before = system.instances("a")?.len();
        system.create(&Pod::of("p", "3g.20gb"))?;
        let made = async || (system.complete_instances("a").ok()? > before).then_some(());
        system.until("the instance exists", made).await?;
        system.kill_agent("a").await?;
        system.running("p").await?;
        assert_eq!(system.instances("a")?.len(), before + 1);
        system.consistent().await
    })
}

#[test]
fn an_agent_killed_while_it_destroys_an_instance_ends_what_it_began() -> Verdict {
    let node = NodeSpec::new("a", "A100-40GB:1").latency(0, 500);
    scenario(Spec::new().node(node), async |system| {
        system.run(&Pod::of("small", "1g.5gb")).await?;
        system.remove("small").await?;
        system.create(&Pod::of("large", "7g.40gb"))?;
        system.event("large", "SlicePlanned").await?;
        system.kill_agent("a").await?;
        system.running("large").await?;
        system.consistent().await
    })
}

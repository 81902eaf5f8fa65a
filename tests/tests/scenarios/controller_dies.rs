//! `kill -9` of the controller at the worst moments.

use scenarios::{NodeSpec, Pod, Spec, Verdict, scenario};

#[test]
fn what_was_offered_is_used_while_the_controller_is_dead() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("first", "3g.20gb")).await?;
        system.remove("first").await?;
        system.kill_controller().await?;
        system.run(&Pod::of("second", "3g.20gb")).await?;
        system.run(&Pod::of("third", "4g.20gb")).await?;
        system.consistent().await
    })
}

#[test]
fn a_controller_killed_in_the_middle_of_a_plan_finishes_it_in_its_next_life() -> Verdict {
    let node = NodeSpec::new("a", "A100-40GB:2").latency(500, 500);
    scenario(Spec::new().node(node), async |system| {
        system.create(&Pod::of("p", "3g.20gb"))?;
        system.event("p", "SlicePlanned").await?;
        system.kill_controller().await?;
        system.running("p").await?;
        assert_eq!(
            system.instances("a")?.len(),
            1,
            "no second one was made for it"
        );
        system.consistent().await
    })
}

#[test]
fn a_controller_killed_while_it_gives_up_instances_starts_over() -> Verdict {
    let node = NodeSpec::new("a", "A100-40GB:1").latency(300, 300);
    scenario(Spec::new().node(node), async |system| {
        for name in ["s0", "s1", "s2"] {
            system.run(&Pod::of(name, "1g.5gb")).await?;
        }
        for name in ["s0", "s1", "s2"] {
            system.remove(name).await?;
        }
        system.create(&Pod::of("large", "7g.40gb"))?;
        let fewer = async || (system.instances("a").ok()?.len() < 3).then_some(());
        system.until("the first instance is gone", fewer).await?;
        system.kill_controller().await?;
        system.running("large").await?;
        system.consistent().await
    })
}

#[test]
fn controller_and_agent_may_die_together() -> Verdict {
    let node = NodeSpec::new("a", "A100-40GB:1").latency(300, 300);
    scenario(Spec::new().node(node), async |system| {
        system.run(&Pod::of("stays", "3g.20gb")).await?;
        system.create(&Pod::of("p", "2g.10gb"))?;
        system.event("p", "SlicePlanned").await?;
        system.kill_controller().await?;
        system.kill_agent("a").await?;
        system.running("p").await?;
        system.consistent().await
    })
}

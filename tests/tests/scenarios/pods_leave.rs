//! Pods that end, by themselves or not, before or after they had what they asked for.

use scenarios::{NodeSpec, Pod, Spec, Verdict, scenario};

#[test]
fn a_completed_pod_frees_its_slice_although_it_is_still_there() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system
            .run(&Pod::of("done", "7g.40gb").runs_for(300))
            .await?;
        system.create(&Pod::of("next", "4g.20gb"))?;
        system.running("next").await?;
        assert!(system.pod("done").is_some());
        system.consistent().await
    })
}

#[test]
fn a_pod_deleted_while_it_waits_for_room_is_forgotten() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("stays", "4g.20gb")).await?;
        let before = system.instances("a")?;
        system.create(&Pod::of("waits", "7g.40gb"))?;
        system.event("waits", "NoRoom").await?;
        system.remove("waits").await?;
        system.run(&Pod::of("next", "3g.20gb")).await?;
        assert!(system.instances("a")?.contains(&before[0]));
        system.consistent().await
    })
}

#[test]
fn a_pod_deleted_while_its_slice_is_being_made_leaves_it_to_the_next() -> Verdict {
    let node = NodeSpec::new("a", "A100-40GB:1").latency(400, 0);
    scenario(Spec::new().node(node), async |system| {
        system.create(&Pod::of("leaves", "3g.20gb"))?;
        system.event("leaves", "SlicePlanned").await?;
        system.remove("leaves").await?;
        system.run(&Pod::of("next", "3g.20gb")).await?;
        assert_eq!(
            system.instances("a")?.len(),
            1,
            "the first one is not wasted"
        );
        system.consistent().await
    })
}

#[test]
fn a_pod_may_come_back_under_the_same_name() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        for profile in ["3g.20gb", "7g.40gb", "1g.5gb"] {
            system.run(&Pod::of("p", profile)).await?;
            assert_eq!(system.profiles("p").await?, [profile]);
            system.remove("p").await?;
        }
        system.consistent().await
    })
}

//! Idle instances make room for what is needed; those in use never do.

use scenarios::{Needs, Pod, Verdict, api_scenario};

#[test]
fn idle_instances_are_given_up_when_their_slices_are_needed() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let small = ["s0", "s1", "s2", "s3"];
        for name in small {
            ground.create(&Pod::of(name, "3g.20gb")).await?;
        }
        for name in small {
            ground.running(name).await?;
        }
        ground.release(&small).await?;
        let large = Pod::new("large").asks(&[("7g.40gb", 2)]);
        ground.run(&large).await?;
        ground.holds("large", &["7g.40gb", "7g.40gb"]).await?;
        assert_eq!(ground.devices().await?.len(), 2);
        Ok(())
    })
}

#[test]
fn an_instance_in_use_is_never_given_up() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.run(&Pod::of("stays", "4g.20gb")).await?;
        let kept = ground.holds("stays", &["4g.20gb"]).await?;
        ground
            .create(&Pod::new("large").asks(&[("7g.40gb", 2)]))
            .await?;
        let why = ground.event("large", "NoRoom").await?;
        assert!(why.contains("2x nvidia.com/mig-7g.40gb"), "{why}");
        ground.run(&Pod::of("beside", "3g.20gb")).await?;
        assert_eq!(ground.holds("stays", &["4g.20gb"]).await?, kept);
        ground.release(&["stays", "beside"]).await?;
        ground.running("large").await?;
        ground
            .holds("large", &["7g.40gb", "7g.40gb"])
            .await
            .map(drop)
    })
}

//! What was made is used again, and pods that end give back what they had.

use scenarios::{Needs, Pod, Verdict, api_scenario};

#[test]
fn an_idle_instance_is_reused() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.run(&Pod::of("first", "3g.20gb")).await?;
        ground.holds("first", &["3g.20gb"]).await?;
        ground.release(&["first"]).await?;
        let standing = ground.devices().await?;
        ground.run(&Pod::of("second", "3g.20gb")).await?;
        ground.holds("second", &["3g.20gb"]).await?;
        assert_eq!(ground.devices().await?, standing, "nothing was made anew");
        Ok(())
    })
}

#[test]
fn a_deleted_pod_gives_its_slices_back() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let both = Pod::new("first").asks(&[("7g.40gb", 2)]);
        ground.run(&both).await?;
        ground.holds("first", &["7g.40gb", "7g.40gb"]).await?;
        ground.create(&Pod::of("second", "4g.20gb")).await?;
        ground.event("second", "NoRoom").await?;
        ground.remove("first").await?;
        ground.running("second").await?;
        ground.holds("second", &["4g.20gb"]).await.map(drop)
    })
}

#[test]
fn completed_pods_stay_and_free_their_slices() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        for name in ["a", "b"] {
            let pod = Pod::of(name, "7g.40gb").runs_for(2000);
            ground.create(&pod).await?;
        }
        for name in ["a", "b"] {
            ground.succeeded(name).await?;
        }
        ground
            .run(&Pod::new("next").asks(&[("7g.40gb", 2)]))
            .await?;
        ground.holds("next", &["7g.40gb", "7g.40gb"]).await?;
        for name in ["a", "b"] {
            ground.succeeded(name).await?;
            ground.holds(name, &[]).await?;
        }
        Ok(())
    })
}

//! What stands idle is used again before anything new is made.

use scenarios::{Pod, Spec, Verdict, scenario};

#[test]
fn an_idle_instance_is_reused_without_making_one() -> Verdict {
    scenario(Spec::gpus("A100-40GB:2"), async |system| {
        system.run(&Pod::of("first", "3g.20gb")).await?;
        let (before, device) = (system.instances("a")?, system.device("first").await?);
        system.remove("first").await?;
        system.idle("a").await?;
        system.run(&Pod::of("second", "3g.20gb")).await?;
        assert_eq!(system.device("second").await?.id, device.id);
        assert_eq!(
            system.instances("a")?,
            before,
            "serial numbers tell new ones"
        );
        system.consistent().await
    })
}

#[test]
fn only_what_is_missing_is_made() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("first", "2g.10gb")).await?;
        let before = system.instances("a")?;
        system.remove("first").await?;
        system.idle("a").await?;
        system
            .run(&Pod::new("both").asks(&[("2g.10gb", 1), ("1g.5gb", 1)]))
            .await?;
        let after = system.instances("a")?;
        assert_eq!(after.len(), 2, "{after:?}");
        assert!(after.contains(&before[0]), "{before:?} {after:?}");
        system.consistent().await
    })
}

#[test]
fn an_idle_instance_is_parked_and_offered_again_if_that_is_chosen() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").controller_arg("--idle-instances=parked");
    scenario(spec, async |system| {
        system.run(&Pod::of("first", "3g.20gb")).await?;
        let standing = system.instances("a")?;
        system.remove("first").await?;
        system.shows("a", "nvidia.com/mig-3g.20gb", 0).await?;
        assert_eq!(system.instances("a")?, standing, "it still stands");
        system.run(&Pod::of("second", "3g.20gb")).await?;
        assert_eq!(system.instances("a")?, standing, "and is used again");
        system.remove("second").await?;
        // Nobody but a plan may have it: not a pod that asks while the controller is away.
        system.shows("a", "nvidia.com/mig-3g.20gb", 0).await?;
        system.run(&Pod::of("half", "7g.40gb")).await?;
        assert_eq!(system.instances("a")?.len(), 1, "it was given up");
        system.consistent().await
    })
}

//! Idle instances make room for what is needed; those in use never do.

use scenarios::{NAMESPACE, Pod, Spec, Verdict, scenario};

#[test]
fn an_idle_instance_is_given_up_when_its_slices_are_needed() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("large", "7g.40gb")).await?;
        system.remove("large").await?;
        system.run(&Pod::of("small", "1g.5gb")).await?;
        assert_eq!(system.instances("a")?.len(), 1);
        system.consistent().await
    })
}

#[test]
fn only_idle_instances_are_given_up() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("stays", "4g.20gb")).await?;
        system.run(&Pod::of("leaves", "3g.20gb")).await?;
        let kept = system.device("stays").await?;
        system.remove("leaves").await?;
        system
            .run(&Pod::new("comes").asks(&[("2g.10gb", 1), ("1g.5gb", 1)]))
            .await?;
        assert_eq!(system.device("stays").await?, kept);
        system.consistent().await
    })
}

#[test]
fn a_pod_waits_for_slices_in_use_and_gets_them_when_they_are_free() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("small", "1g.5gb")).await?;
        system.create(&Pod::of("large", "7g.40gb"))?;
        let why = system.event("large", "NoRoom").await?;
        assert!(why.contains("1x nvidia.com/mig-7g.40gb"), "{why}");
        let blocked = format!("7g.40gb blocked by {NAMESPACE}/small on GPU 0 of node a");
        assert!(why.ends_with(&blocked), "{why}");
        system.remove("small").await?;
        system.running("large").await?;
        system.consistent().await
    })
}

#[test]
fn several_idle_instances_on_several_gpus_make_room_for_one_pod() -> Verdict {
    scenario(Spec::gpus("A100-40GB:2"), async |system| {
        let small = ["s0", "s1", "s2", "s3"];
        for name in small {
            system.run(&Pod::of(name, "3g.20gb")).await?;
        }
        for name in small {
            system.remove(name).await?;
        }
        system
            .run(&Pod::new("large").asks(&[("7g.40gb", 2)]))
            .await?;
        assert_eq!(system.profiles("large").await?, ["7g.40gb", "7g.40gb"]);
        system.consistent().await
    })
}

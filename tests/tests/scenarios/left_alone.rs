//! GPUs that an administrator keeps to himself.

use scenarios::{Pod, Spec, Verdict, scenario};

const LEAVE_ALONE: &str = "cdmo.clear.ml/leave-alone";

#[test]
fn a_gpu_that_is_to_be_left_alone_is_neither_offered_nor_changed() -> Verdict {
    scenario(Spec::gpus("A100-40GB:2"), async |system| {
        system.annotate("a", LEAVE_ALONE, Some("1"))?;
        system.run(&Pod::of("p", "7g.40gb")).await?;
        assert_eq!(system.device("p").await?.device.gpu_index, 0);
        system.create(&Pod::of("q", "1g.5gb"))?;
        system.event("q", "NoRoom").await?;
        system.annotate("a", LEAVE_ALONE, None)?;
        system.running("q").await?;
        assert_eq!(system.device("q").await?.device.gpu_index, 1);
        system.consistent().await
    })
}

#[test]
fn idle_devices_of_a_gpu_left_alone_are_taken_off_and_held_ones_stay() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        for name in ["stays", "ends"] {
            system.run(&Pod::of(name, "3g.20gb")).await?;
        }
        system.remove("ends").await?;
        let standing = system.instances("a")?;
        system.annotate("a", LEAVE_ALONE, Some("0"))?;
        system.shows("a", "nvidia.com/mig-3g.20gb", 1).await?;
        system.remove("stays").await?;
        system.shows("a", "nvidia.com/mig-3g.20gb", 0).await?;
        assert_eq!(system.instances("a")?, standing, "nothing is destroyed");
        system.annotate("a", LEAVE_ALONE, None)?;
        system.run(&Pod::of("again", "3g.20gb")).await?;
        assert_eq!(system.instances("a")?, standing);
        system.consistent().await
    })
}

#[test]
fn a_name_that_no_gpu_has_is_told_on_the_node() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.annotate("a", LEAVE_ALONE, Some("7, GPU-nonsense"))?;
        let problems = system.problem("a", LEAVE_ALONE).await?;
        assert!(problems.contains("\"7\", \"GPU-nonsense\""), "{problems}");
        system.run(&Pod::of("p", "1g.5gb")).await?;
        system.consistent().await
    })
}

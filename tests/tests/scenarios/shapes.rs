//! Pods of every shape: several profiles, several containers, init containers, several GPUs, and
//! the odd profiles.

use scenarios::{Outcome, Pod, Spec, System, Verdict, scenario};

/// Runs the pod and compares what its containers got, as `container profile`.
async fn gets(system: &System, pod: &Pod, expected: &[&str]) -> Outcome {
    system.run(pod).await?;
    let devices = system.devices("p").await?.into_iter();
    let mut got: Vec<String> = devices
        .map(|given| format!("{} {}", given.container, given.device.profile))
        .collect();
    got.sort();
    assert_eq!(got, expected);
    system.consistent().await
}

#[test]
fn one_container_gets_slices_of_several_profiles() -> Verdict {
    let pod = Pod::new("p").asks(&[("3g.20gb", 1), ("1g.5gb", 2)]);
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        gets(
            system,
            &pod,
            &["main 1g.5gb", "main 1g.5gb", "main 3g.20gb"],
        )
        .await
    })
}

#[test]
fn each_container_of_a_pod_gets_its_own_slice() -> Verdict {
    let pod = Pod::of("p", "2g.10gb")
        .container("side", &[("1g.5gb", 1)])
        .container("other", &[("1g.5gb", 1)]);
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        gets(
            system,
            &pod,
            &["main 2g.10gb", "other 1g.5gb", "side 1g.5gb"],
        )
        .await
    })
}

#[test]
fn a_container_takes_over_the_slice_of_its_init_container() -> Verdict {
    let pod = Pod::of("p", "2g.10gb")
        .init("prepare", &[("2g.10gb", 1)])
        .runs_for(1500);
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        gets(system, &pod, &["main 2g.10gb", "prepare 2g.10gb"]).await?;
        let devices = system.devices("p").await?;
        assert_eq!(devices[0].id, devices[1].id);
        system.succeeded("p").await.map(drop)
    })
}

#[test]
fn an_init_container_may_need_another_slice_than_the_rest() -> Verdict {
    let pod = Pod::of("p", "3g.20gb")
        .init("prepare", &[("1g.5gb", 1)])
        .runs_for(1500);
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        gets(system, &pod, &["main 3g.20gb", "prepare 1g.5gb"]).await?;
        system.succeeded("p").await?;
        // The slice of the init container is no one's any more.
        system.run(&Pod::of("whole", "7g.40gb")).await.map(drop)
    })
}

#[test]
fn a_pod_may_need_more_than_one_gpu() -> Verdict {
    let pod = Pod::new("p").asks(&[("4g.20gb", 2), ("3g.20gb", 1)]);
    scenario(Spec::gpus("A100-40GB:2"), async |system| {
        gets(
            system,
            &pod,
            &["main 3g.20gb", "main 4g.20gb", "main 4g.20gb"],
        )
        .await
    })
}

#[test]
fn slices_with_media_extensions_and_with_double_memory_are_served() -> Verdict {
    let pod = Pod::new("p").asks(&[("1g.5gb+me", 1), ("1g.10gb", 1), ("1g.5gb", 1)]);
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        gets(
            system,
            &pod,
            &["main 1g.10gb", "main 1g.5gb", "main 1g.5gb+me"],
        )
        .await
    })
}

#[test]
fn four_slice_gpus_are_served_as_well() -> Verdict {
    let pod = Pod::new("p").asks(&[("2g.12gb", 1), ("1g.6gb", 2)]);
    scenario(Spec::gpus("A30:1"), async |system| {
        gets(
            system,
            &pod,
            &["main 1g.6gb", "main 1g.6gb", "main 2g.12gb"],
        )
        .await
    })
}

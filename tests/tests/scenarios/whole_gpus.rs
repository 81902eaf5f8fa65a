//! GPUs that are not partitioned are offered whole.

use scenarios::{Pod, Spec, Verdict, scenario};

#[test]
fn a_gpu_without_mig_is_offered_whole() -> Verdict {
    scenario(Spec::gpus("T4:2"), async |system| {
        system.run(&Pod::new("p").asks(&[("gpu", 2)])).await?;
        assert_eq!(system.profiles("p").await?, ["gpu", "gpu"]);
        system.consistent().await
    })
}

#[test]
fn a_node_may_have_gpus_with_and_without_mig() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1 T4:1"), async |system| {
        system.run(&Pod::of("slice", "3g.20gb")).await?;
        system.run(&Pod::of("whole", "gpu")).await?;
        assert_eq!(system.profiles("slice").await?, ["3g.20gb"]);
        assert_eq!(system.device("whole").await?.device.gpu_index, 1);
        system.consistent().await
    })
}

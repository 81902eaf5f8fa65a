//! A kubelet that restarts forgets its plugins, and pods go on.

use scenarios::{Outcome, Pod, Spec, System, Verdict, scenario};
use simcluster::behaviour::Behaviour;

async fn goes_on(system: &System) -> Outcome {
    system.run(&Pod::of("stays", "3g.20gb")).await?;
    let kept = system.device("stays").await?;
    system.node("a")?.restart_kubelet().await?;
    system.run(&Pod::of("next", "2g.10gb")).await?;
    assert_eq!(system.device("stays").await?, kept);
    system.remove("stays").await?;
    system
        .run(&Pod::new("last").asks(&[("2g.10gb", 2)]))
        .await?;
    system.consistent().await
}

#[test]
fn slices_are_offered_again_after_a_restart_of_the_kubelet() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), goes_on)
}

#[test]
fn slices_are_offered_again_after_a_restart_of_an_old_kubelet() -> Verdict {
    scenario(
        Spec::gpus("A100-40GB:1").behaviour(Behaviour::V1_20),
        goes_on,
    )
}

#[test]
fn a_plan_survives_a_restart_of_the_kubelet() -> Verdict {
    let node = scenarios::NodeSpec::new("a", "A100-40GB:1").latency(500, 0);
    scenario(Spec::new().node(node), async |system| {
        system.create(&Pod::of("p", "3g.20gb"))?;
        system.event("p", "SlicePlanned").await?;
        system.node("a")?.restart_kubelet().await?;
        system.running("p").await?;
        system.consistent().await
    })
}

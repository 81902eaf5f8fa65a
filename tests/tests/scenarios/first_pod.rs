//! The main job: a pod that asks for a slice gets exactly that slice.

use scenarios::{Outcome, Pod, Spec, System, Verdict, scenario};
use simcluster::behaviour::Behaviour;

#[test]
fn the_first_pod_of_a_profile_gets_exactly_that() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), first_pod)
}

#[test]
fn the_first_pod_is_served_under_an_old_kubernetes() -> Verdict {
    scenario(
        Spec::gpus("A100-40GB:1").behaviour(Behaviour::V1_20),
        first_pod,
    )
}

#[test]
fn the_first_pod_is_served_under_a_kubernetes_that_insists_on_back_off() -> Verdict {
    scenario(
        Spec::gpus("A100-40GB:1").behaviour(Behaviour::V1_28),
        first_pod,
    )
}

async fn first_pod(system: &System) -> Outcome {
    system.run(&Pod::of("p", "3g.20gb")).await?;
    let given = system.device("p").await?;
    assert_eq!(given.resource, "nvidia.com/mig-3g.20gb");
    assert_eq!(given.device.profile, "3g.20gb");
    system.consistent().await
}

//! Pods that start together or not at all.

use scenarios::{Pod, Spec, System, Verdict, scenario};
use serde_json::json;
use simcluster::cluster::Behaviour;

const GATE: &str = "cdmo.clear.ml/partitioning";

/// A pod of the group `train`, which has four.
fn member(name: &str) -> Pod {
    let mut pod = Pod::of(name, "3g.20gb").object();
    pod["metadata"]["annotations"] = json!({
        "cdmo.clear.ml/group": "train",
        "cdmo.clear.ml/group-size": "4",
    });
    Pod::from(pod)
}

const MEMBERS: [&str; 4] = ["one", "two", "three", "four"];

fn made(system: &System) -> anyhow::Result<usize> {
    Ok(system.instances("a")?.len())
}

#[test]
fn nothing_is_made_for_a_group_until_its_last_pod_comes_and_there_is_room_for_all() -> Verdict {
    scenario(Spec::gpus("A100-40GB:2"), async |system| {
        system.run(&Pod::of("large", "7g.40gb")).await?;
        for name in &MEMBERS[..3] {
            system.create(&member(name))?;
        }
        let said = system.event("three", "GroupWaits").await?;
        anyhow::ensure!(said.contains("1 more pod of its group train"), "{said}");
        anyhow::ensure!(made(system)? == 1, "something was made for some of them");
        system.create(&member(MEMBERS[3]))?;
        let said = system.event("four", "GroupWaits").await?;
        anyhow::ensure!(said.contains("2 would fit at the same time"), "{said}");
        anyhow::ensure!(made(system)? == 1, "something was made for some of them");
        system.remove("large").await?;
        for name in MEMBERS {
            system.running(name).await?;
        }
        system.consistent().await
    })
}

#[test]
fn gated_pods_of_a_group_are_let_through_together() -> Verdict {
    let spec = Spec::gpus("A100-40GB:2").behaviour(Behaviour::V1_28);
    scenario(spec, async |system| {
        // Idle devices for two of them would be taken at once.
        for name in ["first", "second", "large"] {
            let profile = if name == "large" {
                "7g.40gb"
            } else {
                "3g.20gb"
            };
            system.run(&Pod::of(name, profile)).await?;
        }
        system.remove("first").await?;
        system.remove("second").await?;
        for name in MEMBERS {
            system.create(&member(name).gated(GATE))?;
        }
        system.event("one", "GroupWaits").await?;
        for name in MEMBERS {
            let pod = system.pod(name);
            let node = pod.as_ref().and_then(|pod| pod.pointer("/spec/nodeName"));
            anyhow::ensure!(
                node.is_none(),
                "{name} was bound before the others could be"
            );
        }
        system.remove("large").await?;
        for name in MEMBERS {
            system.running(name).await?;
        }
        system.consistent().await
    })
}

//! The main job: pods get exactly the slices that they ask for.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use scenarios::{Needs, Pod, Verdict, api_scenario};
use serde_json::Value;

/// Where a pod tells what was made for it.
const PLAN: &str = "cdmo.clear.ml/plan";

#[test]
fn a_pod_of_a_profile_gets_exactly_that() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.afresh().await?;
        ground.run(&Pod::of("p", "3g.20gb")).await?;
        let devices = ground.holds("p", &["3g.20gb"]).await?;
        ground.event("p", "SliceReady").await?;
        // The scheduler may need nothing but the node's status, and be faster than the annotation.
        let pod = ground
            .pod_until("p", "has its plan", |pod| {
                pod.annotations().contains_key(PLAN)
            })
            .await?;
        let plan: Value = serde_json::from_str(&pod.annotations()[PLAN])?;
        assert_eq!(plan["node"], devices[0].node.as_str());
        let planned = &plan["devices"][0];
        assert_eq!(planned["profile"], "3g.20gb", "{plan}");
        assert!(plan.to_string().contains(&devices[0].id), "{plan}");
        Ok(())
    })
}

#[test]
fn one_pod_gets_slices_of_several_profiles() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let pod = Pod::new("p").asks(&[("3g.20gb", 1), ("2g.10gb", 1), ("1g.5gb", 1)]);
        ground.run(&pod).await?;
        let profiles = ["1g.5gb", "2g.10gb", "3g.20gb"];
        ground.holds("p", &profiles).await.map(drop)
    })
}

#[test]
fn each_container_of_a_pod_gets_its_own_slice() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let pod = Pod::of("p", "2g.10gb").container("side", &[("1g.5gb", 1)]);
        ground.run(&pod).await?;
        ground.holds("p", &["1g.5gb", "2g.10gb"]).await.map(drop)
    })
}

#[test]
fn one_pod_gets_several_devices_on_several_gpus() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let pod = Pod::new("p").asks(&[("4g.20gb", 2), ("3g.20gb", 2)]);
        ground.run(&pod).await?;
        let profiles = ["3g.20gb", "3g.20gb", "4g.20gb", "4g.20gb"];
        ground.holds("p", &profiles).await.map(drop)
    })
}

#[test]
fn pods_that_come_at_once_get_a_device_each() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        // Three fit on each of the two GPUs.
        let names: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
        for name in &names {
            ground.create(&Pod::of(name, "2g.10gb")).await?;
        }
        let mut ids = BTreeSet::new();
        for name in &names {
            ground.running(name).await?;
            ids.extend(
                ground
                    .holds(name, &["2g.10gb"])
                    .await?
                    .into_iter()
                    .map(|d| d.id),
            );
        }
        assert_eq!(ids.len(), 6, "{ids:?}");
        Ok(())
    })
}

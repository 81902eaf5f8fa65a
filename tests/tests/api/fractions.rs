//! Fractions of a GPU: served by the profile that the GPU has for them, by idle instances of other names
//! where there are any, and counted by quotas.

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use scenarios::{Device, Disturbance, Ground, Needs, Outcome, Pod, Verdict, api_scenario};
use serde_json::json;

const EIGHTH: &str = "cdmo.clear.ml/fraction-0.125";
const QUARTER: &str = "cdmo.clear.ml/fraction-0.250";
const HALF: &str = "cdmo.clear.ml/fraction-0.500";
const THREE: &str = "nvidia.com/mig-3g.20gb";

/// Runs a pod that asks for one device, waits until it has it, and deletes it again.
async fn passes_through(ground: &Ground, pod: &str, resource: &str) -> anyhow::Result<Device> {
    ground.run(&Pod::of(pod, resource)).await?;
    let mut devices = ground.holds(pod, &["3g.20gb"]).await?;
    ground.release(&[pod]).await?;
    let device = devices.remove(0);
    assert_eq!(device.resource, resource);
    Ok(device)
}

#[test]
fn an_idle_instance_serves_a_fraction_and_its_profile_in_turn() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.afresh().await?;
        let made = passes_through(ground, "three", THREE).await?;
        let serial = ground.serial(&made)?;
        for (pod, resource) in [("half", HALF), ("again", THREE), ("once-more", HALF)] {
            let device = passes_through(ground, pod, resource).await?;
            assert_eq!(device.id, made.id, "{pod} has another one");
            assert_eq!(
                ground.serial(&device)?,
                serial,
                "it was made anew for {pod}"
            );
        }
        let why = ground.event("half", "SlicePlanned").await?;
        assert!(
            why.contains("available as cdmo.clear.ml/fraction-0.500"),
            "{why}"
        );
        Ok(())
    })
}

#[test]
fn one_pod_gets_several_fractions() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let pod = Pod::new("p")
            .asks(&[(HALF, 1), (EIGHTH, 2)])
            .container("side", &[(QUARTER, 1)]);
        ground.run(&pod).await?;
        let profiles = ["1g.5gb", "1g.5gb", "2g.10gb", "3g.20gb"];
        let devices = ground.holds("p", &profiles).await?;
        let mut names: Vec<_> = devices.iter().map(|d| d.resource.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, [EIGHTH, EIGHTH, QUARTER, HALF]);
        Ok(())
    })
}

#[test]
fn a_fraction_and_its_profile_are_told_apart_in_one_pod() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground
            .run(&Pod::new("p").asks(&[(HALF, 1), (THREE, 1)]))
            .await?;
        let devices = ground.holds("p", &["3g.20gb", "3g.20gb"]).await?;
        let mut names: Vec<_> = devices.iter().map(|d| d.resource.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, [HALF, THREE]);
        Ok(())
    })
}

#[test]
fn a_quota_limits_fractions() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let counted = format!("requests.{HALF}");
        let quota: ResourceQuota = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "halves"},
            "spec": {"hard": {counted.as_str(): "1"}},
        }))?;
        let quotas = ground.api::<ResourceQuota>();
        quotas.create(&PostParams::default(), &quota).await?;
        // Until the quota controller has come to it, every pod is refused.
        ground
            .until("the quota counts", async || {
                let status = quotas.get("halves").await.ok()?.status?;
                status
                    .hard
                    .filter(|hard| hard.contains_key(&counted))
                    .map(drop)
            })
            .await?;
        ground.run(&Pod::of("first", HALF)).await?;
        let refused = ground.create(&Pod::of("second", HALF)).await;
        let why = format!("{:#}", refused.expect_err("the quota is used up"));
        assert!(
            why.contains("exceeded quota: halves") && why.contains(HALF),
            "{why}"
        );
        // It counts what it names, and no other fraction.
        ground.run(&Pod::of("other", QUARTER)).await.map(drop)
    })
}

#[test]
fn a_fraction_that_is_none_is_told_which_there_are() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground
            .create(&Pod::of("p", "cdmo.clear.ml/fraction-0.3"))
            .await?;
        let why = ground.event("p", "InvalidProfile").await?;
        assert!(why.contains("0.125, 0.250, 0.500, 1.000"), "{why}");
        ground.remove("p").await
    })
}

async fn keeps_names(ground: &Ground, disturbance: Disturbance) -> Outcome {
    ground.afresh().await?;
    ground.run(&Pod::of("stays", HALF)).await?;
    let kept = ground.holds("stays", &["3g.20gb"]).await?;
    ground.run(&Pod::of("leaves", QUARTER)).await?;
    let idle = ground.holds("leaves", &["2g.10gb"]).await?;
    ground.release(&["leaves"]).await?;
    ground.settled().await?;
    ground.disturb(disturbance).await?;
    assert_eq!(ground.holds("stays", &["3g.20gb"]).await?, kept);
    ground.settled().await?;
    ground.run(&Pod::of("next", QUARTER)).await?;
    assert_eq!(ground.holds("next", &["2g.10gb"]).await?, idle);
    ground.release(&["stays", "next"]).await?;
    ground.run(&Pod::of("last", THREE)).await?;
    ground.holds("last", &["3g.20gb"]).await.map(drop)
}

#[test]
fn a_restarted_agent_goes_on_under_the_names_that_devices_had() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        keeps_names(ground, Disturbance::AgentRestart).await
    })
}

#[test]
fn an_agent_that_was_killed_goes_on_under_the_names_that_devices_had() -> Verdict {
    api_scenario(Needs::Machine, async |ground| {
        keeps_names(ground, Disturbance::AgentKilled).await
    })
}

#[test]
fn a_kubelet_that_restarts_learns_the_names_that_devices_had() -> Verdict {
    api_scenario(Needs::Machine, async |ground| {
        keeps_names(ground, Disturbance::KubeletRestart).await
    })
}

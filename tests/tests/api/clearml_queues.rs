//! The queues of ClearML's own guide: each as the pod that its agent makes of a task, through the webhook.
//! The webhook is asked here, where the served one would be.

use admission::{Options, review};
use anyhow::{Context as _, ensure};
use scenarios::{Ground, Needs, Pod, Verdict, api_scenario};
use serde_json::{Value, json};

const VALUES: &str = include_str!("../../../examples/clearml-agent-values.yaml");

/// Each queue, and the profile that its tasks get on an A100 with 40 GB.
const QUEUES: [(&str, Option<&str>); 4] = [
    ("default", None),
    ("gpu-fraction-1_00", Some("7g.40gb")),
    ("gpu-fraction-0_50", Some("3g.20gb")),
    ("gpu-fraction-0_25", Some("2g.10gb")),
];

/// The pod of a task, as ClearML's Kubernetes glue merges it from the queue's overrides.
fn task(queues: &Value, queue: &str, name: &str, wanted: impl Fn(&str) -> bool) -> Value {
    let overrides = &queues[queue]["templateOverrides"];
    let limits = overrides["resources"]["limits"].as_object();
    let limits = limits.into_iter().flatten();
    // As the API server hands them to a webhook.
    let limits = limits
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), Value::from(text))
        });
    let limits: serde_json::Map<_, _> = limits.collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": overrides["labels"], "annotations": {}},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": name,
            "image": "python:3.9",
            "resources": {"limits": limits},
        }]},
    })
}

/// What the API server would store of it.
fn admitted(ground: &Ground, mut pod: Value) -> anyhow::Result<Pod> {
    let request = json!({
        "operation": "CREATE",
        "namespace": ground.namespace(),
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": pod,
    });
    let decision = review(&request, &Options::default());
    ensure!(decision.denial.is_none(), "refused: {:?}", decision.denial);
    ensure!(decision.warnings.is_empty(), "{:?}", decision.warnings);
    let patch = serde_json::to_value(&decision.patch)?;
    json_patch::patch(
        &mut pod,
        &serde_json::from_value::<json_patch::Patch>(patch)?,
    )?;
    Ok(Pod::from(pod))
}

/// One task of each queue, all at once; every pod gets what its queue stands for.
async fn one_of_each(
    ground: &Ground,
    prefix: &str,
    wanted: impl Fn(&str) -> bool + Copy,
) -> anyhow::Result<Vec<scenarios::Device>> {
    let values: Value = serde_saphyr::from_str(VALUES)?;
    let queues = &values["agentk8sglue"]["queues"];
    let count = queues.as_object().context("there are no queues")?.len();
    ensure!(count == QUEUES.len(), "there are {count} queues");
    let tasks = QUEUES.map(|(queue, profile)| {
        let name = format!("{prefix}-{}", queue.replace('_', "-"));
        (queue, name, profile)
    });
    for (queue, name, _) in &tasks {
        let pod = admitted(ground, task(queues, queue, name, wanted))?;
        ground.create(&pod).await?;
    }
    let mut all = Vec::new();
    for (_, name, profile) in &tasks {
        ground.running(name).await?;
        let profiles: Vec<&str> = profile.iter().copied().collect();
        all.extend(ground.holds(name, &profiles).await?);
    }
    let names: Vec<&str> = tasks.iter().map(|(_, name, _)| name.as_str()).collect();
    ground.release(&names).await?;
    Ok(all)
}

#[test]
fn every_queue_of_clearmls_guide_runs_with_profile_and_with_fraction() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.afresh().await?;
        let profiles = one_of_each(ground, "both", |_| true).await?;
        let names = |devices: &[scenarios::Device]| {
            let names = devices.iter().map(|device| device.resource.clone());
            names.collect::<Vec<_>>()
        };
        assert_eq!(
            names(&profiles),
            ["7g.40gb", "3g.20gb", "2g.10gb"].map(|p| format!("nvidia.com/mig-{p}"))
        );
        let is_fraction = |name: &str| name.starts_with("clear.ml/");
        let fractions = one_of_each(ground, "fraction", is_fraction).await?;
        assert_eq!(
            names(&fractions),
            ["1.000", "0.500", "0.250"].map(|c| format!("cdmo.clear.ml/fraction-{c}"))
        );
        // What was idle under the names of profiles served.
        let ids = |devices: &[scenarios::Device]| {
            let ids = devices.iter().map(|device| device.id.clone());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(&fractions), ids(&profiles));
        Ok(())
    })
}

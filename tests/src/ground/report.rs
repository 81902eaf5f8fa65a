//! The controller's report, as `kubectl cdmo status` reads it: who holds which device.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use kubectl_cdmo::args::Cluster;
use kubectl_cdmo::source::Source;
use status_report::{Gpu, Instance, Report};
use testbed::manifests;

use super::{Ground, LIMIT, TICK};

/// A device in a pod's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The node.
    pub node: String,
    /// Uuid of the GPU.
    pub gpu: String,
    /// The profile; empty for a whole GPU.
    pub profile: String,
    /// The resource name it goes by; empty if it has none.
    pub resource: String,
    /// First memory slice.
    pub start: u8,
    /// Its id.
    pub id: String,
}

impl Ground {
    /// Where reports come from.
    async fn source(&self) -> anyhow::Result<Source> {
        let cluster = Cluster {
            namespace: manifests::NAMESPACE.to_owned(),
            selector: format!("app.kubernetes.io/name={}", manifests::CONTROLLER),
            kubeconfig: Some(self.kubeconfig.clone()),
            context: None,
        };
        Ok(Source::open(&cluster).await?)
    }

    /// The report as it is, without patience.
    pub(super) async fn report(&self) -> anyhow::Result<Report> {
        Ok(self.source().await?.fetch(&[], None).await?.report)
    }

    /// Waits until the report shows something. In none of those seen meanwhile may two pods hold
    /// one device, or two instances overlap.
    ///
    /// # Errors
    /// It takes too long, a report is impossible, or the probe fails.
    pub async fn report_until<T>(
        &self,
        what: &str,
        mut probe: impl FnMut(&Report) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let mut source = self.source().await?;
        let mut last = "there was none".to_owned();
        let wait = async {
            let mut after = None;
            loop {
                match source.fetch(&[], after).await {
                    Ok(fetched) => {
                        let report = fetched.report;
                        possible(&report)?;
                        if let Some(found) = probe(&report)? {
                            return Ok(found);
                        }
                        after = Some(report.revision);
                        last = brief(&report);
                    }
                    // Controllers and API servers restart.
                    Err(error) => {
                        after = None;
                        last = error.to_string();
                        tokio::time::sleep(TICK).await;
                    }
                }
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("waited {LIMIT:?} until {what}; the last report: {last}"),
        }
    }

    /// Waits until a pod holds devices of exactly these profiles, and returns them.
    pub async fn holds(&self, pod: &str, profiles: &[&str]) -> anyhow::Result<Vec<Device>> {
        let mut wanted: Vec<&str> = profiles.to_vec();
        wanted.sort_unstable();
        let what = format!("pod {pod} holds {wanted:?} and nothing else");
        self.report_until(&what, |report| {
            let held = held_by(report, &self.namespace, pod);
            let mut got: Vec<&str> = held.iter().map(|device| device.profile.as_str()).collect();
            got.sort_unstable();
            Ok((got == wanted).then(|| held.clone()))
        })
        .await
    }

    /// Waits until nobody holds any device.
    pub async fn nothing_held(&self) -> anyhow::Result<()> {
        self.report_until("nobody holds a device", |report| {
            let mut all = instances(report);
            Ok(all
                .all(|(_, _, instance)| {
                    instance.holders.is_empty()
                        && instance.state != status_report::InstanceState::Held
                })
                .then_some(()))
        })
        .await
    }

    /// All devices that there are, held or not, in the order of nodes, GPUs and slices.
    pub async fn devices(&self) -> anyhow::Result<Vec<Device>> {
        let report = self.report().await?;
        Ok(instances(&report).map(device).collect())
    }
}

/// All instances, and whole GPUs.
pub(super) fn instances(report: &Report) -> impl Iterator<Item = (&str, &Gpu, &Instance)> {
    let gpus = report
        .nodes
        .iter()
        .flat_map(|node| node.gpus.iter().map(|gpu| (node.name.as_str(), gpu)));
    gpus.flat_map(|(node, gpu)| {
        let all = gpu.instances.iter().chain(&gpu.whole);
        all.map(move |instance| (node, gpu, instance))
    })
}

fn device((node, gpu, instance): (&str, &Gpu, &Instance)) -> Device {
    Device {
        node: node.to_owned(),
        gpu: gpu.uuid.clone(),
        profile: instance.profile.clone(),
        resource: instance.resource.clone().unwrap_or_default(),
        start: instance.start,
        id: instance.device_id.clone(),
    }
}

fn held_by(report: &Report, namespace: &str, pod: &str) -> Vec<Device> {
    let holds = |instance: &Instance| {
        let mut holders = instance.holders.iter();
        holders.any(|holder| holder.namespace == namespace && holder.name == pod)
    };
    instances(report)
        .filter(|(_, _, instance)| holds(instance))
        .map(device)
        .collect()
}

/// Fails on what must never be.
fn possible(report: &Report) -> anyhow::Result<()> {
    let mut on_gpu: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for (node, gpu, instance) in instances(report) {
        ensure!(
            instance.holders.len() < 2,
            "device {} of node {node} is held by {} and {} at once",
            instance.device_id,
            instance.holders[0],
            instance.holders[1]
        );
        let others = on_gpu.entry(&gpu.uuid).or_default();
        let end = instance.start + instance.size;
        let clash = others
            .iter()
            .find(|other| instance.start < other.start + other.size && other.start < end);
        if let Some(other) = clash {
            bail!(
                "{} at {} and {} at {} of GPU {} overlap",
                instance.profile,
                instance.start,
                other.profile,
                other.start,
                gpu.uuid
            );
        }
        others.push(instance);
    }
    Ok(())
}

/// A report in one line.
fn brief(report: &Report) -> String {
    let agents = report
        .nodes
        .iter()
        .map(|node| format!("{} {:?}", node.name, node.agent.state));
    let all = instances(report).map(|(_, gpu, instance)| {
        let holders: Vec<String> = instance.holders.iter().map(ToString::to_string).collect();
        let (profile, start, state) = (&instance.profile, instance.start, instance.state);
        let holders = holders.join(" and ");
        format!("GPU {} {profile} at {start} {state:?} {holders}", gpu.index)
    });
    let waiting = report.waiting.iter();
    let waiting = waiting.map(|pod| format!("{} waits: {}", pod.pod, pod.message));
    let all: Vec<String> = agents.chain(all).chain(waiting).collect();
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(instances: &serde_json::Value) -> Report {
        let gpu = json!({
            "index": 0, "uuid": "g", "product": "p", "slices": 8, "mig": "on", "instances": instances,
        });
        let node = json!({
            "name": "n", "managed": true, "agent": { "state": "up" }, "gpus": [gpu],
        });
        let time = "2026-01-01T00:00:00Z";
        serde_json::from_value(json!({
            "apiVersion": status_report::API_VERSION, "revision": 1, "time": time,
            "controller": { "name": "c", "version": "1", "since": time }, "nodes": [node],
        }))
        .unwrap()
    }

    fn instance(start: u8, size: u8, holders: &[&str]) -> serde_json::Value {
        let holders: Vec<_> = holders
            .iter()
            .map(|name| json!({ "namespace": "d", "name": name }))
            .collect();
        json!({
            "profile": "x", "start": start, "size": size, "gpuInstanceId": 1,
            "deviceId": format!("MIG-{start}"), "state": "held", "holders": holders,
        })
    }

    #[test]
    fn two_pods_on_one_device_are_found() {
        let sound = report(&json!([instance(0, 4, &["a"]), instance(4, 4, &["b"])]));
        possible(&sound).unwrap();
        assert_eq!(held_by(&sound, "d", "b")[0].id, "MIG-4");
        let error = possible(&report(&json!([instance(0, 4, &["a", "b"])]))).unwrap_err();
        assert!(error.to_string().contains("d/a and d/b at once"), "{error}");
    }

    #[test]
    fn instances_that_overlap_are_found() {
        let error = possible(&report(&json!([instance(0, 4, &[]), instance(3, 1, &[])])));
        assert!(error.unwrap_err().to_string().contains("overlap"));
    }
}

//! What `--json` prints: one object a pod, for programs.

use serde::Serialize;
use testbed::journey::{Journey, Stage};

/// One pod.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "programs rely on these names")]
pub(crate) struct Pod {
    pod: String,
    phase: String,
    reason: Option<String>,
    node: Option<String>,
    devices: Vec<Device>,
    pending_to_allocated_ms: Option<f64>,
    pending_to_running_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "programs rely on these names")]
struct Device {
    resource: String,
    gpu_uuid: Option<String>,
    profile: Option<String>,
    start: Option<u8>,
    device_id: String,
}

impl From<&Journey> for Pod {
    fn from(journey: &Journey) -> Self {
        let took = |stage| {
            journey
                .took(stage)
                .map(|time| round(time.as_secs_f64() * 1000.0))
        };
        let reason = journey.reason.as_ref();
        let devices = journey.grants.iter().map(|grant| {
            let device = grant.device.as_ref();
            let profile = device.map(|device| device.profile.clone());
            Device {
                resource: grant.resource.clone(),
                gpu_uuid: device.map(|device| device.gpu_uuid.clone()),
                start: device
                    .filter(|d| !d.profile.is_empty())
                    .map(|device| device.start),
                profile: profile.filter(|profile| !profile.is_empty()),
                device_id: grant.device_id.clone(),
            }
        });
        Self {
            pod: journey.pod.to_string(),
            phase: journey.phase.clone(),
            reason: reason
                .filter(|_| !journey.has_run())
                .map(|(reason, message)| format!("{reason}: {message}")),
            node: journey.node.clone(),
            devices: devices.collect(),
            pending_to_allocated_ms: took(Stage::Allocated),
            pending_to_running_ms: took(Stage::Running),
        }
    }
}

/// To a microsecond; what is behind that is noise.
fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;
    use testbed::journey::{Device, Grant, Journeys};

    #[test]
    fn an_object_has_the_fields_that_programs_rely_on() {
        let mut journeys = Journeys::default();
        let mut pod = json!({
            "metadata": { "namespace": "team", "name": "one", "uid": "1" },
            "spec": { "nodeName": "a", "containers": [{ "name": "main" }] },
            "status": { "phase": "Pending" },
        });
        journeys.pod_seen(&pod, Duration::from_millis(10));
        let device = Device {
            gpu_uuid: "GPU-1".into(),
            gpu_index: 0,
            profile: "3g.20gb".into(),
            start: 4,
            size: 4,
            serial: 1,
            resources: vec!["nvidia.com/mig-3g.20gb".into()],
        };
        let grant = Grant {
            container: "main".into(),
            resource: "nvidia.com/mig-3g.20gb".into(),
            device_id: "MIG-1".into(),
            device: Some(device),
        };
        let key = journeys.all()[0].pod.clone();
        journeys.granted(&key, "a", vec![grant], Duration::from_millis(30));
        pod["status"]["phase"] = "Running".into();
        journeys.pod_seen(&pod, Duration::from_micros(40_500));
        let printed = serde_json::to_value(Pod::from(&journeys.all()[0])).unwrap();
        assert_eq!(
            printed,
            json!({
                "pod": "team/one", "phase": "Running", "reason": null, "node": "a",
                "devices": [{
                    "resource": "nvidia.com/mig-3g.20gb", "gpu_uuid": "GPU-1",
                    "profile": "3g.20gb", "start": 4, "device_id": "MIG-1",
                }],
                "pending_to_allocated_ms": 20.0, "pending_to_running_ms": 30.5,
            })
        );
    }
}

use serde_json::json;

use super::*;

fn report() -> Report {
    let time: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let pod = PodRef {
        namespace: "default".into(),
        name: "train".into(),
    };
    Report {
        api_version: API_VERSION.into(),
        revision: 7,
        time,
        controller: Controller {
            name: "cdmo-controller-0".into(),
            version: "0.1.0".into(),
            since: time,
        },
        nodes: vec![Node {
            name: "a".into(),
            managed: true,
            agent: Agent {
                state: AgentState::Up,
                since: Some(time),
                reason: None,
            },
            gpus: vec![Gpu {
                index: 0,
                uuid: "GPU-0".into(),
                product: "NVIDIA A100-SXM4-40GB".into(),
                slices: 8,
                mig: MigMode::On,
                instances: vec![Instance {
                    profile: "3g.20gb".into(),
                    start: 4,
                    size: 4,
                    gpu_instance_id: 2,
                    device_id: "MIG-1".into(),
                    resource: Some("nvidia.com/mig-3g.20gb".into()),
                    state: InstanceState::Held,
                    since: Some(time),
                    holders: vec![pod.clone()],
                    reason: None,
                }],
                whole: None,
                out_of_reach: Vec::new(),
                rest: None,
                kept_free: Vec::new(),
            }],
            operations: Vec::new(),
            problems: Vec::new(),
        }],
        waiting: vec![WaitingPod {
            pod,
            since: time,
            wants: [("nvidia.com/mig-7g.40gb".to_owned(), 1)].into(),
            reason: "NoRoom".into(),
            message: "no room".into(),
        }],
    }
}

#[test]
fn a_report_reads_as_it_was_written() {
    let text = serde_json::to_string(&report()).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
}

#[test]
fn the_document_is_what_scripts_rely_on() {
    let value = serde_json::to_value(report()).unwrap();
    assert_eq!(value["apiVersion"], "status.cdmo.clear.ml/v1");
    let instance = &value["nodes"][0]["gpus"][0]["instances"][0];
    let expected = json!({
        "profile": "3g.20gb", "start": 4, "size": 4, "gpuInstanceId": 2, "deviceId": "MIG-1",
        "resource": "nvidia.com/mig-3g.20gb", "state": "held", "since": "2026-03-01T12:00:00Z",
        "holders": [{"namespace": "default", "name": "train"}],
    });
    assert_eq!(*instance, expected);
    assert_eq!(value["waiting"][0]["name"], "train");
    assert!(value["nodes"][0].get("problems").is_none());
}

#[test]
fn words_and_fields_of_a_later_release_do_no_harm() {
    let mut value = serde_json::to_value(report()).unwrap();
    value["nodes"][0]["agent"]["state"] = json!("upgrading");
    value["nodes"][0]["gpus"][0]["instances"][0]["state"] = json!("leased");
    value["nodes"][0]["colour"] = json!("green");
    let read: Report = serde_json::from_value(value).unwrap();
    assert_eq!(read.nodes[0].agent.state, AgentState::Unknown);
    let instance = &read.nodes[0].gpus[0].instances[0];
    assert_eq!(instance.state, InstanceState::Unknown);
}

use serde_json::json;

use super::*;

fn report() -> Report {
    serde_json::from_value(json!({
        "apiVersion": status_report::API_VERSION,
        "revision": 1,
        "time": "2026-03-01T12:00:00Z",
        "controller": { "name": "c", "version": "0.1.0", "since": "2026-03-01T11:00:00Z" },
        "nodes": [{
            "name": "gpu-1", "managed": true, "agent": { "state": "up" },
            "gpus": [{
                "index": 0, "uuid": "GPU-a", "product": "A100", "slices": 8, "mig": "on",
                "instances": [{
                    "profile": "3g.20gb", "start": 4, "size": 4, "gpuInstanceId": 1, "state": "held",
                    "resource": "cdmo.clear.ml/fraction-0.500", "since": "2026-03-01T11:57:00Z",
                    "holders": [{ "namespace": "team-a", "name": "train" }],
                }],
            }],
            "operations": [{
                "id": "1", "stage": "making", "since": "2026-03-01T11:59:59Z",
                "planned": "2026-03-01T11:59:58Z", "pod": { "namespace": "team-a", "name": "new" },
                "makes": [{ "gpu": "GPU-a", "profile": "1g.5gb", "start": 0, "size": 1 }],
            }],
        }],
        "waiting": [
            {
                "namespace": "team-a", "name": "new", "since": "2026-03-01T11:59:00Z",
                "wants": { "nvidia.com/mig-1g.5gb": 1 }, "reason": "Planned", "message": "being made on node gpu-1",
            },
            {
                "namespace": "team-b", "name": "first", "since": "2026-03-01T11:59:10Z",
                "wants": { "nvidia.com/mig-7g.40gb": 1 }, "reason": "NoRoom", "message": "no node for it",
            },
            {
                "namespace": "team-a", "name": "second", "since": "2026-03-01T11:59:20Z",
                "wants": { "nvidia.com/mig-7g.40gb": 1 }, "reason": "NoRoom",
                "message": "no room for 1x nvidia.com/mig-7g.40gb now: 1 node: 7g.40gb blocked by team-a/train on GPU 0 of node gpu-1",
            },
        ],
    }))
    .unwrap()
}

fn plain(pod: &str) -> Option<String> {
    let report = report();
    let page = Page {
        width: 80,
        cut: false,
        now: report.time,
    };
    let pod = named(pod, "team-a").unwrap();
    let text = text(&page, &report, &pod)?;
    Some(anstream::adapter::strip_str(&text).to_string())
}

#[test]
fn a_pod_is_explained_by_what_it_holds_what_is_done_for_it_or_why_it_waits() {
    let all = ["train", "new", "second"].map(|pod| plain(pod).unwrap());
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_pod_that_neither_waits_nor_holds_anything_is_not_known() {
    assert_eq!(plain("team-b/train"), None);
    assert!(plain("team-a/train").is_some());
    assert!(plain("pod/train").is_some());
}

#[test]
fn a_name_that_is_none_is_refused_in_a_sentence() {
    for name in ["", "/", "a/", "/b", "a/b/c"] {
        let sentence = named(name, "ns").unwrap_err().to_string();
        assert!(sentence.contains("write NAMESPACE/POD"), "{sentence}");
    }
}

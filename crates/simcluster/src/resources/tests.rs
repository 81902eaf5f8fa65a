use serde_json::json;

use super::*;

#[test]
fn init_containers_count_by_the_largest_and_sidecars_with_everything() {
    let of = |n: u32| json!({ "limits": { "example.com/x": n.to_string() } });
    let pod = json!({ "spec": {
        "initContainers": [
            { "name": "a", "resources": of(3) },
            { "name": "s", "resources": of(1), "restartPolicy": "Always" },
            { "name": "b", "resources": of(4) },
        ],
        "containers": [{ "name": "c", "resources": of(2) }, { "name": "d", "resources": of(1) }],
    }});
    assert_eq!(pod_requests(&pod).get("example.com/x"), 5);
}

#[test]
fn a_request_goes_before_the_limit_and_the_limit_stands_in_for_a_missing_request() {
    let container = json!({ "resources": {
        "limits": { "cpu": "2", "memory": "1Gi" }, "requests": { "cpu": "250m" },
    }});
    let requests = container_requests(&container);
    assert_eq!(requests.get(CPU), 250);
    assert_eq!(requests.get(MEMORY), 1 << 30);
}

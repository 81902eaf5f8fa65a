//! Pods as both kinds of cluster take them: the embedded one goes by the annotations, a real one
//! runs the command.

use serde_json::{Value, json};

use crate::pods::Pod;

/// How long a container runs, in the embedded cluster.
const RUN_FOR: &str = "/metadata/annotations/simcluster.cdmo~1run-for";
/// Runs until it is told to end, and ends at once then.
const FOREVER: &str = "trap 'exit 0' TERM; sleep 1000000 & wait";

/// The object of a pod.
pub(super) fn pod(pod: &Pod, image: &str) -> Value {
    let mut object = pod.object();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        // That of the request.
        metadata.remove("namespace");
    }
    let milliseconds = object.pointer(RUN_FOR).and_then(Value::as_str);
    let milliseconds = milliseconds.and_then(|text| text.strip_suffix("ms")?.parse::<u64>().ok());
    let script = match milliseconds {
        Some(milliseconds) => format!("sleep {}", milliseconds.div_ceil(1000)),
        None => FOREVER.to_owned(),
    };
    let spec = &mut object["spec"];
    spec["terminationGracePeriodSeconds"] = 5.into();
    spec["automountServiceAccountToken"] = false.into();
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        container["image"] = image.into();
        container["imagePullPolicy"] = "IfNotPresent".into();
        container["command"] = json!(["sh", "-c", script]);
    }
    object
}

/// A template of such pods with a label `app`.
fn template(pod_: &Pod, image: &str, app: &str, restart: &str) -> Value {
    let object = pod(pod_, image);
    let mut spec = object["spec"].clone();
    spec["restartPolicy"] = restart.into();
    let annotations = &object["metadata"]["annotations"];
    json!({ "metadata": { "labels": { "app": app }, "annotations": annotations }, "spec": spec })
}

/// A Job of that many such pods, so many at a time.
pub(super) fn job(pod: &Pod, image: &str, name: &str, pods: u32, at_a_time: u32) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name },
        "spec": {
            "completions": pods,
            "parallelism": at_a_time,
            "backoffLimit": 0,
            "template": template(pod, image, name, "Never"),
        },
    })
}

/// A Deployment of that many such pods.
pub(super) fn replicas(pod: &Pod, image: &str, name: &str, count: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": count,
            "selector": { "matchLabels": { "app": name } },
            "template": template(pod, image, name, "Always"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_runs_as_long_in_a_real_cluster_as_in_the_embedded_one() {
        let command = |p: &Pod| pod(p, "i")["spec"]["containers"][0]["command"][2].clone();
        assert_eq!(command(&Pod::of("p", "1g.5gb").runs_for(1500)), "sleep 2");
        assert_eq!(command(&Pod::of("p", "1g.5gb")), FOREVER);
    }

    #[test]
    fn every_container_gets_an_image_that_there_is() {
        let two = Pod::of("p", "1g.5gb").container("side", &[]);
        let object = pod(&two, "here/image:1");
        for container in object["spec"]["containers"].as_array().unwrap() {
            assert_eq!(container["image"], "here/image:1");
        }
        assert!(object["metadata"].get("namespace").is_none());
    }
}

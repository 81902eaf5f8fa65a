//! The queues that ClearML's own guide sets up, each as the pod that its agent makes.

use serde_json::{Value, json};

use crate::server::{container, create, variable, yaml};

const VALUES: &str = include_str!("../../../../examples/clearml-agent-values.yaml");

/// The pod of a task in a queue, as ClearML's Kubernetes glue merges it from the queue's overrides.
fn pod(queue: &Value) -> Value {
    let overrides = &queue["templateOverrides"];
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "clearml-id-1", "labels": overrides["labels"]},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "clearml-id-1",
            "image": "python:3.9",
            "resources": overrides.get("resources").cloned().unwrap_or_else(|| json!({})),
        }]},
    })
}

#[test]
fn every_queue_of_clearmls_guide_is_served_without_a_warning() {
    let values = yaml(VALUES);
    let queues = values["agentk8sglue"]["queues"].as_object().unwrap();
    assert_eq!(queues.len(), 4);
    for (name, limits, reported) in [
        ("default", Value::Null, None),
        (
            "gpu-fraction-1_00",
            json!({"nvidia.com/mig-7g.40gb": "1"}),
            Some("1"),
        ),
        (
            "gpu-fraction-0_50",
            json!({"nvidia.com/mig-3g.20gb": "1"}),
            Some("0.5"),
        ),
        (
            "gpu-fraction-0_25",
            json!({"nvidia.com/mig-2g.10gb": "1"}),
            Some("0.25"),
        ),
    ] {
        let pod = pod(&queues[name]);
        let stored = create("pods", &pod).unwrap();
        assert_eq!(stored.warnings, [""; 0], "{name}");
        let main = container("pods", &stored.object, 0);
        assert_eq!(
            main["resources"].get("limits").cloned().unwrap_or_default(),
            limits,
            "{name}"
        );
        assert_eq!(
            main["resources"].get("requests"),
            main["resources"].get("limits"),
            "{name}"
        );
        assert_eq!(variable(main), reported, "{name}");
        assert_eq!(
            stored.object["metadata"]["labels"],
            pod["metadata"]["labels"]
        );
        assert!(create("pods", &stored.object).unwrap().patch.is_empty());
    }
}

#[test]
fn without_the_profile_the_same_queues_run_on_any_model() {
    let values = yaml(VALUES);
    for (name, class) in [
        ("gpu-fraction-1_00", "1.000"),
        ("gpu-fraction-0_50", "0.500"),
        ("gpu-fraction-0_25", "0.250"),
    ] {
        let mut pod = pod(&values["agentk8sglue"]["queues"][name]);
        let limits = pod["spec"]["containers"][0]["resources"]["limits"]
            .as_object_mut()
            .unwrap();
        limits.retain(|resource, _| resource.starts_with("clear.ml/"));
        let stored = create("pods", &pod).unwrap();
        let resources = &container("pods", &stored.object, 0)["resources"];
        assert_eq!(*resources, crate::server::class(class, 1), "{name}");
    }
}

//! Defaults as the real server fills them in (pkg/apis/core/v1/defaults.go,
//! plugin/pkg/admission/defaulttolerationseconds), for what kubectl shows and controllers read.

mod webhooks;
mod workloads;

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

use super::Kind;
use super::admission::CONTAINER_LISTS;
use super::object::{array, child, remove, set_default};
use crate::behaviour::Behaviour;

/// Fills in what is not said; does nothing the second time.
pub(super) fn fill(kind: Kind, object: &mut Value) {
    match kind {
        Kind::Pod => {
            let spec = child(object, "spec");
            template_spec(spec);
            pod_spec(spec);
        }
        Kind::DaemonSet
        | Kind::Deployment
        | Kind::ReplicaSet
        | Kind::StatefulSet
        | Kind::Job
        | Kind::CronJob => workloads::fill(kind, object),
        Kind::MutatingWebhookConfiguration => webhooks::fill(object),
        Kind::Service => service(child(object, "spec")),
        Kind::Node => node(object),
        Kind::Secret => secret(object),
        Kind::PriorityClass => set_default(object, "preemptionPolicy", "PreemptLowerPriority"),
        Kind::Event => set_default(object, "type", "Normal"),
        _ => {}
    }
}

/// What an object gets once, when it is made: what only the server says of it.
pub(super) fn complete(behaviour: Behaviour, kind: Kind, object: &mut Value) {
    match kind {
        Kind::Pod => new_pod(object),
        Kind::Namespace => new_namespace(object),
        Kind::DaemonSet => {
            object["status"] = json!({
                "currentNumberScheduled": 0,
                "desiredNumberScheduled": 0,
                "numberMisscheduled": 0,
                "numberReady": 0,
            });
        }
        Kind::ReplicaSet | Kind::StatefulSet => object["status"] = json!({ "replicas": 0 }),
        Kind::Deployment | Kind::CronJob | Kind::ResourceQuota => object["status"] = json!({}),
        Kind::Job => {
            object["status"] = json!({});
            workloads::own_pods(behaviour, object);
        }
        _ => {}
    }
}

fn new_pod(pod: &mut Value) {
    let qos = quality_of_service(&pod["spec"]);
    pod["status"] = json!({ "phase": "Pending", "qosClass": qos });
    if !array(pod, "/spec/schedulingGates").is_empty() {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": null,
        }]);
    }
}

/// The `DefaultTolerationSeconds` admission plugin.
pub(super) fn tolerations(pod: &mut Value) {
    let spec = child(pod, "spec");
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(tolerations) = spec["tolerations"].as_array_mut() else {
        return;
    };
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = tolerations.iter().any(|toleration| {
            let matching = toleration["key"]
                .as_str()
                .is_none_or(|k| k.is_empty() || k == key);
            let effect = toleration["effect"].as_str().unwrap_or_default();
            matching && matches!(effect, "" | "NoExecute")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }));
        }
    }
}

/// What a namespace gets once, when it is made.
fn new_namespace(namespace: &mut Value) {
    namespace["status"] = json!({ "phase": "Active" });
    namespace["spec"] = json!({ "finalizers": ["kubernetes"] });
    let metadata = child(namespace, "metadata");
    let name = metadata["name"].clone();
    child(metadata, "labels")["kubernetes.io/metadata.name"] = name;
}

/// What pods get that their templates do not: accounts, and requests for what is limited.
fn pod_spec(spec: &mut Value) {
    set_default(spec, "enableServiceLinks", true);
    let account = spec
        .get("serviceAccountName")
        .cloned()
        .unwrap_or_else(|| "default".into());
    set_default(spec, "serviceAccountName", account.clone());
    set_default(spec, "serviceAccount", account);
    for list in CONTAINER_LISTS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(resources) = container.get_mut("resources") {
                request_limits(resources);
            }
        }
    }
}

/// What pods and templates get.
fn template_spec(spec: &mut Value) {
    set_default(spec, "restartPolicy", "Always");
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "dnsPolicy", "ClusterFirst");
    set_default(spec, "schedulerName", "default-scheduler");
    set_default(spec, "securityContext", json!({}));
    let host_network = spec["hostNetwork"] == true;
    for list in CONTAINER_LISTS {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers
            .iter_mut()
            .filter(|container| container.is_object())
        {
            fill_container(container, host_network);
        }
    }
}

fn fill_container(container: &mut Value, host_network: bool) {
    set_default(container, "terminationMessagePath", "/dev/termination-log");
    set_default(container, "terminationMessagePolicy", "File");
    let image = container["image"].as_str().unwrap_or_default();
    let after_slash = image.rsplit('/').next().unwrap_or_default();
    let floating = !image.contains('@')
        && after_slash
            .split_once(':')
            .is_none_or(|(_, tag)| tag == "latest");
    set_default(
        container,
        "imagePullPolicy",
        if floating { "Always" } else { "IfNotPresent" },
    );
    set_default(container, "resources", json!({}));
    for port in container
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        set_default(port, "protocol", "TCP");
        if host_network && let Some(number) = port.get("containerPort").cloned() {
            set_default(port, "hostPort", number);
        }
    }
    for variable in container
        .get_mut("env")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            set_default(field, "apiVersion", "v1");
        }
    }
}

/// A resource that is limited but not requested is requested up to its limit.
fn request_limits(resources: &mut Value) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    let requests = child(resources, "requests");
    for (name, limit) in limits {
        set_default(requests, &name, limit);
    }
}

/// pkg/apis/core/v1/helper/qos: only cpu and memory count.
fn quality_of_service(spec: &Value) -> &'static str {
    let containers = CONTAINER_LISTS
        .iter()
        .filter_map(|list| spec.get(*list)?.as_array())
        .flatten();
    let mut any = false;
    let mut guaranteed = true;
    for container in containers {
        let empty = Map::new();
        let amounts = |list: &str| {
            container
                .pointer(&format!("/resources/{list}"))
                .and_then(Value::as_object)
                .cloned()
        };
        let limits = amounts("limits").unwrap_or_else(|| empty.clone());
        let requests = amounts("requests").unwrap_or(empty);
        for resource in ["cpu", "memory"] {
            any |= limits.contains_key(resource) || requests.contains_key(resource);
            guaranteed &=
                limits.contains_key(resource) && limits.get(resource) == requests.get(resource);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// `stringData` is for writing only; it ends up in `data`.
fn secret(secret: &mut Value) {
    set_default(secret, "type", "Opaque");
    let Some(Value::Object(texts)) = remove(secret, "stringData") else {
        return;
    };
    let data = child(secret, "data");
    for (name, text) in texts {
        let bytes = text.as_str().unwrap_or_default().as_bytes().to_vec();
        data[name] = serde_json::to_value(ByteString(bytes)).unwrap_or_default();
    }
}

fn service(spec: &mut Value) {
    set_default(spec, "type", "ClusterIP");
    set_default(spec, "sessionAffinity", "None");
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        set_default(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            set_default(port, "targetPort", number);
        }
    }
}

fn node(node: &mut Value) {
    child(node, "spec");
    if let Some(capacity) = node.pointer("/status/capacity").cloned() {
        set_default(&mut node["status"], "allocatable", capacity);
    }
}

//! The objects that install the system into the embedded cluster; what a chart does in a real one.

use std::path::Path;

use serde_json::{Value, json};

use crate::hardware;

/// Namespace of agents and controller.
pub const NAMESPACE: &str = "cdmo-operator";
/// Label that hands a node to the system, and its value.
pub const NODE_LABEL: (&str, &str) = ("cdmo.clear.ml/gpu-partitioning", "mig");
/// Value of `app.kubernetes.io/name` of the agents; also their image, below `cdmo/`.
pub const AGENT: &str = "mig-node-agent";
/// Value of `app.kubernetes.io/name` of the controller; also its image, below `cdmo/`.
pub const CONTROLLER: &str = "cdmo-controller";
/// Where an agent finds its certificate, below the host root.
pub const AGENT_TLS: &str = "etc/cdmo/tls";
/// Port of the agents' health and metrics.
pub const AGENT_HTTP: u16 = 7444;
/// Port of the controller's health and metrics.
pub const CONTROLLER_HTTP: u16 = 7445;

/// The namespace.
pub fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// The agents, one on each node with the label.
pub fn agents(log_level: &str) -> Value {
    let labels = json!({ "app.kubernetes.io/name": AGENT });
    let (label, value) = NODE_LABEL;
    let handed_over = json!({ "key": label, "operator": "In", "values": [value] });
    let affinity = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [handed_over] }],
        },
    }});
    let tls = format!("$(HOST_ROOT)/{AGENT_TLS}");
    let container = json!({
        "name": "agent",
        "image": format!("cdmo/{AGENT}"),
        "ports": [{ "name": "grpc", "containerPort": 7443 }],
        "args": [
            "--node-name=$(NODE_NAME)",
            "--listen=$(POD_IP):7443",
            format!("--http-listen=$(POD_IP):{AGENT_HTTP}"),
            "--kubelet-dir=$(HOST_ROOT)/var/lib/kubelet",
            "--state-dir=$(HOST_ROOT)/var/lib/cdmo",
            format!("--nvml-library=$(HOST_ROOT)/{}", hardware::LIBRARY),
            format!("--tls-ca={tls}/ca.crt"),
            format!("--tls-cert={tls}/tls.crt"),
            format!("--tls-key={tls}/tls.key"),
            "--proc-dir=$(HOST_ROOT)/proc",
            "--host-root=$(HOST_ROOT)",
            format!("--log-level={log_level}"),
        ],
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": AGENT, "namespace": NAMESPACE },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "hostNetwork": true,
                    "automountServiceAccountToken": false,
                    "affinity": affinity,
                    "containers": [container],
                },
            },
        },
    })
}

/// The controller, as a plain pod on one node, with its certificate from a folder and further
/// arguments.
pub fn controller(node: &str, tls: &Path, log_level: &str, further: &[String]) -> Value {
    let tls = tls.display();
    let mut args = vec![
        "--kubeconfig=$(KUBECONFIG)".to_owned(),
        format!("--namespace={NAMESPACE}"),
        format!("--http-listen=$(POD_IP):{CONTROLLER_HTTP}"),
        format!("--tls-ca={tls}/ca.crt"),
        format!("--tls-cert={tls}/tls.crt"),
        format!("--tls-key={tls}/tls.key"),
        format!("--log-level={log_level}"),
    ];
    args.extend(further.iter().cloned());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": CONTROLLER,
            "namespace": NAMESPACE,
            "labels": { "app.kubernetes.io/name": CONTROLLER },
        },
        "spec": {
            "nodeSelector": { "kubernetes.io/hostname": node },
            "containers": [{
                "name": "controller",
                "image": format!("cdmo/{CONTROLLER}"),
                "args": args,
            }],
        },
    })
}

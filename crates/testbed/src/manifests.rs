//! The objects that install the system into the embedded cluster; what a chart does in a real one.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
/// Value of `app.kubernetes.io/name` of the webhook; it is a subcommand of the controller.
pub const WEBHOOK: &str = "cdmo-webhook";
/// Port of the webhook.
pub const WEBHOOK_HTTPS: u16 = 7446;
/// Port of the webhook's health and metrics.
pub const WEBHOOK_HTTP: u16 = 7445;
/// Label that lets the webhook look at a namespace where the API server has no match conditions, and
/// its value.
pub const WEBHOOK_LABEL: (&str, &str) = ("cdmo.clear.ml/webhook", "enabled");
/// The scheduling gate that the controller removes.
pub const GATE: &str = "cdmo.clear.ml/partitioning";
/// Where an agent finds its certificate, below the host root.
pub const AGENT_TLS: &str = "etc/cdmo/tls";
/// Port of the agents' health and metrics.
pub const AGENT_HTTP: u16 = 7444;
/// Port of the controller's health and metrics.
pub const CONTROLLER_HTTP: u16 = 7445;

/// Objects that are to be shown to the webhook, in the words of the API server.
const ASKS_FOR_A_FRACTION: &str =
    include_str!("../../../charts/cdmo/files/asks-for-a-fraction.cel");
/// Pods that exist are shown to it only if this changes.
const POD_ASKS_FOR_SOMETHING_ELSE: &str =
    include_str!("../../../charts/cdmo/files/pod-asks-for-something-else.cel");
/// Pods that are to be shown to it for their scheduling gate alone.
const ASKS_FOR_SLICES: &str = include_str!("../../../charts/cdmo/files/asks-for-slices.cel");

/// The name by which the API server calls the webhook.
pub fn webhook_host() -> String {
    format!("{WEBHOOK}.{NAMESPACE}.svc")
}

/// The namespace.
pub fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// The system's own label, which keeps an agent on a node that is on its way back.
pub const MANAGED_LABEL: &str = "cdmo.clear.ml/managed";

/// The agents, one on each node with one of the two labels, but not while its driver is replaced.
pub fn agents(log_level: &str) -> Value {
    let labels = json!({ "app.kubernetes.io/name": AGENT });
    let (label, value) = NODE_LABEL;
    let handed_over = json!({ "key": label, "operator": "In", "values": [value] });
    let kept = json!({ "key": MANAGED_LABEL, "operator": "In", "values": ["true"] });
    let no_upgrade = json!({
        "key": "nvidia.com/gpu-driver-upgrade-state",
        "operator": "NotIn",
        "values": ["pod-restart-required", "validation-required"],
    });
    let affinity = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                { "matchExpressions": [handed_over, no_upgrade] },
                { "matchExpressions": [kept, no_upgrade] },
            ],
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

/// The webhook, as a plain pod on one node, with its certificate from a folder.
pub fn webhook(node: &str, tls: &Path, log_level: &str, gate: bool) -> Value {
    let tls = tls.display();
    let mut args = vec![
        format!("--namespace={NAMESPACE}"),
        format!("--http-listen=$(POD_IP):{WEBHOOK_HTTP}"),
        format!("--tls-ca={tls}/ca.crt"),
        format!("--tls-cert={tls}/tls.crt"),
        format!("--tls-key={tls}/tls.key"),
        format!("--log-level={log_level}"),
        "webhook".to_owned(),
        format!("--listen=$(POD_IP):{WEBHOOK_HTTPS}"),
        // Nobody waits for it to be gone.
        "--drain-seconds=0".to_owned(),
    ];
    if gate {
        args.push(format!("--scheduling-gate={GATE}"));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": WEBHOOK,
            "namespace": NAMESPACE,
            "labels": { "app.kubernetes.io/name": WEBHOOK },
        },
        "spec": {
            "nodeSelector": { "kubernetes.io/hostname": node },
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "webhook",
                "image": format!("cdmo/{CONTROLLER}"),
                "ports": [{ "name": "https", "containerPort": WEBHOOK_HTTPS }],
                "args": args,
            }],
        },
    })
}

/// The webhook's Service.
pub fn webhook_service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": WEBHOOK, "namespace": NAMESPACE },
        "spec": {
            "selector": { "app.kubernetes.io/name": WEBHOOK },
            "ports": [{ "name": "https", "port": 443, "targetPort": "https" }],
        },
    })
}

/// What the API server shows to the webhook, and whom it trusts as webhook; nobody yet if there are no
/// certificates. Where the server has no match conditions, only namespaces with [`WEBHOOK_LABEL`].
pub fn webhook_configuration(conditions: bool, gate: bool, authorities: Option<&[u8]>) -> Value {
    let kept_out: &[&str] = if conditions {
        &[NAMESPACE]
    } else {
        &[NAMESPACE, "kube-system"]
    };
    let own = json!({
        "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": kept_out,
    });
    let mut selector = json!({ "matchExpressions": [own] });
    let service =
        json!({ "name": WEBHOOK, "namespace": NAMESPACE, "path": "/mutate", "port": 443 });
    let mut client = json!({ "service": service });
    if let Some(bytes) = authorities {
        client["caBundle"] = STANDARD.encode(bytes).into();
    }
    if !conditions {
        let (label, value) = WEBHOOK_LABEL;
        selector["matchLabels"] = json!({ label: value });
    }
    let entry = |name: &str, seconds: u32, rules: Value| {
        json!({
            "name": name,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "IfNeeded",
            "timeoutSeconds": seconds,
            "clientConfig": client,
            "namespaceSelector": selector,
            "rules": rules,
        })
    };
    let condition =
        |name: &str, expression: &str| json!({ "name": name, "expression": expression });
    let mut fractions = entry("fractions.cdmo.clear.ml", 3, rules());
    if conditions {
        fractions["matchConditions"] = json!([
            condition("asks-for-a-fraction", ASKS_FOR_A_FRACTION),
            condition("pod-asks-for-something-else", POD_ASKS_FOR_SOMETHING_ELSE),
        ]);
    }
    let mut webhooks = vec![fractions];
    // Without conditions all pods come to the first one.
    if gate && conditions {
        let pods = rule("", &["CREATE"], &["pods"]);
        let mut entry = entry("gate.cdmo.clear.ml", 1, json!([pods]));
        entry["matchConditions"] = json!([condition("asks-for-slices", ASKS_FOR_SLICES)]);
        webhooks.push(entry);
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": WEBHOOK },
        "webhooks": webhooks,
    })
}

/// The rules for everything that the webhook may change, and for ephemeral containers, which it refuses
/// fractions.
fn rules() -> Value {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (group, resource) in admission::resources() {
        groups.entry(group).or_default().push(resource);
    }
    let mut all: Vec<Value> = groups
        .into_iter()
        .map(|(group, resources)| rule(group, &["CREATE", "UPDATE"], &resources))
        .collect();
    all.push(rule("", &["UPDATE"], &["pods/ephemeralcontainers"]));
    all.into()
}

fn rule(group: &str, operations: &[&str], resources: &[&str]) -> Value {
    json!({
        "operations": operations,
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "resources": resources,
        "scope": "Namespaced",
    })
}

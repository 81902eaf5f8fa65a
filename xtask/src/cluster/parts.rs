//! The programs of the cluster and how each is started.

use std::path::Path;

use super::network::{API_PORT, NODE, PODS, SERVICES, inside};
use super::pki::{self, NODE_NAME};
use super::{images, place, settings};

pub(super) const ETCD: &str = "etcd";
pub(super) const CONTAINERD: &str = "containerd";
pub(super) const API_SERVER: &str = "kube-apiserver";
pub(super) const CONTROLLERS: &str = "kube-controller-manager";
pub(super) const SCHEDULER: &str = "kube-scheduler";
pub(super) const PROXY: &str = "kube-proxy";
pub(super) const KUBELET: &str = "kubelet";

/// All of them.
pub(super) const ALL: [&str; 7] = [
    ETCD,
    CONTAINERD,
    API_SERVER,
    CONTROLLERS,
    SCHEDULER,
    PROXY,
    KUBELET,
];

/// The whole command line of a part; the programs of Kubernetes lie in `programs`.
pub(super) fn command(part: &str, programs: &Path) -> Vec<String> {
    let arguments = match part {
        ETCD => etcd(),
        CONTAINERD => vec![format!("--config={}", place::home_text("containerd.toml"))],
        API_SERVER => api_server(),
        CONTROLLERS => controllers(),
        SCHEDULER => scheduler(),
        PROXY => proxy(),
        _ => kubelet(),
    };
    let program = match part {
        ETCD | CONTAINERD => part.to_owned(),
        _ => programs.join(part).display().to_string(),
    };
    let mut command = vec![program];
    command.extend(arguments);
    inside(&command)
}

fn etcd() -> Vec<String> {
    vec![
        format!("--data-dir={}", place::home_text("etcd")),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        // A cluster that lives for one test run loses nothing that it would need again.
        "--unsafe-no-fsync".to_owned(),
        "--logger=zap".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server() -> Vec<String> {
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--bind-address={NODE}"),
        format!("--advertise-address={NODE}"),
        format!("--secure-port={API_PORT}"),
        "--insecure-port=0".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        // Webhooks are called at their pods: this machine may have no route for addresses of Services.
        "--enable-aggregator-routing=true".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--client-ca-file={}", pki::file("ca.crt")),
        format!("--tls-cert-file={}", pki::file("kube-apiserver.crt")),
        format!("--tls-private-key-file={}", pki::file("kube-apiserver.key")),
        format!("--kubelet-certificate-authority={}", pki::file("ca.crt")),
        format!("--kubelet-client-certificate={}", pki::file("admin.crt")),
        format!("--kubelet-client-key={}", pki::file("admin.key")),
        // The node's name is in no DNS.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!(
            "--service-account-signing-key-file={}",
            pki::file("tokens.key")
        ),
        format!("--service-account-key-file={}", pki::file("tokens.pub")),
    ]
}

fn controllers() -> Vec<String> {
    let config = pki::kubeconfig(CONTROLLERS);
    vec![
        format!("--kubeconfig={config}"),
        format!("--authentication-kubeconfig={config}"),
        format!("--authorization-kubeconfig={config}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--port=0".to_owned(),
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!("--root-ca-file={}", pki::file("ca.crt")),
        format!(
            "--service-account-private-key-file={}",
            pki::file("tokens.key")
        ),
        format!("--cluster-signing-cert-file={}", pki::file("ca.crt")),
        format!("--cluster-signing-key-file={}", pki::file("ca.key")),
    ]
}

fn scheduler() -> Vec<String> {
    let config = pki::kubeconfig(SCHEDULER);
    vec![
        format!("--kubeconfig={config}"),
        format!("--authentication-kubeconfig={config}"),
        format!("--authorization-kubeconfig={config}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--port=0".to_owned(),
        "--leader-elect=false".to_owned(),
    ]
}

fn proxy() -> Vec<String> {
    vec![
        format!("--kubeconfig={}", pki::kubeconfig(PROXY)),
        format!("--hostname-override={NODE_NAME}"),
        // Named, so that it need not wait until the node is registered.
        format!("--bind-address={NODE}"),
        format!("--healthz-bind-address={NODE}"),
        "--proxy-mode=iptables".to_owned(),
        format!("--cluster-cidr={PODS}"),
        // The machine's limits of connection tracking are the machine's.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-tcp-timeout-established=0s".to_owned(),
        "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
    ]
}

fn kubelet() -> Vec<String> {
    vec![
        format!("--config={}", place::home_text("kubelet.json")),
        format!("--kubeconfig={}", pki::kubeconfig(KUBELET)),
        format!("--root-dir={}", settings::kubelet_root().display()),
        format!("--cert-dir={}", place::home_text("pki")),
        "--container-runtime=remote".to_owned(),
        format!(
            "--container-runtime-endpoint=unix://{}",
            place::containerd_socket()
        ),
        // For the statistics of containers, which otherwise look for another containerd, in vain.
        format!("--containerd={}", place::containerd_socket()),
        format!("--pod-infra-container-image={}", images::PAUSE),
        format!("--hostname-override={NODE_NAME}"),
        format!("--node-ip={NODE}"),
    ]
}

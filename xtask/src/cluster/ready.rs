//! Waiting for the cluster, as a user of it would: with kubectl.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use serde_json::json;
use tokio::process::Command;
use tokio::time::Instant;

use super::network::PODS;
use super::pki::NODE_NAME;
use super::place;
use super::record::Record;
use super::{keeper, parts};
use crate::program::{last_lines, said};

/// Between two questions.
const LOOK: Duration = Duration::from_millis(150);
/// Machines that are busy with something else need long.
const LIMIT: Duration = Duration::from_mins(3);

/// Asks the API server.
#[derive(Debug)]
pub(super) struct Kubectl {
    program: PathBuf,
}

impl Kubectl {
    /// The one in this folder.
    pub(super) fn new(tools: &Path) -> Self {
        Self {
            program: tools.join("kubectl"),
        }
    }

    async fn says(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(place::kubeconfig())
            .arg("--request-timeout=5s")
            .args(arguments);
        said(command).await
    }

    /// Gives the node its range of addresses: a kubelet tells once that it is Ready as soon as its
    /// node has one, and else with its next status, ten seconds later (kubelet.go,
    /// `fastStatusUpdateOnce`). It is not Ready before its `CSINode` is there. Fails until then.
    async fn node_has_range(&self) -> bool {
        let range = json!({"spec": {"podCIDR": PODS, "podCIDRs": [PODS]}}).to_string();
        let patch = [
            "patch",
            "node",
            NODE_NAME,
            "--type=merge",
            "--patch",
            &range,
        ];
        self.says(&["get", "csinode", NODE_NAME]).await.is_ok() && self.says(&patch).await.is_ok()
    }

    async fn api_is_ready(&self) -> bool {
        self.says(&["get", "--raw", "/readyz"]).await.is_ok()
    }

    /// Whether pods can be made and would be started.
    pub(super) async fn node_is_ready(&self) -> bool {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}{.spec.taints}"#;
        let node = self
            .says(&["get", "node", NODE_NAME, "--output", path])
            .await;
        // Without the account no pod is admitted into the namespace.
        node.is_ok_and(|said| said == "True")
            && self
                .says(&["get", "serviceaccount", "default"])
                .await
                .is_ok()
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// containerd's socket.
    Containerd,
    /// The API server answers, its own roles included.
    Api,
    /// The node is registered and has its range of addresses.
    Range,
    /// The node takes pods.
    Node,
}

/// Waits; a part that ends meanwhile is the error, as is a part that takes too long.
pub(super) async fn wait(wanted: Wanted, record: &Record, kubectl: &Kubectl) -> anyhow::Result<()> {
    let until = Instant::now() + LIMIT;
    let ends_before = keeper::ends(parts::KUBELET).len();
    loop {
        let ready = match wanted {
            Wanted::Containerd => tokio::net::UnixStream::connect(place::containerd_socket())
                .await
                .is_ok(),
            Wanted::Api => kubectl.api_is_ready().await,
            Wanted::Range => kubectl.node_has_range().await,
            Wanted::Node => kubectl.node_is_ready().await,
        };
        // Also when all is well: what is ready must be the programs that were started.
        let ended = record.parts.iter().find(|part| !part.process.lives());
        if let Some(part) = ended {
            bail!("{} ended; {}", part.name, last_words(&part.name));
        }
        if keeper::ends(parts::KUBELET).len() > ends_before {
            let (name, words) = (parts::KUBELET, last_words(parts::KUBELET));
            bail!("{name} ended by itself; {words}");
        }
        if ready {
            return Ok(());
        }
        if Instant::now() >= until {
            let (what, part) = match wanted {
                Wanted::Containerd => ("containerd did not answer", parts::CONTAINERD),
                Wanted::Api => ("the API server did not become ready", parts::API_SERVER),
                Wanted::Range => ("the node was not registered", parts::KUBELET),
                Wanted::Node => ("the node did not become Ready", parts::KUBELET),
            };
            bail!("{what} within {} s; {}", LIMIT.as_secs(), last_words(part));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The end of a part's log, and where it is.
fn last_words(part: &str) -> String {
    let path = place::log(part);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    format!(
        "its last words are in {}:\n{}",
        path.display(),
        last_lines(&text, 8)
    )
}

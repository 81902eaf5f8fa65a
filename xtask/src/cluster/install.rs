//! `install`: our own programs in the cluster, as the chart installs them, with simulated GPUs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use testbed::binaries::{Profile, repository};
use testbed::manifests::{AGENT, CONTROLLER, CONTROLLER_HTTP, NAMESPACE, NODE_LABEL};
use tokio::process::Command;
use tokio::time::Instant;

use super::pki::NODE_NAME;
use super::record::Record;
use super::{images, place};
use crate::image;
use crate::program::said;

/// Where the images belong: no registry has that name.
const REPOSITORY: &str = "localhost/cdmo";
/// The release.
const RELEASE: &str = "cdmo";
/// Between two questions.
const LOOK: Duration = Duration::from_millis(300);
/// Time for helm, and then for the agent to be connected.
const LIMIT: Duration = Duration::from_mins(4);

/// Builds the images, loads them, and installs or upgrades the chart; returns once the agent is
/// connected.
pub(crate) async fn install(profile: Profile, wanted: &Wanted) -> anyhow::Result<()> {
    let Some(record) = Record::load()?.filter(Record::is_of_this_boot) else {
        bail!("no cluster is up on this machine; bring it up with cargo xtask cluster up");
    };
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    // The tag follows the content, so that pods are replaced when their program changed, and then
    // only.
    let tag = image::make_tagged_by_content(profile, folder.path(), REPOSITORY).await?;
    for name in image::NAMES {
        images::import(&folder.path().join(format!("{name}.tar"))).await?;
    }
    let file = folder.path().join("values.json");
    place::write(&file, wanted.values(&tag).to_string())?;
    let tools = Tools {
        folder: &record.tools,
    };
    let label = format!("{}={}", NODE_LABEL.0, NODE_LABEL.1);
    let labelling = ["label", "node", NODE_NAME, &label, "--overwrite"];
    tools.says("kubectl", &labelling).await?;
    let chart = repository().join("charts/cdmo").display().to_string();
    let (file, limit) = (file.display().to_string(), format!("{}s", LIMIT.as_secs()));
    let mut upgrade = vec![
        "upgrade",
        RELEASE,
        &chart,
        "--install",
        "--create-namespace",
    ];
    upgrade.extend(["--namespace", NAMESPACE, "--values", &file]);
    upgrade.extend(["--wait", "--timeout", &limit]);
    tools.says("helm", &upgrade).await?;
    tools.connected().await
}

/// What tests and benchmarks need to be otherwise than users.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// A100-40GB that the node has.
    pub(crate) gpus: u32,
    /// How long NVML takes to make an instance.
    pub(crate) nvml_latency: Duration,
    /// Names the state of the simulated driver; another name is a node that never had an instance.
    pub(crate) state: Option<String>,
    /// Whether the chart's `statusPatch` is on.
    pub(crate) status_patch: bool,
    /// Whether the chart's `podAnnotation` is on.
    pub(crate) pod_annotation: bool,
    /// Whether logs are for programs to read.
    pub(crate) json_logs: bool,
}

impl Wanted {
    /// As scenarios have it.
    pub(crate) fn gpus(gpus: u32) -> Self {
        Self {
            gpus,
            nvml_latency: Duration::ZERO,
            state: None,
            status_patch: true,
            pod_annotation: true,
            json_logs: false,
        }
    }

    fn values(&self, tag: &str) -> Value {
        let state = self.state.as_ref();
        let state = state.map_or_else(String::new, |name| format!("[host]\nstate = \"{name}\"\n"));
        let config = format!(
            "{state}[latency_ms]\nnvmlDeviceCreateGpuInstanceWithPlacement = {}\n\
             [[gpu]]\nboard = \"A100-SXM4-40GB\"\ncount = {}\nmig = true\n",
            self.nvml_latency.as_millis(),
            self.gpus
        );
        let level =
            "info,mig_node_agent=debug,device_plugin=debug,cdmo_controller=debug,planner=debug";
        json!({
            "image": { "repository": REPOSITORY, "tag": tag, "pullPolicy": "Never" },
            "logFormat": if self.json_logs { "json" } else { "text" },
            "logLevel": level,
            "statusPatch": self.status_patch,
            "podAnnotation": self.pod_annotation,
            "fakeNvml": { "enabled": true, "config": config },
        })
    }
}

/// kubectl and helm, with the cluster's own kubeconfig.
struct Tools<'a> {
    folder: &'a Path,
}

impl Tools<'_> {
    async fn says(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.folder.join(program));
        command
            .env("KUBECONFIG", place::kubeconfig())
            .args(arguments);
        said(command).await
    }

    /// Waits until the controller reports a session with the agent.
    async fn connected(&self) -> anyhow::Result<()> {
        let until = Instant::now() + LIMIT;
        loop {
            let state = self.agent_state().await;
            if matches!(&state, Ok(state) if state == "up") {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!(
                    "the controller has no session with the agent: {}; see kubectl -n {NAMESPACE} \
                     logs ds/{AGENT}",
                    state.unwrap_or_else(|error| format!("{error:#}"))
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn agent_state(&self) -> anyhow::Result<String> {
        let selector = format!("app.kubernetes.io/name={CONTROLLER}");
        let names = ["get", "pods", "-n", NAMESPACE, "-l", &selector];
        let running = ["--field-selector=status.phase=Running", "--output=name"];
        let pods = self
            .says("kubectl", &[&names[..], &running].concat())
            .await?;
        // Of two the later is not ready yet, or the former no more; then it is asked again.
        let pod = pods
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("pod/"));
        let pod = pod.context("there is no controller")?;
        let path = format!(
            "/api/v1/namespaces/{NAMESPACE}/pods/{pod}:{CONTROLLER_HTTP}/proxy/status.json"
        );
        let report = self.says("kubectl", &["get", "--raw", &path]).await?;
        let report: Value = serde_json::from_str(&report).context("the report is no JSON")?;
        let nodes = report["nodes"].as_array().context("it knows no nodes")?;
        let node = nodes.iter().find(|node| node["name"] == NODE_NAME);
        let state = node.and_then(|node| node["agent"]["state"].as_str());
        Ok(state.context("it does not know the node")?.to_owned())
    }
}

//! What is done to the system while pods run.

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as Object;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use status_report::AgentState;
use testbed::manifests;

use super::{Ground, LIMIT, Place, TICK, process};

/// A part of the system or of the cluster that ends and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// The kubelet is killed and started again.
    KubeletRestart,
    /// The agent's pod is deleted, and its DaemonSet makes another.
    AgentRestart,
    /// `kill -9` of the agent.
    AgentKilled,
    /// `kill -9` of the controller.
    ControllerKilled,
    /// The API server is killed and started again.
    ApiServerRestart,
}

impl Ground {
    /// Does it, and waits until what ended is back. A kubelet is not waited for.
    pub async fn disturb(&self, disturbance: Disturbance) -> anyhow::Result<()> {
        match disturbance {
            Disturbance::KubeletRestart => self.restart_kubelet().await,
            Disturbance::ApiServerRestart => self.restart_api_server().await,
            Disturbance::AgentRestart => {
                let before = self.agent_since().await?;
                let pod = self.own_pod(manifests::AGENT).await?;
                let pods: Api<Object> = self.own_pods();
                pods.delete(&pod.name_any(), &DeleteParams::default())
                    .await
                    .context("failed to delete the agent's pod")?;
                self.agent_is_back(before).await
            }
            Disturbance::AgentKilled => {
                let before = self.agent_since().await?;
                self.kill(manifests::AGENT).await?;
                self.agent_is_back(before).await
            }
            Disturbance::ControllerKilled => {
                let before = self.report().await?.controller.since;
                self.kill(manifests::CONTROLLER).await?;
                self.report_until("another controller has its agents", |report| {
                    let mut nodes = report.nodes.iter().filter(|node| node.managed);
                    let up = nodes.all(|node| node.agent.state == AgentState::Up);
                    Ok((up && report.controller.since != before).then_some(()))
                })
                .await
            }
        }
    }

    async fn restart_kubelet(&self) -> anyhow::Result<()> {
        match &self.place {
            Place::Embedded(system) => {
                let system = system.as_ref().context("the cluster has ended")?;
                Ok(system.node("a")?.restart_kubelet().await?)
            }
            Place::Real(real) => real.restart("kubelet", true).await,
        }
    }

    async fn restart_api_server(&self) -> anyhow::Result<()> {
        let Place::Real(real) = &self.place else {
            bail!("the embedded cluster ends with its API server");
        };
        real.restart("kube-apiserver", true).await?;
        let ready = async {
            while self.client.apiserver_version().await.is_err() {
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::time::timeout(LIMIT, ready)
            .await
            .context("the API server did not come back")
    }

    /// `kill -9` of the agent or the controller.
    async fn kill(&self, app: &str) -> anyhow::Result<()> {
        match &self.place {
            Place::Embedded(system) => {
                let system = system.as_ref().context("the cluster has ended")?;
                match app {
                    manifests::AGENT => system.kill_agent("a").await,
                    _ => system.kill_controller().await,
                }
            }
            Place::Real(_) => {
                let pod = self.own_pod(app).await?;
                process::kill(&pod.uid().unwrap_or_default(), app)
            }
        }
    }

    /// Pods of the system itself.
    pub(super) fn own_pods(&self) -> Api<Object> {
        Api::namespaced(self.client.clone(), manifests::NAMESPACE)
    }

    async fn own_pod(&self, app: &str) -> anyhow::Result<Object> {
        let wanted = ListParams::default().labels(&format!("app.kubernetes.io/name={app}"));
        let mut pods = self.own_pods().list(&wanted).await?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.pop().with_context(|| format!("there is no {app}"))
    }

    /// Since when the session with the one agent stands.
    async fn agent_since(&self) -> anyhow::Result<Option<Timestamp>> {
        self.report_until("an agent is up", |report| {
            let mut nodes = report.nodes.iter().filter(|node| node.managed);
            let up = nodes.find(|node| node.agent.state == AgentState::Up);
            Ok(up.map(|node| node.agent.since))
        })
        .await
    }

    async fn agent_is_back(&self, before: Option<Timestamp>) -> anyhow::Result<()> {
        self.report_until("the agent is back", |report| {
            let mut nodes = report.nodes.iter().filter(|node| node.managed);
            Ok(nodes
                .all(|node| node.agent.state == AgentState::Up && node.agent.since != before)
                .then_some(()))
        })
        .await
    }
}

//! What is done to the system while pods run.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod as Object;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::watcher::Config;
use kube::{Api, ResourceExt as _};
use status_report::AgentState;
use testbed::manifests;

use super::{Ground, LIMIT, Place, TICK, process, watch};

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
                let pod = self.own_pod(manifests::AGENT).await?;
                let pods: Api<Object> = self.own_pods();
                pods.delete(&pod.name_any(), &DeleteParams::default())
                    .await
                    .context("failed to delete the agent's pod")?;
                self.back(manifests::AGENT, &pod).await
            }
            Disturbance::AgentKilled => self.kill_and_wait(manifests::AGENT).await,
            Disturbance::ControllerKilled => self.kill_and_wait(manifests::CONTROLLER).await,
        }
    }

    async fn kill_and_wait(&self, app: &str) -> anyhow::Result<()> {
        let pod = self.own_pod(app).await?;
        self.kill(app).await?;
        self.back(app, &pod).await
    }

    /// Waits until another process than that of the pod runs, and all sessions stand. What the old
    /// process had open was closed when it ended, so no session with it is taken for a new one.
    async fn back(&self, app: &str, before: &Object) -> anyhow::Result<()> {
        let config = Config::default().labels(&format!("app.kubernetes.io/name={app}"));
        let what = format!("another {app} runs");
        watch::until(self.own_pods(), config, &what, |seen| {
            let mut new = seen.values().filter(|pod| start(pod) != start(before));
            Ok(new.any(runs).then_some(()))
        })
        .await?;
        self.report_until("all agents are back", |report| {
            let mut nodes = report.nodes.iter().filter(|node| node.managed);
            let up = nodes.all(|node| node.agent.state == AgentState::Up);
            Ok(up.then_some(()))
        })
        .await
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

    /// `kill -9` of the agent, the controller or a webhook.
    pub(super) async fn kill(&self, app: &str) -> anyhow::Result<()> {
        match &self.place {
            Place::Embedded(system) => {
                let system = system.as_ref().context("the cluster has ended")?;
                match app {
                    manifests::AGENT => system.kill_agent("a").await,
                    manifests::WEBHOOK => system.kill_webhook().await,
                    _ => system.kill_controller().await,
                }
            }
            Place::Real(_) => {
                let pod = self.own_pod(app).await?;
                let program = match app {
                    manifests::WEBHOOK => manifests::CONTROLLER,
                    other => other,
                };
                process::kill(&pod.uid().unwrap_or_default(), program)
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
}

/// Tells the starts of a pod's container apart; times of the API are whole seconds and do not.
fn start(pod: &Object) -> (Option<String>, i32) {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let restarts = containers.into_iter().flatten().map(|c| c.restart_count);
    (pod.uid(), restarts.sum())
}

fn runs(pod: &Object) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let mut containers = containers.into_iter().flatten();
    let running = containers.any(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
    running && pod.metadata.deletion_timestamp.is_none()
}

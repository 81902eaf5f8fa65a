//! The cluster of `cargo xtask cluster up`, through its API.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, Client};
use serde_json::json;
use testbed::manifests::{AGENT, CONTROLLER, NAMESPACE};

use super::Ask;
use super::pods::Pods;
use crate::cluster::kubeconfig;

/// The namespace of the pods.
const OURS: &str = "cdmo-bench";
/// The image of the pods: a static busybox.
const IMAGE: &str = "localhost/busybox:cdmo";
/// Between two looks at what no watch tells.
const LOOK: Duration = Duration::from_millis(200);
/// What comes up goes on for a while after it says that it is ready.
const SETTLE: Duration = Duration::from_secs(5);
/// Long after anything that still counts as working.
const LIMIT: Duration = Duration::from_mins(2);

/// The one node, with a namespace for pods.
pub(super) struct Node {
    client: Client,
}

impl Node {
    /// Connects, and makes an empty namespace.
    pub(super) async fn open() -> anyhow::Result<Self> {
        // Fails only if a provider is set already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = kubeconfig();
        if !file.exists() {
            bail!("no cluster is up on this machine; bring it up with cargo xtask cluster up");
        }
        let config = kube::config::Kubeconfig::read_from(&file)?;
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(config, &options).await?;
        let node = Self {
            client: Client::try_from(config)?,
        };
        node.leave().await?;
        let namespaces: Api<Namespace> = Api::all(node.client.clone());
        let namespace = serde_json::from_value(json!({
            // Fractions come to the webhook from labelled namespaces only, before Kubernetes 1.28.
            "metadata": { "name": OURS, "labels": { "cdmo.clear.ml/webhook": "enabled" } },
        }))?;
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .context("failed to make a namespace")?;
        Ok(node)
    }

    /// Removes the namespace, with whatever is in it.
    pub(super) async fn leave(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let gone = async {
            while namespaces.get_opt(OURS).await?.is_some() {
                // Until it is gone: the first answer may be that it is on its way.
                let _ = namespaces.delete(OURS, &DeleteParams::background()).await;
                tokio::time::sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LIMIT, gone)
            .await
            .with_context(|| format!("namespace {OURS} does not go away"))?
    }

    /// Lets what was just installed come to rest.
    pub(super) async fn settle(&self) {
        tokio::time::sleep(SETTLE).await;
    }

    /// A pod's name as logs have it.
    pub(super) fn full_name(name: &str) -> String {
        format!("{OURS}/{name}")
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), OURS)
    }

    /// Creates a pod that asks for one device and does nothing until it is deleted.
    pub(super) async fn create(&self, name: &str, ask: Ask) -> anyhow::Result<()> {
        let limits = match ask {
            Ask::Profile(profile) => json!({ format!("nvidia.com/mig-{profile}"): 1 }),
            Ask::Fraction(fraction) => json!({ "clear.ml/fraction": fraction }),
        };
        let pod = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main",
                    "image": IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "100000"],
                    "resources": { "limits": limits },
                }],
            },
        }))?;
        let made = self.pods().create(&PostParams::default(), &pod).await;
        made.with_context(|| format!("pod {name} was refused"))?;
        Ok(())
    }

    /// Deletes a pod as `kubectl delete` does.
    pub(super) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let deleted = self.pods().delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("pod {name} cannot be deleted"))?;
        Ok(())
    }

    /// Follows the pods from now on.
    pub(super) fn watch_pods(&self) -> Pods {
        Pods::follow(watcher(self.pods(), Config::default()).default_backoff())
    }

    /// The names of our programs' pods that run.
    pub(super) async fn our_pods(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for app in [CONTROLLER, AGENT] {
            names.extend(self.app(app).await?);
        }
        Ok(names)
    }

    async fn app(&self, app: &str) -> anyhow::Result<Option<String>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let ours = ListParams::default()
            .labels(&format!("app.kubernetes.io/name={app}"))
            .fields("status.phase=Running");
        let list = pods.list(&ours).await?;
        let runs = list
            .iter()
            .find(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(runs.map(kube::ResourceExt::name_any))
    }

    /// What a pod of ours has written since then.
    pub(super) async fn log(&self, pod: &str, since: jiff::Timestamp) -> anyhow::Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let params = LogParams {
            since_time: Some(since),
            ..LogParams::default()
        };
        let text = pods.logs(pod, &params).await;
        text.with_context(|| format!("failed to read the log of {pod}"))
    }

    /// A page that one of our programs serves.
    pub(super) async fn page(&self, app: &str, port: u16, path: &str) -> anyhow::Result<String> {
        let pod = self.app(app).await?;
        let pod = pod.with_context(|| format!("{app} does not run"))?;
        let uri = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:{port}/proxy/{path}");
        let request = http::Request::get(uri).body(Vec::new())?;
        let page = self.client.request_text(request).await;
        page.with_context(|| format!("{app} does not answer"))
    }

    /// Has none or one controller; returns once it is so.
    pub(super) async fn scale_controller(&self, replicas: i32) -> anyhow::Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let params = PatchParams::default();
        deployments.patch(CONTROLLER, &params, &patch).await?;
        let so = async {
            loop {
                let pod = self.app(CONTROLLER).await?;
                if pod.is_some() == (replicas > 0) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(LIMIT, so)
            .await
            .context("the controller does not come or go")??;
        self.settle().await;
        Ok(())
    }
}

//! Takes the system out of a cluster, before its chart is uninstalled.
//!
//! The order matters: the webhook's configuration goes first, so that nothing new is asked of us; then
//! the controller, or it would complain on nodes about agents that are
//! missing; then the agents, with whom the kubelets take back every device that no pod holds; then
//! what was written on nodes. Whatever is missing already is none the worse for it, so that this can
//! be repeated.
//!
//! Pods that run on slices run on, and instances stay on the GPUs: nothing here touches hardware.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::Duration,
};

use clap::Args as ClapArgs;
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::{DaemonSet, Deployment},
    coordination::v1::Lease,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Args, certificates, exit, kube_client,
    names::{CONTROLLER, PARTITIONING_LABEL, PROBLEMS_ANNOTATION, SCHEDULING_GATE},
    objects::{NodeLite, PodLite},
    requests,
};

/// Time for one call to the API server.
const CALL: Duration = Duration::from_secs(15);
/// How often pods that are to end are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Objects per page of a list.
const PAGE: u32 = 250;

/// What is removed.
#[derive(Clone, Debug, ClapArgs)]
pub struct Options {
    /// The controller's Deployment.
    #[arg(long, value_name = "NAME", default_value = "cdmo-controller")]
    pub deployment: String,

    /// The agents' DaemonSet.
    #[arg(long, value_name = "NAME", default_value = "mig-node-agent")]
    pub daemon_set: String,

    /// Labels of the controller's pods.
    #[arg(
        long,
        value_name = "SELECTOR",
        default_value = "app.kubernetes.io/name=cdmo-controller"
    )]
    pub controller_selector: String,

    /// The webhook's Deployment and the configuration by which API servers know it.
    #[arg(long, value_name = "NAME", default_value = certificates::WEBHOOK_SERVICE)]
    pub webhook: String,

    /// Labels of the webhook's pods.
    #[arg(
        long,
        value_name = "SELECTOR",
        default_value = "app.kubernetes.io/name=cdmo-webhook"
    )]
    pub webhook_selector: String,

    /// How long pods may take to end, in seconds; after that the rest is done nevertheless.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub patience: u64,
}

/// Something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("failed to {what}: {source}")]
    Api {
        /// What was tried.
        what: String,
        /// What the client said.
        source: Box<kube::Error>,
    },
    /// Told to stop.
    #[error("the clean-up was interrupted; what it did stays done, run it again for the rest")]
    Interrupted,
    /// The API server did not answer.
    #[error("failed to {what}: no answer in {CALL:?}")]
    TimedOut {
        /// What was tried.
        what: String,
    },
}

/// Takes the system out of the cluster.
pub async fn run(
    args: Args,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), exit::Error> {
    // Fails only if a provider is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = kube_client::connect(args.kubeconfig.as_deref()).await?;
    let cleanup = Cleanup {
        client,
        namespace: args.namespace,
        agent_selector: args.agent_selector,
    };
    tokio::select! {
        result = cleanup.run(&options) => Ok(result?),
        // Not success: a Job that is told so would not try again.
        () = shutdown.cancelled() => Err(Error::Interrupted.into()),
    }
}

struct Cleanup {
    client: Client,
    namespace: String,
    agent_selector: String,
}

impl Cleanup {
    async fn run(&self, options: &Options) -> Result<(), Error> {
        let patience = Duration::from_secs(options.patience);
        self.delete_configuration(&options.webhook).await?;
        self.delete::<Deployment>("Deployment", &options.webhook)
            .await?;
        self.delete::<Deployment>("Deployment", &options.deployment)
            .await?;
        self.ended(&options.controller_selector, patience).await?;
        self.delete::<DaemonSet>("DaemonSet", &options.daemon_set)
            .await?;
        self.ended(&self.agent_selector, patience).await?;
        self.ended(&options.webhook_selector, patience).await?;
        let ours = self.clear_nodes().await?;
        self.delete::<Lease>("Lease", CONTROLLER).await?;
        let pods = Api::<PodLite>::all(self.client.clone());
        let pods = self.pages(&pods, "list the pods").await?;
        self.release(&pods).await?;
        tell_of_holders(&pods, &ours);
        Ok(())
    }

    async fn delete_configuration(&self, name: &str) -> Result<(), Error> {
        let api = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let what = format!("delete MutatingWebhookConfiguration {name}");
        match call(&what, api.delete(name, &DeleteParams::default())).await {
            Ok(_) => {
                tracing::info!("deleted MutatingWebhookConfiguration {name}");
                Ok(())
            }
            Err(Error::Api { source, .. }) if is_absent(&source) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes our scheduling gate off the pods that have it: nobody else would.
    async fn release(&self, pods: &[PodLite]) -> Result<(), Error> {
        let patch = json!({
            "spec": {"schedulingGates": [{"$patch": "delete", "name": SCHEDULING_GATE}]},
        });
        let params = PatchParams::default();
        for pod in pods.iter().filter(|pod| pod.spec.has_our_gate()) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let api = Api::<PodLite>::namespaced(self.client.clone(), namespace);
            let what = format!("take our scheduling gate off pod {namespace}/{name}");
            match call(&what, api.patch(name, &params, &Patch::Strategic(&patch))).await {
                Ok(_) => tracing::info!("took our scheduling gate off pod {namespace}/{name}"),
                Err(Error::Api { source, .. }) if is_absent(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn delete<K>(&self, kind: &str, name: &str) -> Result<(), Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let what = format!("delete {kind} {}/{name}", self.namespace);
        match call(&what, api.delete(name, &params)).await {
            Ok(_) => {
                tracing::info!("deleted {kind} {}/{name}", self.namespace);
                Ok(())
            }
            Err(Error::Api { source, .. }) if is_absent(&source) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until no pod with these labels is left.
    async fn ended(&self, selector: &str, patience: Duration) -> Result<(), Error> {
        let api = Api::<PodLite>::namespaced(self.client.clone(), &self.namespace);
        let params = ListParams::default().labels(selector);
        let until = Instant::now() + patience;
        let what = format!("list the pods {selector} in {}", self.namespace);
        loop {
            let left = call(&what, api.list(&params)).await?.items.len();
            if left == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                tracing::warn!("{left} pods {selector} did not end in {patience:?}; going on");
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Removes what we wrote on nodes; returns those that are handed over to us.
    async fn clear_nodes(&self) -> Result<BTreeSet<String>, Error> {
        let api = Api::<NodeLite>::all(self.client.clone());
        let mut ours = BTreeSet::new();
        for node in self.pages(&api, "list the nodes").await? {
            if is_handed_over(&node) {
                ours.extend(node.metadata.name.clone());
            }
            let Some(patch) = without_ours(&node) else {
                continue;
            };
            let name = node.metadata.name.unwrap_or_default();
            let what = format!("clear node {name}");
            let params = PatchParams::default();
            match call(&what, api.patch(&name, &params, &Patch::Merge(patch))).await {
                Ok(_) => tracing::info!("removed our annotation from node {name}"),
                Err(Error::Api { source, .. }) if is_absent(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ours)
    }

    /// All objects; page by page, so that the server never builds one huge answer.
    async fn pages<K>(&self, api: &Api<K>, what: &str) -> Result<Vec<K>, Error>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let mut all = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = call(what, api.list(&params)).await?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }
}

fn tell_of_holders(pods: &[PodLite], ours: &BTreeSet<String>) {
    let holders = holders(pods, ours);
    for (node, count) in &holders {
        tracing::warn!(
            "pods on node {node} that still use its GPUs: {count}; they run on, but a container \
             of theirs that ends cannot be started again"
        );
    }
    if holders.is_empty() {
        tracing::info!("no pod uses a GPU that was ours");
    }
}

async fn call<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::Api {
            what: what.to_owned(),
            source: Box::new(error),
        }),
        Err(_) => Err(Error::TimedOut {
            what: what.to_owned(),
        }),
    }
}

fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The patch that removes what we wrote on a node; none if there is nothing. The label that hands a
/// node to us is the administrator's and stays.
fn without_ours(node: &NodeLite) -> Option<Value> {
    let annotations = node.metadata.annotations.as_ref()?;
    annotations
        .contains_key(PROBLEMS_ANNOTATION)
        .then(|| json!({"metadata": {"annotations": {PROBLEMS_ANNOTATION: null}}}))
}

fn is_handed_over(node: &NodeLite) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(PARTITIONING_LABEL))
}

/// How many pods use devices, by node; elsewhere they have them from others.
fn holders<'a>(pods: &'a [PodLite], ours: &BTreeSet<String>) -> BTreeMap<&'a str, u32> {
    let mut counts = BTreeMap::new();
    for pod in pods {
        let ended = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
        let uses = requests::of_pod(&pod.spec)
            .keys()
            .any(|name| requests::is_ours(name));
        if let (Some(node), true, false) = (&pod.spec.node_name, uses, ended)
            && ours.contains(node)
        {
            *counts.entry(node.as_str()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, phase: &str, resource: &str) -> PodLite {
        serde_json::from_value(json!({
            "spec": {"nodeName": node, "containers": [
                {"name": "main", "resources": {"limits": {resource: "1"}}},
            ]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn pods_that_ended_or_use_something_else_hold_nothing() {
        let pods = [
            pod("a", "Running", "nvidia.com/mig-1g.5gb"),
            pod("a", "Running", "nvidia.com/gpu"),
            pod("a", "Succeeded", "nvidia.com/gpu"),
            pod("b", "Running", "cpu"),
            pod("theirs", "Running", "nvidia.com/gpu"),
        ];
        let ours = ["a", "b"].map(str::to_owned).into();
        assert_eq!(holders(&pods, &ours), BTreeMap::from([("a", 2)]));
    }

    #[test]
    fn only_nodes_with_something_of_ours_are_written() {
        let node = |annotations: Value| {
            let node = json!({"metadata": {"name": "a", "annotations": annotations}});
            serde_json::from_value::<NodeLite>(node).unwrap()
        };
        assert!(without_ours(&node(json!({"other": "x"}))).is_none());
        let patch = without_ours(&node(json!({PROBLEMS_ANNOTATION: "x"}))).unwrap();
        assert!(patch["metadata"]["annotations"][PROBLEMS_ANNOTATION].is_null());
    }
}

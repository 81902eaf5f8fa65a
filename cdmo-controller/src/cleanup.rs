//! Takes the system out of a cluster, before its chart is uninstalled.
//!
//! The order matters: the webhook's configuration goes first, so that nothing new is asked of us; then
//! the controller, or it would complain on nodes about agents that are
//! missing; then the agents, with whom the kubelets take back every device that no pod holds; then
//! what was written on nodes; the GPU operator gets its labels back where no pod uses devices that were
//! ours; last our scheduling gate, which others may not let us take off every pod. Nobody asks the
//! webhook once its configuration is gone, so its pods may end when they like. Whatever is missing already is none the worse for it, so that this can be repeated.
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
    names::{CONTROLLER, MANAGED_LABEL, OPERATOR_ANNOTATION, PARTITIONING_LABEL, SCHEDULING_GATE},
    nodes::NodeRow,
    objects::{NodeLite, PodLite},
    pods::gate,
    requests, takeover,
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
        let api = Api::<NodeLite>::all(self.client.clone());
        let nodes: Vec<NodeRow> = self.pages(&api, "list the nodes").await?;
        let ours = nodes.iter().filter(|node| is_ours(node));
        let ours: BTreeSet<String> = ours.map(|node| node.name.clone()).collect();
        let api = Api::<PodLite>::all(self.client.clone());
        let pods: Vec<PodLite> = self.pages(&api, "list the pods").await?;
        let holders = holders(&pods, &ours);
        self.clear_nodes(&nodes, &holders).await?;
        self.release(&pods).await;
        self.delete::<Lease>("Lease", CONTROLLER).await?;
        tell_of_holders(&holders);
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

    /// Takes our scheduling gate off the pods that have it: nobody else would. A pod that may not be
    /// changed is no reason to leave the others behind theirs.
    async fn release(&self, pods: &[PodLite]) {
        let patch = json!({
            "spec": {"schedulingGates": [{"$patch": "delete", "name": SCHEDULING_GATE}]},
        });
        let params = PatchParams::default();
        for pod in pods.iter().filter(|pod| gate(&pod.spec).is_some()) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let api = Api::<PodLite>::namespaced(self.client.clone(), namespace);
            let what = format!("take our scheduling gate off pod {namespace}/{name}");
            match call(&what, api.patch(name, &params, &Patch::Strategic(&patch))).await {
                Ok(_) => tracing::info!("took our scheduling gate off pod {namespace}/{name}"),
                Err(Error::Api { source, .. }) if is_absent(&source) => {}
                Err(error) => tracing::warn!(
                    "{error}; take it off yourself: kubectl -n {namespace} patch pod {name} --type=strategic \
                     -p '{patch}'"
                ),
            }
        }
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

    /// Removes what we wrote on nodes. A node whose GPUs pods still use keeps the GPU operator's plugin and
    /// MIG manager away: they would give out, or destroy, what those pods have.
    async fn clear_nodes(
        &self,
        nodes: &[NodeRow],
        holders: &BTreeMap<String, u32>,
    ) -> Result<(), Error> {
        let api = Api::<NodeLite>::all(self.client.clone());
        for node in nodes {
            let in_use = holders.contains_key(&node.name);
            let Some(patch) = without_ours(node, in_use) else {
                continue;
            };
            let name = &node.name;
            let what = format!("clear node {name}");
            let params = PatchParams::default();
            match call(&what, api.patch(name, &params, &Patch::Merge(patch))).await {
                Ok(_) => tracing::info!("removed our labels and annotations from node {name}"),
                Err(Error::Api { source, .. }) if is_absent(&source) => {}
                Err(error) => return Err(error),
            }
            if in_use && node.operator_labels.is_some() {
                let [plugin, manager] = takeover::OPERATOR_LABELS;
                tracing::warn!(
                    "the GPU operator's device plugin stays away from node {name} while pods use its GPUs; \
                     when they have ended: kubectl label node {name} {plugin}- {manager}-"
                );
            }
        }
        Ok(())
    }

    /// All objects; page by page, so that the server never builds one huge answer.
    async fn pages<K, R>(&self, api: &Api<K>, what: &str) -> Result<Vec<R>, Error>
    where
        K: Clone + Debug + DeserializeOwned,
        R: From<K>,
    {
        let mut all = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = call(what, api.list(&params)).await?;
            all.extend(page.items.into_iter().map(R::from));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
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
/// node to us is the administrator's and stays; so does the memory of the operator's labels where they
/// cannot be put back yet, for the next installation.
fn without_ours(node: &NodeRow, in_use: bool) -> Option<Value> {
    let (mut labels, mut annotations) = takeover::give_back(node);
    if in_use {
        labels.retain(|label, _| label == MANAGED_LABEL);
        annotations.remove(OPERATOR_ANNOTATION);
    }
    let metadata = json!({"labels": labels, "annotations": annotations});
    (!labels.is_empty() || !annotations.is_empty()).then(|| json!({"metadata": metadata}))
}

fn is_ours(node: &NodeRow) -> bool {
    let has = |label| node.labels.contains_key(label);
    has(PARTITIONING_LABEL) || has(MANAGED_LABEL)
}

fn tell_of_holders(holders: &BTreeMap<String, u32>) {
    for (node, count) in holders {
        tracing::warn!(
            "pods on node {node} that still use its GPUs: {count}; they run on, but a container of theirs \
             that ends cannot be started again"
        );
    }
    if holders.is_empty() {
        tracing::info!("no pod uses a GPU that was ours");
    }
}

/// How many pods use devices, by node; elsewhere they have them from others.
fn holders(pods: &[PodLite], ours: &BTreeSet<String>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for pod in pods {
        let ended = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
        let uses = requests::of_pod(&pod.spec)
            .keys()
            .any(|name| requests::is_ours(name));
        if let (Some(node), true, false) = (&pod.spec.node_name, uses, ended)
            && ours.contains(node)
        {
            *counts.entry(node.clone()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::PROBLEMS_ANNOTATION;

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
        assert_eq!(holders(&pods, &ours), BTreeMap::from([("a".to_owned(), 2)]));
    }

    fn node(labels: &Value, annotations: &Value) -> NodeRow {
        let node = json!({"metadata": {
            "name": "a", "labels": labels, "annotations": annotations,
        }});
        NodeRow::of(serde_json::from_value(node).unwrap())
    }

    #[test]
    fn only_nodes_with_something_of_ours_are_written() {
        assert!(without_ours(&node(&json!({}), &json!({"other": "x"})), false).is_none());
        let told = node(&json!({}), &json!({PROBLEMS_ANNOTATION: "x"}));
        let patch = without_ours(&told, false).unwrap();
        assert!(patch["metadata"]["annotations"][PROBLEMS_ANNOTATION].is_null());
    }

    #[test]
    fn the_operator_gets_its_labels_back_where_no_pod_uses_devices() {
        let [plugin, _] = takeover::OPERATOR_LABELS;
        let labels = json!({plugin: "false", MANAGED_LABEL: "true", PARTITIONING_LABEL: "mig"});
        let memory = json!({plugin: "true"}).to_string();
        let taken = node(&labels, &json!({OPERATOR_ANNOTATION: memory}));
        let patch = without_ours(&taken, false).unwrap();
        let expected = json!({"metadata": {
            "labels": {plugin: "true", MANAGED_LABEL: null},
            "annotations": {OPERATOR_ANNOTATION: null},
        }});
        assert_eq!(patch, expected);
        let patch = without_ours(&taken, true).unwrap();
        let expected = json!({"metadata": {"labels": {MANAGED_LABEL: null}, "annotations": {}}});
        assert_eq!(patch, expected);
    }
}

//! How our own programs do in a real cluster: what their pods, the pods' Events and the nodes say.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Event, Node, Pod as Object};
use kube::api::ListParams;
use kube::runtime::watcher::Config;
use kube::{Api, ResourceExt as _};
use testbed::manifests;

use super::{Ground, watch};

/// Where a node says what is wrong with it.
const PROBLEMS: &str = "cdmo.clear.ml/problems";

impl Ground {
    /// Waits until a node's annotation about problems has that in it, and returns the annotation.
    pub async fn node_says(&self, part: &str) -> anyhow::Result<String> {
        let what = format!("a node says {part:?}");
        watch::until(self.nodes(), Config::default(), &what, |seen| {
            let mut all = seen.values().filter_map(problems);
            Ok(all.find(|text| text.contains(part)).map(str::to_owned))
        })
        .await
    }

    /// Waits until no node says anything.
    pub async fn no_node_says_anything(&self) -> anyhow::Result<()> {
        let what = "no node has a problem";
        watch::until(self.nodes(), Config::default(), what, |seen| {
            Ok(seen
                .values()
                .all(|node| problems(node).is_none())
                .then_some(()))
        })
        .await
    }

    /// Waits for an Event on one of our pods with that in it, and returns its message.
    pub async fn own_event(&self, reason: &str, part: &str) -> anyhow::Result<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), manifests::NAMESPACE);
        let what = format!("an Event {reason} of ours says {part:?}");
        watch::until(events, Config::default(), &what, |seen| {
            let mut messages = seen.values().filter_map(|event: &Event| {
                let fits = event.reason.as_deref() == Some(reason);
                event
                    .message
                    .clone()
                    .filter(|text| fits && text.contains(part))
            });
            Ok(messages.next())
        })
        .await
    }

    /// Waits until a pod of an application of ours is so.
    pub async fn own_pod_until(
        &self,
        app: &str,
        what: &str,
        mut holds: impl FnMut(&Object) -> bool,
    ) -> anyhow::Result<Object> {
        let config = Config::default().labels(&format!("app.kubernetes.io/name={app}"));
        let what = format!("a pod of {app} {what}");
        watch::until(self.own_pods(), config, &what, |seen| {
            let mut pods = seen.values();
            let pod = pods.find(|pod| pod.metadata.deletion_timestamp.is_none() && holds(pod));
            Ok(pod.cloned())
        })
        .await
    }

    /// The one pod of an application of ours that is ready.
    pub async fn own_ready_pod(&self, app: &str) -> anyhow::Result<Object> {
        let wanted = ListParams::default().labels(&format!("app.kubernetes.io/name={app}"));
        let mut pods = self.own_pods().list(&wanted).await?.items;
        pods.retain(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        ensure!(pods.len() == 1, "{} pods of {app} are ready", pods.len());
        pods.pop().context("there is none")
    }

    /// Names of all namespaces.
    pub async fn namespaces(&self) -> anyhow::Result<Vec<String>> {
        let all: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let list = all.list(&ListParams::default()).await?;
        Ok(list.iter().map(kube::ResourceExt::name_any).collect())
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }
}

fn problems(node: &Node) -> Option<&str> {
    node.annotations().get(PROBLEMS).map(String::as_str)
}

/// Whether all its containers serve.
pub(super) fn is_ready(pod: &Object) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers.is_some_and(|all| !all.is_empty() && all.iter().all(|container| container.ready))
}

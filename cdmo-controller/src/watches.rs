//! Watches that feed the world, one task per kind.
//!
//! Each keeps nothing: an object is parsed into its few fields, handed on, and forgotten. A watch
//! that breaks starts over by itself, with the library's back-off.

use std::{fmt::Debug, pin::pin};

use futures::StreamExt as _;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    objects::{NodeLite, PodLite},
    world::Input,
};

/// Objects per page of a list: one page of pods is parsed from about 0.5 MB.
const PAGE: u32 = 64;
/// Seconds after which the server ends a watch; a connection that died is noticed soon after.
const TIMEOUT: u32 = 120;

/// What is watched, and where.
#[derive(Clone)]
pub struct Watches {
    /// The client.
    pub client: Client,
    /// Namespace of the agents.
    pub namespace: String,
    /// Labels of the agents' pods.
    pub agent_selector: String,
}

impl Watches {
    /// Starts all watches.
    ///
    /// Terminal pods are watched too, although most are of no interest: containers outlive the
    /// phase, and what an agent may destroy depends on whose they are. They cost nothing once
    /// parsed.
    pub fn spawn(
        self,
        inputs: &mpsc::Sender<Input>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) {
        let Self {
            client,
            namespace,
            agent_selector,
        } = self;
        let pods = Api::<PodLite>::all(client.clone());
        let nodes = Api::<NodeLite>::all(client.clone());
        let agents = Api::<PodLite>::namespaced(client, &namespace);
        let all = watcher::Config::default().page_size(PAGE).timeout(TIMEOUT);
        let labelled = all.clone().labels(&agent_selector);
        let watch = |kind, future: futures::future::BoxFuture<'static, ()>| {
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = future => tracing::debug!(kind, "watch ended"),
                }
            });
        };
        let to = inputs.clone();
        watch(
            "nodes",
            Box::pin(feed("nodes", nodes, all.clone(), Input::Node, to)),
        );
        let to = inputs.clone();
        watch(
            "agents",
            Box::pin(feed("agents", agents, labelled, Input::AgentPod, to)),
        );
        let to = inputs.clone();
        watch("pods", Box::pin(feed("pods", pods, all, Input::Pod, to)));
    }
}

async fn feed<K>(
    kind: &'static str,
    api: Api<K>,
    config: watcher::Config,
    wrap: fn(Box<Event<K>>) -> Input,
    inputs: mpsc::Sender<Input>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = pin!(watcher::watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let event = event.modify(|object| object.managed_fields_mut().clear());
                if inputs.send(wrap(Box::new(event))).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(kind, %error, "watch broke, starting over"),
        }
    }
}

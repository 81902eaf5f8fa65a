//! Where scenarios happen that use nothing but the Kubernetes API: embedded clusters, started for the
//! one scenario as an old and as a new Kubernetes, or the real cluster that `KUBECONFIG` names.
//!
//! A story never learns which of them it is on. It works in a namespace of its own, makes pods,
//! waits by watching, and asks the controller for its report, as any user can.

mod act;
mod chart;
mod disturb;
mod dump;
mod manifest;
mod process;
mod raw;
mod real;
mod report;
mod rollout;
mod run;
mod settle;
mod unharmed;
mod watch;
mod workloads;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use testbed::manifests::WEBHOOK_LABEL;

use crate::system::System;

pub use chart::{Chart, installation};
pub use disturb::Disturbance;
pub use raw::{Answer, Way};
pub use report::Device;
pub use run::{Needs, api_scenario};
pub use unharmed::Held;

/// Nothing that a story waits for may take longer: a real node under load is slow, not wrong.
const LIMIT: Duration = Duration::from_mins(3);
/// What no watch tells is looked at this often.
const TICK: Duration = Duration::from_millis(200);

/// A cluster with our system in it, and a namespace for one story.
pub struct Ground {
    client: Client,
    kubeconfig: PathBuf,
    namespace: String,
    /// The image of the pods.
    image: String,
    place: Place,
}

enum Place {
    /// Embedded, for this story alone. None once it was given back.
    Embedded(Option<Box<System>>),
    /// Somebody's.
    Real(real::Real),
}

impl Ground {
    /// The embedded cluster.
    async fn embedded(system: System) -> anyhow::Result<Self> {
        let kubeconfig = system.cluster().kubeconfig_path().to_owned();
        Self::open(kubeconfig, Place::Embedded(Some(Box::new(system)))).await
    }

    async fn open(kubeconfig: PathBuf, place: Place) -> anyhow::Result<Self> {
        // Fails only if a provider is set already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = kube::config::Kubeconfig::read_from(&kubeconfig)
            .with_context(|| format!("failed to read {}", kubeconfig.display()))?;
        let mut config =
            Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
                .await
                .with_context(|| format!("failed to use {}", kubeconfig.display()))?;
        config.connect_timeout = Some(Duration::from_secs(5));
        let client = Client::try_from(config).context("failed to make a client")?;
        Ok(Self {
            client,
            kubeconfig,
            namespace: String::new(),
            image: std::env::var("CDMO_SCENARIO_IMAGE")
                .unwrap_or_else(|_| "localhost/busybox:cdmo".to_owned()),
            place,
        })
    }

    /// Makes the namespace. Old API servers show it to the webhook because of its label.
    async fn settle_in(&mut self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let (label, value) = WEBHOOK_LABEL;
        let namespace = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "generateName": "cdmo-scenario-",
                "labels": { "app.kubernetes.io/part-of": "cdmo-scenarios", label: value },
            },
        }))?;
        let made = namespaces.create(&PostParams::default(), &namespace).await;
        self.namespace = made.context("failed to make a namespace")?.name_any();
        Ok(())
    }

    /// Removes the namespace and what is in it.
    async fn leave(&self) -> anyhow::Result<()> {
        if self.namespace.is_empty() {
            return Ok(());
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .with_context(|| format!("failed to remove namespace {}", self.namespace))?;
        Ok(())
    }

    /// The story's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The story's objects of a kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

//! A real cluster: which one it is, and what can be done to it from here.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use testbed::{binaries, manifests};

use super::{Ground, Place};

/// The kubeconfig of the cluster that `cargo xtask cluster up` makes.
const OURS: &str = "/var/lib/cdmo-cluster/kubeconfig";

/// Where it writes down when its kubelet ended by itself, and how.
const KUBELET_ENDS: &str = "/var/lib/cdmo-cluster/logs/kubelet.ends";

/// A cluster that was there before.
#[derive(Debug)]
pub(super) struct Real {
    /// It is the one of `cargo xtask cluster up`, and this is root: its parts can be restarted.
    pub(super) ours: bool,
}

/// The kubeconfig of the real cluster that scenarios shall run on.
pub(super) fn named() -> Option<PathBuf> {
    let path = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty())?;
    Some(path.into())
}

impl Real {
    pub(super) fn of(kubeconfig: &Path) -> Self {
        let ours = std::fs::canonicalize(kubeconfig).is_ok_and(|path| path == Path::new(OURS));
        Self {
            ours: ours && rustix::process::geteuid().is_root(),
        }
    }

    /// When the kubelet ended by itself, and how, as far as that can be seen; the oldest first.
    pub(super) fn kubelet_ends(&self) -> Vec<String> {
        if !self.ours {
            return Vec::new();
        }
        let text = std::fs::read_to_string(KUBELET_ENDS).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Restarts a part of the cluster.
    pub(super) async fn restart(&self, part: &str, kill: bool) -> anyhow::Result<()> {
        let mut command = binaries::cargo();
        command
            .args(["run", "--quiet", "--package", "xtask", "--"])
            .args(["cluster", "restart", part])
            .args(kill.then_some("--kill"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let output = command.output().await.context("failed to start cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{part} was not restarted: {said}");
        Ok(())
    }
}

impl Ground {
    /// A real cluster with the chart in it.
    pub(super) async fn real(kubeconfig: PathBuf) -> anyhow::Result<Self> {
        let real = Real::of(&kubeconfig);
        let ground = Self::open(kubeconfig, Place::Real(real)).await?;
        ground.is_for_tests().await?;
        Ok(ground)
    }

    /// The chart has to be there, with simulated GPUs: stories take all of them, and kill agents.
    async fn is_for_tests(&self) -> anyhow::Result<()> {
        let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), manifests::NAMESPACE);
        let set = sets
            .get_opt(manifests::AGENT)
            .await
            .with_context(|| format!("no cluster answers for {}", self.kubeconfig.display()))?;
        let Some(set) = set else {
            bail!(
                "the cluster of {} has no agents in namespace {}; install the chart (cargo xtask \
                 cluster install), or unset KUBECONFIG for the embedded cluster",
                self.kubeconfig.display(),
                manifests::NAMESPACE
            );
        };
        let pod = set.spec.and_then(|set| set.template.spec);
        let first = pod.and_then(|pod| pod.init_containers).unwrap_or_default();
        let simulated = first.iter().any(|container| container.name == "fake-nvml");
        ensure!(
            simulated,
            "the GPUs of {} are real, and scenarios take all of them; unset KUBECONFIG for the \
             embedded cluster, or install the chart with fakeNvml.enabled on nodes to spare",
            self.kubeconfig.display()
        );
        Ok(())
    }
}

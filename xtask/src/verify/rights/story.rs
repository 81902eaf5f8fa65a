//! The story in which all parts ask the API server for everything that they ever ask for.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use simcluster::api::Call;
use simcluster::cluster::Behaviour;
use simcluster::store::{DeleteOptions, Kind, Store};
use testbed::binaries::{Binaries, cargo};
use testbed::hardware::{Host, Latency};
use testbed::manifests::{self, NAMESPACE, WEBHOOK};
use testbed::system::{CONTROL_NODE, Installation, Setup, System};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::{CLEAN_UP, CONTROLLER, STATUS};
use crate::program::said;
use crate::verify::chart::named;

/// Time for each step; seconds are enough.
const LIMIT: Duration = Duration::from_mins(2);
/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_millis(50);

const CONTROLLER_SECRET: &str = "cdmo-controller-tls";
const AGENT_SECRET: &str = "cdmo-agent-tls";
const WEBHOOK_SECRET: &str = "cdmo-webhook-tls";

/// A node whose GPU can do MIG.
const GOOD: &str = "good";
/// A node whose GPU cannot, which is then written on the node.
const BAD: &str = "bad";
const PROBLEMS: &str = "cdmo.clear.ml/problems";
const FORMER: &str = "a former problem";
const LOG_LEVEL: &str = "info";

/// What was asked for, by whom.
pub(super) struct Asked {
    pub(super) controller: BTreeSet<Call>,
    pub(super) status: BTreeSet<Call>,
    pub(super) clean_up: BTreeSet<Call>,
}

/// Tells it, with the Secrets among these objects of the chart.
pub(super) async fn tell(objects: &[Value], binaries: &Binaries) -> anyhow::Result<Asked> {
    let host = |gpus: &str| -> anyhow::Result<Host> {
        Ok(Host {
            gpus: vec![gpus.parse()?],
            latency: Latency::NONE,
            extra: String::new(),
        })
    };
    let setup = Setup {
        behaviour: Behaviour::V1_33,
        hosts: vec![
            (GOOD.to_owned(), host("A100-40GB:1")?),
            (BAD.to_owned(), host("T4:1")?),
        ],
        log_level: LOG_LEVEL.to_owned(),
        controller_args: Vec::new(),
    };
    let system = System::start(setup, binaries).await?;
    let asked = on(&system, objects, binaries).await;
    system.shutdown().await;
    asked
}

async fn on(system: &System, objects: &[Value], binaries: &Binaries) -> anyhow::Result<Asked> {
    let audit = system.cluster().audit();
    audit.start();
    install(system, objects)?;
    take_certificates(system).await?;
    system.label_nodes()?;
    system.ready(LIMIT).await?;
    let store = system.store();
    webhook_is_trusted(store).await?;
    problem_is_written(store).await?;
    run(store, "first").await?;
    // The next one finds a Lease and Secrets that are there.
    restart_controller(system).await?;
    run(store, "second").await?;
    // What the first one wrote does not show that the second knows of it.
    store.modify(Kind::Node, "", BAD, |node| {
        node["metadata"]["annotations"][PROBLEMS] = json!(FORMER);
    })?;
    problem_is_written(store).await?;

    let mut command = cargo();
    command
        .args(["run", "--quiet", "--package", "kubectl-cdmo", "--"])
        .args(["status", "--kubeconfig"])
        .arg(kubeconfig(system, STATUS)?);
    let shown = said(command).await?;
    ensure!(shown.contains(GOOD), "the status shows no node:\n{shown}");

    // Here it is no Deployment's, so that the clean-up cannot end it.
    store.delete(Kind::Pod, NAMESPACE, CONTROLLER, &DeleteOptions::default())?;
    // It would take the gate off the next pod while it ends.
    until("the controller has ended", || {
        store.get(Kind::Pod, NAMESPACE, CONTROLLER).is_none()
    })
    .await?;
    store.create(Kind::Pod, "default", held_back("third"))?;
    let mut command = Command::new(&binaries.controller);
    command
        .arg("--kubeconfig")
        .arg(kubeconfig(system, CLEAN_UP)?)
        .args(["--namespace", NAMESPACE, "clean-up"]);
    said(command).await?;
    let left = store.find(Kind::Pod, "default", "third")?;
    ensure!(
        left["spec"]["schedulingGates"]
            .as_array()
            .is_none_or(Vec::is_empty),
        "the clean-up leaves a pod behind our gate: {left}"
    );
    Ok(Asked {
        // The others have tokens.
        controller: audit.calls(""),
        status: audit.calls(STATUS),
        clean_up: audit.calls(CLEAN_UP),
    })
}

/// The system as the testbed installs it, but with the chart's Secrets, which the controller fills.
fn install(system: &System, objects: &[Value]) -> anyhow::Result<()> {
    let store = system.store();
    store.create(Kind::Namespace, "", manifests::namespace(NAMESPACE))?;
    for name in [CONTROLLER_SECRET, AGENT_SECRET, WEBHOOK_SECRET] {
        let secret = named(objects, "Secret", name)?.clone();
        store.create(Kind::Secret, NAMESPACE, secret)?;
    }
    let further = [
        "--make-certificates".to_owned(),
        format!("--webhook-configuration={WEBHOOK}"),
    ];
    let tls = system.folder().join("tls");
    let webhook_tls = system.webhook_tls();
    let controller = manifests::controller(CONTROL_NODE, &tls, LOG_LEVEL, &further);
    store.create(Kind::DaemonSet, NAMESPACE, manifests::agents(LOG_LEVEL))?;
    store.create(Kind::Pod, NAMESPACE, controller)?;
    // It waits for a certificate of the controller's making.
    std::fs::remove_dir_all(&webhook_tls)
        .with_context(|| format!("failed to remove {}", webhook_tls.display()))?;
    let installation = Installation {
        controller_tls: &tls,
        webhook_tls: &webhook_tls,
        log_level: LOG_LEVEL,
        controller_args: &further,
    };
    installation.install_webhook(store, Behaviour::V1_33, None)?;
    Ok(())
}

/// Waits until the API server trusts the authority that signed the webhook's certificate.
async fn webhook_is_trusted(store: &Store) -> anyhow::Result<()> {
    let secret = store.find(Kind::Secret, NAMESPACE, WEBHOOK_SECRET)?;
    until("the webhook is trusted", || {
        let found = store.get(Kind::MutatingWebhookConfiguration, "", WEBHOOK);
        found.is_some_and(|found| {
            let bundle = &found["webhooks"][0]["clientConfig"]["caBundle"];
            bundle.is_string() && *bundle == secret["data"]["ca.crt"]
        })
    })
    .await
}

/// A pod with our scheduling gate.
fn held_back(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "containers": [{ "name": "main", "image": "simulated" }],
            "schedulingGates": [{ "name": manifests::GATE }],
        },
    })
}

/// Puts the certificates of agents and webhook where they are mounted, as kubelets do with Secrets.
async fn take_certificates(system: &System) -> anyhow::Result<()> {
    let nodes = [GOOD, BAD].map(|node| {
        let folder = system.folder().join("nodes").join(node);
        folder.join(manifests::AGENT_TLS)
    });
    mount(system, AGENT_SECRET, &nodes).await?;
    mount(system, WEBHOOK_SECRET, &[system.webhook_tls()]).await
}

async fn mount(system: &System, name: &str, folders: &[PathBuf]) -> anyhow::Result<()> {
    let secret = || system.store().get(Kind::Secret, NAMESPACE, name);
    until(&format!("the Secret {name} has a certificate"), || {
        secret().is_some_and(|secret| secret["data"]["tls.key"].is_string())
    })
    .await?;
    let secret = secret().with_context(|| format!("the Secret {name} is gone"))?;
    for folder in folders {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        for (key, text) in secret["data"].as_object().into_iter().flatten() {
            let bytes = STANDARD.decode(text.as_str().unwrap_or_default());
            let bytes = bytes.with_context(|| format!("{key} of the Secret is no base64"))?;
            let path = folder.join(key);
            std::fs::write(&path, &bytes)
                .with_context(|| format!("failed to write {}", path.display()))?;
        }
    }
    Ok(())
}

async fn problem_is_written(store: &Store) -> anyhow::Result<()> {
    until("the problem of a node is written on it", || {
        let node = store.get(Kind::Node, "", BAD).unwrap_or_default();
        let written = node["metadata"]["annotations"][PROBLEMS].as_str();
        written.is_some_and(|written| written != FORMER)
    })
    .await
}

/// Runs a pod that holds a slice.
async fn run(store: &Store, name: &str) -> anyhow::Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            // That it goes needs a right, too.
            "schedulingGates": [{ "name": "cdmo.clear.ml/partitioning" }],
            "containers": [{
                "name": "main",
                "image": "simulated",
                "resources": { "limits": { "nvidia.com/mig-3g.20gb": "1" } },
            }],
        },
    });
    store.create(Kind::Pod, "default", pod)?;
    until(&format!("the pod {name} runs"), || {
        let pod = store.get(Kind::Pod, "default", name);
        pod.is_some_and(|pod| pod["status"]["phase"] == "Running")
    })
    .await
}

async fn restart_controller(system: &System) -> anyhow::Result<()> {
    let before = system.processes(CONTROLLER);
    let pid = before.first().and_then(|pid| i32::try_from(*pid).ok());
    let pid = pid.and_then(Pid::from_raw).context("no controller runs")?;
    kill_process(pid, Signal::KILL).context("failed to kill the controller")?;
    until("another controller runs", || {
        let now = system.processes(CONTROLLER);
        !now.is_empty() && now != before
    })
    .await?;
    Ok(system.ready(LIMIT).await?)
}

/// A kubeconfig of the cluster whose user is known to the API server's audit by this token.
fn kubeconfig(system: &System, token: &str) -> anyhow::Result<PathBuf> {
    let path = system.folder().join(format!("kubeconfig-{token}"));
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "it", "cluster": { "server": system.cluster().url() } }],
        "users": [{ "name": "it", "user": { "token": token } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        "current-context": "it",
    });
    std::fs::write(&path, text.to_string())
        .with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

async fn until(what: &str, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let wait = async {
        while !is_so() {
            sleep(LOOK).await;
        }
    };
    let waited = timeout(LIMIT, wait).await;
    waited.with_context(|| format!("waited {LIMIT:?} until {what}"))
}

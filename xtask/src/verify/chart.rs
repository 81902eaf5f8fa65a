//! The chart as helm sees it: lint, what it renders to on old and new Kubernetes, whether our programs
//! understand the arguments they get, whether they have the rights they need and no others, and whether wrong
//! values are refused with a sentence.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use simcluster::cluster::Behaviour;
use testbed::binaries::{Binaries, Profile, Progress, repository};
use testbed::manifests::WEBHOOK;
use tokio::process::Command;

use super::{rights, webhook};
use crate::kubernetes_tools;
use crate::program::said;
use crate::python::Python;

/// The oldest Kubernetes that is tested with, the oldest that is promised, and a new one.
const KUBERNETES: [&str; 3] = ["1.20.2", "1.28.0", "1.33.0"];
/// The same as the embedded cluster plays them.
const BEHAVIOURS: [Behaviour; 3] = [Behaviour::V1_20, Behaviour::V1_28, Behaviour::V1_33];

/// Ways to install, each with what is set.
const INSTALLATIONS: [(&str, &[&str]); 7] = [
    ("as it is", &[]),
    ("without a webhook", &["webhook.enabled=false"]),
    (
        "with a password",
        &["imageCredentials.password=token", "image.pullSecrets=null"],
    ),
    (
        "with simulated GPUs",
        &["fakeNvml.enabled=true", "image.pullPolicy=Never"],
    ),
    (
        "on MicroK8s",
        &[
            "kubeletDir=/var/snap/microk8s/common/var/lib/kubelet",
            "runtimeClassName=nvidia",
        ],
    ),
    (
        "with CDI",
        &["deviceListStrategy=cdi-annotations", "driverRoot=/"],
    ),
    (
        "with everything set",
        &[
            "driverRoot=/run/nvidia/driver",
            "kubeletDir=/data/kubelet",
            "devicePluginDir=/data/device-plugins",
            "deviceListStrategy=envvar\\,cdi-cri",
            "cdi.dir=/data/cdi",
            "cdi.driverDir=",
            "passDeviceSpecs=false",
            "migMode.turnOn=false",
            "statusPatch=false",
            "podAnnotation=false",
            "idleInstances=parked",
            "keepFreeAfterSeconds=300",
            "placementPortfolio=false",
            "nameHolders=false",
            "logFormat=text",
            "networkPolicy.enabled=true",
            "statusRole.subjects[0].kind=Group",
            "statusRole.subjects[0].name=data-science",
            "statusRole.subjects[0].apiGroup=rbac.authorization.k8s.io",
            "image.pullSecrets={a,b}",
            "agent.maxUnavailable=10%",
            "agent.tolerations=null",
            "logLevel=info\\,mtls=debug",
            "image.repository=localhost:5000/gpu/cdmo",
            "agent.podLabels.a=b",
            "agent.podAnnotations.a=b",
            "agent.nodeSelector.a=b",
            "controller.podLabels.a=b",
            "controller.podAnnotations.a=b",
            "controller.nodeSelector.a=b",
            "controller.extraArgs={--settle-ms=50}",
            "webhook.replicas=1",
            "webhook.failurePolicy=Fail",
            "webhook.optIn=always",
            "webhook.label=false",
            "webhook.annotation=false",
            "webhook.schedulingGate=never",
            "webhook.podLabels.a=b",
            "webhook.podAnnotations.a=b",
            "webhook.nodeSelector.a=b",
            "webhook.extraArgs={--drain-seconds=1}",
        ],
    ),
];

/// Wrong values as people set them, and what they are told.
const REFUSED: [(&str, &str); 35] = [
    (
        "webhook.failurePolicy=ignore",
        "at '/webhook/failurePolicy': value must be one of 'Ignore', 'Fail'",
    ),
    (
        "webhook.replicas=0",
        "at '/webhook/replicas': minimum: got 0, want 1",
    ),
    (
        "webhook.optIn=never",
        "webhook.optIn \"never\" is not possible before Kubernetes 1.21",
    ),
    (
        "webhook.optIn=never,webhook.failurePolicy=Fail",
        "webhook.optIn \"never\" with webhook.failurePolicy \"Fail\" is not possible before Kubernetes 1.28",
    ),
    (
        "webhook.schedulingGate=always",
        "webhook.schedulingGate \"always\" is not possible before Kubernetes 1.27",
    ),
    (
        "agnet.resources=null",
        "additional properties 'agnet' not allowed",
    ),
    (
        "imageCredentials.pasword=token",
        "at '/imageCredentials': additional properties 'pasword' not allowed",
    ),
    (
        "agent.resources.limit.memory=1Gi",
        "at '/agent/resources': additional properties 'limit' not allowed",
    ),
    // A section of which every line is commented out.
    ("agent=null", "missing property 'agent'"),
    (
        "image.repository=null",
        "at '/image': missing property 'repository'",
    ),
    (
        "deviceListStrategy=cdi",
        "deviceListStrategy \"cdi\" is none: write volume-mounts, envvar, cdi-cri or cdi-annotations",
    ),
    (
        "image.pullPolicy=Sometimes",
        "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
    ),
    ("image.tag=580", "at '/image/tag': got number, want string"),
    (
        "image.tag=cdmo:1",
        "at '/image/tag': 'cdmo:1' does not match",
    ),
    (
        "statusPatch=off",
        "at '/statusPatch': got string, want boolean",
    ),
    (
        "migMode.turnOn=off",
        "at '/migMode/turnOn': got string, want boolean",
    ),
    (
        "agent.tolerations=all",
        "at '/agent/tolerations': got string, want array",
    ),
    (
        "agent.nodeSelector=gpu",
        "at '/agent/nodeSelector': got string, want object",
    ),
    (
        "statusRole.subjects={jane}",
        "at '/statusRole/subjects/0': got string, want object",
    ),
    (
        "agent.maxUnavailable=0",
        "at '/agent/maxUnavailable': minimum: got 0, want 1",
    ),
    (
        "controller.extraArgs={settle-ms=50}",
        "at '/controller/extraArgs/0': 'settle-ms=50' does not match pattern '^--'",
    ),
    (
        "kubeletDir=var/lib/kubelet",
        "at '/kubeletDir': 'var/lib/kubelet' does not match",
    ),
    (
        "devicePluginDir=device-plugins",
        "at '/devicePluginDir': 'device-plugins' does not match",
    ),
    ("kubeletDir=/", "at '/kubeletDir': '/' does not match"),
    (
        "agent.stateDir=/var/lib/cdmo/..",
        "at '/agent/stateDir': '/var/lib/cdmo/..' does not match",
    ),
    (
        "agent.stateDir=/host/state",
        "agent.stateDir \"/host/state\" lies in /host, where the agent's container has other things",
    ),
    (
        "agent.stateDir=/var/lib/kubelet/device-plugins/",
        "lies in /var/lib/kubelet, where the agent's container has other things",
    ),
    (
        "driverRoot=run/nvidia/driver",
        "at '/driverRoot': 'run/nvidia/driver' does not",
    ),
    (
        "runtimeClassName=NVIDIA",
        "at '/runtimeClassName': 'NVIDIA' does not match",
    ),
    (
        "image.repository=https://registry.example.com/cdmo",
        "image.repository \"https://registry.example.com/cdmo\" is none: write a registry and a path",
    ),
    (
        "image.repository=registry.example.com/cdmo/",
        "without a slash at the end",
    ),
    (
        "logLevel=loud",
        "logLevel \"loud\" is none: write error, warn, info, debug or trace",
    ),
    (
        "driverRoot=/,runtimeClassName=nvidia",
        "driverRoot and runtimeClassName are two ways to the driver: set one of them",
    ),
    (
        "fakeNvml.enabled=true,driverRoot=/",
        "fakeNvml.enabled is for nodes without a driver: set neither",
    ),
    (
        "fakeNvml.enabled=true,runtimeClassName=nvidia",
        "fakeNvml.enabled is for nodes without a driver: set neither",
    ),
];

/// Lints and renders the chart.
pub(super) async fn chart(python: &Python) -> anyhow::Result<String> {
    let tools = kubernetes_tools::fetch(python, kubernetes_tools::V37).await?;
    let helm = Helm {
        program: tools.join("helm"),
        chart: repository().join("charts/cdmo"),
    };
    let version = helm.said(&["version", "--short"]).await?;
    ensure!(
        helm.shown("chart").await?.contains(concat!(
            "appVersion: ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        )),
        "appVersion in Chart.yaml is not {}, the version of the programs",
        env!("CARGO_PKG_VERSION")
    );
    let binaries = Binaries::build(Profile::Debug, Progress::Quiet).await?;
    for (name, values) in INSTALLATIONS {
        helm.lint(values).await.with_context(|| name.to_owned())?;
        for kubernetes in KUBERNETES {
            let about = || format!("{name}, on Kubernetes {kubernetes}");
            let objects = helm.render(kubernetes, values).await;
            let objects = objects.with_context(about)?;
            agents_have_no_token(&objects).with_context(about)?;
            webhook::has_no_rights(&objects).with_context(about)?;
            // One version is enough: programs do not know which Kubernetes there is.
            if kubernetes == KUBERNETES[0] {
                arguments_are_understood(&objects, &binaries)
                    .await
                    .with_context(about)?;
            }
        }
    }
    for (kubernetes, behaviour) in KUBERNETES.into_iter().zip(BEHAVIOURS) {
        let objects = helm.render(kubernetes, &[]).await?;
        webhook::check(&objects, behaviour)
            .with_context(|| format!("on Kubernetes {kubernetes}"))?;
    }
    let strict = helm
        .render(KUBERNETES[1], &["webhook.failurePolicy=Fail"])
        .await?;
    webhook::gate_never_refuses(&strict)?;
    let objects = helm.render(KUBERNETES[2], &[]).await?;
    rights::check(&objects, &binaries).await?;
    for object in helm.render_in("2026", KUBERNETES[2], &[]).await? {
        let namespace = &object["metadata"]["namespace"];
        ensure!(
            namespace.is_null() || namespace.is_string(),
            "{} takes a namespace whose name has digits only for a number",
            object["kind"]
        );
    }
    for (values, words) in REFUSED {
        match helm.render(KUBERNETES[0], &[values]).await {
            Ok(_) => bail!("--set {values} is not refused"),
            Err(error) => ensure!(
                format!("{error:#}").contains(words),
                "--set {values} is refused without saying {words:?}: {error:#}"
            ),
        }
    }
    Ok(format!(
        "helm {} is content with charts/cdmo",
        version.trim()
    ))
}

struct Helm {
    program: PathBuf,
    chart: PathBuf,
}

impl Helm {
    async fn said(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        said(command).await
    }

    async fn shown(&self, what: &str) -> anyhow::Result<String> {
        self.said(&["show", what, &self.chart.display().to_string()])
            .await
    }

    async fn lint(&self, values: &[&str]) -> anyhow::Result<String> {
        let chart = self.chart.display().to_string();
        self.said(&with_values(&["lint", "--strict", &chart], values))
            .await
    }

    async fn render(&self, kubernetes: &str, values: &[&str]) -> anyhow::Result<Vec<Value>> {
        self.render_in("cdmo-operator", kubernetes, values).await
    }

    async fn render_in(
        &self,
        namespace: &str,
        kubernetes: &str,
        values: &[&str],
    ) -> anyhow::Result<Vec<Value>> {
        let namespace = format!("--namespace={namespace}");
        let chart = self.chart.display().to_string();
        let arguments = [
            "template",
            "cdmo",
            &chart,
            &namespace,
            "--kube-version",
            kubernetes,
        ];
        let text = self.said(&with_values(&arguments, values)).await?;
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(&text).context("what is rendered is no YAML")?;
        let objects: Vec<Value> = objects.into_iter().filter(|o| !o.is_null()).collect();
        for object in &objects {
            let whole = ["apiVersion", "kind"]
                .iter()
                .all(|key| object[key].is_string());
            ensure!(
                whole && object["metadata"]["name"].is_string(),
                "an object without kind or name is rendered: {object}"
            );
        }
        Ok(objects)
    }
}

fn with_values<'a>(arguments: &[&'a str], values: &[&'a str]) -> Vec<&'a str> {
    let mut all = arguments.to_vec();
    all.extend(values.iter().flat_map(|value| ["--set", value]));
    all
}

pub(super) fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> anyhow::Result<&'a Value> {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .with_context(|| format!("there is no {kind} {name}"))
}

/// An agent must have no way to the API, whatever is set.
fn agents_have_no_token(objects: &[Value]) -> anyhow::Result<()> {
    let pod = &named(objects, "DaemonSet", "mig-node-agent")?["spec"]["template"]["spec"];
    ensure!(
        pod["automountServiceAccountToken"] == false,
        "agents mount a token of the API"
    );
    let bound = objects
        .iter()
        .filter(|o| o["kind"].as_str().is_some_and(|k| k.ends_with("Binding")));
    let mut subjects = bound
        .filter_map(|object| object["subjects"].as_array())
        .flatten();
    ensure!(
        subjects.all(|subject| subject["name"] != "mig-node-agent"),
        "the agents' account has rights"
    );
    let ours = "cdmo-controller-tls";
    ensure!(
        !pod["volumes"].to_string().contains(ours),
        "agents mount the Secret with the controller's keys"
    );
    Ok(())
}

/// A program that is given arguments and `--help` understands the arguments first.
async fn arguments_are_understood(objects: &[Value], binaries: &Binaries) -> anyhow::Result<()> {
    let agent = named(objects, "DaemonSet", "mig-node-agent")?;
    let controller = named(objects, "Deployment", "cdmo-controller")?;
    let clean_up = named(objects, "Job", "cdmo-clean-up")?;
    let mut pairs: Vec<(&Value, &Path)> = vec![
        (agent, &binaries.agent),
        (controller, &binaries.controller),
        (clean_up, &binaries.controller),
    ];
    if let Ok(webhook) = named(objects, "Deployment", WEBHOOK) {
        pairs.push((webhook, &binaries.controller));
    }
    for (object, program) in pairs {
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"]
            .as_array()
            .context("a container without args")?;
        let mut command = Command::new(program);
        command
            .args(arguments.iter().filter_map(Value::as_str))
            .arg("--help");
        said(command)
            .await
            .with_context(|| format!("{} does not understand its arguments", container["name"]))?;
    }
    Ok(())
}

//! The API as a person with kubectl sees it. Needs a kubectl: its path in `KUBECTL`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "webhooks/hook.rs"]
#[allow(dead_code, reason = "the tests of webhooks use more of it")]
mod hook;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use hook::Hook;
use serde_json::{Value, json};
use simcluster::api::{ApiConfig, serve};
use simcluster::store::{Kind, Store};
use tokio_util::sync::{CancellationToken, DropGuard};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  containers:
  - name: main
    image: busybox
    resources: {limits: {nvidia.com/mig-1g.5gb: 1, memory: 1Gi}}
";

/// What one run of kubectl printed.
struct Said {
    out: String,
    err: String,
    ok: bool,
}

impl Said {
    #[track_caller]
    fn says(self, parts: &[&str]) -> Self {
        assert!(self.ok, "{}{}", self.out, self.err);
        for part in parts {
            assert!(
                self.out.contains(part),
                "no {part:?} in:\n{}{}",
                self.out,
                self.err
            );
        }
        self
    }

    #[track_caller]
    fn fails(self, parts: &[&str]) {
        assert!(!self.ok, "{}", self.out);
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in:\n{}", self.err);
        }
    }
}

/// A cluster's API and the kubectl that looks at it.
struct Shell {
    kubectl: PathBuf,
    home: tempfile::TempDir,
    url: String,
    store: Store,
    _stop: DropGuard,
}

impl Shell {
    /// Nothing if there is no kubectl to test with.
    fn start() -> Option<Self> {
        let Some(kubectl) = std::env::var_os("KUBECTL") else {
            eprintln!("SKIPPED: set KUBECTL to the path of a kubectl to run this test");
            return None;
        };
        let store = Store::default();
        let shutdown = CancellationToken::new();
        let (send, receive) = mpsc::channel();
        let (served, stop) = (store.clone(), shutdown.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                send.send(listener.local_addr().unwrap()).unwrap();
                tokio::spawn(simcluster::workloads::run(served.clone(), stop.clone()));
                serve(listener, served, ApiConfig::default(), stop)
                    .await
                    .unwrap();
            });
        });
        let address = receive.recv_timeout(Duration::from_mins(1)).unwrap();
        Some(Self {
            kubectl: kubectl.into(),
            home: tempfile::tempdir().unwrap(),
            url: format!("http://{address}"),
            store,
            _stop: shutdown.drop_guard(),
        })
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .args(["--server", &self.url, "--request-timeout", "60s"])
            .args(line.split_whitespace())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("none"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, line: &str) -> Said {
        self.feed(line, "")
    }

    /// With `input` as what `-f -` reads.
    fn feed(&self, line: &str, input: &str) -> Said {
        let mut child = self.command(line).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        Said {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            ok: output.status.success(),
        }
    }

    fn add_node(&self) {
        let node = json!({
            "metadata": { "name": "node-a" },
            "status": {
                "capacity": { "cpu": "8", "memory": "32Gi", "nvidia.com/mig-1g.5gb": "7" },
                "conditions": [{ "type": "Ready", "status": "True" }],
                "addresses": [{ "type": "InternalIP", "address": "127.0.0.2" }],
                "nodeInfo": { "kubeletVersion": "v1.33.0" },
            },
        });
        self.store.create(Kind::Node, "", node).unwrap();
    }
}

#[test]
fn a_pod_is_applied_looked_at_changed_and_deleted() {
    let Some(shell) = Shell::start() else { return };
    shell.run("version").says(&["Server Version: v1.33.0"]);
    shell.feed("apply -f -", POD).says(&["pod/web created"]);
    let quoted = POD.replace("gb: 1", "gb: \"1\"");
    shell.feed("apply -f -", &quoted).says(&["pod/web"]);
    shell
        .feed("apply -f -", &quoted)
        .says(&["pod/web unchanged"]);
    shell
        .feed("apply -f -", &quoted.replace("app: web", "app: new"))
        .says(&["configured"]);
    shell
        .feed("apply --server-side --force-conflicts -f -", POD)
        .says(&["serverside-applied"]);
    shell
        .feed("apply --dry-run=server -f -", POD)
        .says(&["(server dry run)"]);
    shell.run("get pods").says(&[
        "NAME", "READY", "STATUS", "RESTARTS", "AGE", "0/1", "Pending",
    ]);
    shell
        .run("get po -A -o wide")
        .says(&["NAMESPACE", "NOMINATED NODE", "<none>"]);
    shell
        .run("get pods -l app=web --show-labels")
        .says(&["LABELS", "app=web"]);
    shell
        .run("get pods --field-selector status.phase=Pending -o name")
        .says(&["pod/web"]);
    shell
        .run("get pods --field-selector spec.no=1")
        .fails(&["field label not supported"]);
    let object: Value = serde_json::from_str(&shell.run("get pod web -o json").out).unwrap();
    assert_eq!(
        object["spec"]["containers"][0]["resources"]["requests"]["memory"],
        "1Gi"
    );
    shell
        .run("get pod web -o yaml")
        .says(&["nvidia.com/mig-1g.5gb: \"1\""]);
    shell.run("label pod web a=b").says(&["labeled"]);
    shell.run("annotate pod web a=b").says(&["annotated"]);
    for patch in [
        r#"patch pod web -p {"metadata":{"labels":{"s":"1"}}}"#,
        r#"patch pod web --type merge -p {"metadata":{"labels":{"m":"1"}}}"#,
        r#"patch pod web --type json -p [{"op":"remove","path":"/metadata/labels/s"}]"#,
    ] {
        shell.run(patch).says(&["patched"]);
    }
    shell
        .run("wait pod/web --for=jsonpath={.metadata.labels.m}=1 --timeout=60s")
        .says(&["met"]);
    shell.run("delete pod web").says(&["deleted"]);
    shell.run("get pod web").fails(&["NotFound"]);
}

#[test]
fn a_node_is_described_with_its_pods_and_events_and_cordoned() {
    let Some(shell) = Shell::start() else { return };
    shell.add_node();
    shell.feed("create -f -", POD).says(&["created"]);
    shell.store.bind("default", "web", "node-a").unwrap();
    for (kind, name, uid) in [("Node", "node-a", "node-a"), ("Pod", "web", "")] {
        let pod = shell.store.find(Kind::Pod, "default", "web").unwrap();
        let uid = if uid.is_empty() {
            pod["metadata"]["uid"].clone()
        } else {
            uid.into()
        };
        let namespace = if kind == "Pod" { "default" } else { "" };
        let event = json!({
            "metadata": { "generateName": "e." },
            "involvedObject": { "kind": kind, "name": name, "namespace": namespace, "uid": uid },
            "reason": "SliceReady", "message": format!("a slice for {name}"),
            "source": { "component": "cdmo-controller" },
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
            "count": 2,
        });
        shell.store.create(Kind::Event, "default", event).unwrap();
    }
    shell
        .run("get nodes -o wide")
        .says(&["Ready", "v1.33.0", "127.0.0.2"]);
    let described = shell.run("describe node node-a");
    described.says(&[
        "Allocated resources",
        "default",
        "web",
        "1Gi (3%)",
        "a slice for node-a",
    ]);
    shell
        .run("describe pod web")
        .says(&["node-a", "a slice for web", "cdmo-controller"]);
    shell
        .run("get events")
        .says(&["LAST SEEN", "SliceReady", "pod/web", "node/node-a"]);
    shell.run("cordon node-a").says(&["cordoned"]);
    shell.run("get nodes").says(&["Ready,SchedulingDisabled"]);
    shell
        .run("taint node node-a a=b:NoSchedule")
        .says(&["tainted"]);
    shell.run("delete pod web --wait=false").says(&["deleted"]);
    shell.run("get pods").says(&["Terminating"]);
    shell
        .run("delete pod web --grace-period=0 --force")
        .says(&["force deleted"]);
    shell.run("get pods -o name").says(&[]);
    assert!(shell.store.get(Kind::Pod, "default", "web").is_none());
}

#[test]
fn a_watch_prints_a_row_per_change() {
    let Some(shell) = Shell::start() else { return };
    shell.feed("apply -f -", POD).says(&["created"]);
    let mut watching = shell.command("get pods -w").spawn().unwrap();
    let mut rows = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = || rows.next().unwrap().unwrap();
    assert!(next().starts_with("NAME"));
    assert!(next().contains("Pending"));
    for phase in ["Running", "Succeeded"] {
        let change = |pod: &mut Value| pod["status"]["phase"] = phase.into();
        shell
            .store
            .modify(Kind::Pod, "default", "web", change)
            .unwrap();
        let row = next();
        assert!(row.contains(phase), "{row}");
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn mistakes_are_answered_in_words_that_help() {
    let Some(shell) = Shell::start() else { return };
    let typo = POD.replace("limits", "limit");
    let unknown = "unknown field \"spec.containers[0].resources.limit\"";
    shell.feed("apply -f -", &typo).fails(&[unknown]);
    let fraction = POD.replace("nvidia.com/mig-1g.5gb: 1", "clear.ml/fraction-1: \"0.5\"");
    shell.feed("apply -f -", &fraction).fails(&[
        "spec.containers[0].resources.limits[clear.ml/fraction-1]",
        "must be an integer",
    ]);
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: hello}\n";
    shell.feed("apply -f -", text).fails(&["spec.containers"]);
    let kind = "apiVersion: v1\nkind: Podd\nmetadata: {name: x}\n";
    shell
        .feed("apply -f -", kind)
        .fails(&["no matches for kind \"Podd\""]);
    shell.feed("create -f -", POD).says(&["created"]);
    shell.feed("create -f -", POD).fails(&["AlreadyExists"]);
    let bind = r#"patch pod web -p {"spec":{"nodeName":"x"}}"#;
    shell
        .run(bind)
        .fails(&["Forbidden: pod updates may not change fields other than"]);
    shell.run("logs web").fails(&["NotImplemented"]);
    shell
        .run("get nonsense")
        .fails(&["the server doesn't have a resource type"]);
}

#[test]
fn small_things_are_made_without_a_file() {
    let Some(shell) = Shell::start() else { return };
    shell.run("create namespace team").says(&["created"]);
    shell
        .run("create configmap c -n team --from-literal=a=b")
        .says(&["created"]);
    shell
        .run("create secret generic s -n team --from-literal=a=b")
        .says(&["created"]);
    shell
        .run("create serviceaccount bot -n team")
        .says(&["created"]);
    shell
        .run("run p -n team --image=busybox")
        .says(&["created"]);
    shell
        .run("get secret s -n team -o jsonpath={.data.a}")
        .says(&["Yg=="]);
    shell.run("delete namespace team").says(&["deleted"]);
    shell.run("get all,cm,secrets -A -o name").says(&[]);
    assert!(shell.store.list(Kind::ConfigMap, None).0.is_empty());
}

const QUOTA: &str = "
apiVersion: v1
kind: ResourceQuota
metadata: {name: gpus}
spec:
  hard: {pods: 2, requests.nvidia.com/mig-1g.5gb: 0}
";

/// Workloads that get pods here.
const SERVE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: serve}
spec:
  replicas: 2
  selector: {matchLabels: {app: serve}}
  template:
    metadata: {labels: {app: serve}}
    spec:
      containers: [{name: main, image: busybox}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: busybox}]
";

/// Workloads that are only stored.
const WORKLOADS: &str = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: 0 3 * * *
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: main, image: busybox}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: main, image: busybox}]
";

#[test]
fn workloads_are_created_scaled_rolled_and_listed() {
    let Some(shell) = Shell::start() else { return };
    shell
        .feed("apply -f -", SERVE)
        .says(&["deployment.apps/serve created", "job.batch/train created"]);
    let two = "wait deploy/serve --for=jsonpath={.status.replicas}=2 --timeout=60s";
    shell.run(two).says(&["met"]);
    shell.run("get deploy,rs -o wide").says(&[
        "UP-TO-DATE",
        "0/2",
        "DESIRED",
        "pod-template-hash=",
    ]);
    shell
        .run("scale deploy serve --replicas=1")
        .says(&["scaled"]);
    let one = "wait deploy/serve --for=jsonpath={.status.replicas}=1 --timeout=60s";
    shell.run(one).says(&["met"]);
    shell
        .run("set image deploy/serve main=other")
        .says(&["image updated"]);
    shell
        .run("rollout restart deploy/serve")
        .says(&["restarted"]);
    shell
        .run("get jobs")
        .says(&["STATUS", "COMPLETIONS", "0/1", "Running"]);
    shell.feed("apply -f -", WORKLOADS).says(&[
        "cronjob.batch/nightly created",
        "statefulset.apps/db created",
    ]);
    shell.feed("apply -f -", WORKLOADS).says(&["unchanged"]);
    shell
        .run("get cj,sts")
        .says(&["SCHEDULE", "0 3 * * *", "0/1"]);
    shell
        .feed("apply --server-side --force-conflicts -f -", WORKLOADS)
        .says(&["serverside-applied"]);
    shell
        .run("get all -o name")
        .says(&["pod/serve-", "replicaset.apps/serve-", "job.batch/train"]);
}

#[test]
fn a_quota_is_made_shown_and_enforced() {
    let Some(shell) = Shell::start() else { return };
    shell.feed("apply -f -", QUOTA).says(&["created"]);
    shell
        .run("get quota")
        .says(&["REQUEST", "pods: 0/2, requests.nvidia.com/mig-1g.5gb: 0/0"]);
    shell.feed("apply -f -", POD).fails(&[
        "pods \"web\" is forbidden: exceeded quota: gpus, requested: \
         requests.nvidia.com/mig-1g.5gb=1, used: requests.nvidia.com/mig-1g.5gb=0, limited: \
         requests.nvidia.com/mig-1g.5gb=0",
    ]);
    shell
        .run("describe quota gpus")
        .says(&["Resource", "Used", "Hard"]);
}

#[test]
fn a_webhooks_warnings_and_denials_are_printed() {
    let Some(shell) = Shell::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let hook = runtime.block_on(Hook::start(&["127.0.0.1"], |request| {
        let allowed = request["name"] != "bad";
        let status = json!({ "code": 403, "message": "not like this" });
        json!({ "allowed": allowed, "warnings": ["think again"], "status": status })
    }));
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "h" },
        "webhooks": [hook.entry("h.x.y", &json!({}))],
    });
    shell
        .feed("apply -f -", &configuration.to_string())
        .says(&["created"]);
    shell
        .run("get mutatingwebhookconfigurations")
        .says(&["WEBHOOKS"]);
    let said = shell.feed("apply -f -", POD).says(&["pod/web created"]);
    assert!(said.err.contains("Warning: think again"), "{}", said.err);
    let bad = POD.replace("name: web", "name: bad");
    shell.feed("create -f -", &bad).fails(&[
        "Warning: think again",
        "admission webhook \"h.x.y\" denied the request: not like this",
    ]);
}

//! The program against the embedded cluster's API, with a page that stands for the controller's.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it, too")]

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use simcluster::api::{ApiConfig, Fault, Faults, serve};
use simcluster::store::{Kind, Status, Store};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "cdmo-operator";

/// What the played controller answers: a code and a text.
type Answer = (u16, String);

struct Cluster {
    store: Store,
    faults: Faults,
    dir: tempfile::TempDir,
    answer: Arc<watch::Sender<Answer>>,
    port: u16,
    _stop: DropGuard,
}

impl Cluster {
    /// An API server, and a page that nobody has announced yet.
    async fn start() -> Self {
        let (store, shutdown) = (Store::default(), CancellationToken::new());
        let faults = Faults::default();
        let config = ApiConfig {
            faults: faults.clone(),
            ..ApiConfig::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, store.clone(), config, shutdown.clone()));
        store
            .create(
                Kind::Namespace,
                "",
                json!({ "metadata": { "name": NAMESPACE } }),
            )
            .unwrap();
        let (answer, _) = watch::channel((200, report(1, "3g.20gb").to_string()));
        let answer = Arc::new(answer);
        let pages = axum::Router::new()
            .route(status_report::PATH, axum::routing::get(page))
            .route(status_report::WHAT_IF_PATH, axum::routing::get(page))
            .with_state(answer.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, pages).await });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config"), kubeconfig(&url)).unwrap();
        Self {
            store,
            faults,
            dir,
            answer,
            port,
            _stop: shutdown.drop_guard(),
        }
    }

    /// The same, with a controller in it.
    async fn with_controller() -> Self {
        let cluster = Self::start().await;
        cluster.controller("cdmo-controller-0", "Running");
        cluster
    }

    fn controller(&self, name: &str, phase: &str) {
        let pod = json!({
            "metadata": {
                "name": name,
                "labels": { "app.kubernetes.io/name": "cdmo-controller" },
            },
            "spec": { "containers": [{
                "name": "controller", "image": "cdmo/cdmo-controller",
                "ports": [{ "name": "http", "containerPort": self.port }],
            }]},
        });
        self.store.create(Kind::Pod, NAMESPACE, pod).unwrap();
        let status = json!({ "phase": phase, "podIP": "127.0.0.1" });
        self.store
            .modify(Kind::Pod, NAMESPACE, name, |pod| {
                pod["status"] = status.clone();
            })
            .unwrap();
    }

    fn answers(&self, code: u16, text: impl Into<String>) {
        self.answer.send_replace((code, text.into()));
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-cdmo"));
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("KUBECONFIG", self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, line: &str) -> Said {
        let output = timeout(PATIENCE, self.command(line).output()).await;
        output.unwrap().unwrap().into()
    }
}

/// The page of the played controller: as the real one, it waits for news of whoever knows the
/// present revision.
async fn page(
    State(answer): State<Arc<watch::Sender<Answer>>>,
    Query(query): Query<Value>,
) -> impl IntoResponse {
    let mut answers = answer.subscribe();
    if let Some(after) = query["after"].as_str() {
        let known = |(_, text): &Answer| {
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            value["revision"].as_u64() == after.parse().ok()
        };
        let _ = answers.wait_for(|answer| !known(answer)).await;
    }
    let (code, text) = answers.borrow().clone();
    let text = text
        .replace("NODES", query["nodes"].as_str().unwrap_or("all"))
        .replace("\"PODS\"", query["pods"].as_str().unwrap_or("null"));
    (StatusCode::from_u16(code).unwrap(), text)
}

fn kubeconfig(url: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [
            { "name": "here", "cluster": { "server": url } },
            // Nobody may listen on port 1 without being root.
            { "name": "dead", "cluster": { "server": "http://127.0.0.1:1" } },
        ],
        "contexts": [
            { "name": "here", "context": { "cluster": "here", "user": "me" } },
            { "name": "dead", "context": { "cluster": "dead", "user": "me" } },
        ],
        "users": [{ "name": "me", "user": {} }],
    })
    .to_string()
}

/// A node whose GPU has one instance, of this profile.
fn report(revision: u64, profile: &str) -> Value {
    json!({
        "apiVersion": "status.cdmo.clear.ml/v1", "revision": revision,
        "time": "2026-03-01T12:00:00Z",
        "controller": {
            "name": "cdmo-controller-0", "version": "0.1.0", "since": "2026-03-01T10:00:00Z",
        },
        "nodes": [{
            "name": "gpu-node-1", "managed": true,
            "agent": { "state": "up", "since": "2026-03-01T10:00:00Z" },
            "gpus": [{
                "index": 0, "uuid": "GPU-0", "product": "NVIDIA A100-SXM4-40GB", "slices": 8,
                "mig": "on",
                "instances": [{
                    "profile": profile, "start": 0, "size": 4, "gpuInstanceId": 1,
                    "deviceId": "MIG-0", "state": "held", "since": "2026-03-01T11:50:00Z",
                    "holders": [{ "namespace": "default", "name": "train" }],
                }],
            }],
        }],
        "ofALaterRelease": "NODES",
    })
}

struct Said {
    out: String,
    err: String,
    ok: bool,
    code: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            ok: output.status.success(),
            code: output.status.code(),
        }
    }
}

impl Said {
    #[track_caller]
    fn out(self) -> String {
        assert!(self.ok, "{}{}", self.out, self.err);
        self.out
    }

    /// One line on standard error, with these in it.
    #[track_caller]
    fn fails(self, parts: &[&str]) {
        assert!(!self.ok && self.out.is_empty(), "{}", self.out);
        assert_eq!(self.err.lines().count(), 1, "one sentence: {}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in: {}", self.err);
        }
    }
}

#[tokio::test]
async fn the_status_is_read_through_the_api_server() {
    let cluster = Cluster::with_controller().await;
    let text = cluster.run("status").await.out();
    assert!(!text.contains('\u{1b}'), "no colours where no terminal is");
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn json_is_the_controllers_own_document() {
    let cluster = Cluster::with_controller().await;
    let text = cluster.run("status -o json --node gpu-node-1").await.out();
    let value: Value = serde_json::from_str(&text).unwrap();
    let mut expected = report(1, "3g.20gb");
    expected["ofALaterRelease"] = json!("gpu-node-1");
    assert_eq!(
        value, expected,
        "nothing is lost, and only that node was asked for"
    );
}

#[tokio::test]
async fn the_newest_running_controller_is_asked() {
    let cluster = Cluster::with_controller().await;
    cluster.controller("cdmo-controller-1", "Pending");
    assert!(cluster.run("status").await.out().contains("gpu-node-1"));
}

#[tokio::test]
async fn a_pod_is_explained_by_namespace_and_name() {
    let cluster = Cluster::with_controller().await;
    let text = cluster.run("explain train").await.out();
    assert!(text.contains("default/train holds:"), "{text}");
    assert!(
        text.contains("3g.20gb on node gpu-node-1, GPU 0 slices 0-3, for 10m"),
        "{text}"
    );
    let unknown = cluster.run("explain team-b/train").await;
    unknown.fails(&[
        "no pod team-b/train",
        "kubectl -n team-b describe pod train",
    ]);
}

/// The played answer repeats the question where a later release would have a field of its own.
fn prospects(fates: &[&str]) -> String {
    let pod = |fate: &&str| json!({ "name": "half", "fate": fate, "message": "as told" });
    json!({
        "apiVersion": "status.cdmo.clear.ml/v1", "time": "2026-03-01T12:00:00Z",
        "pods": fates.iter().map(pod).collect::<Vec<_>>(), "asked": "PODS",
    })
    .to_string()
}

#[tokio::test]
async fn what_if_sends_what_the_file_asks_for_and_ends_with_whether_it_fits() {
    let cluster = Cluster::with_controller().await;
    let file = cluster.dir.path().join("pods.yaml");
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: half}\nspec:\n  containers:\n    \
                - {name: main, image: secret, resources: {limits: {clear.ml/fraction: \"0.5\"}}}\n";
    std::fs::write(&file, text).unwrap();
    let line = format!("what-if -f {}", file.display());
    cluster.answers(200, prospects(&["planned"]));
    let text = cluster.run(&line).await.out();
    assert!(text.starts_with("The pod would fit.\n"), "{text}");
    let text = cluster.run(&format!("{line} -o json")).await.out();
    let asked = &serde_json::from_str::<Value>(&text).unwrap()["asked"];
    let resources = json!({
        "limits": { "cdmo.clear.ml/fraction-0.500": "1" },
        "requests": { "cdmo.clear.ml/fraction-0.500": "1" },
    });
    let containers = json!([{ "name": "main", "resources": resources }]);
    assert_eq!(
        asked,
        &json!([{ "name": "half", "count": 1, "spec": { "containers": containers } }])
    );
    cluster.answers(200, prospects(&["ready", "refused"]));
    let said = cluster.run(&line).await;
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(
        said.out.starts_with("1 of 2 pods would fit.\n"),
        "{}",
        said.out
    );
}

#[tokio::test]
async fn a_question_that_cannot_be_asked_is_one_sentence() {
    let cluster = Cluster::with_controller().await;
    let missing = cluster.run("what-if -f /no/such/pods.yaml").await;
    missing.fails(&["/no/such/pods.yaml: failed to read it"]);
    let file = cluster.dir.path().join("pods.yaml");
    std::fs::write(
        &file,
        "kind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n",
    )
    .unwrap();
    let line = format!("what-if -f {}", file.display());
    cluster.answers(400, "failed to read the query's pods: no");
    cluster
        .run(&line)
        .await
        .fails(&["does not take the question: failed to read"]);
    cluster.answers(404, "");
    cluster.run(&line).await.fails(&["older than this plugin"]);
    let long = "x".repeat(60_000);
    let text = format!(
        "kind: Pod\nmetadata: {{name: x}}\nspec: {{nodeSelector: {{a: {long}}}, containers: []}}\n"
    );
    std::fs::write(&file, text).unwrap();
    cluster
        .run(&line)
        .await
        .fails(&["takes 59 KiB", "58 KiB is the most", "fewer"]);
}

#[tokio::test]
async fn every_change_is_shown_once_while_watching() {
    let cluster = Cluster::with_controller().await;
    let mut child = cluster.command("status --watch -o json").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap();
        serde_json::from_str::<Value>(&line.unwrap().unwrap()).unwrap()
    };
    assert_eq!(next().await["revision"], 1);
    // Something changed that nobody sees; then something that everybody sees.
    cluster.answers(200, report(2, "3g.20gb").to_string());
    cluster.answers(200, report(3, "4g.20gb").to_string());
    let seen = next().await;
    assert_eq!(seen["revision"], 3);
    // The controller goes away, and another comes whose counting starts anew.
    cluster.answers(503, "pods, nodes and agents are not all listed yet");
    let mut complaint = String::new();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    timeout(PATIENCE, errors.read_line(&mut complaint))
        .await
        .unwrap()
        .unwrap();
    assert!(complaint.contains("not ready") && complaint.contains("trying again"));
    cluster.answers(200, report(1, "7g.40gb").to_string());
    assert_eq!(next().await["revision"], 1);
    interrupt(&mut child).await;
}

#[tokio::test]
async fn ctrl_c_ends_the_watch_cleanly() {
    let cluster = Cluster::with_controller().await;
    let mut child = cluster.command("status -w").spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    timeout(PATIENCE, out.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    assert!(line.starts_with("Controller cdmo-operator/"), "{line}");
    interrupt(&mut child).await;
    let mut errors = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut errors).await.unwrap();
    assert_eq!(errors, "");
}

async fn interrupt(child: &mut Child) {
    let pid = child.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().await;
    assert!(sent.unwrap().success());
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_one_sentence() {
    let cluster = Cluster::start().await;
    let dead = cluster.run("status --context dead").await;
    dead.fails(&["http://127.0.0.1:1", "refused", "kubeconfig"]);
    let unknown = cluster.run("status --context nowhere").await;
    unknown.fails(&["nowhere", "--context"]);
    let missing = cluster.run("status --kubeconfig /no/such/file").await;
    missing.fails(&["/no/such/file", "--kubeconfig"]);
    let mut none = cluster.command("status");
    let said: Said = none.env_remove("KUBECONFIG").output().await.unwrap().into();
    said.fails(&["failed to find the cluster", "KUBECONFIG"]);
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_one_sentence() {
    let cluster = Cluster::start().await;
    let none = cluster.run("status").await;
    none.fails(&["no controller in namespace cdmo-operator", "--namespace"]);
    let elsewhere = cluster.run("status -n elsewhere").await;
    elsewhere.fails(&["no controller in namespace elsewhere"]);
    cluster.controller("cdmo-controller-0", "Pending");
    let pending = cluster.run("status").await;
    pending.fails(&["cdmo-controller-0", "Pending", "describe pod"]);
}

#[tokio::test]
async fn a_controller_that_does_not_answer_well_is_one_sentence() {
    let cluster = Cluster::with_controller().await;
    cluster.answers(503, "pods, nodes and agents are not all listed yet");
    let starting = cluster.run("status").await;
    starting.fails(&["not ready", "not all listed yet"]);
    cluster.answers(404, "");
    cluster.run("status").await.fails(&["older", "upgrade"]);
    let newer = json!({ "apiVersion": "status.cdmo.clear.ml/v9" });
    cluster.answers(200, newer.to_string());
    let newer = cluster.run("status").await;
    newer.fails(&["status.cdmo.clear.ml/v9", "status.cdmo.clear.ml/v1"]);
    cluster.answers(200, "<html>");
    cluster.run("status").await.fails(&["no status"]);
    cluster.answers(200, report(1, "3g.20gb").to_string());
    let unknown = cluster.run("status --node nobody").await;
    unknown.fails(&["nobody", "--node"]);
    let nonsense = cluster.run("status --node a&b=c").await;
    nonsense.fails(&["a&b=c"]);
    cluster
        .store
        .modify(Kind::Pod, NAMESPACE, "cdmo-controller-0", |pod| {
            pod["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(1);
        })
        .unwrap();
    let deaf = cluster.run("status").await;
    deaf.fails(&["does not answer the API server", "port 1"]);
}

#[tokio::test]
async fn what_one_may_not_see_is_one_sentence() {
    let cluster = Cluster::with_controller().await;
    let forbid = |path: &str, code: u16| {
        let mut answer = Status::forbidden(Kind::Pod, "x", "User \"eve\" cannot do that");
        answer.code = code;
        cluster.faults.add(Fault {
            method: None,
            path: path.into(),
            answer,
            times: 1,
        });
    };
    forbid("/pods", 403);
    let list = cluster.run("status").await;
    list.fails(&["may not", "eve", "pods/proxy", "cdmo-operator"]);
    forbid("/proxy/", 403);
    let proxy = cluster.run("status").await;
    proxy.fails(&["may not", "eve", "pods/proxy", "cdmo-operator"]);
    forbid("/pods", 401);
    let stranger = cluster.run("status").await;
    stranger.fails(&["credentials", "log in"]);
}

#[tokio::test]
async fn a_reader_who_goes_away_is_no_error() {
    let cluster = Cluster::with_controller().await;
    let mut child = cluster.command("status").spawn().unwrap();
    drop(child.stdout.take());
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn kubectl_takes_it_as_its_plugin() {
    let Some(kubectl) = std::env::var_os("KUBECTL") else {
        eprintln!("SKIPPED: set KUBECTL to the path of a kubectl to run this test");
        return;
    };
    let cluster = Cluster::with_controller().await;
    let program = PathBuf::from(env!("CARGO_BIN_EXE_kubectl-cdmo"));
    let mut command = Command::new(kubectl);
    command
        .args(["cdmo", "status", "--node", "gpu-node-1"])
        .env("PATH", program.parent().unwrap())
        .env("HOME", cluster.dir.path())
        .env("KUBECONFIG", cluster.config());
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = Said::from(output).out();
    assert!(text.contains("default/train"), "{text}");
}

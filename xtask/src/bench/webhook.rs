//! The webhook under load: how long its answers take on one core, and whether its memory stays flat.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use testbed::binaries::Binaries;
use testbed::certs::{Authority, Files, Validity};
use testbed::{http, manifests};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::document::{Report, Table};
use super::numbers::{milliseconds, percentile, verdict};

/// Requests a second.
const RATE: u32 = 200;
/// How long.
const RUN: Duration = Duration::from_mins(1);
/// Connections, as an API server keeps some: each carries one request at a time.
const CONNECTIONS: u32 = 8;
/// Promised.
const TARGET: Duration = Duration::from_millis(5);
/// Memory is flat if it grows by less than so much in the last three quarters of the run, in KiB.
const FLAT: u32 = 1024;
/// Long after anything that still counts as working.
const LIMIT: Duration = Duration::from_mins(3);
/// Until the webhook is ready.
const READY: Duration = Duration::from_secs(20);

pub(super) async fn measure(binaries: &Binaries) -> anyhow::Result<Report> {
    // Fails only if a provider is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let files =
        Authority::new()?.issue(folder.path(), &manifests::webhook_host(), Validity::Current)?;
    let (https, plain) = (free_port().await?, free_port().await?);
    let mut webhook = start(&binaries.controller, folder.path(), https, plain)?;
    let result = timeout(LIMIT, work(&mut webhook, &files, https, plain)).await;
    // It is killed when it is dropped, too.
    let _ = webhook.kill().await;
    let seen = result.with_context(|| format!("it took more than {} s", LIMIT.as_secs()))??;
    Ok(report(&seen))
}

/// What was seen.
struct Seen {
    times: Vec<Duration>,
    /// Resident set after a quarter of the run and at its end, in KiB.
    early: u32,
    late: u32,
    /// Processor time of the webhook for all of it.
    busy: Duration,
}

fn report(seen: &Seen) -> Report {
    let mut sorted = seen.times.clone();
    sorted.sort_unstable();
    let at = |percent| percentile(&sorted, percent).unwrap_or_default();
    let mut table = Table::new(&["what", "measured", "promised", ""]);
    let mut row = |what: &str, measured: String, promised: &str, kept: Option<bool>| {
        let kept = kept.map(verdict).unwrap_or_default();
        table.row(&[what.to_owned(), measured, promised.to_owned(), kept]);
    };
    for percent in [50, 90] {
        row(
            &format!("p{percent} (ms)"),
            milliseconds(at(percent)),
            "",
            None,
        );
    }
    row(
        "p99 (ms)",
        milliseconds(at(99)),
        "below 5",
        Some(at(99) < TARGET),
    );
    row("slowest (ms)", milliseconds(at(100)), "", None);
    let mib = |kib: u32| format!("{:.1}", f64::from(kib) / 1024.0);
    row("memory after a quarter (MiB)", mib(seen.early), "", None);
    let flat = seen.late < seen.early + FLAT;
    row(
        "memory at the end (MiB)",
        mib(seen.late),
        "no more than 1 above",
        Some(flat),
    );
    let share = 100.0 * seen.busy.as_secs_f64() / RUN.as_secs_f64();
    row("share of the core (%)", format!("{share:.1}"), "", None);
    Report {
        title: "The webhook under load".to_owned(),
        how: format!(
            "{} reviews at {RATE} a second over {CONNECTIONS} connections of HTTPS on the loopback \
             interface, answered by the release build on one core: pods and Deployments with a \
             fraction, new, applied again and changed, and pods without one. A request's time is \
             from when it was due, so that waiting for the one before it counts, to its answer.",
            seen.times.len()
        ),
        tables: vec![("Against what is promised:".to_owned(), table)],
    }
}

async fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

/// The webhook, on the first core.
fn start(program: &Path, tls: &Path, https: u16, plain: u16) -> anyhow::Result<Child> {
    let file = |name: &str| tls.join(name).display().to_string();
    let mut command = Command::new("taskset");
    command
        .args(["--cpu-list", "0"])
        .arg(program)
        .args(["--log-level", "warn"])
        .arg(format!("--http-listen=127.0.0.1:{plain}"))
        .arg(format!("--tls-ca={}", file("ca.crt")))
        .arg(format!("--tls-cert={}", file("tls.crt")))
        .arg(format!("--tls-key={}", file("tls.key")))
        .arg("webhook")
        .arg(format!("--listen=127.0.0.1:{https}"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
        .spawn()
        .context("failed to start taskset; it is in util-linux")
}

async fn work(webhook: &mut Child, files: &Files, https: u16, plain: u16) -> anyhow::Result<Seen> {
    let ready = async {
        loop {
            let answer = http::get("127.0.0.1", plain, "/readyz").await;
            if answer.is_ok_and(|(code, _)| code == 200) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(READY, ready).await.context("it is never ready")?;
    let pid = webhook.id().context("it has ended")?;
    let bodies: Arc<Vec<Bytes>> = Arc::new(reviews().iter().map(bytes).collect());
    let connector = connector(files)?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connect(&connector, https).await?);
    }
    let begin = Instant::now() + Duration::from_millis(100);
    let before = busy(pid)?;
    let tasks = clients
        .into_iter()
        .zip(0..)
        .map(|(client, number)| tokio::spawn(load(client, number, begin, bodies.clone())));
    let tasks: Vec<_> = tasks.collect();
    sleep_until(begin + RUN / 4).await;
    let early = resident(pid)?;
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.context("a client ended early")??);
    }
    Ok(Seen {
        times,
        early,
        late: resident(pid)?,
        busy: busy(pid)?.saturating_sub(before),
    })
}

/// One connection's share of the requests.
async fn load(
    mut client: SendRequest<Full<Bytes>>,
    number: u32,
    begin: Instant,
    bodies: Arc<Vec<Bytes>>,
) -> anyhow::Result<Vec<Duration>> {
    let pause = Duration::from_secs(1) / RATE;
    let mut times = Vec::new();
    for (turn, body) in (number..)
        .step_by(CONNECTIONS as usize)
        .zip(bodies.iter().cycle())
    {
        let due = begin + pause * turn;
        if due >= begin + RUN {
            return Ok(times);
        }
        sleep_until(due).await;
        let request = Request::post("/mutate?timeout=3s")
            .header("host", manifests::webhook_host())
            .header("content-type", "application/json")
            .body(Full::new(body.clone()))?;
        client.ready().await?;
        let response = client.send_request(request).await?;
        ensure!(
            response.status() == 200,
            "answered with {}",
            response.status()
        );
        response.into_body().collect().await?;
        times.push(due.elapsed());
    }
    Ok(times)
}

fn connector(files: &Files) -> anyhow::Result<TlsConnector> {
    let pem = std::fs::read(&files.ca)?;
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&pem) {
        roots.add(authority.context("the authority is no PEM")?)?;
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

async fn connect(connector: &TlsConnector, port: u16) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(manifests::webhook_host())?;
    let stream = connector.connect(name, tcp).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// What an API server asks over and over, in about the sizes that objects have there.
fn reviews() -> Vec<Value> {
    let half = json!({ "clear.ml/fraction-1": "500m", "cpu": "2", "memory": "8Gi" });
    let quarter = json!({ "clear.ml/fraction-1": "250m", "cpu": "2", "memory": "8Gi" });
    let plain = json!({ "cpu": "2", "memory": "8Gi" });
    let deployment = |limits: &Value| {
        json!({
            "metadata": { "name": "serve", "namespace": "team", "managedFields": managed() },
            "spec": { "replicas": 3, "template": pod(limits) },
        })
    };
    vec![
        review("", "pods", &pod(&half), None),
        review("", "pods", &pod(&plain), None),
        review("apps", "deployments", &deployment(&half), None),
        review(
            "apps",
            "deployments",
            &deployment(&half),
            Some(&deployment(&half)),
        ),
        review(
            "apps",
            "deployments",
            &deployment(&quarter),
            Some(&deployment(&half)),
        ),
    ]
}

fn pod(limits: &Value) -> Value {
    let environment: Vec<Value> = (0..20)
        .map(|n| json!({ "name": format!("VARIABLE_{n}"), "value": "some value of some length" }))
        .collect();
    let container = |name: &str, limits: &Value| {
        json!({
            "name": name, "image": "registry.example.com/team/train:1.2.3",
            "command": ["python", "train.py", "--epochs", "100"],
            "env": environment,
            "resources": { "limits": limits, "requests": limits },
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            "terminationMessagePath": "/dev/termination-log",
            "imagePullPolicy": "IfNotPresent",
        })
    };
    json!({
        "metadata": {
            "name": "train", "namespace": "team", "labels": { "app": "train", "team": "vision" },
            "managedFields": managed(),
        },
        "spec": {
            "containers": [container("main", limits), container("side", &json!({ "cpu": "1" }))],
            "volumes": [{ "name": "data", "emptyDir": {} }],
            "schedulerName": "default-scheduler", "restartPolicy": "Never",
        },
    })
}

/// Who wrote which field, which is a good part of every object.
fn managed() -> Value {
    let fields: serde_json::Map<String, Value> = (0..40)
        .map(|n| (format!("f:field-{n}"), json!({ ".": {}, "f:name": {} })))
        .collect();
    json!([{ "manager": "kubectl", "operation": "Update", "fieldsV1": { "f:spec": fields } }])
}

fn review(group: &str, resource: &str, object: &Value, old: Option<&Value>) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "5f0c1c1e-0000-4000-8000-000000000000",
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "namespace": "team",
            "resource": { "group": group, "version": "v1", "resource": resource },
            "object": object,
            "oldObject": old,
        },
    })
}

fn bytes(review: &Value) -> Bytes {
    Bytes::from(review.to_string())
}

/// Resident set in KiB.
fn resident(pid: u32) -> anyhow::Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.context("the webhook has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.context("the kernel tells no resident set")
}

/// Processor time so far, in the kernel's ticks of a hundredth of a second.
fn busy(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let stat = stat.context("the webhook has ended")?;
    // The name before it may have spaces.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = rest
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webhook_has_something_to_do() {
        let changed = reviews()
            .iter()
            .map(|review| {
                let answer = admission::answer(&bytes(review), &admission::Options::default());
                !answer.unwrap().decision.patch.is_empty()
            })
            .collect::<Vec<_>>();
        assert_eq!(changed, [true, false, true, false, true]);
    }
}

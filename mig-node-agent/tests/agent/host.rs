//! A simulated host: directories, driver, kubelet, certificates, and an agent on it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::Parser as _;
use fake_nvml::control;
use mig_node_agent::{Args, Listeners, exit, run};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::certificates::Authority;
use crate::controller::Controller;
use crate::kubelet::Kubelet;
use crate::{PATIENCE, eventually};

/// One A100 in MIG mode.
pub(crate) const ONE_A100: &str = "[[gpu]]\nboard = \"A100-SXM4-40GB\"\nmig = true\n";

/// Everything an agent runs on.
pub(crate) struct Host {
    pub(crate) dir: TempDir,
    pub(crate) authority: Authority,
    pub(crate) kubelet: Kubelet,
    library: PathBuf,
}

impl Host {
    pub(crate) fn new(driver: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let library = fake_nvml::testing::install(&dir.path().join("driver"), driver).unwrap();
        let authority = Authority::new();
        authority.issue(&dir.path().join("tls"), mtls::SERVER_NAME);
        authority.issue(&dir.path().join("controller"), mtls::CLIENT_NAME);
        let host = Self {
            kubelet: Kubelet::start(&dir.path().join("kubelet")),
            dir,
            authority,
            library,
        };
        host.boot("first-boot");
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The host's `/proc`, with a boot id and no processes.
    pub(crate) fn boot(&self, id: &str) {
        let random = self.path("proc/sys/kernel/random");
        std::fs::create_dir_all(&random).unwrap();
        std::fs::write(random.join("boot_id"), id).unwrap();
    }

    /// The simulated driver's own view.
    pub(crate) fn hardware(&self) -> control::Host {
        control::Host::open(&self.path("driver").join(fake_nvml::testing::CONFIG)).unwrap()
    }

    /// `profile@start` of the instances on the first GPU, each with its compute instances.
    pub(crate) fn layout(&self) -> Vec<String> {
        let state = self.hardware().state().unwrap();
        let instances = state.gpus[0].instances.iter();
        let mut layout: Vec<_> = instances
            .map(|gi| format!("{}@{}+{}", gi.profile, gi.start, gi.compute.len()))
            .collect();
        layout.sort();
        layout
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let dir = self.dir.path();
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        vec![
            "agent".into(),
            "--node-name=node-a".into(),
            "--listen=127.0.0.1:0".into(),
            "--http-listen=127.0.0.1:0".into(),
            flag("kubelet-dir", &dir.join("kubelet")),
            flag("state-dir", &dir.join("state")),
            flag("nvml-library", &self.library),
            flag("tls-ca", &dir.join("tls/ca.crt")),
            flag("tls-cert", &dir.join("tls/tls.crt")),
            flag("tls-key", &dir.join("tls/tls.key")),
            flag("proc-dir", &dir.join("proc")),
            flag("host-root", &dir.join("root")),
        ]
    }

    /// Starts an agent in this process.
    pub(crate) async fn agent(&self) -> Agent {
        self.try_agent(&[]).await.unwrap()
    }

    pub(crate) async fn try_agent(&self, flags: &[String]) -> Result<Agent, exit::Error> {
        let args = Args::parse_from(self.flags().iter().chain(flags));
        let listeners = Listeners::bind(&args).await?;
        let address = listeners.grpc.local_addr().unwrap();
        let http = listeners.http.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut task = tokio::spawn(run(args, listeners, shutdown.clone()));
        tokio::select! {
            ended = &mut task => Err(ended.unwrap().unwrap_err()),
            () = served(http) => Ok(Agent { address, http, shutdown, task }),
        }
    }

    pub(crate) async fn controller(&self, agent: SocketAddr, epoch: u64) -> Controller {
        Controller::connect(&self.path("controller"), agent, epoch)
            .await
            .unwrap()
    }

    /// Starts an agent as a process, on ports that it is told.
    pub(crate) fn process(&self, flags: &[String]) -> Process {
        let (address, http) = (free_port(), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_mig-node-agent"));
        command
            .args(
                self.flags()
                    .iter()
                    .skip(1)
                    .filter(|flag| !flag.contains("listen=")),
            )
            .arg(format!("--listen={address}"))
            .arg(format!("--http-listen={http}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = command.spawn().unwrap();
        Process {
            address,
            http,
            child,
        }
    }
}

/// Answers once `/livez` does.
async fn served(http: SocketAddr) {
    eventually("/livez", async || {
        get(http, "/livez")
            .await
            .filter(|answer| answer.contains("200 OK"))
    })
    .await;
}

/// An address that was free a moment ago. The kernel does not give it out again soon.
fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Answer of the agent's HTTP server.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// An agent in this process.
pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    pub(crate) http: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), exit::Error>>,
}

impl Agent {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("the agent does not end").unwrap().unwrap();
    }
}

/// An agent as a process.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    pub(crate) http: SocketAddr,
    child: Child,
}

impl Process {
    pub(crate) async fn served(&self) {
        served(self.http).await;
    }

    /// As `kill -9` does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to end as the kubelet does.
    pub(crate) async fn terminate(&self) {
        let pid = self.child.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(kill.unwrap().success());
    }

    /// Waits for its end: exit code and standard error.
    pub(crate) async fn ended(self) -> (Option<i32>, String) {
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output());
        let output = output.await.expect("the process does not end").unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    }
}

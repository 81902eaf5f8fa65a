//! An API server without scheduler and kubelets, and a controller that works against it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cdmo_controller::{Args, exit};
use clap::Parser as _;
use mtls::TlsFiles;
use serde_json::{Value, json};
use simcluster::{
    api::{self, ApiConfig},
    store::{Kind, Store},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::certificates::Authority;

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) authority: Authority,
    pub(crate) dir: TempDir,
    pub(crate) shutdown: CancellationToken,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        kubeconfig(dir.path(), listener.local_addr().unwrap());
        let (store, shutdown) = (Store::default(), CancellationToken::new());
        tokio::spawn(api::serve(
            listener,
            store.clone(),
            ApiConfig::default(),
            shutdown.clone(),
        ));
        let namespace = json!({"metadata": {"name": "cdmo-operator"}});
        store.create(Kind::Namespace, "", namespace).unwrap();
        Self {
            store,
            authority: Authority::new(),
            dir,
            shutdown,
        }
    }

    /// Starts a controller with certificates valid until the given year.
    pub(crate) fn controller(&self, name: &str) -> JoinHandle<Result<(), exit::Error>> {
        let tls = self
            .authority
            .issue(&self.dir.path().join(name), mtls::CLIENT_NAME, 2100);
        self.start_controller(name, &tls, &[])
    }

    /// Starts a controller that makes its certificates itself.
    pub(crate) fn self_certified(&self, name: &str) -> JoinHandle<Result<(), exit::Error>> {
        self.self_certified_with(name, &[])
    }

    /// The same, with further arguments.
    pub(crate) fn self_certified_with(
        &self,
        name: &str,
        further: &[&str],
    ) -> JoinHandle<Result<(), exit::Error>> {
        let all = [&["--make-certificates"], further].concat();
        self.start_controller(name, &self.own_files(name), &all)
    }

    /// Where a controller that makes its certificates itself writes its own.
    pub(crate) fn own_files(&self, name: &str) -> TlsFiles {
        let dir = self.dir.path().join(name);
        TlsFiles {
            ca: dir.join("ca.crt"),
            cert: dir.join("tls.crt"),
            key: dir.join("tls.key"),
        }
    }

    fn start_controller(
        &self,
        name: &str,
        tls: &TlsFiles,
        further: &[&str],
    ) -> JoinHandle<Result<(), exit::Error>> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let args = [
            "cdmo-controller".to_owned(),
            format!("--kubeconfig={}", path(&self.dir.path().join("kubeconfig"))),
            format!("--name={name}"),
            format!("--tls-ca={}", path(&tls.ca)),
            format!("--tls-cert={}", path(&tls.cert)),
            format!("--tls-key={}", path(&tls.key)),
            "--http-listen=127.0.0.1:0".to_owned(),
            "--standby-seconds=0".to_owned(),
        ];
        let further = further.iter().map(|&arg| arg.to_owned());
        let args = Args::parse_from(args.into_iter().chain(further));
        tokio::spawn(cdmo_controller::run(args, self.shutdown.child_token()))
    }

    pub(crate) fn node(&self, name: &str) {
        let node = json!({
            "metadata": {"name": name, "labels": {"cdmo.clear.ml/gpu-partitioning": "mig"}},
        });
        self.store.create(Kind::Node, "", node).unwrap();
        let status = |node: &mut Value| {
            node["status"] = json!({
                "capacity": {"cpu": "64", "memory": "64Gi", "pods": "110"},
                "allocatable": {"cpu": "64", "memory": "64Gi", "pods": "110"},
            });
        };
        self.store.modify(Kind::Node, "", name, status).unwrap();
    }

    /// A running agent pod, as the API shows it.
    pub(crate) fn agent(&self, node: &str, address: SocketAddr) {
        let name = format!("agent-{node}");
        let pod = json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "mig-node-agent"}},
            "spec": {"nodeName": node, "containers": [{
                "name": "agent", "image": "cdmo/mig-node-agent",
                "ports": [{"name": "grpc", "containerPort": address.port()}],
            }]},
        });
        self.store.create(Kind::Pod, "cdmo-operator", pod).unwrap();
        let run = |pod: &mut Value| {
            pod["status"] = json!({"phase": "Running", "podIP": address.ip().to_string()});
        };
        self.store
            .modify(Kind::Pod, "cdmo-operator", &name, run)
            .unwrap();
    }

    pub(crate) fn pod(&self, name: &str, resource: &str) {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"containers": [{
                "name": "main", "image": "app", "resources": {"limits": {resource: "1"}},
            }]},
        });
        self.store.create(Kind::Pod, "default", pod).unwrap();
    }

    /// Waits until an object of this kind satisfies a condition.
    pub(crate) async fn until(
        &self,
        kind: Kind,
        what: &str,
        there: impl Fn(&Value) -> bool,
    ) -> Arc<Value> {
        let look = || {
            self.store
                .list(kind, None)
                .0
                .into_iter()
                .find(|object| there(object))
        };
        let wait = async {
            loop {
                // The watch is opened first, so that no change falls between look and wait.
                let (_, mut changes) = self.store.list_and_watch(kind);
                if let Some(found) = look() {
                    return found;
                }
                let _ = changes.next().await;
            }
        };
        let Ok(found) = timeout(PATIENCE, wait).await else {
            panic!("no {what} among {:#?}", self.store.list(kind, None).0)
        };
        found
    }
}

/// Writes a kubeconfig for a plain-HTTP API server.
pub(crate) fn kubeconfig(dir: &Path, address: SocketAddr) -> PathBuf {
    let path = dir.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "users": [{"name": "c", "user": {}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

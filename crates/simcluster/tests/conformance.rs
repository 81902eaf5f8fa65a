//! The API over HTTP as kube uses it: what a controller relies on.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the exception for tests leaves out their helpers"
)]

#[path = "conformance/proxying.rs"]
mod proxying;
#[path = "conformance/reading.rs"]
mod reading;
#[path = "conformance/watching.rs"]
mod watching;
#[path = "conformance/writing.rs"]
mod writing;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use serde_json::json;
use simcluster::api::{ApiConfig, Faults, router, serve};
use simcluster::store::{Store, StoreOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server that ends with the test.
struct Server {
    client: Client,
    store: Store,
    faults: Faults,
    url: String,
    _stop: DropGuard,
}

impl Server {
    /// Over a real socket.
    async fn start() -> Self {
        Self::with(StoreOptions::default()).await
    }

    async fn with(options: StoreOptions) -> Self {
        let store = Store::new(&options);
        let faults = Faults::default();
        let config = ApiConfig {
            faults: faults.clone(),
            ..ApiConfig::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, store.clone(), config, shutdown.clone()));
        let mut config = kube::Config::new(url.parse().unwrap());
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        Self {
            client,
            store,
            faults,
            url,
            _stop: shutdown.drop_guard(),
        }
    }

    /// In the same process, for tests on paused time.
    fn in_process() -> Self {
        let store = Store::default();
        let faults = Faults::default();
        let config = ApiConfig {
            faults: faults.clone(),
            bookmark_every: Duration::from_secs(10),
            ..ApiConfig::default()
        };
        let shutdown = CancellationToken::new();
        let service = router(store.clone(), config, shutdown.clone());
        let client = Client::new(service, "default");
        Self {
            client,
            store,
            faults,
            url: String::new(),
            _stop: shutdown.drop_guard(),
        }
    }
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
    }))
    .unwrap()
}

/// The code of an error that the server answered.
fn code<T: std::fmt::Debug>(outcome: kube::Result<T>) -> u16 {
    match outcome.unwrap_err() {
        kube::Error::Api(status) => status.code,
        other => panic!("no answer of the server: {other}"),
    }
}

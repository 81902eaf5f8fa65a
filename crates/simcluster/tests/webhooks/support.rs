//! An API server in the same process, and the requests that tests send it.

use axum::Router;
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use simcluster::api::{ApiConfig, router};
use simcluster::cluster::Behaviour;
use simcluster::store::{Kind, Store, StoreOptions};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// What came back.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) warnings: Vec<String>,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn made(self) -> Value {
        assert_eq!(self.code, 201, "{}", self.body);
        self.body
    }

    #[track_caller]
    pub(crate) fn done(self) -> Value {
        assert_eq!(self.code, 200, "{}", self.body);
        self.body
    }

    #[track_caller]
    pub(crate) fn refused(self, code: u16) -> String {
        assert_eq!(self.code, code, "{}", self.body);
        self.body["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) struct Api {
    pub(crate) store: Store,
    router: Router,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::behaving(Behaviour::default())
    }

    pub(crate) fn behaving(behaviour: Behaviour) -> Self {
        let store = Store::new(&StoreOptions {
            behaviour,
            ..StoreOptions::default()
        });
        let shutdown = CancellationToken::new();
        let router = router(store.clone(), ApiConfig::default(), shutdown);
        Self { store, router }
    }

    /// Makes a configuration of these webhooks.
    pub(crate) fn hooks(&self, name: &str, entries: &[Value]) {
        let configuration = json!({ "metadata": { "name": name }, "webhooks": entries });
        self.store
            .create(Kind::MutatingWebhookConfiguration, "", configuration)
            .unwrap();
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, "application/json", body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, "application/json", body).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let kind = format!("application/{kind}");
        self.send("PATCH", path, &kind, body).await
    }

    async fn send(&self, method: &str, path: &str, content: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .header("user-agent", "test/1")
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings
            .map(|w| String::from_utf8_lossy(w.as_bytes()).into_owned())
            .collect();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap();
        Answer {
            code,
            warnings,
            body: serde_json::from_slice(&bytes).unwrap(),
        }
    }
}

/// A pod whose container has these limits.
pub(crate) fn pod(name: &str, limits: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": { "containers": [
            { "name": "main", "image": "i", "resources": { "limits": limits } },
        ]},
    })
}

/// A Deployment of such pods.
pub(crate) fn deployment(name: &str, limits: &Value) -> Value {
    let mut template = pod("", limits);
    template["metadata"] = json!({ "labels": { "app": name } });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": template["metadata"], "spec": template["spec"] },
        },
    })
}

//! A webhook: a TLS server that answers reviews as a test wants it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a webhook makes of a request: members of the response besides `uid`.
type Reply = Arc<dyn Fn(&Value) -> Value + Send + Sync>;

/// A webhook that runs until it is dropped.
pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    ca: String,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    connections: Arc<Mutex<usize>>,
    _stop: DropGuard,
}

impl Hook {
    /// With a certificate for these names.
    pub(crate) async fn start(
        names: &[&str],
        reply: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        let (config, ca) = tls(names);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reply: Reply = Arc::new(reply);
        let stop = CancellationToken::new();
        let (seen, connections) = (Arc::default(), Arc::default());
        let serving = serve(
            listener,
            acceptor,
            reply,
            Arc::clone(&seen),
            Arc::clone(&connections),
        );
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Self {
            address,
            ca,
            seen,
            connections,
            _stop: stop.drop_guard(),
        }
    }

    /// Allows everything, changed by that patch.
    pub(crate) async fn patching(patch: Value) -> Self {
        Self::start(&["127.0.0.1"], move |_| allow(&patch)).await
    }

    /// The requests that it was asked about.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|(_, review)| review["request"].clone())
            .collect()
    }

    /// Path and body of each call.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        self.seen.lock().unwrap().clone()
    }

    /// How often somebody connected.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// `caBundle`.
    pub(crate) fn ca(&self) -> Value {
        serde_json::to_value(k8s_openapi::ByteString(self.ca.clone().into_bytes())).unwrap()
    }

    /// A webhook of a configuration that calls this one for new and changed pods.
    pub(crate) fn entry(&self, name: &str, more: &Value) -> Value {
        let mut entry = json!({
            "name": name,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {
                "url": format!("https://{}/mutate", self.address),
                "caBundle": self.ca(),
            },
            "rules": [{
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
            }],
        });
        json_patch::merge(&mut entry, more);
        entry
    }
}

/// A response that allows and patches.
pub(crate) fn allow(patch: &Value) -> Value {
    let patch = k8s_openapi::ByteString(patch.to_string().into_bytes());
    json!({ "allowed": true, "patchType": "JSONPatch", "patch": patch })
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    reply: Reply,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    connections: Arc<Mutex<usize>>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        *connections.lock().unwrap() += 1;
        let (acceptor, reply, seen) = (acceptor.clone(), reply.clone(), seen.clone());
        tokio::spawn(async move {
            // Who does not trust it hangs up.
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|request| answer(request, &reply, &seen));
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    reply: &Reply,
    seen: &Mutex<Vec<(String, Value)>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let mut response = reply(&review["request"]);
    seen.lock().unwrap().push((path, review.clone()));
    if response == "never" {
        std::future::pending::<()>().await;
    }
    if let Some(code) = response["code"].as_u64() {
        let mut failure = Response::new(Full::new(Bytes::from("broken")));
        *failure.status_mut() = u16::try_from(code).unwrap().try_into().unwrap();
        return Ok(failure);
    }
    let close = response["close"] == true;
    if response["uid"].is_null() {
        response["uid"] = review["request"]["uid"].clone();
    }
    let answer = json!({
        "apiVersion": review["apiVersion"],
        "kind": "AdmissionReview",
        "response": response,
    });
    let mut answered = Response::new(Full::new(Bytes::from(answer.to_string())));
    if close {
        let headers = answered.headers_mut();
        headers.insert("connection", http::HeaderValue::from_static("close"));
    }
    Ok(answered)
}

/// A server's side of TLS, and the PEM of who signed its certificate.
fn tls(names: &[&str]) -> (ServerConfig, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (config, ca.pem())
}

//! Where reports come from: the controller, asked through the API server.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::ListParams,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use status_report::{API_VERSION, LONGEST_QUESTION, PATH, Report, Versioned, WHAT_IF_PATH, WhatIf};
use tokio::time::timeout;

use crate::args::Cluster;
use crate::error::{Error, root};

/// Time for a connection to the API server.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(15);
/// Time for an answer that waits for news; the controller waits for 25 s at most.
const NEWS: Duration = Duration::from_secs(45);
/// Bytes of a report at most: some 4,000 nodes.
const LONGEST: usize = 128 * 1024 * 1024;
/// Where a controller serves whose pod does not say.
const DEFAULT_PORT: u16 = 7445;

/// An answer, and the text it was read from.
#[derive(Clone, Debug)]
pub struct Fetched<T = Report> {
    /// As this release understands it.
    pub report: T,
    /// As the controller wrote it.
    pub text: Vec<u8>,
}

/// A controller to be asked.
#[derive(Debug, Clone)]
struct Controller {
    pod: String,
    port: u16,
}

/// A cluster.
pub struct Source {
    client: Client,
    url: String,
    namespace: String,
    selector: String,
    default_namespace: String,
    controller: Option<Controller>,
}

impl Source {
    /// The cluster that the command line and the environment name.
    pub async fn open(cluster: &Cluster) -> Result<Self, Error> {
        let wrap = |source| Error::Kubeconfig { source };
        let file = match &cluster.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let context = KubeConfigOptions {
            context: cluster.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(file.map_err(wrap)?, &context)
            .await
            .map_err(wrap)?;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(NEWS);
        let url = config.cluster_url.to_string();
        let default_namespace = config.default_namespace.clone();
        let builder = ClientBuilder::try_from(config).map_err(|error| Error::Client {
            url: url.clone(),
            why: root(&error),
        })?;
        Ok(Self {
            client: builder.build(),
            url,
            namespace: cluster.namespace.clone(),
            selector: cluster.selector.clone(),
            default_namespace,
            controller: None,
        })
    }

    /// The namespace of the context, where things are that are named without one.
    pub fn default_namespace(&self) -> &str {
        &self.default_namespace
    }

    /// A report of these nodes, of all if none are named; with `after`, not before anything has changed
    /// since that revision, or half a minute has passed.
    pub async fn fetch(&mut self, nodes: &[String], after: Option<u64>) -> Result<Fetched, Error> {
        let strange = |name: &&String| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            !name.chars().all(fits)
        };
        let unknown: Vec<_> = nodes.iter().filter(strange).collect();
        if !unknown.is_empty() {
            return Err(no_such_node(&unknown));
        }
        let mut query = Vec::new();
        if !nodes.is_empty() {
            query.push(format!("nodes={}", nodes.join(",")));
        }
        query.extend(after.map(|after| format!("after={after}")));
        let limit = if after.is_some() { NEWS } else { ANSWER };
        let fetched: Fetched = self
            .get(&format!("{PATH}?{}", query.join("&")), limit)
            .await?;
        let known = |name: &&String| fetched.report.nodes.iter().any(|node| node.name == **name);
        let unknown: Vec<_> = nodes.iter().filter(|name| !known(name)).collect();
        if unknown.is_empty() {
            Ok(fetched)
        } else {
            Err(no_such_node(&unknown))
        }
    }

    /// What would become of pods: a list as [`WHAT_IF_PATH`] takes it.
    pub async fn what_if(&mut self, pods: &str) -> Result<Fetched<WhatIf>, Error> {
        let pods = utf8_percent_encode(pods, NON_ALPHANUMERIC).to_string();
        if pods.len() > LONGEST_QUESTION {
            return Err(Error::Question {
                why: format!(
                    "what the pods ask for takes {} KiB in its address, and {} KiB is the most; ask \
                     about fewer at a time",
                    pods.len().div_ceil(1024),
                    LONGEST_QUESTION / 1024
                ),
            });
        }
        self.get(&format!("{WHAT_IF_PATH}?pods={pods}"), ANSWER)
            .await
    }

    async fn get<T: DeserializeOwned>(
        &mut self,
        path: &str,
        limit: Duration,
    ) -> Result<Fetched<T>, Error> {
        let controller = match &self.controller {
            Some(known) => known.clone(),
            None => self.find().await?,
        };
        let answer = self.ask(&controller, path, limit).await;
        // Whatever is wrong, the next attempt looks for a controller anew.
        self.controller = answer.is_ok().then_some(controller);
        answer
    }

    async fn find(&self) -> Result<Controller, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let wanted = ListParams::default().labels(&self.selector);
        let found = match timeout(ANSWER, pods.list(&wanted)).await {
            Ok(found) => found.map_err(|error| self.refusal(&error))?,
            Err(_) => return Err(self.silence()),
        };
        let mut pods = found.items;
        // Of several the newest, for the others are on their way out; but the old one acts as long as
        // the new one does not come up.
        pods.sort_by_key(|pod| (is_running(pod), is_ready(pod), pod.creation_timestamp()));
        let Some(pod) = pods.last() else {
            return Err(Error::NoController {
                namespace: self.namespace.clone(),
                selector: self.selector.clone(),
            });
        };
        let name = pod.name_any();
        if !is_running(pod) {
            return Err(Error::NotRunning {
                pod: format!("{}/{name}", self.namespace),
                why: obstacle(pod),
            });
        }
        Ok(Controller {
            pod: name,
            port: port(pod),
        })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        controller: &Controller,
        path: &str,
        limit: Duration,
    ) -> Result<Fetched<T>, Error> {
        let Controller { pod: name, port } = controller;
        let (port, namespace) = (*port, &self.namespace);
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy{path}");
        let pod = format!("{namespace}/{name}");
        let garbled = |why: String| Error::Garbled {
            pod: pod.clone(),
            port,
            why,
        };
        let request = Request::get(uri)
            .body(Body::empty())
            .map_err(|error| garbled(error.to_string()))?;
        let exchange = async {
            let response = self.client.send(request).await;
            let response = response.map_err(|error| self.refusal(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST);
            let bytes = body.collect().await;
            let bytes = bytes.map_err(|error| garbled(root(&*error)))?;
            Ok::<_, Error>((status, bytes.to_bytes().to_vec()))
        };
        let (status, text) = match timeout(limit, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.silence()),
        };
        if !status.is_success() {
            return Err(self.failure(pod, port, status, &text));
        }
        let versioned: Versioned =
            serde_json::from_slice(&text).map_err(|error| garbled(error.to_string()))?;
        if versioned.api_version != API_VERSION {
            return Err(Error::Version {
                pod,
                found: versioned.api_version,
                ours: API_VERSION,
            });
        }
        let report = serde_json::from_slice(&text).map_err(|error| garbled(error.to_string()))?;
        Ok(Fetched { report, text })
    }

    /// The API server, or the controller behind it, did not answer with a report.
    fn failure(&self, pod: String, port: u16, status: StatusCode, text: &[u8]) -> Error {
        let said = String::from_utf8_lossy(text).trim().to_owned();
        let object: Option<serde_json::Value> = serde_json::from_slice(text).ok();
        let object = object.filter(|object| object["kind"] == "Status");
        let message = object
            .as_ref()
            .map(|object| object["message"].as_str().unwrap_or_default().to_owned());
        match (status, message) {
            (StatusCode::UNAUTHORIZED, _) => Error::Unauthorized {
                url: self.url.clone(),
            },
            (StatusCode::FORBIDDEN, message) => Error::Forbidden {
                why: message.unwrap_or(said),
                namespace: self.namespace.clone(),
            },
            (StatusCode::NOT_FOUND, None) => Error::Old { pod },
            (StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG, None) => {
                Error::Question { why: said }
            }
            (StatusCode::NOT_FOUND, Some(_)) => Error::NotRunning {
                pod,
                why: "it is gone".to_owned(),
            },
            (StatusCode::SERVICE_UNAVAILABLE, None) => Error::NotReady { pod, why: said },
            (
                StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::BAD_GATEWAY
                | StatusCode::GATEWAY_TIMEOUT,
                message,
            ) => Error::Silent {
                pod,
                port,
                why: message.unwrap_or(said),
            },
            (_, Some(message)) => Error::Refused {
                url: self.url.clone(),
                why: message,
            },
            (_, None) => Error::Garbled {
                pod,
                port,
                why: format!("{status} {said}"),
            },
        }
    }

    fn refusal(&self, error: &kube::Error) -> Error {
        let url = self.url.clone();
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Error::Unauthorized { url },
                403 => Error::Forbidden {
                    why: status.message.clone(),
                    namespace: self.namespace.clone(),
                },
                _ => Error::Refused {
                    url,
                    why: status.message.clone(),
                },
            },
            other => Error::Unreachable {
                url,
                why: root(other),
            },
        }
    }

    fn silence(&self) -> Error {
        Error::Unreachable {
            url: self.url.clone(),
            why: "no answer came in time".to_owned(),
        }
    }
}

fn no_such_node(names: &[&String]) -> Error {
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    Error::NoSuchNode {
        names: names.join(", "),
    }
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    phase.unwrap_or("Unknown")
}

fn is_running(pod: &Pod) -> bool {
    phase(pod) == "Running" && pod.metadata.deletion_timestamp.is_none()
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers.is_some_and(|all| all.iter().all(|container| container.ready))
}

/// Why a pod does not run: what its container waits for, or its phase.
fn obstacle(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "it is being deleted".to_owned();
    }
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let waiting = containers
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref())
        .find_map(|waiting| {
            let reason = waiting.reason.clone()?;
            let message = waiting.message.as_ref();
            Some(message.map_or_else(|| reason.clone(), |message| format!("{reason}: {message}")))
        });
    waiting.unwrap_or_else(|| format!("its phase is {}", phase(pod)))
}

/// The port named `http`, where the controller's pages are.
fn port(pod: &Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let http = ports.find(|port| port.name.as_deref() == Some("http"));
    http.and_then(|port| u16::try_from(port.container_port).ok())
        .unwrap_or(DEFAULT_PORT)
}

//! What clients send, and the logs of pods.

use std::fmt;

use axum::body::Body;
use axum::response::Response;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, USER_AGENT};
use serde_json::Value;

use super::params::Params;
use super::path::Target;
use super::{Server, protobuf, respond};
use crate::store::{Kind, Status};

/// As in the real server.
const LIMIT: usize = 3 * 1024 * 1024;

/// Gives `kubectl logs` its text.
pub trait LogSource: Send + Sync + 'static {
    /// What the container wrote so far; none if it never ran. An empty container name means the
    /// only one, or the first.
    fn read(&self, namespace: &str, pod: &str, container: &str) -> Option<Vec<u8>>;
}

impl fmt::Debug for dyn LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSource")
    }
}

/// A body that was read, but not understood yet.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) content_type: String,
    pub(super) user_agent: String,
    bytes: axum::body::Bytes,
}

pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Sent, Status> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let content_type = text(CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let user_agent = text(USER_AGENT).to_owned();
    let bytes = axum::body::to_bytes(body, LIMIT)
        .await
        .map_err(|_| Status::too_large(LIMIT))?;
    Ok(Sent {
        content_type,
        user_agent,
        bytes,
    })
}

impl Sent {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The body of a request that carries an object.
    pub(super) fn object(&self) -> Result<Value, Status> {
        match self.content_type.as_str() {
            "application/json" | "" | "*/*" => self.json(),
            "application/yaml" => self.yaml(),
            protobuf::CONTENT_TYPE if let Some(object) = protobuf::decode(&self.bytes) => {
                Ok(object)
            }
            _ => Err(Status::unsupported_media_type(
                "application/json, application/yaml",
            )),
        }
    }

    pub(super) fn json(&self) -> Result<Value, Status> {
        serde_json::from_slice(&self.bytes).map_err(|error| {
            Status::bad_request(format!(
                "the object provided is unrecognized: couldn't parse the request body as JSON: \
                 {error}"
            ))
        })
    }

    /// JSON is YAML, too.
    pub(super) fn yaml(&self) -> Result<Value, Status> {
        let text = std::str::from_utf8(&self.bytes)
            .map_err(|_| Status::bad_request("the request body is not UTF-8"))?;
        if text.trim_start().starts_with('{') {
            return self.json();
        }
        serde_saphyr::from_str(text)
            .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))
    }
}

pub(super) fn log(server: &Server, target: &Target, params: &Params) -> Result<Response, Status> {
    let name = target.name.as_deref().unwrap_or_default();
    server.store.find(Kind::Pod, target.namespace(), name)?;
    let Some(source) = &server.config.logs else {
        return Err(Status::not_implemented("logs"));
    };
    if params.log.follow || params.log.previous {
        return Err(Status::not_implemented(
            "logs that are followed or of an earlier container",
        ));
    }
    let found = source
        .read(target.namespace(), name, &params.log.container)
        .unwrap_or_default();
    let start = match params.log.tail_lines {
        Some(lines) => tail(&found, lines),
        None => 0,
    };
    Ok(respond::text(found[start..].to_vec()))
}

/// Where the last lines begin.
fn tail(text: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return text.len();
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut ends = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n');
    ends.nth(lines - 1).map_or(0, |(at, _)| at + 1)
}

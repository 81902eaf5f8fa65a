//! `pods/proxy`: a GET that the API server passes on to a port of a pod.
//!
//! As in the real server, the pod's name may carry a scheme and a port (`http:web:8080`), a pod
//! without port in the name is asked at the first port that it declares, and a pod that does not
//! answer is 503. Only pods that are processes have anything that listens.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT, CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{Request, request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Server;
use super::path::Target;
use crate::store::{Kind, Status, object};

/// Time for a connection to the pod.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for the pod to begin its answer; longer than any page waits for news.
const ANSWER: Duration = Duration::from_mins(1);
/// Headers that concern one connection only.
const OF_ONE_HOP: [HeaderName; 3] = [CONNECTION, TRANSFER_ENCODING, UPGRADE];

pub(super) async fn get(
    server: &Server,
    target: &Target,
    name: &str,
    parts: request::Parts,
) -> Result<Response, Status> {
    let (name, port) = split(name)?;
    let pod = server.store.find(Kind::Pod, target.namespace(), name)?;
    let address = address(&pod, port)?;
    let connecting = TcpStream::connect(address);
    let stream = match timeout(CONNECT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Status::unreachable(format!("dial tcp {address}: {error}"))),
        Err(_) => {
            return Err(Status::unreachable(format!(
                "dial tcp {address}: i/o timeout"
            )));
        }
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(Status::unreachable)?;
    // It ends with the body of the answer, or when the client goes away.
    tokio::spawn(connection);
    let path = target.rest.as_deref().unwrap_or_default();
    let query = parts.uri.query().map(|query| format!("?{query}"));
    let mut request = Request::get(format!("/{path}{}", query.unwrap_or_default()))
        .header(HOST, address.to_string())
        .body(Body::empty())
        .map_err(|error| Status::bad_request(error.to_string()))?;
    if let Some(accept) = parts.headers.get(ACCEPT) {
        request.headers_mut().insert(ACCEPT, accept.clone());
    }
    let response = match timeout(ANSWER, sender.send_request(request)).await {
        Ok(response) => response.map_err(Status::unreachable)?,
        Err(_) => return Err(Status::unreachable("timeout awaiting response headers")),
    };
    let mut response = response.map(Body::new);
    for header in OF_ONE_HOP {
        response.headers_mut().remove(header);
    }
    Ok(response)
}

/// Name and port of `name`, `name:port` or `scheme:name:port`.
fn split(name: &str) -> Result<(&str, Option<&str>), Status> {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        [name] => Ok((name, None)),
        [name, port] | ["" | "http", name, port] => Ok((name, Some(port))),
        ["https", ..] => Err(Status::not_implemented(
            "the proxy to a pod that speaks TLS",
        )),
        _ => Err(Status::bad_request(format!("invalid pod request {name:?}"))),
    }
}

fn address(pod: &Value, port: Option<&str>) -> Result<SocketAddr, Status> {
    let mut ports = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let number = |port: &Value| port["containerPort"].as_u64();
    let port = match port.filter(|port| !port.is_empty()) {
        Some(text) => match text.parse() {
            Ok(number) => Some(number),
            Err(_) => ports.filter(|port| port["name"] == text).find_map(number),
        },
        None => ports.find_map(number),
    };
    let ip: Option<IpAddr> = object::text(pod, "/status/podIP").parse().ok();
    match (ip, port.and_then(|port| u16::try_from(port).ok())) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        (None, _) => Err(Status::bad_request("address not allowed")),
        (_, None) => Err(Status::bad_request("the pod has no such port")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_may_carry_scheme_and_port() {
        assert_eq!(split("web").unwrap(), ("web", None));
        assert_eq!(split("web:80").unwrap(), ("web", Some("80")));
        assert_eq!(split("http:web:80").unwrap(), ("web", Some("80")));
        assert_eq!(split("https:web:80").unwrap_err().code, 501);
        assert_eq!(split("a:b:c:d").unwrap_err().code, 400);
    }

    #[test]
    fn a_pod_is_asked_at_the_port_that_is_named_or_its_first() {
        let ports = json!([
            { "name": "grpc", "containerPort": 1 }, { "name": "http", "containerPort": 2 },
        ]);
        let pod = json!({
            "spec": { "containers": [{}, { "ports": ports }] },
            "status": { "podIP": "127.0.0.1" },
        });
        let port = |name| address(&pod, name).map(|address| address.port());
        assert_eq!(port(None).unwrap(), 1);
        assert_eq!(port(Some("http")).unwrap(), 2);
        assert_eq!(port(Some("80")).unwrap(), 80);
        assert_eq!(port(Some("70000")).unwrap_err().code, 400);
        assert_eq!(address(&json!({}), Some("80")).unwrap_err().code, 400);
    }
}

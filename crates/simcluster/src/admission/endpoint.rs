//! Where a webhook is: a URL as it is written, or a Service, whose ready pods are looked up as the
//! API server and kube-proxy do together.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::ByteString;
use serde_json::Value;

use super::client::CallError;
use crate::store::object::{array, is_deleting, text};
use crate::store::selector::Labels;
use crate::store::{Kind, Store};

/// How to reach a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    /// Host and port to connect to.
    pub(super) connect: String,
    /// For the `Host` header.
    pub(super) authority: String,
    /// That the certificate must be for.
    pub(super) server_name: String,
    /// Path and query of the request.
    pub(super) path: String,
    /// PEM of the certificates that may sign the webhook's.
    pub(super) ca: Vec<u8>,
}

pub(super) fn of(store: &Store, config: &Value) -> Result<Endpoint, CallError> {
    let ca = match config.get("caBundle").filter(|ca| !ca.is_null()) {
        Some(ca) => serde_json::from_value(ca.clone()).map(|ByteString(bytes)| bytes),
        None => Ok(Vec::new()),
    };
    let ca = ca.map_err(|error| CallError::Other(error.to_string()))?;
    if config["service"].is_object() {
        return of_service(store, &config["service"], ca);
    }
    let (authority, path) = split(text(config, "/url"));
    let server_name = authority
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(authority, |(host, _)| host);
    let connect = if server_name == authority {
        format!("{authority}:443")
    } else {
        authority.to_owned()
    };
    Ok(Endpoint {
        connect,
        authority: authority.to_owned(),
        server_name: server_name.trim_matches(['[', ']']).to_owned(),
        path: path.to_owned(),
        ca,
    })
}

/// As messages name it.
pub(super) fn url(config: &Value, seconds: u64) -> String {
    let service = &config["service"];
    if service.is_object() {
        let (host, port) = (host(service), port(service));
        let path = path_of(service);
        return format!("https://{host}:{port}{path}?timeout={seconds}s");
    }
    let (authority, path) = split(text(config, "/url"));
    format!("https://{authority}{path}?timeout={seconds}s")
}

fn of_service(store: &Store, service: &Value, ca: Vec<u8>) -> Result<Endpoint, CallError> {
    let (namespace, name) = (text(service, "/namespace"), text(service, "/name"));
    let port = port(service);
    let found = store
        .get(Kind::Service, namespace, name)
        .ok_or_else(|| CallError::Other(format!("service {name:?} not found")))?;
    let selector = found.pointer("/spec/selector");
    let selector = selector.filter(|labels| labels.as_object().is_some_and(|l| !l.is_empty()));
    let declared = array(&found, "/spec/ports")
        .iter()
        .find(|declared| declared["port"].as_u64() == Some(port));
    let Some(declared) = declared else {
        return Err(CallError::Other(format!(
            "no service port {port} found for service {name:?}"
        )));
    };
    let labels = Labels::from_object(&serde_json::json!({ "matchLabels": selector }));
    let (pods, _) = store.list(Kind::Pod, Some(namespace));
    let address = pods
        .iter()
        .filter(|pod| selector.is_some() && labels.matches(pod) && is_ready(pod))
        .find_map(|pod| address(pod, &declared["targetPort"]));
    let address = address
        .ok_or_else(|| CallError::Other(format!("no endpoints available for service {name:?}")))?;
    let host = host(service);
    Ok(Endpoint {
        connect: address.to_string(),
        authority: format!("{host}:{port}"),
        server_name: host,
        path: path_of(service),
        ca,
    })
}

fn host(service: &Value) -> String {
    format!(
        "{}.{}.svc",
        text(service, "/name"),
        text(service, "/namespace")
    )
}

fn port(service: &Value) -> u64 {
    service["port"].as_u64().unwrap_or(443)
}

fn path_of(service: &Value) -> String {
    format!("/{}", text(service, "/path").trim_start_matches('/'))
}

/// Authority and path of a URL.
fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("https://").unwrap_or(url);
    match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    }
}

fn is_ready(pod: &Value) -> bool {
    !is_deleting(pod)
        && array(pod, "/status/conditions")
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn address(pod: &Value, target: &Value) -> Option<SocketAddr> {
    let ip: IpAddr = text(pod, "/status/podIP").parse().ok()?;
    let port = match target.as_str() {
        Some(name) => array(pod, "/spec/containers")
            .iter()
            .flat_map(|container| array(container, "/ports"))
            .find(|port| port["name"] == name)?["containerPort"]
            .as_u64(),
        None => target.as_u64(),
    };
    Some(SocketAddr::new(ip, u16::try_from(port?).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn store(ready: &str, target: &Value) -> Store {
        let store = Store::default();
        let service = json!({
            "metadata": { "name": "hooks" },
            "spec": {
                "selector": { "app": "hooks" },
                "ports": [{ "port": 443, "targetPort": target }],
            },
        });
        store.create(Kind::Service, "default", service).unwrap();
        let pod = json!({
            "metadata": { "name": "p", "labels": { "app": "hooks" } },
            "spec": { "containers": [{
                "name": "c", "image": "i", "ports": [{ "name": "https", "containerPort": 9443 }],
            }]},
        });
        store.create(Kind::Pod, "default", pod).unwrap();
        let status = |pod: &mut Value| {
            pod["status"]["podIP"] = "127.0.0.9".into();
            pod["status"]["conditions"] = json!([{ "type": "Ready", "status": ready }]);
        };
        store.modify(Kind::Pod, "default", "p", status).unwrap();
        store
    }

    fn config() -> Value {
        json!({ "service": { "name": "hooks", "namespace": "default", "path": "/mutate" } })
    }

    #[test]
    fn a_service_leads_to_the_port_of_a_ready_pod() {
        for target in [json!("https"), json!(9443)] {
            let found = of(&store("True", &target), &config()).unwrap();
            assert_eq!(found.connect, "127.0.0.9:9443");
            assert_eq!(found.server_name, "hooks.default.svc");
            assert_eq!(found.path, "/mutate");
        }
        let wanted = "https://hooks.default.svc:443/mutate?timeout=5s";
        assert_eq!(url(&config(), 5), wanted);
    }

    #[test]
    fn a_service_without_ready_pods_leads_nowhere() {
        let why = of(&store("False", &json!("https")), &config()).unwrap_err();
        let why = why.tell("https://x");
        assert_eq!(
            why,
            "Post \"https://x\": no endpoints available for service \"hooks\""
        );
        let none = of(&Store::default(), &config()).unwrap_err().tell("u");
        assert_eq!(none, "Post \"u\": service \"hooks\" not found");
    }

    #[test]
    fn a_url_says_where_and_whose_certificate() {
        let found = |url: &str| of(&Store::default(), &json!({ "url": url })).unwrap();
        let one = found("https://127.0.0.1:8443/a/b");
        assert_eq!(
            (one.connect.as_str(), one.path.as_str()),
            ("127.0.0.1:8443", "/a/b")
        );
        assert_eq!(one.server_name, "127.0.0.1");
        let two = found("https://hooks.example");
        assert_eq!(
            (two.connect.as_str(), two.path.as_str()),
            ("hooks.example:443", "/")
        );
        assert_eq!(found("https://[::1]:1/").server_name, "::1");
    }
}

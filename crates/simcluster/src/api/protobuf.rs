//! Protobuf bodies of the few kinds that `kubectl create` sends so, whatever the server says it
//! speaks: namespaces, config maps, secrets, service accounts. Answers are JSON all the same.
//!
//! Field numbers from generated.proto of k8s.io/api and k8s.io/apimachinery.

use std::collections::HashMap;

use k8s_openapi::ByteString;
use prost::Message;
use serde_json::{Value, json};

pub(super) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

#[derive(Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Message)]
struct ObjectMeta {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    generate_name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(map = "string, string", tag = "11")]
    labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "12")]
    annotations: HashMap<String, String>,
}

#[derive(Message)]
struct Bare {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
}

#[derive(Message)]
struct ConfigMap {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(map = "string, string", tag = "2")]
    data: HashMap<String, String>,
    #[prost(map = "string, bytes", tag = "3")]
    binary_data: HashMap<String, Vec<u8>>,
}

#[derive(Message)]
struct Secret {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(map = "string, bytes", tag = "2")]
    data: HashMap<String, Vec<u8>>,
    #[prost(string, tag = "3")]
    kind: String,
}

/// The object in a body, or nothing where its kind is not among the few.
pub(super) fn decode(bytes: &[u8]) -> Option<Value> {
    let envelope = Unknown::decode(bytes.strip_prefix(MAGIC)?).ok()?;
    let TypeMeta { api_version, kind } = envelope.type_meta?;
    let raw = envelope.raw.as_slice();
    let mut object = match (api_version.as_str(), kind.as_str()) {
        ("v1", "Namespace" | "ServiceAccount") => {
            json!({ "metadata": metadata(Bare::decode(raw).ok()?.metadata) })
        }
        ("v1", "ConfigMap") => {
            let ConfigMap {
                metadata: about,
                data,
                binary_data,
            } = ConfigMap::decode(raw).ok()?;
            let mut object = json!({ "metadata": metadata(about), "data": data });
            if !binary_data.is_empty() {
                object["binaryData"] = base64(binary_data)?;
            }
            object
        }
        ("v1", "Secret") => {
            let Secret {
                metadata: about,
                data,
                kind,
            } = Secret::decode(raw).ok()?;
            let mut object = json!({ "metadata": metadata(about), "data": base64(data)? });
            if !kind.is_empty() {
                object["type"] = kind.into();
            }
            object
        }
        _ => return None,
    };
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    Some(object)
}

fn base64(data: HashMap<String, Vec<u8>>) -> Option<Value> {
    let encoded: HashMap<String, ByteString> = data
        .into_iter()
        .map(|(key, value)| (key, ByteString(value)))
        .collect();
    serde_json::to_value(encoded).ok()
}

fn metadata(found: Option<ObjectMeta>) -> Value {
    let found = found.unwrap_or_default();
    let mut metadata = json!({});
    for (member, value) in [
        ("name", found.name),
        ("generateName", found.generate_name),
        ("namespace", found.namespace),
    ] {
        if !value.is_empty() {
            metadata[member] = value.into();
        }
    }
    for (member, value) in [("labels", found.labels), ("annotations", found.annotations)] {
        if !value.is_empty() {
            metadata[member] = json!(value);
        }
    }
    metadata
}

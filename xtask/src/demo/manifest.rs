//! Reads what `-f` names, before anything is built or started: a slip in a file is one sentence
//! with file and line.

use manifest_files::ManifestError;
use serde_json::Value;
use simcluster::store::Kind;

/// One object to create.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its namespace: as written, else `default`; empty for kinds outside namespaces.
    pub(crate) namespace: String,
    /// The object.
    pub(crate) object: Value,
}

impl Manifest {
    /// How many pods there are because of it.
    pub(crate) fn pods(&self) -> usize {
        match self.kind {
            Kind::Pod => 1,
            Kind::Deployment => {
                let replicas = self.object.pointer("/spec/replicas");
                let replicas = replicas.and_then(Value::as_u64).unwrap_or(1);
                usize::try_from(replicas).unwrap_or(usize::MAX)
            }
            _ => 0,
        }
    }
}

/// Reads a file, or standard input for `-`.
pub(crate) fn read(file: &str) -> Result<Vec<Manifest>, ManifestError> {
    parse(file, &manifest_files::text(file)?)
}

/// Understands the text of a file.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Manifest>, ManifestError> {
    let objects = manifest_files::objects(file, text)?.into_iter();
    let manifests: Result<Vec<_>, _> = objects
        .map(|object| {
            understand(object.value)
                .map_err(|message| ManifestError::at(file, object.line, message))
        })
        .collect();
    match manifests? {
        none if none.is_empty() => {
            let message = "there is no object in it; give it at least one Pod";
            Err(ManifestError::of(file, message))
        }
        manifests => Ok(manifests),
    }
}

fn understand(object: Value) -> Result<Manifest, String> {
    if !object.is_object() {
        return Err("this is no Kubernetes object; it must begin with apiVersion and kind".into());
    }
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    if version.is_empty() || kind.is_empty() {
        let missing = if kind.is_empty() {
            "kind"
        } else {
            "apiVersion"
        };
        return Err(format!("the object has no {missing}"));
    }
    let known = Kind::ALL
        .into_iter()
        .find(|known| known.info().kind == kind && known.api_version() == version)
        .ok_or_else(|| {
            format!("the embedded cluster does not serve {kind} of {version}; use plain Pods (v1)")
        })?;
    // It ends when all pods have what they asked for, and how many theirs will be is not known.
    if matches!(
        known,
        Kind::ReplicaSet | Kind::StatefulSet | Kind::Job | Kind::CronJob
    ) {
        return Err(format!(
            "the demo does not follow {kind} of {version}; use plain Pods (v1) or Deployments (apps/v1)"
        ));
    }
    if text("/metadata/name").is_empty() && text("/metadata/generateName").is_empty() {
        return Err(format!("the {kind} has no metadata.name"));
    }
    let namespace = match text("/metadata/namespace") {
        _ if !known.info().namespaced => "",
        "" => "default",
        named => named,
    };
    Ok(Manifest {
        kind: known,
        namespace: namespace.to_owned(),
        object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse("pods.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn several_objects_are_read_from_one_file() {
        let text = "# two\nkind: Namespace\napiVersion: v1\nmetadata: {name: team}\n---\n\
                    apiVersion: v1\nkind: Pod\nmetadata:\n  name: one\n  namespace: team\n---\n";
        let manifests = parse("pods.yaml", text).unwrap();
        let read: Vec<_> = manifests
            .iter()
            .map(|m| (m.kind, m.namespace.as_str()))
            .collect();
        assert_eq!(read, [(Kind::Namespace, ""), (Kind::Pod, "team")]);
    }

    #[test]
    fn what_is_not_yaml_is_told_with_its_line() {
        let message = error("\n---\nkind: Pod\nmetadata: {name: x\n");
        assert!(message.starts_with("pods.yaml:"), "{message}");
        assert!(message.contains("not YAML"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        let message = error("kind: Pod\n  name: [\n");
        assert!(message.starts_with("pods.yaml:2:"), "{message}");
    }

    #[test]
    fn an_object_without_a_name_is_told_with_the_line_where_it_begins() {
        let message = error("---\n# first\n\napiVersion: v1\nkind: Pod\n");
        assert_eq!(message, "pods.yaml:4: the Pod has no metadata.name");
    }

    #[test]
    fn kinds_that_the_cluster_does_not_serve_are_refused_at_once() {
        let message =
            error("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x}\n");
        assert!(
            message.contains("does not serve Ingress of networking.k8s.io/v1"),
            "{message}"
        );
    }

    #[test]
    fn kinds_whose_pods_the_demo_would_not_wait_for_are_refused() {
        let message = error("apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\n");
        assert!(
            message.contains("does not follow Job of batch/v1; use plain Pods"),
            "{message}"
        );
    }

    #[test]
    fn the_pods_of_deployments_are_waited_for() {
        let pods = |spec: &str| {
            let text =
                format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: x}}\n{spec}");
            parse("pods.yaml", &text).unwrap()[0].pods()
        };
        assert_eq!((pods(""), pods("spec: {replicas: 3}\n")), (1, 3));
    }

    #[test]
    fn nothing_and_other_things_are_no_manifest() {
        assert!(error("").contains("no object"));
        assert!(error("hello").contains("no Kubernetes object"));
    }

    #[test]
    fn a_missing_file_is_one_sentence() {
        let message = read("/nowhere/pods.yaml").unwrap_err().to_string();
        assert!(
            message.starts_with("/nowhere/pods.yaml: failed to read it"),
            "{message}"
        );
    }
}

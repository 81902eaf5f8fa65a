//! Puts the objects of the files into the cluster, as `kubectl apply` would.

use simcluster::admission::Admission;
use simcluster::store::{Kind, Status, WriteOptions};
use testbed::manifests;
use testbed::system::System;

use super::manifest::Manifest;

/// Creates everything in order, past the webhook, and returns what it warns of. A pod that the API
/// server refuses is a pod that did not run; any other refusal is an error.
pub(super) async fn apply(system: &System, manifests: &[Manifest]) -> anyhow::Result<Vec<String>> {
    let server = Admission::new(system.store().clone());
    let options = WriteOptions::default();
    let mut warnings = Vec::new();
    for manifest in manifests {
        ensure_namespace(system, &manifest.namespace)?;
        let Manifest {
            kind,
            namespace,
            object,
        } = manifest;
        let created = server.create(*kind, namespace, object.clone(), &options, &mut warnings);
        match created.await {
            Ok(_) => {}
            Err(status) if *kind == Kind::Pod => {
                let mut pod = object.clone();
                pod["metadata"]["namespace"] = namespace.as_str().into();
                let now = system.cluster().now();
                system.observed().rejected(&pod, &status.to_string(), now);
            }
            Err(status) if is_namespace_again(*kind, &status) => {}
            Err(status) => anyhow::bail!("failed to create the {kind}: {status}"),
        }
    }
    Ok(warnings)
}

/// Namespaces need not be spelled out.
fn ensure_namespace(system: &System, name: &str) -> anyhow::Result<()> {
    if name.is_empty() || system.store().get(Kind::Namespace, "", name).is_some() {
        return Ok(());
    }
    let namespace = manifests::namespace(name);
    system
        .store()
        .create(Kind::Namespace, "", namespace)
        .map_err(|status| anyhow::anyhow!("failed to create namespace {name}: {status}"))?;
    Ok(())
}

fn is_namespace_again(kind: Kind, status: &Status) -> bool {
    kind == Kind::Namespace && status.code == 409
}

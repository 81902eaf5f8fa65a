//! Puts the objects of the files into the cluster, as `kubectl apply` would.

use simcluster::store::{Kind, Status};
use testbed::manifests;
use testbed::system::System;

use super::manifest::Manifest;

/// Creates everything in order. A pod that the API server refuses is a pod that did not run; any
/// other refusal is an error.
pub(super) fn apply(system: &System, manifests: &[Manifest]) -> anyhow::Result<()> {
    for manifest in manifests {
        ensure_namespace(system, &manifest.namespace)?;
        let Manifest {
            kind,
            namespace,
            object,
        } = manifest;
        match system.store().create(*kind, namespace, object.clone()) {
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
    Ok(())
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

//! Puts a system together from the testbed's parts, with everything wrong that the specification
//! wants wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use fake_nvml::control::HostState;
use serde_json::Value;
use simcluster::cluster::{Cluster, ClusterConfig, NodeConfig, Options};
use testbed::binaries::{Binaries, Profile, Progress};
use testbed::certs::{AGENT_NAME, Authority, CONTROLLER_NAME};
use testbed::driver::Driver;
use testbed::hardware::{self, Host};
use testbed::manifests::{AGENT_TLS, webhook_host};
use testbed::names;
use testbed::system::{CONTROL_NODE, Installation};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::spec::{NodeSpec, Spec, Tls};
use crate::system::System;
use crate::watcher::{Watched, Watcher};

/// Everything of ours; libraries only where something is wrong.
const LOG_LEVEL: &str =
    "warn,mig_node_agent=debug,device_plugin=debug,cdmo_controller=debug,planner=debug";

/// The programs, built once for all scenarios of a process.
async fn binaries() -> anyhow::Result<&'static Binaries> {
    static BUILT: OnceCell<Binaries> = OnceCell::const_new();
    let build = || Binaries::build(Profile::Debug, Progress::Quiet);
    Ok(BUILT.get_or_try_init(build).await?)
}

pub(crate) async fn start(spec: &Spec, folder: &Path) -> anyhow::Result<System> {
    let binaries = binaries().await?;
    let (ours, foreign) = (Authority::new()?, Authority::new()?);
    let certify = |tls: Tls, folder: &Path, name: &str| {
        let authority = if tls == Tls::Foreign { &foreign } else { &ours };
        match tls {
            Tls::Missing => Ok(()),
            _ => authority.issue(folder, name, tls.validity()).map(drop),
        }
    };
    let controller_tls = folder.join("tls");
    certify(spec.controller_tls, &controller_tls, CONTROLLER_NAME)?;
    let webhook_tls = folder.join("webhook-tls");
    certify(Tls::Good, &webhook_tls, &webhook_host())?;
    let mut configs = BTreeMap::new();
    for node in &spec.nodes {
        let root = folder.join("nodes").join(&node.name);
        certify(node.tls, &root.join(AGENT_TLS), AGENT_NAME)?;
        configs.insert(node.name.as_str(), prepare(node, &root, &binaries.nvml)?);
    }
    let cluster = cluster(spec, folder, binaries).await?;
    let installation = Installation {
        controller_tls: &controller_tls,
        webhook_tls: &webhook_tls,
        log_level: LOG_LEVEL,
        controller_args: &spec.controller_args,
    };
    installation.install(cluster.store(), spec.behaviour)?;
    let nodes: Vec<Watched> = cluster
        .nodes()
        .map(|node| {
            let config = configs.get(node.name()).and_then(Option::as_ref);
            let driver = config.map(|config| Driver::open(config)).transpose()?;
            Ok(Watched {
                node: node.clone(),
                driver: driver.map(Arc::new),
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let watcher = Watcher::new(cluster.store().clone(), nodes.clone(), spec.may_fail);
    let stop = CancellationToken::new();
    let watching = tokio::spawn(watcher.clone().run(stop.clone()));
    Ok(System {
        cluster,
        folder: folder.to_owned(),
        nodes,
        watcher,
        stop,
        watching,
    })
}

/// Lays out a node's file system; returns its driver's configuration if it has a driver.
fn prepare(
    node: &NodeSpec,
    root: &Path,
    library: &Path,
) -> anyhow::Result<Option<std::path::PathBuf>> {
    let state = root.join("var/lib/cdmo");
    std::fs::create_dir_all(&state)?;
    if let Some(journal) = &node.journal {
        std::fs::write(state.join("journal"), journal)?;
    }
    if !node.library {
        return Ok(None);
    }
    let gpus = node
        .gpus
        .iter()
        .map(|gpus| gpus.parse())
        .collect::<Result<Vec<_>, _>>()?;
    let mut extra = node.driver.clone();
    if gpus.is_empty() {
        // Without any row there would be the default GPU.
        extra.push_str("\n[[gpu]]\ncount = 0\n");
    }
    let host = Host {
        gpus,
        latency: node.latency,
        extra,
    };
    let config = hardware::install(library, root, &node.name, &host);
    Ok(Some(config.with_context(|| {
        format!("node {} gets no driver", node.name)
    })?))
}

async fn cluster(spec: &Spec, folder: &Path, binaries: &Binaries) -> anyhow::Result<Cluster> {
    let nodes = spec.nodes.iter().map(|node| NodeConfig {
        labels: node.labels.clone(),
        ..NodeConfig::new(&node.name)
    });
    let config = ClusterConfig {
        dir: folder.to_owned(),
        behaviour: spec.behaviour,
        nodes: nodes.chain([NodeConfig::new(CONTROL_NODE)]).collect(),
        images: testbed::system::images(binaries),
    };
    let options = Options {
        tuning: spec.tuning.clone(),
        ..Options::default()
    };
    Ok(Cluster::start_with(config, options).await?)
}

/// How many devices of each of our resources a node's status shows; none are left out.
pub(crate) fn shown(node: &Value) -> BTreeMap<String, u64> {
    let allocatable = node["status"]["allocatable"].as_object();
    allocatable
        .into_iter()
        .flatten()
        .filter(|(name, _)| names::is_ours(name))
        .filter_map(|(name, count)| Some((name.clone(), count.as_str()?.parse().ok()?)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The names that each device that there really is may be shown under.
pub(crate) fn real(host: &HostState) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for gpu in &host.gpus {
        if !gpu.mig_mode {
            all.push(vec![mig::GPU_RESOURCE.to_owned()]);
        }
        let instances = gpu.instances.iter();
        all.extend(instances.map(|instance| names::of_instance(gpu, instance)));
    }
    all
}

/// Whether what is shown is what there is: every device under one of its names, and nothing else.
pub(crate) fn agree(mut shown: BTreeMap<String, u64>, mut real: Vec<Vec<String>>) -> bool {
    // Who has fewer names has less choice.
    real.sort_by_key(Vec::len);
    let found = real.iter().all(|names| {
        let name = names.iter().find(|name| shown.contains_key(*name));
        name.is_some_and(|name| take_one(&mut shown, name))
    });
    found && shown.is_empty()
}

fn take_one(shown: &mut BTreeMap<String, u64>, name: &str) -> bool {
    let Some(count) = shown.get_mut(name) else {
        return false;
    };
    *count -= 1;
    if *count == 0 {
        shown.remove(name);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_shown_under_one_of_its_names() {
        let both = || vec!["half".to_owned(), "3g".to_owned()];
        let real = || vec![both(), vec!["3g".to_owned()]];
        let shown = |counts: &[(&str, u64)]| {
            let counts = counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count));
            counts.collect::<BTreeMap<_, _>>()
        };
        assert!(agree(shown(&[("3g", 2)]), real()));
        assert!(agree(shown(&[("3g", 1), ("half", 1)]), real()));
        assert!(!agree(shown(&[("half", 2)]), real()));
        assert!(!agree(shown(&[("3g", 3)]), real()));
        assert!(!agree(shown(&[("3g", 1)]), real()));
    }
}

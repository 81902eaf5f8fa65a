//! `down`: ends what `up` started, with what came of it, and removes what it left. May be called at
//! any time and as often as one likes.

use std::time::Duration;

use anyhow::bail;
use futures::future::join_all;

use super::process::{self, Identity};
use super::record::Record;
use super::{keeper, leftovers, network, parts, place, tunables};

/// How long a part may take to end when it is asked to. Short, as nothing that it would still save
/// is kept.
const GRACE: Duration = Duration::from_secs(2);
/// How often containers are looked for: one may start another while it is being killed.
const ROUNDS: u32 = 5;

/// Ends the cluster. Whether there was one.
pub(super) async fn down() -> anyhow::Result<bool> {
    let record = Record::load()?;
    if record.is_none() && !network::exists() {
        return Ok(false);
    }
    let record = record.unwrap_or_default();
    let running: Vec<(&str, Identity)> = if record.is_of_this_boot() {
        let parts = record.parts.iter();
        parts
            .map(|part| (part.name.as_str(), part.process))
            .collect()
    } else {
        Vec::new()
    };
    // First what would start containers again, then the containers, then what serves them.
    let (kubelet, others): (Vec<_>, Vec<_>) = running
        .into_iter()
        .partition(|(name, _)| *name == parts::KUBELET);
    stop(&kubelet).await?;
    end_containers().await?;
    stop(&others).await?;
    network::remove().await;
    if record.is_of_this_boot() {
        tunables::restore(&record.tunables)?;
    }
    leftovers::remove(&record.made).await?;
    Ok(true)
}

async fn stop(parts: &[(&str, Identity)]) -> anyhow::Result<()> {
    let ending = parts
        .iter()
        .map(|(name, process)| keeper::end(name, *process, GRACE));
    if let Some(left) = join_all(ending).await.concat().first() {
        bail!(
            "process {} of the cluster does not end, not even when it is killed; look at \
             /proc/{}/stack, and restart the machine if need be",
            left.pid,
            left.pid
        );
    }
    Ok(())
}

/// Kills the containers and then the shims that hold them; those of other containerds have another
/// address on their command line.
async fn end_containers() -> anyhow::Result<()> {
    let address = place::containerd_socket();
    for _ in 0..ROUNDS {
        let shims: Vec<Identity> = process::all()
            .into_iter()
            .filter(|pid| is_shim(&process::command_line(*pid), &address))
            .filter_map(Identity::of)
            .collect();
        if shims.is_empty() {
            return Ok(());
        }
        process::end(&process::below(&shims), Duration::ZERO).await;
        process::end(&shims, Duration::ZERO).await;
    }
    bail!("containers of the cluster start again while they are killed; run this once more")
}

fn is_shim(command: &[String], address: &str) -> bool {
    let program = command.first().map(std::path::Path::new);
    program
        .and_then(|path| path.file_name()?.to_str())
        .is_some_and(|name| name.starts_with("containerd-shim"))
        && command.windows(2).any(|pair| pair == ["-address", address])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shims_of_our_own_containerd_are_ended() {
        let shim = |address: &str| {
            let program = "/usr/bin/containerd-shim-runc-v2";
            [
                program,
                "-namespace",
                "k8s.io",
                "-id",
                "1",
                "-address",
                address,
            ]
            .map(str::to_owned)
        };
        assert!(is_shim(&shim("/ours.sock"), "/ours.sock"));
        assert!(!is_shim(
            &shim("/run/containerd/containerd.sock"),
            "/ours.sock"
        ));
        let grep = ["grep", "-address", "/ours.sock"].map(str::to_owned);
        assert!(!is_shim(&grep, "/ours.sock"));
    }
}

//! A network namespace of the cluster's own: its ports, its packet filter rules and its kernel
//! settings meet nobody else's, and all of them go with it.

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::process::PATH;
use crate::program::said;

/// The namespace's name, as `ip netns` knows it.
const NAME: &str = "cdmo-cluster";
/// The two ends of the cable between machine and namespace.
const OUTSIDE: &str = "cdmo-host";
const INSIDE: &str = "cdmo-node";

/// All of the cluster's addresses. Reserved for tests of networks (RFC 2544), so that neither an
/// office's network nor a VPN uses them.
const RANGE: &str = "198.18.0.0/15";
/// Pods; all of it is the one node's.
pub(super) const PODS: &str = "198.18.0.0/24";
/// The node, and what runs on it: API server, kubelet.
pub(super) const NODE: &str = "198.18.1.1";
/// This machine, as seen from the namespace.
const HOST: &str = "198.18.1.2";
/// Services.
pub(super) const SERVICES: &str = "198.19.0.0/24";
/// The API server's own Service.
pub(super) const API_SERVICE: &str = "198.19.0.1";
/// The API server's port.
pub(super) const API_PORT: u16 = 6443;

/// Where the API server answers.
pub(super) fn api() -> String {
    format!("https://{NODE}:{API_PORT}")
}

/// A command line that runs in the namespace, and in nothing else of its own.
pub(super) fn inside(command: &[String]) -> Vec<String> {
    let mut whole = vec![
        "nsenter".to_owned(),
        format!("--net=/run/netns/{NAME}"),
        "--".to_owned(),
    ];
    whole.extend_from_slice(command);
    whole
}

/// Says so if this machine uses the cluster's addresses for something else.
pub(super) async fn check() -> anyhow::Result<()> {
    let addresses = ip(&["-4", "-oneline", "address", "show", "to", RANGE]).await?;
    let routes = ip(&["-4", "route", "show", "table", "all", "root", RANGE]).await?;
    let taken = addresses.lines().chain(routes.lines()).next();
    if let Some(taken) = taken {
        bail!(
            "the addresses {RANGE}, which the cluster uses, are in use on this machine: \"{}\"; \
             remove that interface or route first",
            taken.trim()
        );
    }
    Ok(())
}

/// Makes the namespace and the cable.
pub(super) async fn make() -> anyhow::Result<()> {
    let steps: [&[&str]; 9] = [
        &["netns", "add", NAME],
        &[
            "link", "add", OUTSIDE, "type", "veth", "peer", "name", INSIDE, "netns", NAME,
        ],
        &["-n", NAME, "link", "set", "lo", "up"],
        &[
            "-n",
            NAME,
            "address",
            "add",
            &format!("{NODE}/24"),
            "dev",
            INSIDE,
        ],
        &["-n", NAME, "link", "set", INSIDE, "up"],
        &["address", "add", &format!("{HOST}/24"), "dev", OUTSIDE],
        &["link", "set", OUTSIDE, "up"],
        &["route", "add", PODS, "via", NODE],
        &["route", "add", SERVICES, "via", NODE],
    ];
    for step in steps {
        ip(step)
            .await
            .context("failed to make the cluster's network")?;
    }
    // Pods and Services are reached through the node.
    let forward = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"].map(str::to_owned);
    let forward = inside(&forward);
    let mut command = Command::new(&forward[0]);
    command.args(&forward[1..]).env("PATH", PATH);
    said(command)
        .await
        .context("failed to let the cluster's network pass packets on")?;
    Ok(())
}

/// Removes both; nothing is said of what is not there.
pub(super) async fn remove() {
    let _ = ip(&["link", "delete", OUTSIDE]).await;
    let _ = ip(&["netns", "delete", NAME]).await;
}

/// Whether the namespace is there.
pub(super) fn exists() -> bool {
    std::path::Path::new("/run/netns").join(NAME).exists()
}

async fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments).env("PATH", PATH);
    said(command).await
}

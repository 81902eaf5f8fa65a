//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

use crate::exit;

/// Gives pods the MIG slices they ask for.
///
/// Watches pods, nodes and agents, plans which GPU is cut how, and lets the nodes' agents do it. One
/// controller runs in a cluster.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = exit::HELP)]
pub struct Args {
    /// How to reach the cluster [default: as a pod in it].
    #[arg(long, env = "CDMO_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The namespace of the controller's Lease and of the agents.
    #[arg(
        long,
        env = "CDMO_NAMESPACE",
        value_name = "NAME",
        default_value = "cdmo-operator"
    )]
    pub namespace: String,

    /// Labels of the agents' pods.
    #[arg(
        long,
        env = "CDMO_AGENT_SELECTOR",
        value_name = "SELECTOR",
        default_value = "app.kubernetes.io/name=mig-node-agent"
    )]
    pub agent_selector: String,

    /// Name of the container port where agents listen; 7443 if their pods name none.
    #[arg(
        long,
        env = "CDMO_AGENT_PORT_NAME",
        value_name = "NAME",
        default_value = "grpc"
    )]
    pub agent_port_name: String,

    /// Name of this controller in logs, in its Lease and to agents [default: the host name].
    #[arg(long, env = "CDMO_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// Certificates of the authority that issued the agents' certificates, PEM.
    #[arg(
        long,
        env = "CDMO_TLS_CA",
        value_name = "FILE",
        default_value = "/etc/cdmo/tls/ca.crt"
    )]
    pub tls_ca: PathBuf,

    /// The controller's own certificate, PEM.
    #[arg(
        long,
        env = "CDMO_TLS_CERT",
        value_name = "FILE",
        default_value = "/etc/cdmo/tls/tls.crt"
    )]
    pub tls_cert: PathBuf,

    /// Private key of the controller's certificate, PEM.
    #[arg(
        long,
        env = "CDMO_TLS_KEY",
        value_name = "FILE",
        default_value = "/etc/cdmo/tls/tls.key"
    )]
    pub tls_key: PathBuf,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(
        long,
        env = "CDMO_HTTP_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:7445"
    )]
    pub http_listen: SocketAddr,

    /// How long pods that the scheduler has already sent to a device may take to show up, before
    /// the device is given up.
    #[arg(long, env = "CDMO_SETTLE_MS", value_name = "MS", default_value_t = 100)]
    pub settle_ms: u64,

    /// Leave it to the kubelet to write new devices into node status, every ten seconds. For
    /// comparisons.
    #[arg(long, env = "CDMO_NO_STATUS_PATCH")]
    pub no_status_patch: bool,

    /// Do not annotate pods when their devices are ready, which would end the scheduler's
    /// back-off. For comparisons.
    #[arg(long, env = "CDMO_NO_POD_ANNOTATION")]
    pub no_pod_annotation: bool,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the text of --help"
    )]
    pub log: serving::LogArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn nothing_has_to_be_said_in_a_cluster() {
        let args = Args::parse_from(["cdmo-controller"]);
        assert!(args.kubeconfig.is_none() && !args.no_status_patch);
        assert_eq!(args.agent_port_name, "grpc");
    }
}

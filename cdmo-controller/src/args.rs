//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use crate::{certificates, cleanup, exit, webhook};

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

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the text of --help"
    )]
    pub tls: CertificateArgs,

    /// Where /livez, /readyz, /metrics and /status.json are served.
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

    /// How long a controller that another one replaced stays, without acting, before it ends. If it
    /// ended at once, it would be started again and take over in its turn.
    #[arg(
        long,
        env = "CDMO_STANDBY_SECONDS",
        value_name = "S",
        default_value_t = 50
    )]
    pub standby_seconds: u64,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the text of --help"
    )]
    pub without: Without,

    /// What becomes of idle instances. Offered ones are taken by whatever pod the scheduler sends; parked ones
    /// are offered again to the pod for which a plan chooses them, where the cluster loses least by it.
    #[arg(
        long,
        env = "CDMO_IDLE_INSTANCES",
        value_name = "offered|parked",
        value_enum,
        default_value_t
    )]
    pub idle_instances: Idle,

    /// After so long without room for a pod, slices are kept free for it until it can start, on three
    /// GPUs of a hundred at most, or as many as one pod asks for, which then has them for a smaller share of
    /// the time. 0: never. Nothing is kept free where node status is not written.
    #[arg(
        long,
        env = "CDMO_KEEP_FREE_AFTER_SECONDS",
        value_name = "S",
        default_value_t = 1_800
    )]
    pub keep_free_after_seconds: u32,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the text of --help"
    )]
    pub log: serving::LogArgs,

    /// What to do instead of controlling.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Args {
    /// After how long slices are kept free for a pod; never if none. Where node status is not written the scheduler would
    /// be shown what is kept free, and only we would not use it.
    pub fn keep_free_after(&self) -> Option<Duration> {
        let after = Duration::from_secs(self.keep_free_after_seconds.into());
        Some(after).filter(|after| !after.is_zero() && !self.without.no_status_patch)
    }
}

/// What the controller does not do.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Without {
    /// Leave it to the kubelet to write new devices into node status, every ten seconds. For
    /// comparisons.
    #[arg(long, env = "CDMO_NO_STATUS_PATCH")]
    pub no_status_patch: bool,

    /// Do not annotate pods when their devices are ready, which would end the scheduler's
    /// back-off. For comparisons.
    #[arg(long, env = "CDMO_NO_POD_ANNOTATION")]
    pub no_pod_annotation: bool,

    /// Do not tell pods that have to wait the names of the pods that are in their way, which may be
    /// those of other namespaces.
    #[arg(long, env = "CDMO_NO_HOLDER_NAMES")]
    pub no_holder_names: bool,

    /// Do not turn MIG mode on where it is off: such GPUs are offered whole, as nvidia.com/gpu.
    #[arg(long, env = "CDMO_NO_MIG_MODE")]
    pub no_mig_mode: bool,

    /// Place by the trained table whatever pods come. Without this option, the pods that came and went are
    /// replayed on it and on the rules of others, and one of these decides once it surely accepts
    /// more of the slices that they ask for.
    #[arg(long, env = "CDMO_NO_PLACEMENT_PORTFOLIO")]
    pub no_placement_portfolio: bool,
}

/// What becomes of idle instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Idle {
    /// They stay offered.
    #[default]
    Offered,
    /// They are taken off offer until a plan chooses them.
    Parked,
}

impl From<Idle> for planner::Idle {
    fn from(idle: Idle) -> Self {
        match idle {
            Idle::Offered => Self::Offered,
            Idle::Parked => Self::Parked,
        }
    }
}

/// What controller and agents know each other by.
#[derive(Clone, Debug, clap::Args)]
pub struct CertificateArgs {
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

    /// Make all certificates, keep them in Secrets, renew them, and write the controller's own
    /// into the three files [default: take the files as somebody else provides them].
    #[arg(long, env = "CDMO_MAKE_CERTIFICATES")]
    pub make_certificates: bool,

    /// The Secret with the authority and the controller's certificate, in the controller's namespace.
    #[arg(
        long,
        env = "CDMO_CONTROLLER_SECRET",
        value_name = "NAME",
        default_value = certificates::CONTROLLER_SECRET
    )]
    pub controller_secret: String,

    /// The Secret with the certificate that agents mount, in the controller's namespace.
    #[arg(
        long,
        env = "CDMO_AGENT_SECRET",
        value_name = "NAME",
        default_value = certificates::AGENT_SECRET
    )]
    pub agent_secret: String,

    /// The configuration by which API servers know the webhook [default: there is no webhook]. With it
    /// the webhook's certificate is made, too, and its authority is kept in the configuration.
    #[arg(
        long,
        env = "CDMO_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        requires = "make_certificates"
    )]
    pub webhook_configuration: Option<String>,

    /// The Secret with the certificate that the webhook mounts, in the controller's namespace.
    #[arg(
        long,
        env = "CDMO_WEBHOOK_SECRET",
        value_name = "NAME",
        default_value = certificates::WEBHOOK_SECRET
    )]
    pub webhook_secret: String,

    /// The webhook's Service, in the controller's namespace.
    #[arg(
        long,
        env = "CDMO_WEBHOOK_SERVICE",
        value_name = "NAME",
        default_value = certificates::WEBHOOK_SERVICE
    )]
    pub webhook_service: String,
}

impl CertificateArgs {
    /// The controller's own files.
    pub fn files(&self) -> mtls::TlsFiles {
        mtls::TlsFiles {
            ca: self.tls_ca.clone(),
            cert: self.tls_cert.clone(),
            key: self.tls_key.clone(),
        }
    }

    /// The Secrets, which are in this namespace.
    pub fn secrets(&self, namespace: &str) -> certificates::keeper::Names {
        certificates::keeper::Names {
            namespace: namespace.to_owned(),
            controller: self.controller_secret.clone(),
            agent: self.agent_secret.clone(),
            webhook: self.webhook_configuration.clone().map(|configuration| {
                certificates::keeper::WebhookNames {
                    secret: self.webhook_secret.clone(),
                    service: self.webhook_service.clone(),
                    configuration,
                }
            }),
        }
    }
}

/// What to do instead of controlling.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Takes controller and agents out of the cluster, and what they wrote on nodes.
    ///
    /// Meant to run before the chart is uninstalled. Pods that run on slices run on; instances stay
    /// on the GPUs.
    CleanUp(cleanup::Options),

    /// Serves the webhook that turns fractions of a GPU into slices.
    ///
    /// Needs no access to the cluster, and serves as soon as its certificate is there. Any number of
    /// them may run.
    Webhook(webhook::Options),
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
    fn cleaning_up_is_told_the_cluster_like_everything_else() {
        let args = Args::parse_from(["cdmo-controller", "--namespace=gpus", "clean-up"]);
        assert_eq!(args.namespace, "gpus");
        assert!(matches!(args.command, Some(Command::CleanUp(_))));
    }

    #[test]
    fn a_webhook_is_told_its_namespace_and_its_certificate_like_everything_else() {
        let args = Args::parse_from([
            "cdmo-controller",
            "--namespace=gpus",
            "--tls-cert=/a",
            "webhook",
            "--no-label",
            "--scheduling-gate=g",
        ]);
        let Some(Command::Webhook(options)) = args.command else {
            panic!("no webhook");
        };
        let does = options.admission(args.namespace);
        assert_eq!(does.own_namespace, "gpus");
        assert!(!does.label && does.annotation);
        assert_eq!(does.gate.as_deref(), Some("g"));
        assert_eq!(args.tls.files().cert, PathBuf::from("/a"));
    }

    #[test]
    fn slices_are_kept_free_unless_the_scheduler_would_be_shown_them() {
        let after = |args: &[&str]| {
            let args = ["cdmo-controller"].iter().chain(args);
            Args::parse_from(args).keep_free_after()
        };
        assert_eq!(after(&[]), Some(Duration::from_mins(30)));
        assert_eq!(after(&["--keep-free-after-seconds=0"]), None);
        assert_eq!(after(&["--no-status-patch"]), None);
    }

    #[test]
    fn nothing_has_to_be_said_in_a_cluster() {
        let args = Args::parse_from(["cdmo-controller"]);
        assert!(args.kubeconfig.is_none() && !args.without.no_status_patch);
        assert_eq!(args.agent_port_name, "grpc");
    }
}

//! The command line.

use std::path::PathBuf;

use clap::{Args as Arguments, Parser, Subcommand, ValueEnum};

/// Looks after MIG slices that are made on demand.
#[derive(Clone, Debug, Parser)]
#[command(name = "kubectl cdmo", bin_name = "kubectl cdmo", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Shows every GPU's slices: who holds what since when, what is idle, what is wrong, and which
    /// pods wait and why.
    Status(Options),
}

/// What is shown, of which cluster, and how.
#[derive(Clone, Debug, Arguments)]
pub struct Options {
    /// The namespace of the controller.
    #[arg(
        short,
        long,
        env = "CDMO_NAMESPACE",
        value_name = "NAME",
        default_value = "cdmo-operator"
    )]
    pub namespace: String,

    /// Labels of the controller's pod.
    #[arg(
        long,
        value_name = "SELECTOR",
        default_value = "app.kubernetes.io/name=cdmo-controller"
    )]
    pub selector: String,

    /// The kubeconfig [default: the files in KUBECONFIG, or ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context in it [default: its current one].
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Only this node; may be given several times.
    #[arg(long = "node", value_name = "NAME")]
    pub nodes: Vec<String>,

    /// How it is written. JSON is the controller's own report, see docs/status.md.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,

    /// Keep showing it as it changes, until Ctrl-C.
    #[arg(short, long)]
    pub watch: bool,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Pictures and tables.
    Text,
    /// The controller's report; with --watch one line each time.
    Json,
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
    fn nothing_has_to_be_said_but_what_is_wanted() {
        let Command::Status(options) = Args::parse_from(["kubectl-cdmo", "status"]).command;
        assert_eq!(options.namespace, "cdmo-operator");
        assert_eq!(options.output, Output::Text);
        assert!(!options.watch && options.nodes.is_empty() && options.kubeconfig.is_none());
    }

    #[test]
    fn short_flags_are_those_of_kubectl() {
        let line = "kubectl-cdmo status -n gpus -o json -w --node a --node b";
        let Command::Status(options) = Args::parse_from(line.split(' ')).command;
        assert_eq!(options.namespace, "gpus");
        assert!(options.watch && options.output == Output::Json);
        assert_eq!(options.nodes, ["a", "b"]);
    }
}

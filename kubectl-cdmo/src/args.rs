//! The command line.

use std::path::PathBuf;

use crate::simulate::options::Simulate;
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
    /// Says how things stand with one pod: what it holds, what is being done for it, or why it waits.
    Explain(Explain),
    /// Says what would become of pods if they were created now: would they fit, where, and giving up
    /// what.
    ///
    /// Nothing is created. The pods are looked at behind all that wait already. CPU, memory and
    /// constraints of nodes are held against each of them alone. Ends with 3 if any would not fit.
    WhatIf(WhatIf),
    /// Says what GPUs that are not bought yet could carry: how many pods find a place at which load,
    /// or how long they wait. Needs no cluster.
    ///
    /// Pods come at random from a mix of profiles, or from a trace; our way to choose GPUs is shown
    /// beside others. docs/simulate.md says what is assumed and what the columns mean.
    Simulate(Box<Simulate>),
}

/// Which cluster, and who is asked there.
#[derive(Clone, Debug, Arguments)]
pub struct Cluster {
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
}

/// Which pod.
#[derive(Clone, Debug, Arguments)]
pub struct Explain {
    /// The pod; without a namespace it is looked for in that of the context.
    #[arg(value_name = "[NAMESPACE/]POD")]
    pub pod: String,

    /// The cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Which pods.
#[derive(Clone, Debug, Arguments)]
pub struct WhatIf {
    /// Pods, Deployments, ReplicaSets, StatefulSets, Jobs and CronJobs, as for kubectl apply; `-` is
    /// standard input.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<String>,

    /// How it is written. JSON is the controller's own answer, see docs/status.md.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,

    /// The cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// What is shown, of which cluster, and how.
#[derive(Clone, Debug, Arguments)]
pub struct Options {
    /// The cluster.
    #[command(flatten)]
    pub cluster: Cluster,

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

/// What is wrong with a command line, in one line: clap's own words without the page around them.
pub fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let said =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let mut sentence = String::new();
    for line in said.filter(|line| !line.is_empty()) {
        let gap = match (sentence.is_empty(), line.strip_prefix("tip: ")) {
            (true, _) => "",
            (false, Some(_)) => "; ",
            (false, None) => " ",
        };
        sentence.push_str(gap);
        sentence.push_str(line.strip_prefix("tip: ").unwrap_or(line));
    }
    sentence
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn status(line: &str) -> Options {
        match Args::parse_from(line.split(' ')).command {
            Command::Status(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn nothing_has_to_be_said_but_what_is_wanted() {
        let options = status("kubectl-cdmo status");
        assert_eq!(options.cluster.namespace, "cdmo-operator");
        assert_eq!(options.output, Output::Text);
        assert!(!options.watch && options.nodes.is_empty());
        assert!(options.cluster.kubeconfig.is_none());
    }

    #[test]
    fn a_typing_error_is_one_line_that_says_what_was_meant() {
        let of = |line: &str| {
            let error = Args::try_parse_from(line.split(' ')).unwrap_err();
            sentence(&error)
        };
        let typo = of("kubectl-cdmo simulate --gpu A30:4");
        assert!(
            typo.contains("'--gpus'") && typo.lines().count() == 1,
            "{typo}"
        );
        let missing = of("kubectl-cdmo simulate");
        assert!(
            missing.contains("--gpus <MODEL:COUNT>") && missing.lines().count() == 1,
            "{missing}"
        );
        let value = of("kubectl-cdmo simulate --gpus A30:4 --load -1");
        assert!(value.lines().count() == 1, "{value}");
    }

    #[test]
    fn short_flags_are_those_of_kubectl() {
        let options = status("kubectl-cdmo status -n gpus -o json -w --node a --node b");
        assert_eq!(options.cluster.namespace, "gpus");
        assert!(options.watch && options.output == Output::Json);
        assert_eq!(options.nodes, ["a", "b"]);
    }
}

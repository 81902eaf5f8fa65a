//! What the demo can be told.

use std::time::Duration;

use clap::{Args, ValueEnum};
use simcluster::behaviour::Behaviour;
use testbed::binaries::repository;
use testbed::hardware::{Gpus, Host, Latency};

/// Watch MIG instances come and go for pods that ask for them, on simulated GPUs.
///
/// Builds what it needs, starts a Kubernetes cluster inside this program with simulated nodes and
/// GPUs, runs the real agents and the real controller as processes, applies the pods of a file, and
/// shows each pod's way from Pending to Running and the map of the GPUs. Needs no GPU, no cluster
/// and no root.
///
/// Exits with 0 if every pod ran with exactly the devices it asked for, 1 if not, 2 if the options
/// or a file cannot be used, and 130 after Ctrl-C. It leaves nothing behind, whenever it ends.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// Pods to run; may be repeated, - is standard input. A pod runs until the demo ends, or for the
    /// time in its annotation simcluster.cdmo/run-for, for example "5s" [default:
    /// examples/clearml-queues.yaml, and examples/h100-queues.yaml where a node has H100-80GB]
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<String>,

    /// The GPUs of a node, for example A100-40GB:8; repeat it for nodes that differ, and separate by
    /// commas what one node has of several kinds.
    #[arg(
        long,
        value_name = "BOARD:COUNT",
        default_values = ["A100-40GB:4", "H100-80GB:2"],
        value_parser = node_gpus,
    )]
    pub(crate) gpus: Vec<NodeGpus>,

    /// How many nodes there are; each --gpus is used in turn [default: one for each --gpus]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) nodes: Option<u16>,

    /// Seconds that the simulated driver takes to create and to destroy a GPU instance; "real" is
    /// 0.6 to create and 1.0 to destroy.
    #[arg(long, value_name = "SECONDS", default_value = "real", value_parser = latency)]
    pub(crate) nvml_latency: Latency,

    /// The Kubernetes that scheduler and kubelets behave as.
    #[arg(long, value_name = "VERSION", value_enum, default_value = "1.33")]
    pub(crate) kubernetes: Version,

    /// Stay up afterwards, for kubectl, until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,

    /// Print one JSON object for each pod on standard output, and everything for people on standard
    /// error.
    #[arg(long)]
    pub(crate) json: bool,

    /// Give up when no pod has come any further for this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

const EXAMPLES: &str = "\
Examples:
  cargo demo                                     the pods of three ClearML queues on two nodes
  cargo demo --nvml-latency 0                    the same without waiting for hardware
  cargo demo --nodes 3 --gpus A100-40GB:8        three nodes with eight GPUs each
  cargo demo --gpus A30:2,H100-80GB:1 -f my.yaml your own pods on a node with two kinds of GPU
  cargo demo --keep                              look around with kubectl afterwards
  cargo demo --json | jq .pending_to_running_ms  for programs";

/// The GPUs of one node.
#[derive(Debug, Clone)]
pub(crate) struct NodeGpus(Vec<Gpus>);

fn node_gpus(text: &str) -> Result<NodeGpus, testbed::hardware::ParseGpusError> {
    text.split(',')
        .map(|part| part.trim().parse())
        .collect::<Result<_, _>>()
        .map(NodeGpus)
}

fn latency(text: &str) -> Result<Latency, String> {
    match text {
        "real" => return Ok(Latency::REAL),
        "off" => return Ok(Latency::NONE),
        _ => {}
    }
    let seconds: f64 = text
        .parse()
        .ok()
        .filter(|seconds| (0.0..=60.0).contains(seconds))
        .ok_or("give seconds from 0 to 60, for example 0.5, or \"real\"")?;
    let milliseconds = Duration::from_secs_f64(seconds).as_millis();
    let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
    Ok(Latency {
        create_ms: milliseconds,
        destroy_ms: milliseconds,
        ..Latency::NONE
    })
}

/// A generation of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    /// No GetAllocatableResources, back-off cut short by an update of the pod.
    #[value(name = "1.20")]
    V1_20,
    /// Back-off is always waited out.
    #[value(name = "1.28")]
    V1_28,
    /// An idle scheduler takes pods out of back-off.
    #[value(name = "1.33")]
    V1_33,
}

impl From<Version> for Behaviour {
    fn from(version: Version) -> Self {
        match version {
            Version::V1_20 => Self::V1_20,
            Version::V1_28 => Self::V1_28,
            Version::V1_33 => Self::V1_33,
        }
    }
}

impl Options {
    /// The files to read.
    pub(crate) fn files(&self) -> Vec<String> {
        if !self.files.is_empty() {
            return self.files.clone();
        }
        let mut names = vec!["clearml-queues.yaml"];
        let boards = self.hosts().into_iter().flat_map(|(_, host)| host.gpus);
        if boards
            .into_iter()
            .any(|gpus| gpus.board == "H100-80GB-HBM3")
        {
            names.push("h100-queues.yaml");
        }
        let examples = repository().join("examples");
        names
            .into_iter()
            .map(|name| examples.join(name).display().to_string())
            .collect()
    }

    /// The simulated hosts, by node name.
    pub(crate) fn hosts(&self) -> Vec<(String, Host)> {
        let count = self.nodes.map_or(self.gpus.len(), usize::from);
        let hosts = self
            .gpus
            .iter()
            .cycle()
            .take(count)
            .zip(0..)
            .map(|(gpus, number)| {
                let host = Host {
                    gpus: gpus.0.clone(),
                    latency: self.nvml_latency,
                    extra: String::new(),
                };
                (node_name(number), host)
            });
        hosts.collect()
    }
}

/// `a`, `b` ... `z`, then `n26` and so on.
fn node_name(number: u32) -> String {
    char::from_digit(number + 10, 36).map_or_else(|| format!("n{number}"), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        options: Options,
    }

    fn hosts(arguments: &[&str]) -> Vec<(String, String)> {
        let only = Only::parse_from([&["demo"], arguments].concat());
        let hosts = only.options.hosts();
        let join = |gpus: &[Gpus]| {
            gpus.iter()
                .map(Gpus::to_string)
                .collect::<Vec<_>>()
                .join("+")
        };
        hosts
            .into_iter()
            .map(|(name, host)| (name, join(&host.gpus)))
            .collect()
    }

    fn pair(name: &str, gpus: &str) -> (String, String) {
        (name.to_owned(), gpus.to_owned())
    }

    #[test]
    fn gpus_are_dealt_out_to_the_nodes_in_turn() {
        let (a100, h100) = ("A100-SXM4-40GB:4", "H100-80GB-HBM3:2");
        assert_eq!(hosts(&[]), [pair("a", a100), pair("b", h100)]);
        assert_eq!(
            hosts(&["--nodes", "3"]),
            [pair("a", a100), pair("b", h100), pair("c", a100)]
        );
        let eight = "A100-SXM4-40GB:8";
        assert_eq!(
            hosts(&["--nodes", "2", "--gpus", "A100-40GB:8"]),
            [pair("a", eight), pair("b", eight)]
        );
        assert_eq!(
            hosts(&["--gpus", "A30:2,H100-80GB:1"]),
            [pair("a", "A30:2+H100-80GB-HBM3:1")]
        );
    }

    #[test]
    fn examples_go_with_the_boards() {
        let files = |arguments: &[&str]| {
            Only::parse_from([&["demo"], arguments].concat())
                .options
                .files()
        };
        assert_eq!(files(&[]).len(), 2);
        assert_eq!(files(&["--gpus", "A100-40GB:8"]).len(), 1);
        assert_eq!(files(&["-f", "a.yaml", "-f", "-"]), ["a.yaml", "-"]);
    }

    #[test]
    fn latency_is_seconds_or_a_word() {
        assert_eq!(latency("0"), Ok(Latency::NONE));
        assert_eq!(latency("real"), Ok(Latency::REAL));
        assert_eq!(
            latency("0.25"),
            Ok(Latency {
                create_ms: 250,
                destroy_ms: 250,
                ..Latency::NONE
            })
        );
        assert!(latency("-1").is_err() && latency("soon").is_err());
    }

    #[test]
    fn the_26th_node_is_z() {
        assert_eq!(node_name(25), "z");
        assert_eq!(node_name(26), "n26");
    }
}

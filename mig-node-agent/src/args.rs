//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use device_plugin::DeviceListStrategy;

use crate::exit;

/// Partitions this node's GPUs on a controller's orders and hands them to the kubelet.
///
/// One agent runs on each node. It opens NVML, adopts the GPU instances that exist, serves the
/// kubelet's device-plugin interface, and waits for a controller to connect over mutual TLS.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = exit::HELP, args_override_self = true)]
pub struct Args {
    /// Name of the Kubernetes node, for logs.
    #[arg(long, env = "CDMO_NODE_NAME", value_name = "NAME", default_value = "")]
    pub node_name: String,

    /// Where the controller connects.
    #[arg(
        long,
        env = "CDMO_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:7443"
    )]
    pub listen: SocketAddr,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(
        long,
        env = "CDMO_HTTP_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:7444"
    )]
    pub http_listen: SocketAddr,

    /// The kubelet's directory, with device-plugins/ and pod-resources/ in it.
    #[arg(
        long,
        env = "CDMO_KUBELET_DIR",
        value_name = "DIR",
        default_value = "/var/lib/kubelet"
    )]
    pub kubelet_dir: PathBuf,

    /// Where the agent keeps its journal. It must outlive the agent.
    #[arg(
        long,
        env = "CDMO_STATE_DIR",
        value_name = "DIR",
        default_value = "/var/lib/cdmo"
    )]
    pub state_dir: PathBuf,

    /// The NVML library [default: libnvidia-ml.so.1 where the loader finds it].
    #[arg(long, env = "CDMO_NVML_LIBRARY", value_name = "FILE")]
    pub nvml_library: Option<PathBuf>,

    /// Root directory of the host or of a driver container, below which the NVML library is looked
    /// for if no file is named; for where no container runtime puts it before the loader.
    #[arg(long, env = "CDMO_DRIVER_ROOT", value_name = "DIR")]
    pub driver_root: Option<PathBuf>,

    /// Certificates of the authority that issued the controller's certificate, PEM.
    #[arg(
        long,
        env = "CDMO_TLS_CA",
        value_name = "FILE",
        default_value = "/etc/cdmo/tls/ca.crt"
    )]
    pub tls_ca: PathBuf,

    /// The agent's own certificate, PEM.
    #[arg(
        long,
        env = "CDMO_TLS_CERT",
        value_name = "FILE",
        default_value = "/etc/cdmo/tls/tls.crt"
    )]
    pub tls_cert: PathBuf,

    /// Private key of the agent's certificate, PEM.
    #[arg(
        long,
        env = "CDMO_TLS_KEY",
        value_name = "FILE",
        default_value = "/etc/cdmo/tls/tls.key"
    )]
    pub tls_key: PathBuf,

    /// How a container learns which devices are its own; several are separated by commas. The names
    /// are those of NVIDIA's device plugin:
    /// volume-mounts (mounts below /var/run/nvidia-container-devices, which a container cannot forge),
    /// envvar (the variable `NVIDIA_VISIBLE_DEVICES`),
    /// cdi-cri (CDI names to the kubelet; from Kubernetes 1.29, 1.28 with a feature gate),
    /// cdi-annotations (CDI names as annotations of the container).
    #[arg(
        long,
        env = "CDMO_DEVICE_LIST_STRATEGY",
        value_name = "STRATEGIES",
        default_value = "volume-mounts"
    )]
    pub device_list_strategy: Strategies,

    /// Where CDI spec files of devices are kept for the container runtime, if a strategy is of CDI.
    #[arg(
        long,
        env = "CDMO_CDI_DIR",
        value_name = "DIR",
        default_value = "/var/run/cdi"
    )]
    pub cdi_dir: PathBuf,

    /// Whether device nodes are passed to the container runtime as well.
    #[arg(
        long,
        env = "CDMO_PASS_DEVICE_SPECS",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub pass_device_specs: bool,

    /// The host's /proc.
    #[arg(
        long,
        env = "CDMO_PROC_DIR",
        value_name = "DIR",
        default_value = "/proc"
    )]
    pub proc_dir: PathBuf,

    /// Where the host's root is mounted; device nodes are looked for below it.
    #[arg(long, env = "CDMO_HOST_ROOT", value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the text of --help"
    )]
    pub log: serving::LogArgs,
}

/// What `--device-list-strategy` names: at least one, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategies(pub Vec<DeviceListStrategy>);

impl Strategies {
    /// Whether devices need CDI spec files.
    pub fn need_cdi(&self) -> bool {
        let cdi = [
            DeviceListStrategy::CdiCri,
            DeviceListStrategy::CdiAnnotations,
        ];
        self.0.iter().any(|strategy| cdi.contains(strategy))
    }
}

impl FromStr for Strategies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut strategies = Vec::new();
        for name in text.split(',').map(str::trim) {
            let strategy = match name {
                "volume-mounts" => DeviceListStrategy::VolumeMounts,
                "envvar" => DeviceListStrategy::Envvar,
                "cdi-cri" => DeviceListStrategy::CdiCri,
                "cdi-annotations" => DeviceListStrategy::CdiAnnotations,
                other => {
                    return Err(format!(
                        "{other:?} is no strategy; write one or more of volume-mounts, envvar, cdi-cri and cdi-annotations, separated by commas"
                    ));
                }
            };
            if !strategies.contains(&strategy) {
                strategies.push(strategy);
            }
        }
        Ok(Self(strategies))
    }
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
    fn device_specs_can_be_switched_off() {
        let args = Args::parse_from(["agent", "--pass-device-specs", "false"]);
        assert!(!args.pass_device_specs);
    }

    #[test]
    fn several_device_list_strategies_are_taken_as_nvidias_plugin_takes_them() {
        let args = Args::parse_from(["agent", "--device-list-strategy=volume-mounts,cdi-cri"]);
        assert_eq!(
            args.device_list_strategy.0,
            [DeviceListStrategy::VolumeMounts, DeviceListStrategy::CdiCri]
        );
        assert!(args.device_list_strategy.need_cdi());
        assert!(!Args::parse_from(["agent"]).device_list_strategy.need_cdi());
    }

    #[test]
    fn an_unknown_device_list_strategy_is_told_which_there_are() {
        for wrong in ["cdi", "", "volume-mounts,", "ENVVAR"] {
            let error = wrong.parse::<Strategies>().unwrap_err();
            assert!(error.contains("cdi-annotations"), "{error}");
        }
    }
}

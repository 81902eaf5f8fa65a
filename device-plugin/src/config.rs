//! What the library is told at start, with every duration it ever waits.

use std::path::PathBuf;
use std::time::Duration;

/// Where the kubelet is, and how devices are handed to containers.
#[derive(Clone, Debug)]
pub struct Config {
    /// The kubelet's device-plugin directory, usually `/var/lib/kubelet/device-plugins`.
    pub plugin_dir: PathBuf,
    /// The kubelet's podresources socket, usually `/var/lib/kubelet/pod-resources/kubelet.sock`.
    pub pod_resources_socket: PathBuf,
    /// How a container is told which devices are its own; all of these at once.
    pub strategies: Vec<DeviceListStrategy>,
    /// Whether [`Device::specs`](crate::Device::specs) are passed to the container runtime.
    pub pass_device_specs: bool,
    /// First part of the file names of our sockets. Dead sockets that begin with it are removed at
    /// start, so no other plugin may use it.
    pub socket_prefix: String,
    /// Other plugins for the same devices, by the first part of their sockets' file names. While one of
    /// them listens, nothing is registered: two plugins would give one device out twice.
    pub yields_to: Vec<String>,
    /// Every duration that the library waits.
    pub timing: Timing,
}

impl Config {
    /// The kubelet's directories below `kubelet_dir` (usually `/var/lib/kubelet`), volume mounts,
    /// device specs passed, NVIDIA's plugin waited for.
    pub fn new(kubelet_dir: impl Into<PathBuf>) -> Self {
        let kubelet_dir = kubelet_dir.into();
        Self {
            plugin_dir: kubelet_dir.join("device-plugins"),
            pod_resources_socket: kubelet_dir.join("pod-resources").join("kubelet.sock"),
            strategies: vec![DeviceListStrategy::VolumeMounts],
            pass_device_specs: true,
            socket_prefix: "cdmo".to_owned(),
            yields_to: vec!["nvidia-gpu".to_owned(), "nvidia-mig-".to_owned()],
            timing: Timing::default(),
        }
    }
}

/// How the container runtime, or NVIDIA's toolkit in it, learns which devices a container may see.
/// The names are those of `--device-list-strategy` of NVIDIA's device plugin, and so is the meaning
/// of several at once: each says the same in its own way, and the runtime takes what it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceListStrategy {
    /// One mount of `/dev/null` per device below `/var/run/nvidia-container-devices`. A container
    /// cannot forge it, unlike an environment variable.
    VolumeMounts,
    /// `NVIDIA_VISIBLE_DEVICES` lists the ids; without effect beside `VolumeMounts`.
    Envvar,
    /// The devices' [CDI names](crate::Device::cdi) in `cdi_devices` of the answer. Kubelets before
    /// 1.28 drop the field, 1.28 does without `DevicePluginCDIDevices`: the container then starts
    /// without its device.
    CdiCri,
    /// The devices' CDI names as annotations `cdi.k8s.io/...` of the container, which any kubelet
    /// passes on; the runtime must have CDI on (containerd from 1.7, CRI-O from 1.24).
    CdiAnnotations,
}

/// Every duration that the library waits. The defaults suit a kubelet; tests shorten some.
#[derive(Clone, Debug)]
pub struct Timing {
    /// First delay after a failed registration; doubles with every attempt.
    pub register_backoff: Duration,
    /// Longest delay between two registrations.
    pub register_backoff_max: Duration,
    /// Time limit of one Register call. The kubelet connects back within it, for up to 10 s.
    pub register_timeout: Duration,
    /// After Register, the kubelet has this long to open `ListAndWatch`.
    pub stream_timeout: Duration,
    /// Time limit for our own side of closing streams and servers.
    pub close_timeout: Duration,
    /// Pause between the end of an old stream and a new Register, in which the kubelet forgets the
    /// old one (kubelets from 1.25 tear down the new one otherwise).
    pub settle: Duration,
    /// A registration that lived this long starts counting its attempts anew.
    pub stable_after: Duration,
    /// A registered resource of whose healthy devices the kubelet shows none for this long is
    /// registered again.
    pub starved_after: Duration,
    /// How often the plugin directory is looked at without being told to: should inotify fail, and
    /// because a plugin that is killed leaves its socket as it was.
    pub directory_recheck: Duration,
    /// Time limit of one podresources call.
    pub pod_resources_timeout: Duration,
    /// Time limit of one call of the agent's [`Ledger`](crate::Ledger), the wait for the call before
    /// it included. The kubelet admits no other pod while it waits for a grant.
    pub ledger_timeout: Duration,
    /// Time limit of the agent's [`Evidence`](crate::Evidence) for one device.
    pub evidence_timeout: Duration,
    /// A container's start waits this long for the end of a former pod that may still use its device,
    /// and is then refused: the kubelet tries again by itself, but first waits ten seconds and more. It
    /// gives the call 30 s (`KubeletPreStartContainerRPCTimeoutInSecs`).
    pub contest_wait: Duration,
    /// Before that, it waits this long for the kubelet to say which pod has its device, if that was granted
    /// while it was held. Usually that takes milliseconds; List waits for admissions, and the kubelet for CPU.
    pub contest_look: Duration,
    /// First pause between two looks for that end; doubles.
    pub contest_pause: Duration,
    /// First pause between two looks at the kubelet's allocatable devices; doubles. The kubelet
    /// allows all podresources clients together 100 calls a second, 10 at once.
    pub allocatable_pause: Duration,
    /// Longest pause while an offer or a withdrawal waits.
    pub allocatable_pause_max: Duration,
    /// Pause after which a kubelet without `GetAllocatableResources` is taken to know a list that
    /// it was sent, if its checkpoint does not tell earlier.
    pub blind_wait: Duration,
    /// [`Plugins::offer`](crate::Plugins::offer) waits this long for the kubelet.
    pub offer_timeout: Duration,
    /// An Allocate for a device that the kubelet has not been seen to know waits this long.
    pub grant_timeout: Duration,
    /// [`Plugins::withdraw`](crate::Plugins::withdraw) waits this long for the kubelet.
    pub withdraw_timeout: Duration,
    /// The kubelet is taken to have given the admission of a pod up this long after its last call
    /// for it; on a node short of CPU more than a second can pass between two. Until then List is not asked
    /// (see `quiet.rs`).
    pub admission_timeout: Duration,
    /// A pod that was bound to the node is admitted within this; it takes milliseconds, unless the node is
    /// short of CPU. Until then List is not asked, at most for `list_patience`.
    pub admission_expected: Duration,
    /// An Allocate and the word that its pod was bound come within this of each other.
    pub admission_matched: Duration,
    /// The kubelet remembers an answer to Allocate within this; it takes microseconds, unless the node
    /// is short of CPU.
    pub admission_rest: Duration,
    /// The admission of a pod waits this long for a List under way; usually that takes milliseconds.
    pub admission_wait: Duration,
    /// A List waits this long for admissions that follow without a gap.
    pub list_patience: Duration,
    /// First pause between two looks at who holds what; doubles up to `safety_interval`.
    pub list_pause: Duration,
    /// Pause between two looks at the kubelet when nothing in particular is expected.
    pub safety_interval: Duration,
    /// A granted id that List has never shown is held at least this long...
    pub unseen_for: Duration,
    /// ...and at least for this many Lists in a row.
    pub unseen_rounds: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            register_backoff: Duration::from_millis(50),
            register_backoff_max: Duration::from_secs(10),
            register_timeout: Duration::from_secs(15),
            stream_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            settle: Duration::from_millis(200),
            stable_after: Duration::from_secs(30),
            starved_after: Duration::from_secs(30),
            directory_recheck: Duration::from_secs(5),
            pod_resources_timeout: Duration::from_secs(5),
            ledger_timeout: Duration::from_secs(5),
            evidence_timeout: Duration::from_secs(10),
            contest_wait: Duration::from_secs(2),
            contest_look: Duration::from_secs(10),
            contest_pause: Duration::from_millis(20),
            allocatable_pause: Duration::from_millis(1),
            allocatable_pause_max: Duration::from_millis(250),
            blind_wait: Duration::from_millis(250),
            offer_timeout: Duration::from_secs(10),
            grant_timeout: Duration::from_secs(2),
            withdraw_timeout: Duration::from_secs(10),
            admission_timeout: Duration::from_secs(3),
            admission_expected: Duration::from_millis(500),
            admission_matched: Duration::from_secs(5),
            admission_rest: Duration::from_secs(1),
            admission_wait: Duration::from_secs(2),
            list_patience: Duration::from_secs(1),
            list_pause: Duration::from_millis(20),
            safety_interval: Duration::from_secs(10),
            unseen_for: Duration::from_secs(10),
            unseen_rounds: 3,
        }
    }
}

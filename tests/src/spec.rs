//! What a scenario starts from: nodes and their GPUs, the generation of Kubernetes, and what is
//! wrong from the beginning.

use std::collections::BTreeMap;

use simcluster::cluster::{Behaviour, Tuning};
use testbed::certs::Validity;
use testbed::hardware::Latency;
use testbed::manifests::NODE_LABEL;

/// A system to be started.
#[derive(Debug, Clone)]
pub struct Spec {
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) behaviour: Behaviour,
    pub(crate) tuning: Tuning,
    pub(crate) controller_args: Vec<String>,
    pub(crate) controller_tls: Tls,
    pub(crate) may_fail: bool,
}

impl Spec {
    /// The newest Kubernetes, and no node yet.
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            behaviour: Behaviour::default(),
            tuning: Tuning::default(),
            controller_args: Vec::new(),
            controller_tls: Tls::Good,
            may_fail: false,
        }
    }

    /// One node called `a` with these GPUs, for example `A100-40GB:2`.
    pub fn gpus(gpus: &str) -> Self {
        Self::new().node(NodeSpec::new("a", gpus))
    }

    /// A further node.
    #[must_use]
    pub fn node(mut self, node: NodeSpec) -> Self {
        self.nodes.push(node);
        self
    }

    /// Another generation of Kubernetes.
    #[must_use]
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// A further argument of the controller.
    #[must_use]
    pub fn controller_arg(mut self, arg: &str) -> Self {
        self.controller_args.push(arg.to_owned());
        self
    }

    /// Another certificate for the controller.
    #[must_use]
    pub fn controller_tls(mut self, tls: Tls) -> Self {
        self.controller_tls = tls;
        self
    }

    /// Pods may fail in this scenario: it says itself which.
    #[must_use]
    pub fn pods_may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self::new()
    }
}

/// Whose certificate a part has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// As it should be.
    Good,
    /// It ran out.
    Expired,
    /// Another authority issued it.
    Foreign,
    /// There are no files.
    Missing,
}

impl Tls {
    pub(crate) fn validity(self) -> Validity {
        match self {
            Self::Expired => Validity::Expired,
            _ => Validity::Current,
        }
    }
}

/// A node to be started.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    pub(crate) name: String,
    pub(crate) gpus: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) latency: Latency,
    pub(crate) driver: String,
    pub(crate) library: bool,
    pub(crate) tls: Tls,
    pub(crate) journal: Option<Vec<u8>>,
}

impl NodeSpec {
    /// A node that is handed to the system, with these GPUs, for example `A100-40GB:2 T4:1`; with
    /// none if the text is empty.
    pub fn new(name: &str, gpus: &str) -> Self {
        Self {
            name: name.to_owned(),
            gpus: gpus.split_whitespace().map(str::to_owned).collect(),
            labels: BTreeMap::from([(NODE_LABEL.0.to_owned(), NODE_LABEL.1.to_owned())]),
            latency: Latency::NONE,
            driver: String::new(),
            library: true,
            tls: Tls::Good,
            journal: None,
        }
    }

    /// A further label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// It is not labelled yet.
    #[must_use]
    pub fn not_handed_over(mut self) -> Self {
        self.labels.remove(NODE_LABEL.0);
        self
    }

    /// How long its driver takes to create and destroy.
    #[must_use]
    pub fn latency(mut self, create_ms: u64, destroy_ms: u64) -> Self {
        self.latency = Latency {
            create_ms,
            destroy_ms,
            ..self.latency
        };
        self
    }

    /// How long its driver takes to look at a compute instance.
    #[must_use]
    pub fn look_latency(mut self, look_ms: u64) -> Self {
        self.latency.look_ms = look_ms;
        self
    }

    /// Further lines of its driver's configuration, for example a `[[fault]]`.
    #[must_use]
    pub fn driver(mut self, lines: &str) -> Self {
        self.driver.push('\n');
        self.driver.push_str(lines);
        self
    }

    /// It has no NVML library.
    #[must_use]
    pub fn without_library(mut self) -> Self {
        self.library = false;
        self
    }

    /// Another certificate for its agent.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// What its agent finds as journal.
    #[must_use]
    pub fn journal(mut self, bytes: &[u8]) -> Self {
        self.journal = Some(bytes.to_vec());
        self
    }
}

//! The kinds that the cluster serves: one static table that the store, discovery, and the tables
//! of `kubectl get` read, so that a kind is added in one place.

use std::fmt;
use std::sync::LazyLock;

/// A kind of object that the cluster stores and serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Pod.
    Pod,
    /// `v1` Node.
    Node,
    /// `v1` Namespace.
    Namespace,
    /// `v1` Event; also served as `events.k8s.io/v1`.
    Event,
    /// `v1` `ConfigMap`.
    ConfigMap,
    /// `v1` Secret.
    Secret,
    /// `v1` `ServiceAccount`.
    ServiceAccount,
    /// `v1` Service.
    Service,
    /// `coordination.k8s.io/v1` Lease.
    Lease,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `scheduling.k8s.io/v1` `PriorityClass`.
    PriorityClass,
    /// `v1` `ResourceQuota`.
    ResourceQuota,
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` `ReplicaSet`.
    ReplicaSet,
    /// `apps/v1` `StatefulSet`.
    StatefulSet,
    /// `batch/v1` Job.
    Job,
    /// `batch/v1` `CronJob`.
    CronJob,
    /// `admissionregistration.k8s.io/v1` `MutatingWebhookConfiguration`.
    MutatingWebhookConfiguration,
}

/// What the API says of a kind.
#[derive(Debug)]
pub struct Info {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// The one version served of that group.
    pub version: &'static str,
    /// `Pod`.
    pub kind: &'static str,
    /// `pods`, as in paths.
    pub plural: &'static str,
    /// `pod`, as kubectl accepts it.
    pub singular: &'static str,
    /// `po`.
    pub short_names: &'static [&'static str],
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Groups such as `all` in `kubectl get all`.
    pub categories: &'static [&'static str],
    /// Has `/status`, and `status` cannot be written elsewhere.
    pub status: bool,
    /// `metadata.generation` counts changes of `spec`.
    pub generation: bool,
}

impl Kind {
    /// Every kind, in the order in which discovery names them.
    pub const ALL: [Self; 18] = [
        Self::Pod,
        Self::Node,
        Self::Namespace,
        Self::Event,
        Self::ConfigMap,
        Self::Secret,
        Self::ServiceAccount,
        Self::Service,
        Self::Lease,
        Self::DaemonSet,
        Self::PriorityClass,
        Self::ResourceQuota,
        Self::Deployment,
        Self::ReplicaSet,
        Self::StatefulSet,
        Self::Job,
        Self::CronJob,
        Self::MutatingWebhookConfiguration,
    ];

    /// The row of this kind.
    pub fn info(self) -> &'static Info {
        static ROWS: LazyLock<[Info; Kind::ALL.len()]> = LazyLock::new(|| Kind::ALL.map(Kind::row));
        &ROWS[self.index()]
    }

    const fn row(self) -> Info {
        match self {
            Self::Pod => Info {
                short_names: &["po"],
                categories: &["all"],
                status: true,
                generation: true,
                ..core("Pod", "pods", "pod")
            },
            Self::Node => Info {
                short_names: &["no"],
                namespaced: false,
                status: true,
                ..core("Node", "nodes", "node")
            },
            Self::Namespace => Info {
                short_names: &["ns"],
                namespaced: false,
                status: true,
                ..core("Namespace", "namespaces", "namespace")
            },
            Self::Event => Info {
                short_names: &["ev"],
                ..core("Event", "events", "event")
            },
            Self::ConfigMap => Info {
                short_names: &["cm"],
                ..core("ConfigMap", "configmaps", "configmap")
            },
            Self::Secret => core("Secret", "secrets", "secret"),
            Self::ServiceAccount => Info {
                short_names: &["sa"],
                ..core("ServiceAccount", "serviceaccounts", "serviceaccount")
            },
            Self::Service => Info {
                short_names: &["svc"],
                categories: &["all"],
                status: true,
                ..core("Service", "services", "service")
            },
            Self::Lease => Info {
                group: "coordination.k8s.io",
                ..core("Lease", "leases", "lease")
            },
            Self::DaemonSet => Info {
                short_names: &["ds"],
                ..workload("apps", "DaemonSet", "daemonsets", "daemonset")
            },
            Self::PriorityClass => Info {
                group: "scheduling.k8s.io",
                short_names: &["pc"],
                namespaced: false,
                generation: true,
                ..core("PriorityClass", "priorityclasses", "priorityclass")
            },
            Self::ResourceQuota => Info {
                short_names: &["quota"],
                status: true,
                ..core("ResourceQuota", "resourcequotas", "resourcequota")
            },
            Self::Deployment => Info {
                short_names: &["deploy"],
                ..workload("apps", "Deployment", "deployments", "deployment")
            },
            Self::ReplicaSet => Info {
                short_names: &["rs"],
                ..workload("apps", "ReplicaSet", "replicasets", "replicaset")
            },
            Self::StatefulSet => Info {
                short_names: &["sts"],
                ..workload("apps", "StatefulSet", "statefulsets", "statefulset")
            },
            Self::Job => workload("batch", "Job", "jobs", "job"),
            Self::CronJob => Info {
                short_names: &["cj"],
                ..workload("batch", "CronJob", "cronjobs", "cronjob")
            },
            Self::MutatingWebhookConfiguration => Info {
                group: "admissionregistration.k8s.io",
                categories: &["api-extensions"],
                namespaced: false,
                generation: true,
                ..core(
                    "MutatingWebhookConfiguration",
                    "mutatingwebhookconfigurations",
                    "mutatingwebhookconfiguration",
                )
            },
        }
    }

    /// Position in [`Kind::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// `pods`, or `daemonsets.apps`: the resource as error messages name it.
    pub fn resource(self) -> String {
        let info = self.info();
        if info.group.is_empty() {
            info.plural.to_owned()
        } else {
            format!("{}.{}", info.plural, info.group)
        }
    }

    /// `Pod`, or `DaemonSet.apps`: the kind as error messages name it.
    pub fn qualified(self) -> String {
        let info = self.info();
        if info.group.is_empty() {
            info.kind.to_owned()
        } else {
            format!("{}.{}", info.kind, info.group)
        }
    }

    /// Where the spec of its pods is, as a JSON pointer; nothing for kinds that make none.
    pub const fn pod_spec(self) -> Option<&'static str> {
        match self {
            Self::Pod => Some("/spec"),
            Self::DaemonSet
            | Self::Deployment
            | Self::ReplicaSet
            | Self::StatefulSet
            | Self::Job => Some("/spec/template/spec"),
            Self::CronJob => Some("/spec/jobTemplate/spec/template/spec"),
            _ => None,
        }
    }

    /// `v1`, or `apps/v1`.
    pub fn api_version(self) -> String {
        let info = self.info();
        if info.group.is_empty() {
            info.version.to_owned()
        } else {
            format!("{}/{}", info.group, info.version)
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().kind)
    }
}

const fn core(kind: &'static str, plural: &'static str, singular: &'static str) -> Info {
    Info {
        group: "",
        version: "v1",
        kind,
        plural,
        singular,
        short_names: &[],
        namespaced: true,
        categories: &[],
        status: false,
        generation: false,
    }
}

const fn workload(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
) -> Info {
    Info {
        group,
        categories: &["all"],
        status: true,
        generation: true,
        ..core(kind, plural, singular)
    }
}

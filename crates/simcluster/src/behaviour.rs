//! Which Kubernetes the cluster behaves as.
//!
//! Only differences that a device operator can see are modelled; each has one question here, so
//! that nothing else in the crate compares versions.

use std::time::Duration;

/// A generation of Kubernetes whose scheduler and kubelets the cluster imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Behaviour {
    /// 1.20: any update of a pod ends its back-off; no scheduling gates; podresources has `List`
    /// only; a kubelet checks nothing about devices that a pod already has.
    V1_20,
    /// 1.28: back-off is honoured; scheduling gates; `GetAllocatableResources`.
    V1_28,
    /// 1.33 and later: queueing hints, and pods leave back-off when nothing else waits.
    #[default]
    V1_33,
}

impl Behaviour {
    /// The version that nodes report.
    pub const fn kubelet_version(self) -> &'static str {
        match self {
            Self::V1_20 => "v1.20.2",
            Self::V1_28 => "v1.28.15",
            Self::V1_33 => "v1.33.6",
        }
    }

    /// An update of a pod takes it out of back-off at once (`PriorityQueue.Update` before 1.21).
    pub const fn update_ends_backoff(self) -> bool {
        matches!(self, Self::V1_20)
    }

    /// The scheduler knows `spec.schedulingGates` (1.26 and later).
    pub const fn scheduling_gates(self) -> bool {
        !matches!(self, Self::V1_20)
    }

    /// Init containers with `restartPolicy: Always` (1.29 and later).
    pub const fn sidecars(self) -> bool {
        matches!(self, Self::V1_33)
    }

    /// Webhooks have `matchConditions` (1.28 and later).
    pub const fn match_conditions(self) -> bool {
        !matches!(self, Self::V1_20)
    }

    /// A webhook's failure is told in two steps, `failed calling webhook ...: failed to call
    /// webhook: ...` (1.22 and later); before, the second step was left out.
    pub const fn tells_failed_calls(self) -> bool {
        !matches!(self, Self::V1_20)
    }

    /// Jobs' pods also have the labels `batch.kubernetes.io/...` (1.27 and later).
    pub const fn qualified_job_labels(self) -> bool {
        !matches!(self, Self::V1_20)
    }

    /// The scheduler remembers which check refused a pod, and wakes it only for events that this
    /// check cares about (1.22 and later).
    pub const fn remembers_rejections(self) -> bool {
        !matches!(self, Self::V1_20)
    }

    /// Queueing hints: an event wakes a pod only if it can have made the pod schedulable (1.32).
    pub const fn queueing_hints(self) -> bool {
        matches!(self, Self::V1_33)
    }

    /// `SchedulerPopFromBackoffQ`: with nothing else to do, pods are taken out of back-off (1.33).
    pub const fn pops_from_backoff(self) -> bool {
        matches!(self, Self::V1_33)
    }

    /// How long a pod waits among the unschedulable ones before it is tried without a reason.
    pub const fn unschedulable_limit(self) -> Duration {
        match self {
            Self::V1_20 => Duration::from_mins(1),
            Self::V1_28 | Self::V1_33 => Duration::from_mins(5),
        }
    }

    /// podresources serves `GetAllocatableResources` (on by default from 1.23).
    pub const fn allocatable_resources(self) -> bool {
        !matches!(self, Self::V1_20)
    }

    /// podresources `List` has one entry per device; before, one per resource.
    pub const fn lists_devices_singly(self) -> bool {
        !matches!(self, Self::V1_20)
    }

    /// The kubelet checks at admission that devices which a container already has are still
    /// registered and healthy, unless the container runs (1.25 and later).
    pub const fn checks_held_devices(self) -> bool {
        !matches!(self, Self::V1_20)
    }

    /// The end of an old plugin's stream tears down a newer registration of the same resource
    /// (from 1.25 until the change of kubernetes#135437).
    pub const fn old_stream_ends_new_endpoint(self) -> bool {
        !matches!(self, Self::V1_20)
    }

    /// A kubelet whose books on a resource are thrown away while it asks a plugin for its preference ends with
    /// a panic (from 1.19 until the change of kubernetes#119560).
    pub const fn panics_without_books(self) -> bool {
        !matches!(self, Self::V1_33)
    }

    /// A pod counts as active until its containers have ended (1.22 and later); before, a phase
    /// of `Failed` or `Succeeded` was enough, although the kill came after it.
    pub const fn active_until_stopped(self) -> bool {
        !matches!(self, Self::V1_20)
    }
}

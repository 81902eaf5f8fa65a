//! What the built-in types say of their lists: which are merged by a key, which are sets, and
//! which are replaced as a whole.
//!
//! Schema-light: a list is recognised by its own name and that of the member it lies in, which
//! is unambiguous for the kinds served here. From the `patchMergeKey`, `listType` and
//! `structType` markers in k8s.io/api (core/v1, apps/v1, meta/v1).

/// How two versions of a list become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// The new one replaces the old one.
    Atomic,
    /// A set of plain values: union.
    Set,
    /// Items with the same key are merged.
    Keyed {
        /// The key of strategic merge.
        merge: &'static str,
        /// The keys of server-side apply, with the default of each if it has one.
        apply: &'static [(&'static str, &'static str)],
    },
}

/// The type of the list `field` within the member `parent`.
pub(super) fn list(parent: &str, field: &str) -> List {
    const NAME: List = List::Keyed {
        merge: "name",
        apply: &[("name", "")],
    };
    match (parent, field) {
        (
            _,
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "env"
            | "volumes"
            | "imagePullSecrets"
            | "schedulingGates"
            | "resourceClaims"
            | "webhooks"
            | "matchConditions",
        )
        | ("", "secrets") => NAME,
        (_, "volumeMounts") => List::Keyed {
            merge: "mountPath",
            apply: &[("mountPath", "")],
        },
        (_, "volumeDevices") => List::Keyed {
            merge: "devicePath",
            apply: &[("devicePath", "")],
        },
        ("spec", "ports") => List::Keyed {
            merge: "port",
            apply: &[("port", ""), ("protocol", "TCP")],
        },
        (_, "ports") => List::Keyed {
            merge: "containerPort",
            apply: &[("containerPort", ""), ("protocol", "TCP")],
        },
        (_, "topologySpreadConstraints") => List::Keyed {
            merge: "topologyKey",
            apply: &[("topologyKey", ""), ("whenUnsatisfiable", "")],
        },
        (_, "conditions") | ("status", "addresses") => List::Keyed {
            merge: "type",
            apply: &[("type", "")],
        },
        (_, "ownerReferences") => List::Keyed {
            merge: "uid",
            apply: &[("uid", "")],
        },
        (_, "hostAliases" | "podIPs" | "hostIPs") => List::Keyed {
            merge: "ip",
            apply: &[("ip", "")],
        },
        (_, "finalizers" | "podCIDRs") => List::Set,
        _ => List::Atomic,
    }
}

/// An object that server-side apply owns and replaces as a whole.
pub(super) fn is_atomic_object(field: &str) -> bool {
    matches!(
        field,
        "selector"
            | "nodeSelector"
            | "fieldRef"
            | "configMapKeyRef"
            | "secretKeyRef"
            | "resourceFieldRef"
            | "requiredDuringSchedulingIgnoredDuringExecution"
            | "involvedObject"
            | "secretRef"
    )
}

//! Pods.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Names a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod that waits for devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingPod {
    /// The pod.
    #[serde(flatten)]
    pub pod: PodRef,
    /// When it was created.
    pub since: Timestamp,
    /// Devices that it asks for, by resource name.
    pub wants: BTreeMap<String, u32>,
    /// A word: the reason of the pod's Event where it is refused, else `New`, `Ready`, `Planned` or
    /// `Waiting`.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

//! What would become of pods that are not there yet.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Move, Piece};

/// Where the controller answers with a [`WhatIf`]. The query has `pods`: a JSON list of objects with
/// `name`, `count` (1 if left out) and `spec`, a pod's as the API server would keep it. It is a GET,
/// because nothing changes.
pub const WHAT_IF_PATH: &str = "/what-if.json";
/// Pods that one question may be about.
pub const MOST_PODS: usize = 1000;
/// Bytes of the list at most, as it stands encoded in the address: HTTP libraries take addresses of
/// some 64 KiB.
pub const LONGEST_QUESTION: usize = 60_000;

/// What would become of pods if they were created now, behind all that wait already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhatIf {
    /// [`crate::API_VERSION`].
    pub api_version: String,
    /// When it was worked out, by the controller's clock.
    pub time: Timestamp,
    /// One for each pod, in the order of the question.
    pub pods: Vec<Prospect>,
}

/// What would become of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prospect {
    /// Its name; with a number behind it if the question was about several such pods.
    pub name: String,
    /// Devices that it asks for, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wants: BTreeMap<String, u32>,
    /// What would become of it.
    pub fate: Fate,
    /// Where, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// A sentence.
    pub message: String,
    /// What would be made for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub makes: Vec<Piece>,
    /// Idle instances that would be given up for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gives_up: Vec<Piece>,
    /// Idle instances that would move to another name for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
}

/// What would become of a pod, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// Idle devices would serve it at once.
    Ready,
    /// Instances would be made, or moved to another name, for it.
    Planned,
    /// It would be served once something else on the node is done.
    Waiting,
    /// It would not be served as things are.
    Refused,
    /// It asks for nothing that is served here.
    Nothing,
    /// A word of a later release.
    #[serde(other)]
    Unknown,
}

impl Fate {
    /// Whether the pod would get what it asks for without anything else ending first.
    pub fn fits(self) -> bool {
        !matches!(self, Self::Refused | Self::Unknown)
    }
}

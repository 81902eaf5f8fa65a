//! What the controller tells about the cluster when asked: one versioned document.
//!
//! The controller serves a [`Report`] as JSON at [`PATH`], and at [`WHAT_IF_PATH`] what would become
//! of pods that are not there yet; `kubectl cdmo` reads both, and so may anybody's scripts. Within one [`API_VERSION`] fields are only ever added: readers ignore those
//! they do not know, words that they do not know are read as `unknown`, and what is empty is left
//! out.

#![forbid(unsafe_code)]

mod node;
mod pod;
mod prospect;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use node::{
    Agent, AgentState, Gpu, Instance, InstanceState, KeptFree, MigMode, Move, Node, Operation,
    Piece, Rest, Stage,
};
pub use pod::{PodRef, WaitingPod};
pub use prospect::{Fate, LONGEST_QUESTION, MOST_PODS, Prospect, WHAT_IF_PATH, WhatIf};

/// Version of the document, its field `apiVersion`.
pub const API_VERSION: &str = "status.cdmo.clear.ml/v1";
/// Where the controller serves it. The query may have `nodes=a,b`: only these nodes; and
/// `after=N`: not before the revision is another than this one, or some seconds have passed.
pub const PATH: &str = "/status.json";

/// The cluster as the controller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`API_VERSION`].
    pub api_version: String,
    /// Changes whenever anything in the document may have changed.
    pub revision: u64,
    /// When it was made, by the controller's clock.
    pub time: Timestamp,
    /// Who made it.
    pub controller: Controller,
    /// Nodes that are labelled, have an agent, or show our devices; by name.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// Pods that wait for devices; the oldest first.
    #[serde(default)]
    pub waiting: Vec<WaitingPod>,
}

/// A running controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Controller {
    /// Its name, as in its Lease.
    pub name: String,
    /// Its release.
    pub version: String,
    /// When it started.
    pub since: Timestamp,
}

/// The document's version, for readers that must look at it before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Versioned {
    /// As in [`Report::api_version`].
    pub api_version: String,
}

#[cfg(test)]
mod tests;

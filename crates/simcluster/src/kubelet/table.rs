//! The pods that a kubelet knows, and which of them count as active: those whose devices and
//! requests are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::behaviour::Behaviour;
use crate::store::object;

/// How far a pod is, as far as others care.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Its phase is `Failed` or `Succeeded`.
    pub(super) terminal: bool,
    /// None of its containers runs.
    pub(super) idle: bool,
    /// Nothing of it runs or will run again.
    pub(super) over: bool,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Value>,
    progress: Progress,
}

/// The pods that the API server assigns to the node.
#[derive(Debug)]
pub(super) struct PodTable {
    behaviour: Behaviour,
    pods: BTreeMap<String, Entry>,
}

impl PodTable {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            pods: BTreeMap::new(),
        }
    }

    /// Takes in a pod's newest state; tells whether the pod was unknown.
    pub(super) fn upsert(&mut self, pod: Arc<Value>) -> bool {
        if let Some(entry) = self.pods.get_mut(object::uid(&pod)) {
            entry.pod = pod;
            return false;
        }
        let uid = object::uid(&pod).to_owned();
        self.pods.insert(
            uid,
            Entry {
                pod,
                progress: Progress {
                    idle: true,
                    ..Progress::default()
                },
            },
        );
        true
    }

    /// A pod is gone from the API: whatever still runs of it does not count any more.
    pub(super) fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// A pod went on.
    pub(super) fn progress(&mut self, uid: &str, progress: Progress) {
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.progress = progress;
        }
    }

    /// Uids and newest states of the active pods.
    pub(super) fn active(&self) -> impl Iterator<Item = (&str, &Arc<Value>)> {
        self.pods
            .iter()
            .filter(|(_, entry)| self.is_active(entry))
            .map(|(uid, entry)| (uid.as_str(), &entry.pod))
    }

    /// Uids of the active pods.
    pub(super) fn active_uids(&self) -> BTreeSet<String> {
        self.active().map(|(uid, _)| uid.to_owned()).collect()
    }

    fn is_active(&self, entry: &Entry) -> bool {
        if self.behaviour.active_until_stopped() {
            return !entry.progress.over;
        }
        let stopped = object::is_deleting(&entry.pod) && entry.progress.idle;
        !entry.progress.terminal && !stopped && !entry.progress.over
    }
}

//! `ReplicaSets`: as many pods as are wanted.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::Value;

use super::driver::{Controller, Next};
use super::pods::{self, Hands, is_active, is_ready, number};
use crate::store::selector::Labels;
use crate::store::{Kind, Store, object};

pub(super) struct ReplicaSets {
    hands: Hands,
}

impl ReplicaSets {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            hands: Hands::new(store, "replicaset-controller"),
        }
    }

    fn pods(&self, set: &Value) -> Vec<Arc<Value>> {
        let mut pods = self.hands.store.owned(Kind::Pod, object::uid(set));
        pods.retain(|pod| is_active(pod));
        pods
    }
}

impl Controller for ReplicaSets {
    const OWNER: Kind = Kind::ReplicaSet;
    const CHILD: Kind = Kind::Pod;

    async fn sync(&mut self, set: &Arc<Value>) -> Next {
        let wanted = number(set, "/spec/replicas");
        let mut found = self.pods(set);
        let mut complete = true;
        if found.len() < wanted {
            let missing = wanted - found.len();
            (_, complete) = self.hands.make(set, Kind::ReplicaSet, missing).await;
        } else {
            found.sort_by_key(|pod| worth(pod));
            for pod in &found[..found.len() - wanted] {
                self.hands.delete(set, pod);
            }
        }
        self.tell(set);
        if complete { Next::Rest } else { Next::Retry }
    }
}

impl ReplicaSets {
    fn tell(&self, set: &Value) {
        let pods = self.pods(set);
        let template = &set["spec"]["template"];
        let labels = serde_json::json!({ "matchLabels": template.pointer("/metadata/labels") });
        let labels = Labels::from_object(&labels);
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let mut status = pods::numbers(&[
            (
                "fullyLabeledReplicas",
                pods.iter().filter(|pod| labels.matches(pod)).count(),
            ),
            ("readyReplicas", ready),
            ("availableReplicas", ready),
            ("observedGeneration", number(set, "/metadata/generation")),
        ]);
        status["replicas"] = pods.len().into();
        self.hands.tell(Kind::ReplicaSet, set, &status);
    }
}

/// What goes last when there are too many: pods on nodes, those that run, ready ones, old ones.
fn worth(pod: &Value) -> (bool, bool, bool, Reverse<u64>) {
    (
        !object::text(pod, "/spec/nodeName").is_empty(),
        object::text(pod, "/status/phase") == "Running",
        is_ready(pod),
        Reverse(pods::age_rank(pod)),
    )
}

//! Deployments: one `ReplicaSet` per template, and pods moved from the old ones to the newest.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::driver::{Controller, Next};
use super::pods::{self, Hands, number, owned_by};
use super::rollout::{Set, Strategy, step};
use crate::events::Severity;
use crate::store::{DeleteOptions, Kind, Store, object};

/// Label on sets and pods: which template they were made from.
const HASH: &str = "pod-template-hash";
/// Annotation: the how-manieth template it is.
const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) struct Deployments {
    hands: Hands,
}

impl Deployments {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            hands: Hands::new(store, "deployment-controller"),
        }
    }

    /// Its sets, oldest template first.
    fn sets(&self, deployment: &Value) -> Vec<Arc<Value>> {
        let mut sets = self
            .hands
            .store
            .owned(Kind::ReplicaSet, object::uid(deployment));
        sets.retain(|set| !object::is_deleting(set));
        sets.sort_by_key(|set| (revision(set), pods::age_rank(set)));
        sets
    }
}

impl Controller for Deployments {
    const OWNER: Kind = Kind::Deployment;
    const CHILD: Kind = Kind::ReplicaSet;

    async fn sync(&mut self, deployment: &Arc<Value>) -> Next {
        let mut sets = self.sets(deployment);
        let paused = deployment["spec"]["paused"] == true;
        let is_new = |set: &Arc<Value>| is_of(set, deployment);
        if !paused && !sets.iter().any(is_new) {
            if !self.begin(deployment, &sets).await {
                self.tell(deployment);
                return Next::Retry;
            }
            sets = self.sets(deployment);
        }
        if !paused {
            self.number(deployment, &sets);
        }
        let numbers: Vec<Set> = sets
            .iter()
            .map(|set| Set {
                new: is_new(set),
                wanted: number(set, "/spec/replicas"),
                has: self.pods_of(set),
                ready: number(set, "/status/readyReplicas"),
            })
            .collect();
        let next = step(Strategy::of(deployment), &numbers);
        for ((set, now), next) in sets.iter().zip(&numbers).zip(next) {
            if now.wanted != next && (!paused || now.new) {
                self.scale(deployment, set, now.wanted, next);
            }
        }
        self.forget(deployment, &sets);
        self.tell(deployment);
        Next::Rest
    }
}

impl Deployments {
    /// Pods that are there, on their way out included: recreation waits for those.
    fn pods_of(&self, set: &Value) -> usize {
        let pods = self.hands.store.owned(Kind::Pod, object::uid(set));
        pods.iter().filter(|pod| !pods::has_ended(pod)).count()
    }

    /// Makes the set of the present template, with as many pods as there may be at first.
    async fn begin(&self, deployment: &Value, sets: &[Arc<Value>]) -> bool {
        let collisions = number(deployment, "/status/collisionCount");
        let template = &deployment["spec"]["template"];
        let hash = hash(template, collisions);
        let mut template = template.clone();
        let metadata = object::child(&mut template, "metadata");
        object::child(metadata, "labels")[HASH] = hash.as_str().into();
        let labels = metadata["labels"].clone();
        let mut selector = deployment["spec"]["selector"].clone();
        object::child(&mut selector, "matchLabels")[HASH] = hash.as_str().into();
        let name = format!("{}-{hash}", object::name(deployment));
        let newest = sets.iter().map(|set| revision(set)).max().unwrap_or(0);
        let set = json!({
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": { REVISION: (newest + 1).to_string() },
                "ownerReferences": [owned_by(deployment, Kind::Deployment)],
            },
            "spec": { "replicas": 0, "selector": selector, "template": template },
        });
        match self.hands.create(deployment, Kind::ReplicaSet, set).await {
            Ok(_) => true,
            Err(status) if status.reason == "AlreadyExists" && !self.is_own(deployment, &name) => {
                // The next hash is another.
                let mut told = deployment["status"].clone();
                told["collisionCount"] = (collisions + 1).into();
                self.hands.tell(Kind::Deployment, deployment, &told);
                false
            }
            Err(status) => {
                let message = format!("Failed to create new replica set {name:?}: {status}");
                self.hands.recorder.record(
                    deployment,
                    Severity::Warning,
                    "ReplicaSetCreateError",
                    &message,
                );
                false
            }
        }
    }

    /// The set of that name is the Deployment's own: a webhook changed its template on the way, so
    /// that nothing matches. The real controller makes one set after the other then.
    fn is_own(&self, deployment: &Value, name: &str) -> bool {
        let namespace = object::namespace(deployment);
        let set = self.hands.store.get(Kind::ReplicaSet, namespace, name);
        set.is_some_and(|set| {
            object::array(&set, "/metadata/ownerReferences")
                .iter()
                .any(|owner| owner["uid"] == deployment["metadata"]["uid"])
        })
    }

    /// The newest template has the highest revision, also one that came back.
    fn number(&self, deployment: &Value, sets: &[Arc<Value>]) {
        let Some(new) = sets.iter().find(|set| is_of(set, deployment)) else {
            return;
        };
        let others = sets.iter().filter(|set| !Arc::ptr_eq(set, new));
        let newest = others.map(|set| revision(set)).max().unwrap_or(0);
        let number = revision(new).max(newest + 1).to_string();
        for (kind, of) in [(Kind::ReplicaSet, &**new), (Kind::Deployment, deployment)] {
            let write = |stored: &mut Value| {
                let metadata = object::child(stored, "metadata");
                object::child(metadata, "annotations")[REVISION] = number.as_str().into();
            };
            let (namespace, name) = (object::namespace(of), object::name(of));
            // It may have been deleted meanwhile.
            let _ = self.hands.store.modify(kind, namespace, name, write);
        }
    }

    fn scale(&self, deployment: &Value, set: &Value, now: usize, next: usize) {
        let (namespace, name) = (object::namespace(set), object::name(set));
        let write = |stored: &mut Value| stored["spec"]["replicas"] = next.into();
        let scaled = self
            .hands
            .store
            .modify(Kind::ReplicaSet, namespace, name, write);
        if scaled.is_ok() {
            let way = if next > now { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {name} from {now} to {next}");
            self.hands
                .recorder
                .record(deployment, Severity::Normal, "ScalingReplicaSet", &message);
        }
    }

    /// Deletes old sets beyond those that are kept for going back.
    fn forget(&self, deployment: &Value, sets: &[Arc<Value>]) {
        let kept = number(deployment, "/spec/revisionHistoryLimit");
        let old: Vec<&Arc<Value>> = sets
            .iter()
            .filter(|set| !is_of(set, deployment))
            .filter(|set| number(set, "/spec/replicas") == 0 && self.pods_of(set) == 0)
            .collect();
        for set in &old[..old.len().saturating_sub(kept)] {
            let (namespace, name) = (object::namespace(set), object::name(set));
            let options = DeleteOptions::default();
            let _ = self
                .hands
                .store
                .delete(Kind::ReplicaSet, namespace, name, &options);
        }
    }

    fn tell(&self, deployment: &Value) {
        let (namespace, name) = (object::namespace(deployment), object::name(deployment));
        let Some(deployment) = self.hands.store.get(Kind::Deployment, namespace, name) else {
            return;
        };
        let sets = self.sets(&deployment);
        let sum = |pointer: &str| sets.iter().map(|set| number(set, pointer)).sum::<usize>();
        let new = sets.iter().find(|set| is_of(set, &deployment));
        let updated = new.map_or(0, |set| number(set, "/status/replicas"));
        let (total, ready) = (sum("/status/replicas"), sum("/status/readyReplicas"));
        let wanted = number(&deployment, "/spec/replicas");
        let mut status = pods::numbers(&[
            ("replicas", total),
            ("updatedReplicas", updated),
            ("readyReplicas", ready),
            ("availableReplicas", ready),
            (
                "unavailableReplicas",
                total.max(wanted).saturating_sub(ready),
            ),
            (
                "observedGeneration",
                number(&deployment, "/metadata/generation"),
            ),
            (
                "collisionCount",
                number(&deployment, "/status/collisionCount"),
            ),
        ]);
        let now = self.hands.time();
        let strategy = Strategy::of(&deployment);
        let available = if ready >= strategy.least() {
            (
                "Available",
                true,
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "Available",
                false,
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        pods::condition(&mut status, &deployment, &now, available);
        let set = new.map_or("", |set| object::name(set));
        let done = updated == wanted && total == wanted && ready >= wanted;
        let (reason, message) = if done {
            let message = format!("ReplicaSet {set:?} has successfully progressed.");
            ("NewReplicaSetAvailable", message)
        } else {
            let message = format!("ReplicaSet {set:?} is progressing.");
            ("ReplicaSetUpdated", message)
        };
        let progressing = ("Progressing", true, reason, message.as_str());
        pods::condition(&mut status, &deployment, &now, progressing);
        self.hands.tell(Kind::Deployment, &deployment, &status);
    }
}

/// The set has the Deployment's present template.
fn is_of(set: &Value, deployment: &Value) -> bool {
    let mut template = set["spec"]["template"].clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels") {
        object::remove(labels, HASH);
    }
    template == deployment["spec"]["template"]
}

fn revision(set: &Value) -> u64 {
    let path = "/metadata/annotations/deployment.kubernetes.io~1revision";
    object::text(set, path).parse().unwrap_or(0)
}

fn hash(template: &Value, collisions: usize) -> String {
    let text = format!("{template} {collisions}");
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes());
    hash.simple().to_string()[..10].to_owned()
}

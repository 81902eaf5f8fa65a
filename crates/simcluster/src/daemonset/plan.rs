//! What a DaemonSet needs: a pure function of its definition, the nodes and its pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::nodematch;
use crate::store::object;

/// Label on pods: from which template they were made.
const REVISION: &str = "controller-revision-hash";

/// Taints that pods of DaemonSets tolerate without saying so.
const TOLERATED: [(&str, &str); 6] = [
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
];

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Create this pod.
    Create(Value),
    /// Delete the pod of this name.
    Delete(String),
    /// Delete a pod that failed; another one follows after a pause.
    Replace {
        /// The pod's name.
        pod: String,
        /// Its node.
        node: String,
    },
}

/// What to do, and the DaemonSet's status. Nodes that are held back get no new pod now.
pub(super) fn plan<'a>(
    set: &Value,
    nodes: impl Iterator<Item = &'a Value>,
    pods: impl Iterator<Item = &'a Arc<Value>>,
    held_back: impl Fn(&str) -> bool,
) -> (Vec<Action>, Value) {
    let mut by_node: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for pod in pods {
        by_node
            .entry(node_of(pod).to_owned())
            .or_default()
            .push(pod);
    }
    let revision = revision(set);
    let mut actions = Vec::new();
    let mut outdated = Vec::new();
    let (mut desired, mut current, mut ready, mut updated, mut misplaced) = (0, 0, 0, 0, 0);
    for node in nodes {
        let name = object::name(node);
        let candidate = pod_for(set, name, &revision);
        let pods = by_node.remove(name).unwrap_or_default();
        if !wants(set, &candidate, node, !pods.is_empty()) {
            misplaced += usize::from(!pods.is_empty());
            actions.extend(
                pods.iter()
                    .filter(|p| !object::is_deleting(p))
                    .map(|p| delete(p)),
            );
            continue;
        }
        desired += 1;
        let (failed, alive): (Vec<&Value>, Vec<&Value>) =
            pods.into_iter().partition(|pod| is_failed(pod));
        for pod in failed.iter().filter(|pod| !object::is_deleting(pod)) {
            let (pod, node) = (object::name(pod).to_owned(), name.to_owned());
            actions.push(Action::Replace { pod, node });
        }
        let Some((first, surplus)) = alive.split_first() else {
            if failed.is_empty() && !held_back(name) {
                actions.push(Action::Create(candidate));
            }
            continue;
        };
        actions.extend(
            surplus
                .iter()
                .filter(|p| !object::is_deleting(p))
                .map(|p| delete(p)),
        );
        current += 1;
        ready += usize::from(is_ready(first));
        if first["metadata"]["labels"][REVISION] == revision.as_str() {
            updated += 1;
        } else if !object::is_deleting(first) {
            outdated.push(*first);
        }
    }
    // Pods of nodes that are gone.
    for pod in by_node
        .values()
        .flatten()
        .filter(|pod| !object::is_deleting(pod))
    {
        actions.push(delete(pod));
    }
    let rolling = object::text(set, "/spec/updateStrategy/type") != "OnDelete";
    if rolling {
        // At most one pod is missing at a time; those that do not work anyway go first.
        let (working, broken): (Vec<&Value>, Vec<&Value>) =
            outdated.into_iter().partition(|pod| is_ready(pod));
        actions.extend(broken.iter().map(|pod| delete(pod)));
        if ready == desired {
            actions.extend(working.first().map(|pod| delete(pod)));
        }
    }
    let status = json!({
        "desiredNumberScheduled": desired,
        "currentNumberScheduled": current,
        "numberReady": ready,
        "numberAvailable": ready,
        "numberUnavailable": desired - ready,
        "updatedNumberScheduled": updated,
        "numberMisscheduled": misplaced,
        "observedGeneration": set["metadata"]["generation"],
    });
    (actions, status)
}

fn delete(pod: &Value) -> Action {
    Action::Delete(object::name(pod).to_owned())
}

/// The node should have a pod; one that is there stays in spite of taints that only keep out.
fn wants(set: &Value, candidate: &Value, node: &Value, there: bool) -> bool {
    let mut template = json!({ "spec": set.pointer("/spec/template/spec") });
    template["spec"]["tolerations"] = candidate["spec"]["tolerations"].clone();
    let effects: &[&str] = if there {
        &["NoExecute"]
    } else {
        &["NoSchedule", "NoExecute"]
    };
    nodematch::selects(&template, node)
        && nodematch::untolerated_taint(&template, node, effects).is_none()
}

fn pod_for(set: &Value, node: &str, revision: &str) -> Value {
    let template = &set["spec"]["template"];
    let mut pod = json!({
        "metadata": {
            "generateName": format!("{}-", object::name(set)),
            "labels": template.pointer("/metadata/labels").cloned().unwrap_or(json!({})),
            "annotations": template.pointer("/metadata/annotations").cloned().unwrap_or(json!({})),
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "name": object::name(set),
                "uid": object::uid(set),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": template["spec"],
    });
    pod["metadata"]["labels"][REVISION] = revision.into();
    let only_here = json!({ "nodeSelectorTerms": [{ "matchFields": [
        { "key": "metadata.name", "operator": "In", "values": [node] },
    ]}]});
    let affinity = object::child(object::child(&mut pod, "spec"), "affinity");
    object::child(affinity, "nodeAffinity")["requiredDuringSchedulingIgnoredDuringExecution"] =
        only_here;
    let mut tolerations = object::array(&pod, "/spec/tolerations").to_vec();
    tolerations.extend(TOLERATED.map(|(taint, effect)| {
        let key = format!("node.kubernetes.io/{taint}");
        json!({ "key": key, "operator": "Exists", "effect": effect })
    }));
    pod["spec"]["tolerations"] = tolerations.into();
    pod
}

fn revision(set: &Value) -> String {
    let template = set["spec"]["template"].to_string();
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, template.as_bytes());
    hash.simple().to_string()[..10].to_owned()
}

/// The node that a pod is bound to, or pinned to.
fn node_of(pod: &Value) -> &str {
    let bound = object::text(pod, "/spec/nodeName");
    if !bound.is_empty() {
        return bound;
    }
    object::text(
        pod,
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
         /nodeSelectorTerms/0/matchFields/0/values/0",
    )
}

fn is_failed(pod: &Value) -> bool {
    matches!(object::text(pod, "/status/phase"), "Failed" | "Succeeded")
}

fn is_ready(pod: &Value) -> bool {
    !object::is_deleting(pod)
        && object::array(pod, "/status/conditions")
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

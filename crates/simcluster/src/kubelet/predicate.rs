//! The kubelet's own check of a pod, after its devices were allocated
//! (pkg/kubelet/lifecycle/predicate.go).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::nodematch;
use crate::resources::{PODS, Resources, pod_requests};

use super::devices::Ids;

/// Why a pod is not admitted; it is `Failed` for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Rejection {
    /// For the status and the Event: `OutOfcpu`, `UnexpectedAdmissionError` ...
    pub(super) reason: String,
    /// One sentence.
    pub(super) message: String,
}

/// Checks a pod against the node as the kubelet knows it and the other active pods. Resources that
/// the node does not name at all are not checked; those of which pods hold devices count at least
/// with what is held.
pub(super) fn check<'a>(
    pod: &Value,
    node: &Value,
    others: impl Iterator<Item = &'a Value>,
    in_use: &BTreeMap<String, Ids>,
) -> Result<(), Rejection> {
    let mut allocatable = Resources::parse(node.pointer("/status/allocatable"));
    for (name, ids) in in_use {
        let held = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        if held > allocatable.get(name) {
            allocatable.set(name, held);
        }
    }
    let mut used = Resources::default();
    let mut pods = 0;
    for other in others {
        used.add(&pod_requests(other));
        pods += 1;
    }
    let mut wanted = pod_requests(pod);
    let missing: Vec<String> = wanted
        .extended()
        .filter(|(name, _)| allocatable.find(name).is_none())
        .map(|(name, _)| name.to_owned())
        .collect();
    for name in missing {
        wanted.remove(&name);
    }
    if pods + 1 > allocatable.get(PODS) {
        return Err(out_of(PODS, 1, pods, allocatable.get(PODS)));
    }
    for (name, amount) in wanted.iter().filter(|(_, amount)| *amount > 0) {
        if amount > allocatable.get(name) - used.get(name) {
            return Err(out_of(name, amount, used.get(name), allocatable.get(name)));
        }
    }
    if !nodematch::selects(pod, node) {
        return Err(Rejection {
            reason: "NodeAffinity".to_owned(),
            message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node \
                      affinity/selector"
                .to_owned(),
        });
    }
    if nodematch::untolerated_taint(pod, node, &["NoExecute"]).is_some() {
        return Err(Rejection {
            reason: "TaintToleration".to_owned(),
            message: "Predicate TaintToleration failed".to_owned(),
        });
    }
    Ok(())
}

fn out_of(name: &str, requested: i64, used: i64, capacity: i64) -> Rejection {
    Rejection {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, \
             capacity: {capacity}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DEVICE: &str = "example.com/device";

    fn pod(devices: u32) -> Value {
        let limits = json!({ DEVICE: devices.to_string() });
        json!({ "spec": { "containers": [{ "name": "c", "resources": { "limits": limits } }] } })
    }

    fn node(devices: Option<u32>) -> Value {
        let mut allocatable = json!({ "pods": "2" });
        if let Some(devices) = devices {
            allocatable[DEVICE] = devices.to_string().into();
        }
        json!({ "metadata": { "name": "n" }, "status": { "allocatable": allocatable } })
    }

    fn none() -> BTreeMap<String, Ids> {
        BTreeMap::new()
    }

    #[test]
    fn a_resource_that_the_node_does_not_name_is_not_checked() {
        assert_eq!(
            check(&pod(1), &node(None), std::iter::empty(), &none()),
            Ok(())
        );
    }

    #[test]
    fn a_resource_that_the_node_has_too_little_of_is_out() {
        let other = pod(1);
        let refused = check(&pod(1), &node(Some(1)), [&other].into_iter(), &none()).unwrap_err();
        assert_eq!(refused.reason, "OutOfexample.com/device");
        assert_eq!(
            refused.message,
            "Node didn't have enough resource: example.com/device, requested: 1, used: 1, \
             capacity: 1"
        );
    }

    #[test]
    fn devices_that_were_granted_count_even_if_the_node_does_not_show_them_yet() {
        let granted = BTreeMap::from([(DEVICE.to_owned(), Ids::from(["x".to_owned()]))]);
        assert_eq!(
            check(&pod(1), &node(Some(0)), std::iter::empty(), &granted),
            Ok(())
        );
    }

    #[test]
    fn the_number_of_pods_is_limited() {
        let others = [pod(0), pod(0)];
        let refused = check(&pod(0), &node(None), others.iter(), &none()).unwrap_err();
        assert_eq!(refused.reason, "OutOfpods");
    }
}

//! What a pod demands of its node besides our devices, and whether a node fulfils it.
//!
//! The rules are the stock scheduler's (plugins nodeaffinity, tainttoleration, nodeunschedulable and
//! noderesources). Constraints that are not looked at here, such as pod anti-affinity or volumes,
//! are learned: see [`crate::set_aside`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration,
};
use planner::Eligibility;
use serde::Serialize;

use crate::{
    nodes::NodeRow,
    objects::PodSpec,
    requests::{self, Amounts},
};

/// Taint that a cordoned node is treated as having.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Everything about a pod that decides which nodes it may use, devices of ours aside.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Constraints {
    selector: BTreeMap<String, String>,
    affinity: Option<NodeSelector>,
    tolerations: Vec<Toleration>,
    /// Requests of resources that agents do not serve.
    requests: Amounts,
    /// See [`PodSpec::binds_slowly`].
    pub binds_slowly: bool,
}

impl Constraints {
    /// Takes them from a pod, given its total requests.
    pub fn of(spec: &PodSpec, total: &Amounts) -> Self {
        Self {
            selector: spec.node_selector.clone(),
            affinity: spec
                .affinity
                .as_ref()
                .and_then(|a| a.node_affinity.as_ref())
                .and_then(|a| {
                    a.required_during_scheduling_ignored_during_execution
                        .clone()
                }),
            tolerations: spec.tolerations.clone(),
            binds_slowly: spec.binds_slowly(),
            requests: total
                .iter()
                .filter(|(name, _)| !requests::is_ours(name))
                .map(|(name, amount)| (name.clone(), *amount))
                .collect(),
        }
    }

    /// Whether the node could run such a pod when `used` is what its pods request already.
    pub fn check(&self, node: &NodeRow, used: &Amounts) -> Eligibility {
        match self.check_node(node) {
            Eligibility::Allowed => self.check_resources(node, used),
            excluded @ Eligibility::Excluded(_) => excluded,
        }
    }

    /// Whether it could if it had room enough.
    pub fn admits(&self, node: &NodeRow) -> bool {
        self.check_node(node) == Eligibility::Allowed
    }

    fn check_node(&self, node: &NodeRow) -> Eligibility {
        let excluded = |why: &'static str| Eligibility::Excluded(why.into());
        if !self.selects(node) {
            return excluded("the pod's node selector does not match");
        }
        if self
            .affinity
            .as_ref()
            .is_some_and(|affinity| !matches_any(affinity, node))
        {
            return excluded("the pod's required node affinity does not match");
        }
        if node.unschedulable && !self.tolerates(&cordon()) {
            return excluded("cordoned");
        }
        if let Some(taint) = node.taints.iter().find(|t| repels(t) && !self.tolerates(t)) {
            let value = taint.value.as_deref().unwrap_or_default();
            let sign = if value.is_empty() { "" } else { "=" };
            let words = format!("taint {}{sign}{value}:{}", taint.key, taint.effect);
            return Eligibility::Excluded(words.into());
        }
        Eligibility::Allowed
    }

    fn selects(&self, node: &NodeRow) -> bool {
        self.selector
            .iter()
            .all(|(key, value)| node.labels.get(key) == Some(value))
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations
            .iter()
            .any(|toleration| tolerates(toleration, taint))
    }

    fn check_resources(&self, node: &NodeRow, used: &Amounts) -> Eligibility {
        let free = |name: &str| {
            let all = node.allocatable.get(name).copied().unwrap_or(0);
            all.saturating_sub(used.get(name).copied().unwrap_or(0))
        };
        // A node that does not say how many pods it takes is not held to any number.
        if node.allocatable.contains_key("pods") && free("pods") < 1 {
            return Eligibility::Excluded("no more pods fit".into());
        }
        match self
            .requests
            .iter()
            .find(|(name, amount)| free(name) < **amount)
        {
            Some((name, _)) => Eligibility::Excluded(format!("not enough {name}").into()),
            None => Eligibility::Allowed,
        }
    }
}

fn cordon() -> Taint {
    Taint {
        key: UNSCHEDULABLE.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    }
}

/// Whether the taint keeps pods away, as opposed to making a node less liked.
fn repels(taint: &Taint) -> bool {
    taint.effect == "NoSchedule" || taint.effect == "NoExecute"
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let effect = of(&toleration.effect);
    let key = of(&toleration.key);
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let (ours, theirs) = (of(&toleration.value), of(&taint.value));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => !key.is_empty() && ours == theirs,
        "Exists" => true,
        "Lt" => compare(&theirs, &ours) == Some(std::cmp::Ordering::Less),
        "Gt" => compare(&theirs, &ours) == Some(std::cmp::Ordering::Greater),
        _ => false,
    }
}

/// Terms are alternatives; a term without any requirement matches nothing.
fn matches_any(selector: &NodeSelector, node: &NodeRow) -> bool {
    selector
        .node_selector_terms
        .iter()
        .any(|term| matches_term(term, node))
}

fn matches_term(term: &NodeSelectorTerm, node: &NodeRow) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let field = |key: &str| (key == "metadata.name").then_some(node.name.as_str());
    !(labels.is_empty() && fields.is_empty())
        && labels
            .iter()
            .all(|r| fulfils(r, node.labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| fulfils(r, field(&r.key)))
}

fn fulfils(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_among = || actual.is_some_and(|actual| values.iter().any(|v| v == actual));
    let order = || compare(actual?, values.first()?);
    match requirement.operator.as_str() {
        "In" => is_among(),
        "NotIn" => !is_among(),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => order() == Some(std::cmp::Ordering::Greater),
        "Lt" => order() == Some(std::cmp::Ordering::Less),
        _ => false,
    }
}

fn compare(left: &str, right: &str) -> Option<std::cmp::Ordering> {
    Some(left.parse::<i64>().ok()?.cmp(&right.parse::<i64>().ok()?))
}

#[cfg(test)]
mod tests;

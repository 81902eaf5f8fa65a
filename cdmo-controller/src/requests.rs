//! What a pod asks of a node, as the scheduler computes it.
//!
//! Containers and sidecars run together, so their requests add up; an ordinary init container runs
//! alone but for the sidecars started before it. The pod's request of each resource is the larger of
//! the two (component-helpers `resource/helpers.go`, `AggregateContainerRequests`).

use std::collections::BTreeMap;

use mig::fraction::FRACTION_PREFIX;

use crate::{
    objects::{ContainerLite, PodSpec, ResourceList, Resources},
    quantity,
};

/// Amounts by resource name: CPU in thousandths, everything else in whole units.
pub type Amounts = BTreeMap<String, i64>;

/// Whether agents may serve the resource: MIG profiles, fractions and whole GPUs. Nothing else is ever
/// written into a node's status.
pub fn is_ours(resource: &str) -> bool {
    resource.starts_with(mig::RESOURCE_PREFIX)
        || resource.starts_with(FRACTION_PREFIX)
        || resource == mig::GPU_RESOURCE
}

/// Whether an init container keeps running beside the containers.
pub fn is_sidecar(container: &ContainerLite) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What one container requests; where only a limit is named, it is the request.
pub fn of_container(container: &ContainerLite) -> Amounts {
    of_resources(&container.resources)
}

/// What the whole pod requests.
pub fn of_pod(spec: &PodSpec) -> Amounts {
    let mut together = Amounts::new();
    for container in &spec.containers {
        add(&mut together, &of_container(container));
    }
    let mut sidecars = Amounts::new();
    let mut largest_init = Amounts::new();
    for init in &spec.init_containers {
        let own = of_container(init);
        if is_sidecar(init) {
            add(&mut sidecars, &own);
        } else {
            let mut at_once = sidecars.clone();
            add(&mut at_once, &own);
            raise(&mut largest_init, &at_once);
        }
    }
    add(&mut together, &sidecars);
    raise(&mut together, &largest_init);
    if let Some(pod_level) = &spec.resources {
        together.extend(of_resources(pod_level));
    }
    add(&mut together, &amounts(&spec.overhead));
    together
}

/// Reads a list of quantities. What is no quantity, or none at all, is left out.
pub fn amounts(list: &ResourceList) -> Amounts {
    let read = |name: &str, text: &str| {
        let value = if name == "cpu" {
            quantity::milli(text)
        } else {
            quantity::units(text)
        };
        value.filter(|v| *v > 0)
    };
    list.iter()
        .filter_map(|(name, q)| Some((name.clone(), read(name, &q.0)?)))
        .collect()
}

fn of_resources(resources: &Resources) -> Amounts {
    let mut all = amounts(&resources.limits);
    for name in resources.requests.keys() {
        all.remove(name);
    }
    all.extend(amounts(&resources.requests));
    all
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_default();
        *entry = entry.saturating_add(*amount);
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = most.entry(name.clone()).or_default();
        *entry = (*entry).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ONE: &str = "nvidia.com/mig-1g.5gb";
    const THREE: &str = "nvidia.com/mig-3g.20gb";

    fn pod(spec: serde_json::Value) -> Amounts {
        of_pod(&serde_json::from_value(spec).unwrap())
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "`json!` reads better by value"
    )]
    fn container(limits: serde_json::Value) -> serde_json::Value {
        json!({"name": "c", "resources": {"limits": limits}})
    }

    #[test]
    fn containers_add_up() {
        let asked = pod(json!({"containers": [
            container(json!({ONE: 1, "cpu": "500m"})),
            container(json!({ONE: "2", THREE: 1, "cpu": 2})),
        ]}));
        assert_eq!(
            asked,
            Amounts::from([(ONE.into(), 3), (THREE.into(), 1), ("cpu".into(), 2500)])
        );
    }

    #[test]
    fn an_init_container_counts_only_where_it_needs_more() {
        let asked = pod(json!({
            "containers": [container(json!({ONE: 2}))],
            "initContainers": [container(json!({ONE: 1})), container(json!({THREE: 1}))],
        }));
        assert_eq!(asked, Amounts::from([(ONE.into(), 2), (THREE.into(), 1)]));
    }

    #[test]
    fn a_sidecar_adds_to_the_containers_and_to_later_init_containers() {
        let sidecar = json!({
            "name": "s", "restartPolicy": "Always", "resources": {"limits": {ONE: 1}},
        });
        let asked = pod(json!({
            "containers": [container(json!({ONE: 1}))],
            "initContainers": [
                container(json!({ONE: 2})), sidecar, container(json!({ONE: 4})),
            ],
        }));
        // Alone: 2. With the sidecar: 4 + 1. Running: 1 + 1.
        assert_eq!(asked, Amounts::from([(ONE.into(), 5)]));
    }

    #[test]
    fn requests_win_over_limits_and_overhead_is_added() {
        let asked = pod(json!({
            "containers": [{"name": "c", "resources": {
                "requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi", "cpu": "1"},
            }}],
            "overhead": {"memory": "1Gi"},
        }));
        assert_eq!(
            asked,
            Amounts::from([("memory".into(), 2 << 30), ("cpu".into(), 1000)])
        );
    }

    #[test]
    fn a_request_of_the_whole_pod_replaces_the_sum() {
        let asked = pod(json!({
            "containers": [container(json!({"cpu": 1})), container(json!({"cpu": 1}))],
            "resources": {"requests": {"cpu": "500m"}},
        }));
        assert_eq!(asked, Amounts::from([("cpu".into(), 500)]));
    }

    #[test]
    fn only_mig_profiles_fractions_and_whole_gpus_are_ours() {
        assert!(is_ours(ONE) && is_ours("nvidia.com/gpu"));
        assert!(is_ours("cdmo.clear.ml/fraction-0.500"));
        assert!(!is_ours("cdmo.clear.ml/plan") && !is_ours("clear.ml/fraction"));
        assert!(!is_ours("cpu") && !is_ours("nvidia.com/gpu.shared") && !is_ours("amd.com/gpu"));
    }
}

//! Amounts of resources: quantities as Kubernetes writes them, and the sums that the scheduler and
//! the kubelet compare.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::store::object;
use crate::store::quantity::Quantity;

/// CPU in thousandths of a core.
pub const CPU: &str = "cpu";
/// Memory in bytes.
pub const MEMORY: &str = "memory";
/// Number of pods.
pub const PODS: &str = "pods";

/// Amounts by resource name: CPU in thousandths, everything else in whole units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, i64>);

impl Resources {
    /// Reads a Kubernetes resource list; entries that are no quantities are left out.
    pub fn parse(list: Option<&Value>) -> Self {
        let entries = list.and_then(Value::as_object).into_iter().flatten();
        let amounts = entries.filter_map(|(name, quantity)| {
            let quantity = Quantity::from_value(quantity).ok()?;
            let amount = if name == CPU {
                quantity.millis()
            } else {
                quantity.units()
            };
            Some((name.clone(), amount))
        });
        Self(amounts.collect())
    }

    /// The amount of one resource; 0 if it is not named.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The amount of one resource, if it is named.
    pub fn find(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    /// Sets the amount of one resource.
    pub fn set(&mut self, name: &str, amount: i64) {
        self.0.insert(name.to_owned(), amount);
    }

    /// Forgets a resource.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Adds another sum to this one.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += amount;
        }
    }

    /// Takes another sum from this one; what reaches zero is forgotten.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if let Some(own) = self.0.get_mut(name) {
                *own -= amount;
                if *own == 0 {
                    self.0.remove(name);
                }
            }
        }
    }

    /// Raises every amount to at least that of `other`.
    pub fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*amount);
        }
    }

    /// Names and amounts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Names and amounts of extended resources, by name.
    pub fn extended(&self) -> impl Iterator<Item = (&str, i64)> {
        self.iter().filter(|(name, _)| is_extended(name))
    }
}

/// A resource of somebody else's domain, counted in whole units, as device plugins advertise them.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// What one container asks for: its requests, and its limits where it names no request.
pub fn container_requests(container: &Value) -> Resources {
    let mut requests = Resources::parse(container.pointer("/resources/limits"));
    for (name, amount) in Resources::parse(container.pointer("/resources/requests")).iter() {
        requests.set(name, amount);
    }
    requests
}

/// An init container that keeps running beside the others.
pub fn is_sidecar(init_container: &Value) -> bool {
    object::text(init_container, "/restartPolicy") == "Always"
}

/// What a pod asks for in all: the larger of its containers together and of the init containers,
/// which run one after the other, sidecars counted from their turn on, and its overhead.
pub fn pod_requests(pod: &Value) -> Resources {
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in object::array(pod, "/spec/initContainers") {
        let mut needed = container_requests(container);
        if is_sidecar(container) {
            sidecars.add(&needed);
            needed = sidecars.clone();
        } else {
            needed.add(&sidecars);
        }
        starting.raise_to(&needed);
    }
    let mut total = sidecars;
    for container in object::array(pod, "/spec/containers") {
        total.add(&container_requests(container));
    }
    total.raise_to(&starting);
    total.add(&Resources::parse(pod.pointer("/spec/overhead")));
    total
}

#[cfg(test)]
mod tests;

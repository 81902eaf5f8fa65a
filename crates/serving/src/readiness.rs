//! Readiness as a set of named conditions, so that `/readyz` says what is missing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The conditions that must all hold before a daemon is ready. Clones share one set.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

#[derive(Clone, Debug)]
enum State {
    Met,
    Unmet(String),
}

/// A condition that its owner sets. Dropping it leaves it as it is.
#[derive(Clone, Debug)]
pub struct Condition {
    readiness: Readiness,
    name: &'static str,
}

impl Readiness {
    /// An empty set, which is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that does not hold yet.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.lock().insert(name, State::Unmet("not yet".to_owned()));
        Condition {
            readiness: self.clone(),
            name,
        }
    }

    /// Which conditions do not hold, each with the reason. Empty when ready.
    pub fn unmet(&self) -> Vec<(&'static str, String)> {
        self.lock()
            .iter()
            .filter_map(|(name, state)| match state {
                State::Met => None,
                State::Unmet(why) => Some((*name, why.clone())),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        // Each change is a single insertion, so a panic elsewhere leaves the map whole.
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// The condition holds.
    pub fn met(&self) {
        self.set(State::Met);
    }

    /// The condition does not hold, and why.
    pub fn unmet(&self, why: impl Into<String>) {
        self.set(State::Unmet(why.into()));
    }

    fn set(&self, state: State) {
        self.readiness.lock().insert(self.name, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_without_conditions_is_ready() {
        assert!(Readiness::new().unmet().is_empty());
    }

    #[test]
    fn every_condition_must_hold_and_may_stop_holding() {
        let readiness = Readiness::new();
        let nvml = readiness.condition("nvml");
        let kubelet = readiness.condition("kubelet");
        assert_eq!(readiness.unmet().len(), 2);
        nvml.met();
        assert_eq!(readiness.unmet(), [("kubelet", "not yet".to_owned())]);
        kubelet.met();
        assert!(readiness.unmet().is_empty());
        nvml.unmet("the driver is being upgraded");
        assert_eq!(
            readiness.unmet(),
            [("nvml", "the driver is being upgraded".to_owned())]
        );
    }
}

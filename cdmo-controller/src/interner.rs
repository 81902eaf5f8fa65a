//! Equal values kept once: pods of one workload differ in little but their names.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;

/// Values by their serialised form.
#[derive(Debug)]
pub struct Interner<T> {
    values: HashMap<Box<str>, Arc<T>>,
    sweep_at: usize,
}

/// Below this many values nothing is swept.
const FEW: usize = 256;

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            sweep_at: FEW,
        }
    }
}

/// What identifies a value in an [`Interner`].
pub trait Identity {
    /// A string that equal values share and different values do not.
    fn identity(&self) -> String;
}

impl Identity for crate::requests::Amounts {
    fn identity(&self) -> String {
        json(self)
    }
}

impl Identity for crate::constraints::Constraints {
    fn identity(&self) -> String {
        json(self)
    }
}

impl Identity for planner::Wants {
    fn identity(&self) -> String {
        json(self)
    }
}

impl Identity for Vec<cdmo_proto::agent::Container> {
    fn identity(&self) -> String {
        format!("{self:?}")
    }
}

fn json(value: &impl Serialize) -> String {
    // Maps with string keys and plain structs always serialise; an empty key would only mean that
    // the value is not shared correctly, which no type here can cause.
    serde_json::to_string(value).unwrap_or_default()
}

impl<T: Identity> Interner<T> {
    /// The shared copy of a value.
    pub fn intern(&mut self, value: T) -> Arc<T> {
        if self.values.len() >= self.sweep_at {
            self.sweep();
        }
        let key = value.identity().into_boxed_str();
        Arc::clone(self.values.entry(key).or_insert_with(|| Arc::new(value)))
    }

    /// Forgets what nobody else holds.
    pub fn sweep(&mut self) {
        self.values.retain(|_, value| Arc::strong_count(value) > 1);
        self.sweep_at = FEW.max(2 * self.values.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::Amounts;

    #[test]
    fn equal_values_are_kept_once_and_forgotten_when_unused() {
        let mut interner = Interner::default();
        let cpu = || Amounts::from([("cpu".to_owned(), 1)]);
        let first = interner.intern(cpu());
        assert!(Arc::ptr_eq(&first, &interner.intern(cpu())));
        assert!(!Arc::ptr_eq(&first, &interner.intern(Amounts::new())));
        drop(first);
        interner.sweep();
        assert!(interner.values.is_empty());
    }
}

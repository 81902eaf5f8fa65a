//! Which CDI spec files have to be there.
//!
//! The file of a device is written with its offer, before the kubelet hears of it. It stays while the
//! device exists, while the kubelet lists it, and while anything may hold it, because a restarted
//! container is made anew from the file. Then it goes. Since a device id comes back when its slot is
//! made again, nothing is offered under an id whose file is just being removed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Node, OpId};

/// Files that are there, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Specs {
    /// Whether files are kept at all.
    wanted: bool,
    /// Device ids with a file.
    there: BTreeSet<String>,
    /// Files that are being removed.
    leaving: BTreeMap<OpId, String>,
    /// Holds are known from then on.
    plugins_seen: bool,
}

impl Specs {
    pub(super) fn keep(&mut self, known: impl Iterator<Item = String>) {
        self.wanted = true;
        self.there.extend(known);
    }

    pub(super) fn plugins_seen(&mut self) {
        self.plugins_seen = true;
    }

    pub(super) fn offered(&mut self, id: &str) {
        if self.wanted {
            self.there.insert(id.to_owned());
        }
    }

    pub(super) fn is_leaving(&self, id: &str) -> bool {
        self.leaving.values().any(|leaving| leaving == id)
    }

    pub(super) fn removed(&mut self, op: OpId) {
        self.leaving.remove(&op);
    }
}

impl Node {
    /// Removes what nothing needs any more.
    pub(super) fn remove_specs(&mut self) {
        // Until the kubelet's list was told, what is known of holds can be older than a device.
        let telling = self.gpus.iter().any(|gpu| gpu.forgetting > 0);
        if !self.specs.plugins_seen || telling || self.specs.there.is_empty() {
            return;
        }
        let listed = self.plugins.resources.values().flat_map(|r| &r.devices);
        let mut needed: BTreeSet<&str> = listed.map(|device| &*device.id).collect();
        for (_, unit) in self.units() {
            let listed = unit.listed.as_ref().map(|(_, id)| id);
            needed.extend(unit.device.iter().chain(listed).map(String::as_str));
        }
        let there = self.specs.there.iter();
        let gone = there.filter(|id| !needed.contains(id.as_str()));
        for id in gone.cloned().collect::<Vec<_>>() {
            self.specs.there.remove(&id);
            let op = self.next_op;
            self.next_op += 1;
            self.specs.leaving.insert(op, id.clone());
            self.actions.push(Action::Undescribe { op, id });
        }
    }
}

//! The cluster's objects: what etcd, the API server's admission and its garbage collector do
//! together in a real cluster, behind one lock.
//!
//! Every operation is synchronous and takes microseconds, so that in-process controllers call it
//! directly and the HTTP layer calls it from async code. Objects are shared as
//! `Arc<serde_json::Value>` and never changed in place; watches read from a bounded history.

mod admission;
mod binding;
mod defaults;
mod draft;
mod history;
mod identity;
mod kinds;
pub mod object;
mod patch;
mod patching;
pub mod quantity;
mod quota;
mod remove;
pub mod selector;
mod state;
mod status;
mod typed;
mod validation;
mod write;

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

pub(crate) use admission::refill;
pub(crate) use draft::Draft;
pub use history::{Change, Event, Gone, Watch};
pub use kinds::{Info, Kind};
pub use object::set_condition;
pub use remove::{DeleteOptions, Propagation};
pub use status::{Cause, Status};
pub(crate) use typed::prune;
pub use write::{Patch, Subresource, WriteOptions};

use crate::behaviour::Behaviour;
use state::State;

/// How a store is made.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Changes remembered per kind; a watch that is further behind gets [`Gone`]. Each keeps two
    /// states of its object alive: some 20 kB for a pod.
    pub history: usize,
    /// From where uids and generated names are derived; random if none. The same seed and the
    /// same order of operations give the same uids.
    pub seed: Option<u64>,
    /// As which Kubernetes objects are understood: what older ones do not know is dropped.
    pub behaviour: Behaviour,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            history: 4096,
            seed: None,
            behaviour: Behaviour::default(),
        }
    }
}

/// The objects of one cluster. Clones share them.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Per kind: the version of its last change.
    signals: Vec<watch::Sender<u64>>,
}

/// Names one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds outside namespaces.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Names the object `name` in `namespace`, which is ignored for kinds outside namespaces.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.info().namespaced {
            namespace
        } else {
            ""
        };
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new(&StoreOptions::default())
    }
}

impl Store {
    /// A store with what every cluster has from the start: the namespaces `default`,
    /// `kube-system`, `kube-public` and `kube-node-lease`, and the two system priority classes.
    pub fn new(options: &StoreOptions) -> Self {
        let signals = Kind::ALL.iter().map(|_| watch::Sender::new(0)).collect();
        let store = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(options)),
                signals,
            }),
        };
        store.locked(State::bootstrap);
        store
    }

    /// The object, if it exists.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.locked(|state| state.get(&Key::new(kind, namespace, name)).cloned())
    }

    /// The object, or 404.
    pub fn find(&self, kind: Kind, namespace: &str, name: &str) -> Result<Arc<Value>, Status> {
        self.get(kind, namespace, name)
            .ok_or_else(|| Status::not_found(kind, name))
    }

    /// All objects of a kind, or those of one namespace, by namespace and name; and the version
    /// at which the list is true, from which [`Store::watch`] goes on without a gap.
    pub fn list(&self, kind: Kind, namespace: Option<&str>) -> (Vec<Arc<Value>>, u64) {
        self.locked(|state| (state.list(kind, namespace), state.version()))
    }

    /// The list as it was at an earlier version.
    pub fn list_at(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        version: u64,
    ) -> Result<Vec<Arc<Value>>, Gone> {
        self.locked(|state| state.list_at(kind, namespace, version))
    }

    /// The changes of a kind after version `from`.
    pub fn watch(&self, kind: Kind, from: u64) -> Result<Watch, Gone> {
        self.locked(|state| state.check_history(kind, from))?;
        let changed = self.shared.signals[kind.index()].subscribe();
        Ok(Watch::new(self.clone(), kind, from, changed))
    }

    /// All objects of a kind and the changes from there on.
    pub fn list_and_watch(&self, kind: Kind) -> (Vec<Arc<Value>>, Watch) {
        let changed = self.shared.signals[kind.index()].subscribe();
        let (items, version) = self.list(kind, None);
        (items, Watch::new(self.clone(), kind, version, changed))
    }

    /// The version of the last change of anything.
    pub fn version(&self) -> u64 {
        self.locked(|state| state.version())
    }

    /// The cluster's clock: wall time at the start plus what tokio's clock went on since, so
    /// that it stands still and jumps with paused time.
    pub fn now(&self) -> Timestamp {
        self.locked(|state| state.clock.now())
    }

    /// Forgets all history, as etcd's compaction does: every watch and list from an earlier
    /// version gets [`Gone`].
    pub fn compact(&self) {
        self.locked(State::compact);
        for signal in &self.shared.signals {
            signal.send_modify(|_| {});
        }
    }

    /// Creates an object: defaults, validation, uid, and a name from `generateName`.
    pub fn create(&self, kind: Kind, namespace: &str, object: Value) -> Result<Arc<Value>, Status> {
        self.create_with(kind, namespace, object, &WriteOptions::default())
    }

    /// [`Store::create`] with options.
    pub fn create_with(
        &self,
        kind: Kind,
        namespace: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Status> {
        self.locked(|state| state.create(kind, namespace, object, options))
    }

    /// Replaces all but the status. A `metadata.resourceVersion` in `object` must be the current
    /// one; without one the object is overwritten.
    pub fn update(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        object: Value,
    ) -> Result<Arc<Value>, Status> {
        let key = Key::new(kind, namespace, name);
        self.update_with(&key, object, Subresource::None, &WriteOptions::default())
    }

    /// Replaces the status (and labels and annotations, as the real server does).
    pub fn update_status(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        object: Value,
    ) -> Result<Arc<Value>, Status> {
        let key = Key::new(kind, namespace, name);
        self.update_with(&key, object, Subresource::Status, &WriteOptions::default())
    }

    /// [`Store::update`] and [`Store::update_status`] with options.
    pub fn update_with(
        &self,
        key: &Key,
        object: Value,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Status> {
        self.locked(|state| state.update(key, object, subresource, options))
    }

    /// Changes an object by a patch; an apply patch creates it if it is missing.
    pub fn patch(
        &self,
        key: &Key,
        patch: &Patch,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Status> {
        self.locked(|state| state.patch(key, patch, subresource, options))
    }

    /// The first step of [`Store::create_with`].
    pub(crate) fn draft_create(
        &self,
        kind: Kind,
        namespace: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Draft, Status> {
        self.locked(|state| state.draft_create(kind, namespace, object, options))
    }

    /// The first step of [`Store::update_with`].
    pub(crate) fn draft_update(
        &self,
        key: &Key,
        object: Value,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Draft, Status> {
        self.locked(|state| state.draft_update(key, object, subresource, options))
    }

    /// The first step of [`Store::patch`].
    pub(crate) fn draft_patch(
        &self,
        key: &Key,
        patch: &Patch,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Draft, Status> {
        self.locked(|state| state.draft_patch(key, patch, subresource, options))
    }

    /// The second step: checks and stores. Conflict if the object changed since it was drafted.
    pub(crate) fn settle(&self, draft: Draft) -> Result<Arc<Value>, Status> {
        self.locked(|state| state.settle(draft))
    }

    /// There are objects of this kind.
    pub(crate) fn has_any(&self, kind: Kind) -> bool {
        self.locked(|state| state.has_any(kind))
    }

    /// As which Kubernetes objects are understood.
    pub fn behaviour(&self) -> Behaviour {
        self.locked(|state| state.behaviour)
    }

    /// The objects of a kind that name this uid as one of their owners, by name.
    pub fn owned(&self, kind: Kind, uid: &str) -> Vec<Arc<Value>> {
        self.locked(|state| {
            let keys = state.dependents(uid);
            let keys = keys.iter().filter(|key| key.kind == kind);
            keys.filter_map(|key| state.get(key).cloned()).collect()
        })
    }

    /// Read, change, write, for controllers inside the cluster: spec and status alike, without
    /// validation. Nothing is written if `change` changes nothing.
    pub fn modify(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Arc<Value>, Status> {
        self.locked(|state| state.modify(&Key::new(kind, namespace, name), change))
    }

    /// Deletes an object, or begins to: a pod on a node waits for its kubelet, an object with
    /// finalizers for those who put them there. Returns the object as it was left.
    pub fn delete(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Arc<Value>, Status> {
        self.locked(|state| state.delete(&Key::new(kind, namespace, name), options))
    }

    /// Binds a pod to a node, as the scheduler's `binding` request does.
    pub fn bind(&self, namespace: &str, pod: &str, node: &str) -> Result<Arc<Value>, Status> {
        let binding = serde_json::json!({ "target": { "kind": "Node", "name": node } });
        self.bind_with(namespace, pod, &binding)
    }

    /// [`Store::bind`] with a whole `Binding` object.
    pub fn bind_with(
        &self,
        namespace: &str,
        pod: &str,
        binding: &Value,
    ) -> Result<Arc<Value>, Status> {
        self.locked(|state| state.bind(namespace, pod, binding))
    }

    /// Evicts a pod: a deletion that disruption budgets could refuse (there are none here).
    pub fn evict(
        &self,
        namespace: &str,
        pod: &str,
        options: &DeleteOptions,
    ) -> Result<Arc<Value>, Status> {
        self.delete(Kind::Pod, namespace, pod, options)
    }

    fn changes(&self, kind: Kind, from: u64, limit: usize) -> Result<Vec<Arc<Event>>, Gone> {
        self.locked(|state| state.changes(kind, from, limit))
    }

    fn locked<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let outcome = work(&mut state);
        let touched = state.take_touched();
        let version = state.version();
        drop(state);
        for kind in touched {
            self.shared.signals[kind.index()].send_replace(version);
        }
        outcome
    }
}

#[cfg(test)]
mod tests;

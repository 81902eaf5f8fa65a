//! What is behind the store's lock: objects, history, and the indexes that deletion needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::history::Ring;
use super::{Change, Event, Gone, Key, Kind, StoreOptions, object, quota};
use crate::behaviour::Behaviour;

type Objects = BTreeMap<(String, String), Arc<Value>>;

/// Wall time that follows tokio's clock.
#[derive(Debug)]
pub(super) struct Clock {
    wall: Timestamp,
    start: Instant,
}

impl Clock {
    pub(super) fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.start.elapsed()).unwrap_or_default();
        self.wall.checked_add(elapsed).unwrap_or(self.wall)
    }

    /// To the second, as in `metadata`.
    pub(super) fn seconds(&self) -> String {
        format!("{:.0}", self.now())
    }

    pub(super) fn seconds_after(&self, seconds: i64) -> String {
        let now = self.now();
        format!(
            "{:.0}",
            now.checked_add(SignedDuration::from_secs(seconds))
                .unwrap_or(now)
        )
    }
}

#[derive(Debug)]
pub(super) struct State {
    version: u64,
    objects: Vec<Objects>,
    rings: Vec<Ring>,
    /// Live objects by uid, and the objects that name a uid as their owner.
    uids: HashMap<String, Key>,
    dependents: HashMap<String, BTreeSet<Key>>,
    pub(super) clock: Clock,
    /// As which Kubernetes objects are understood.
    pub(super) behaviour: Behaviour,
    seed: Uuid,
    ids: u64,
    touched: Vec<Kind>,
}

impl State {
    pub(super) fn new(options: &StoreOptions) -> Self {
        let seed = match options.seed {
            Some(seed) => Uuid::new_v5(&Uuid::NAMESPACE_OID, &seed.to_be_bytes()),
            None => Uuid::new_v4(),
        };
        Self {
            version: 0,
            objects: Kind::ALL.iter().map(|_| Objects::new()).collect(),
            rings: Kind::ALL
                .iter()
                .map(|_| Ring::new(options.history))
                .collect(),
            uids: HashMap::new(),
            dependents: HashMap::new(),
            clock: Clock {
                wall: Timestamp::now(),
                start: Instant::now(),
            },
            behaviour: options.behaviour,
            seed,
            ids: 0,
            touched: Vec::new(),
        }
    }

    pub(super) fn bootstrap(&mut self) {
        let options = super::WriteOptions::default();
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let namespace = json!({ "metadata": { "name": name } });
            let _ = self.create(Kind::Namespace, "", namespace, &options);
        }
        let classes = [
            ("system-cluster-critical", 2_000_000_000_u32),
            ("system-node-critical", 2_000_001_000),
        ];
        for (name, value) in classes {
            let class = json!({ "metadata": { "name": name }, "value": value });
            let _ = self.create(Kind::PriorityClass, "", class, &options);
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        // BTreeMap cannot look up (String, String) by (&str, &str).
        self.objects[key.kind.index()].get(&(key.namespace.clone(), key.name.clone()))
    }

    pub(super) fn list(&self, kind: Kind, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let objects = &self.objects[kind.index()];
        match namespace {
            None => objects.values().cloned().collect(),
            Some(wanted) => objects
                .range((wanted.to_owned(), String::new())..)
                .take_while(|((namespace, _), _)| namespace == wanted)
                .map(|(_, object)| object.clone())
                .collect(),
        }
    }

    /// Undoes the changes after `version` on a copy of the current list.
    pub(super) fn list_at(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        version: u64,
    ) -> Result<Vec<Arc<Value>>, Gone> {
        let mut changes = self.rings[kind.index()].after(version)?.rev().peekable();
        if changes.peek().is_none() {
            return Ok(self.list(kind, namespace));
        }
        let mut objects = self.objects[kind.index()].clone();
        for event in changes {
            let key = (
                object::namespace(&event.object).to_owned(),
                object::name(&event.object).to_owned(),
            );
            match &event.previous {
                Some(previous) => objects.insert(key, previous.clone()),
                None => objects.remove(&key),
            };
        }
        objects.retain(|(inside, _), _| namespace.is_none_or(|wanted| wanted == inside));
        Ok(objects.into_values().collect())
    }

    pub(super) fn check_history(&self, kind: Kind, from: u64) -> Result<(), Gone> {
        self.rings[kind.index()].check(from)
    }

    pub(super) fn changes(
        &self,
        kind: Kind,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, Gone> {
        Ok(self.rings[kind.index()]
            .after(from)?
            .take(limit)
            .cloned()
            .collect())
    }

    pub(super) fn compact(&mut self) {
        for ring in &mut self.rings {
            ring.compact(self.version);
        }
    }

    pub(super) fn take_touched(&mut self) -> Vec<Kind> {
        std::mem::take(&mut self.touched)
    }

    pub(super) fn next_uid(&mut self) -> String {
        self.ids += 1;
        Uuid::new_v5(&self.seed, &self.ids.to_be_bytes()).to_string()
    }

    /// Five characters that Kubernetes would use in a generated name.
    pub(super) fn next_suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.ids += 1;
        let id = Uuid::new_v5(&self.seed, &self.ids.to_be_bytes());
        let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
        id.as_bytes().iter().take(5).map(letter).collect()
    }

    pub(super) fn has_any(&self, kind: Kind) -> bool {
        !self.objects[kind.index()].is_empty()
    }

    pub(super) fn namespace_is_empty(&self, namespace: &str) -> bool {
        Kind::ALL
            .iter()
            .filter(|kind| kind.info().namespaced)
            .all(|kind| {
                self.objects[kind.index()]
                    .range((namespace.to_owned(), String::new())..)
                    .next()
                    .is_none_or(|((first, _), _)| first != namespace)
            })
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Key> {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    pub(super) fn is_live(&self, uid: &str) -> bool {
        self.uids.contains_key(uid)
    }

    /// Stores a new or changed object under the next version.
    pub(super) fn commit(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        let slot = (key.namespace.clone(), key.name.clone());
        let previous = self.objects[key.kind.index()].insert(slot, object.clone());
        if let Some(previous) = &previous {
            self.unlink(key, previous);
        }
        self.link(key, &object);
        let change = if previous.is_some() {
            Change::Modified
        } else {
            Change::Added
        };
        self.record(key.kind, change, object.clone(), previous);
        quota::recount(self, key);
        object
    }

    /// Removes an object; its last state gets the version of the removal.
    pub(super) fn erase(&mut self, key: &Key, mut last: Value) -> Arc<Value> {
        self.version += 1;
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        let last = Arc::new(last);
        let slot = (key.namespace.clone(), key.name.clone());
        let previous = self.objects[key.kind.index()].remove(&slot);
        if let Some(previous) = &previous {
            self.unlink(key, previous);
        }
        self.record(key.kind, Change::Deleted, last.clone(), previous);
        quota::recount(self, key);
        last
    }

    fn record(
        &mut self,
        kind: Kind,
        change: Change,
        object: Arc<Value>,
        previous: Option<Arc<Value>>,
    ) {
        self.rings[kind.index()].push(Event::new(change, object, previous, self.version));
        if !self.touched.contains(&kind) {
            self.touched.push(kind);
        }
    }

    fn link(&mut self, key: &Key, object: &Value) {
        self.uids
            .insert(object::uid(object).to_owned(), key.clone());
        for owner in owners(object) {
            self.dependents
                .entry(owner.to_owned())
                .or_default()
                .insert(key.clone());
        }
    }

    fn unlink(&mut self, key: &Key, object: &Value) {
        self.uids.remove(object::uid(object));
        for owner in owners(object) {
            if let Some(keys) = self.dependents.get_mut(owner) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }
}

/// The uids of an object's owners.
pub(super) fn owners(object: &Value) -> impl Iterator<Item = &str> {
    object::array(object, "/metadata/ownerReferences")
        .iter()
        .map(|owner| object::text(owner, "/uid"))
}

//! A write in two steps, as in the real server: first what was sent is understood and defaulted,
//! then it is checked and stored. Between the two, outside the lock, mutating webhooks are asked;
//! a write that concerns none of them takes both steps at once.

use std::sync::Arc;

use serde_json::Value;

use super::admission;
use super::identity::{
    SYSTEM_METADATA, copy_member, keep_all_but_status, keep_system_metadata, prepare_identity,
    uid_conflict,
};
use super::patch::{self, Applied};
use super::state::State;
use super::{DeleteOptions, Key, Kind, Status, Subresource, WriteOptions, object, quota};

/// A write that was understood, but neither checked nor stored.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// What it is about; without a name if that is yet to be generated.
    pub(crate) key: Key,
    /// The object as it is; none if it is being created.
    pub(crate) old: Option<Arc<Value>>,
    /// The object as it shall be.
    pub(crate) object: Value,
    /// Which part of it is written.
    pub(crate) subresource: Subresource,
    /// How.
    pub(crate) options: WriteOptions,
    /// Somebody changed it since it was drafted.
    pub(crate) touched: bool,
}

impl State {
    pub(super) fn draft_create(
        &mut self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Draft, Status> {
        if let Some(metadata) = object.get_mut("metadata") {
            object::remove(metadata, "managedFields");
        }
        self.draft_new(kind, namespace, object, options)
    }

    pub(super) fn draft_new(
        &mut self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Draft, Status> {
        prepare_identity(kind, namespace, &mut object)?;
        if !object::text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let metadata = object::child(&mut object, "metadata");
        for member in SYSTEM_METADATA {
            object::remove(metadata, member);
        }
        object::remove(metadata, "selfLink");
        self.understand_new(kind, &mut object)?;
        let key = Key::new(kind, namespace, object::name(&object));
        self.check_namespace(&key)?;
        Ok(Draft {
            key,
            old: None,
            object,
            subresource: Subresource::None,
            options: options.clone(),
            touched: false,
        })
    }

    pub(super) fn draft_update(
        &mut self,
        key: &Key,
        object: Value,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Draft, Status> {
        let old = self.existing(key)?;
        let mut draft = self.draft_change(key, old, object, subresource, options)?;
        self.note_writer(&mut draft);
        Ok(draft)
    }

    /// From a whole new state of an object.
    pub(super) fn draft_change(
        &mut self,
        key: &Key,
        old: Arc<Value>,
        mut new: Value,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Draft, Status> {
        self.understand_change(key, &old, &mut new, subresource)?;
        Ok(Draft {
            key: key.clone(),
            old: Some(old),
            object: new,
            subresource,
            options: options.clone(),
            touched: false,
        })
    }

    /// Moves the fields that a plain write changes to the one who writes.
    pub(super) fn note_writer(&self, draft: &mut Draft) {
        let Some(old) = &draft.old else { return };
        let time = self.clock.seconds();
        let version = draft.key.kind.api_version();
        let manager = if draft.options.manager.is_empty() {
            "unknown"
        } else {
            &draft.options.manager
        };
        let by = Applied {
            manager,
            force: false,
            subresource: draft.subresource.name(),
            api_version: &version,
            time: &time,
        };
        patch::note_update(old, &mut draft.object, by);
    }

    /// Checks a draft and stores it.
    pub(super) fn settle(&mut self, draft: Draft) -> Result<Arc<Value>, Status> {
        match draft.old.clone() {
            None => self.settle_new(draft),
            Some(old) => self.settle_change(draft, &old),
        }
    }

    fn settle_new(&mut self, draft: Draft) -> Result<Arc<Value>, Status> {
        let Draft {
            key: Key {
                kind, namespace, ..
            },
            mut object,
            options,
            touched,
            ..
        } = draft;
        if touched {
            prepare_identity(kind, &namespace, &mut object)?;
            self.understand_new(kind, &mut object)?;
        }
        if object::name(&object).is_empty() {
            self.generate_name(kind, &mut object)?;
        }
        let uid = self.next_uid();
        let metadata = object::child(&mut object, "metadata");
        metadata["uid"] = uid.into();
        metadata["creationTimestamp"] = self.clock.seconds().into();
        if kind.info().generation {
            metadata["generation"] = 1.into();
        }
        admission::complete(self.behaviour, kind, &mut object)?;
        let key = Key::new(kind, &namespace, object::name(&object));
        self.check_namespace(&key)?;
        quota::check(self, &key, &object)?;
        if self.get(&key).is_some() {
            return Err(Status::already_exists(kind, &key.name));
        }
        if options.dry_run {
            return Ok(Arc::new(object));
        }
        let created = self.commit(&key, object);
        if self.is_orphaned(&created) {
            // Its owner was deleted while it was being made.
            let _ = self.delete(&key, &DeleteOptions::default());
        }
        Ok(created)
    }

    fn settle_change(&mut self, draft: Draft, old: &Arc<Value>) -> Result<Arc<Value>, Status> {
        let Draft {
            key,
            object: mut new,
            subresource,
            options,
            touched,
            ..
        } = draft;
        let current = self.existing(&key)?;
        if object::version(&current) != object::version(old) {
            return Err(Status::outdated(key.kind, &key.name));
        }
        if touched {
            self.understand_change(&key, old, &mut new, subresource)?;
        }
        admission::check_change(&key, old, &new)?;
        Ok(self.finish(&key, old, new, options.dry_run))
    }

    fn understand_new(&self, kind: Kind, object: &mut Value) -> Result<(), Status> {
        admission::understand(self.behaviour, kind, object)?;
        admission::prepare(kind, object, &|class| {
            self.get(&Key::new(Kind::PriorityClass, "", class)).cloned()
        })
    }

    fn understand_change(
        &self,
        key: &Key,
        old: &Arc<Value>,
        new: &mut Value,
        subresource: Subresource,
    ) -> Result<(), Status> {
        prepare_identity(key.kind, &key.namespace, new)?;
        let name = object::name(new);
        if name != key.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                key.name
            )));
        }
        let uid = object::uid(new);
        if !uid.is_empty() && uid != object::uid(old) {
            return Err(uid_conflict(key, uid, old));
        }
        let asked = object::text(new, "/metadata/resourceVersion");
        if !asked.is_empty() && asked != object::text(old, "/metadata/resourceVersion") {
            return Err(Status::outdated(key.kind, &key.name));
        }
        match subresource {
            Subresource::None if key.kind.info().status => copy_member(old, new, "status"),
            Subresource::None => {}
            Subresource::Status => keep_all_but_status(old, new),
        }
        keep_system_metadata(old, new);
        if new["metadata"].get("managedFields").is_none() {
            copy_member(&old["metadata"], &mut new["metadata"], "managedFields");
        }
        admission::understand(self.behaviour, key.kind, new)?;
        if subresource == Subresource::None {
            admission::prepare_change(key.kind, old, new);
        }
        Ok(())
    }
}

//! Create, update and modify: what may change, and what each change does to the metadata.

use std::sync::Arc;

use serde_json::Value;

use super::admission::{self, normalise};
use super::identity::{
    SYSTEM_METADATA, copy_member, keep_all_but_status, keep_system_metadata, prepare_identity,
    uid_conflict,
};
use super::patch::{self, Applied};
use super::state::{State, owners};
use super::{Cause, DeleteOptions, Key, Kind, Status, object};

/// How a patch changes an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// RFC 7386: members replace members, null removes.
    Merge(Value),
    /// RFC 6902: a list of operations.
    Json(Value),
    /// Kubernetes' strategic merge: lists of named things merge by name.
    Strategic(Value),
    /// Server-side apply: the part of the object that one manager wants.
    Apply(Value),
}

/// Which part of an object a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subresource {
    /// All but the status.
    None,
    /// The status, labels and annotations.
    Status,
}

impl Subresource {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Status => "status",
        }
    }
}

/// Options of a write, as they come in the query of a request.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Compute the outcome and check it, but store nothing.
    pub dry_run: bool,
    /// Who writes; required for an apply patch.
    pub manager: String,
    /// Take over fields that other managers applied.
    pub force: bool,
}

impl State {
    pub(super) fn create(
        &mut self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Status> {
        if let Some(metadata) = object.get_mut("metadata") {
            object::remove(metadata, "managedFields");
        }
        self.insert(kind, namespace, object, options)
    }

    pub(super) fn insert(
        &mut self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Status> {
        prepare_identity(kind, namespace, &mut object)?;
        if !object::text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let generated = object::name(&object).is_empty();
        if generated {
            self.generate_name(kind, &mut object)?;
        }
        let metadata = object::child(&mut object, "metadata");
        for member in SYSTEM_METADATA {
            object::remove(metadata, member);
        }
        object::remove(metadata, "selfLink");
        metadata["uid"] = self.next_uid().into();
        metadata["creationTimestamp"] = self.clock.seconds().into();
        if kind.info().generation {
            metadata["generation"] = 1.into();
        }
        normalise(kind, &mut object)?;
        admission::create(kind, &mut object, &|class| {
            self.get(&Key::new(Kind::PriorityClass, "", class)).cloned()
        })?;
        let key = Key::new(kind, namespace, object::name(&object));
        self.check_namespace(&key)?;
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

    pub(super) fn update(
        &mut self,
        key: &Key,
        object: Value,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Status> {
        let old = self.existing(key)?;
        self.replace(key, &old, object, subresource, options, false)
    }

    pub(super) fn modify(
        &mut self,
        key: &Key,
        change: impl FnOnce(&mut Value),
    ) -> Result<Arc<Value>, Status> {
        let old = self.existing(key)?;
        let mut new = Value::clone(&old);
        change(&mut new);
        keep_system_metadata(&old, &mut new);
        Ok(self.finish(key, &old, new, false))
    }

    pub(super) fn existing(&self, key: &Key) -> Result<Arc<Value>, Status> {
        self.get(key)
            .cloned()
            .ok_or_else(|| Status::not_found(key.kind, &key.name))
    }

    /// Checks a whole new state from outside against the old one, and stores it.
    pub(super) fn replace(
        &mut self,
        key: &Key,
        old: &Arc<Value>,
        mut new: Value,
        subresource: Subresource,
        options: &WriteOptions,
        applied: bool,
    ) -> Result<Arc<Value>, Status> {
        prepare_identity(key.kind, &key.namespace, &mut new)?;
        let name = object::name(&new);
        if name != key.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                key.name
            )));
        }
        let uid = object::uid(&new);
        if !uid.is_empty() && uid != object::uid(old) {
            return Err(uid_conflict(key, uid, old));
        }
        let asked = object::text(&new, "/metadata/resourceVersion");
        if !asked.is_empty() && asked != object::text(old, "/metadata/resourceVersion") {
            return Err(Status::outdated(key.kind, &key.name));
        }
        match subresource {
            Subresource::None if key.kind.info().status => copy_member(old, &mut new, "status"),
            Subresource::None => {}
            Subresource::Status => keep_all_but_status(old, &mut new),
        }
        keep_system_metadata(old, &mut new);
        if new["metadata"].get("managedFields").is_none() {
            copy_member(&old["metadata"], &mut new["metadata"], "managedFields");
        }
        normalise(key.kind, &mut new)?;
        admission::change(key, old, &mut new, subresource)?;
        if !applied {
            let time = self.clock.seconds();
            let version = key.kind.api_version();
            let manager = if options.manager.is_empty() {
                "unknown"
            } else {
                &options.manager
            };
            let by = Applied {
                manager,
                force: false,
                subresource: subresource.name(),
                api_version: &version,
                time: &time,
            };
            patch::note_update(old, &mut new, by);
        }
        Ok(self.finish(key, old, new, options.dry_run))
    }

    /// Stores `new` unless it is the same; completes a deletion that waited for finalizers.
    pub(super) fn finish(
        &mut self,
        key: &Key,
        old: &Arc<Value>,
        mut new: Value,
        dry_run: bool,
    ) -> Arc<Value> {
        copy_member(&old["metadata"], &mut new["metadata"], "resourceVersion");
        if new == **old {
            return old.clone();
        }
        if key.kind.info().generation && new.get("spec") != old.get("spec") {
            let generation = old["metadata"]["generation"].as_u64().unwrap_or(1) + 1;
            new["metadata"]["generation"] = generation.into();
        }
        if dry_run {
            return Arc::new(new);
        }
        if super::remove::may_go(&new) {
            return self.remove(key, new);
        }
        self.commit(key, new)
    }

    fn generate_name(&mut self, kind: Kind, object: &mut Value) -> Result<(), Status> {
        let prefix = object::text(object, "/metadata/generateName").to_owned();
        if prefix.is_empty() {
            let cause = Cause::required("metadata.name", "name or generateName is required");
            return Err(Status::invalid(kind, "", &[cause]));
        }
        let name = format!("{prefix}{}", self.next_suffix());
        object["metadata"]["name"] = name.into();
        Ok(())
    }

    fn check_namespace(&self, key: &Key) -> Result<(), Status> {
        if !key.kind.info().namespaced {
            return Ok(());
        }
        let namespace = Key::new(Kind::Namespace, "", &key.namespace);
        let Some(found) = self.get(&namespace) else {
            return Err(Status::not_found(Kind::Namespace, &key.namespace));
        };
        if object::is_deleting(found) {
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                key.namespace
            );
            return Err(Status::forbidden(key.kind, &key.name, why));
        }
        Ok(())
    }

    /// It has owners, and none of them exists.
    fn is_orphaned(&self, object: &Value) -> bool {
        let mut owners = owners(object).peekable();
        owners.peek().is_some() && owners.all(|uid| !self.is_live(uid))
    }
}

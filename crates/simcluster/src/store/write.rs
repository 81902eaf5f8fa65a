//! Create, update and modify: each is a draft that is settled at once.

use std::sync::Arc;

use serde_json::Value;

use super::identity::keep_system_metadata;
use super::state::{State, owners};
use super::{Cause, Key, Kind, Status, object};

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
        object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Status> {
        let draft = self.draft_create(kind, namespace, object, options)?;
        self.settle(draft)
    }

    pub(super) fn update(
        &mut self,
        key: &Key,
        object: Value,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Status> {
        let draft = self.draft_update(key, object, subresource, options)?;
        self.settle(draft)
    }

    pub(super) fn patch(
        &mut self,
        key: &Key,
        patch: &Patch,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Status> {
        let draft = self.draft_patch(key, patch, subresource, options)?;
        self.settle(draft)
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

    /// Stores `new` unless it is the same; completes a deletion that waited for finalizers.
    pub(super) fn finish(
        &mut self,
        key: &Key,
        old: &Arc<Value>,
        mut new: Value,
        dry_run: bool,
    ) -> Arc<Value> {
        super::identity::copy_member(&old["metadata"], &mut new["metadata"], "resourceVersion");
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

    pub(super) fn generate_name(&mut self, kind: Kind, object: &mut Value) -> Result<(), Status> {
        let prefix = object::text(object, "/metadata/generateName").to_owned();
        if prefix.is_empty() {
            let cause = Cause::required("metadata.name", "name or generateName is required");
            return Err(Status::invalid(kind, "", &[cause]));
        }
        // Names of pods are labels of 63 characters (apiserver/pkg/storage/names).
        let cut = prefix.floor_char_boundary(58);
        let name = format!("{}{}", &prefix[..cut], self.next_suffix());
        object["metadata"]["name"] = name.into();
        Ok(())
    }

    pub(super) fn check_namespace(&self, key: &Key) -> Result<(), Status> {
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
    pub(super) fn is_orphaned(&self, object: &Value) -> bool {
        let mut owners = owners(object).peekable();
        owners.peek().is_some() && owners.all(|uid| !self.is_live(uid))
    }
}

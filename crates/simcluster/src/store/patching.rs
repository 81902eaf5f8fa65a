//! Patches: each type changes a copy, which then is a draft like that of any update.

use serde_json::{Value, json};

use super::admission;
use super::draft::Draft;
use super::identity::prepare_identity;
use super::patch::{self, Applied, PatchError};
use super::state::State;
use super::{Cause, Key, Patch, Status, Subresource, WriteOptions, object};

impl State {
    pub(super) fn draft_patch(
        &mut self,
        key: &Key,
        patch: &Patch,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Draft, Status> {
        if let Patch::Apply(config) = patch {
            return self.apply(key, config, subresource, options);
        }
        let old = self.existing(key)?;
        let mut new = Value::clone(&old);
        let outcome = match patch {
            Patch::Merge(patch) => patch::merge(&mut new, patch),
            Patch::Json(patch) => patch::json(&mut new, patch),
            Patch::Strategic(patch) => patch::strategic(&mut new, patch),
            Patch::Apply(_) => Ok(()),
        };
        outcome.map_err(refused)?;
        let mut draft = self.draft_change(key, old, new, subresource, options)?;
        self.note_writer(&mut draft);
        Ok(draft)
    }

    fn apply(
        &mut self,
        key: &Key,
        config: &Value,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Draft, Status> {
        if options.manager.is_empty() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(Status::invalid_options("PatchOptions.meta.k8s.io", &cause));
        }
        let mut config = config.clone();
        prepare_identity(key.kind, &key.namespace, &mut config)?;
        object::set_default(&mut config["metadata"], "name", key.name.as_str());
        if !config["metadata"]["managedFields"].is_null() {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        let old = self.get(key).cloned();
        let mut new = match &old {
            Some(old) => Value::clone(old),
            None if subresource == Subresource::None => json!({}),
            None => return Err(Status::not_found(key.kind, &key.name)),
        };
        let time = self.clock.seconds();
        let version = key.kind.api_version();
        let by = Applied {
            manager: &options.manager,
            force: options.force,
            subresource: subresource.name(),
            api_version: &version,
            time: &time,
        };
        admission::tidy(self.behaviour, key.kind, &mut config)?;
        patch::apply(&mut new, &config, by).map_err(refused)?;
        match old {
            Some(old) => self.draft_change(key, old, new, subresource, options),
            None => self.draft_new(key.kind, &key.namespace, new, options),
        }
    }
}

fn refused(error: PatchError) -> Status {
    match error {
        PatchError::Malformed(why) => Status::bad_request(why),
        PatchError::DoesNotApply(why) => Status::unprocessable(why),
        PatchError::Conflicts(fields) => Status::apply_conflict(&fields),
    }
}

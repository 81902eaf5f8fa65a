//! Binding: how a pod gets its node, once.

use std::sync::Arc;

use serde_json::{Value, json};

use super::identity::uid_conflict;
use super::state::State;
use super::{Cause, Key, Kind, Status, object};

impl State {
    pub(super) fn bind(
        &mut self,
        namespace: &str,
        pod: &str,
        binding: &Value,
    ) -> Result<Arc<Value>, Status> {
        let key = Key::new(Kind::Pod, namespace, pod);
        let old = self.existing(&key)?;
        let node = object::text(binding, "/target/name");
        let wanted = object::uid(binding);
        if node.is_empty() {
            let cause = Cause::required("target.name", "");
            return Err(Status::invalid_options("Binding", &cause));
        }
        if !wanted.is_empty() && wanted != object::uid(&old) {
            return Err(uid_conflict(&key, wanted, &old));
        }
        let refusal = if object::is_deleting(&old) {
            Some(format!(
                "pod {pod} is being deleted, cannot be assigned to a host"
            ))
        } else if !object::text(&old, "/spec/nodeName").is_empty() {
            let current = object::text(&old, "/spec/nodeName");
            Some(format!("pod {pod} is already assigned to node {current:?}"))
        } else if !object::array(&old, "/spec/schedulingGates").is_empty() {
            Some(format!("pod {pod} has non-empty .spec.schedulingGates"))
        } else {
            None
        };
        if let Some(why) = refusal {
            return Err(Status::conflict(Kind::Pod, pod, why));
        }
        let mut new = Value::clone(&old);
        object::child(&mut new, "spec")["nodeName"] = node.into();
        let annotations = object::child(object::child(&mut new, "metadata"), "annotations");
        for (name, value) in object::pairs(binding, "/metadata/annotations") {
            annotations[name] = value.into();
        }
        if annotations
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
        {
            object::remove(&mut new["metadata"], "annotations");
        }
        let scheduled = json!({
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": null,
            "lastTransitionTime": self.clock.seconds(),
        });
        object::set_condition(&mut new, scheduled);
        Ok(self.finish(&key, &old, new, false))
    }
}

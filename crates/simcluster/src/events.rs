//! Writes Kubernetes Events: one object per object, reason and message, counted up when the same
//! happens again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::store::{Kind, Store, object};

/// How often a repeated Event is written anew; in between it is only counted.
const REPEAT: Duration = Duration::from_secs(1);
/// Different events remembered for counting up.
const REMEMBERED: usize = 4_096;

/// `type` of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// All is as it should be.
    Normal,
    /// Somebody may want to look.
    Warning,
}

/// Writes the Events of one component. Clones share what was written.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    store: Store,
    component: &'static str,
    host: String,
    written: Arc<Mutex<Written>>,
}

#[derive(Debug, Default)]
struct Written {
    /// By uid, reason and message.
    known: HashMap<Seen, Known>,
    order: VecDeque<Seen>,
    count: u64,
}

type Seen = (String, String, String);

#[derive(Debug)]
struct Known {
    namespace: String,
    name: String,
    count: u64,
    written: Instant,
}

impl Recorder {
    /// Events of `component`, on node `host` if it is not empty.
    pub(crate) fn new(store: Store, component: &'static str, host: &str) -> Self {
        Self {
            store,
            component,
            host: host.to_owned(),
            written: Arc::default(),
        }
    }

    /// Something happened to `about`. An Event that cannot be written is dropped, as in a real
    /// cluster.
    pub(crate) fn record(&self, about: &Value, severity: Severity, reason: &str, message: &str) {
        let uid = object::uid(about).to_owned();
        let seen = (uid.clone(), reason.to_owned(), message.to_owned());
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = written.known.get_mut(&seen) {
            known.count += 1;
            if known.written.elapsed() < REPEAT {
                return;
            }
            known.written = Instant::now();
            let (count, now) = (known.count, format!("{:.0}", self.store.now()));
            let counted = self
                .store
                .modify(Kind::Event, &known.namespace, &known.name, |event| {
                    event["count"] = count.into();
                    event["lastTimestamp"] = now.into();
                });
            if counted.is_ok() {
                return;
            }
        }
        written.count += 1;
        let namespace = match object::namespace(about) {
            "" => "default",
            namespace => namespace,
        };
        let host = if self.host.is_empty() {
            "scheduler"
        } else {
            &self.host
        };
        let name = format!("{}.{host}-{:x}", object::name(about), written.count);
        let event = self.event(about, severity, reason, message, &name);
        if self.store.create(Kind::Event, namespace, event).is_ok() {
            written.order.push_back(seen.clone());
            let namespace = namespace.to_owned();
            let known = Known {
                namespace,
                name,
                count: 1,
                written: Instant::now(),
            };
            written.known.insert(seen, known);
            if written.order.len() > REMEMBERED
                && let Some(oldest) = written.order.pop_front()
            {
                written.known.remove(&oldest);
            }
        }
    }

    fn event(
        &self,
        about: &Value,
        severity: Severity,
        reason: &str,
        message: &str,
        name: &str,
    ) -> Value {
        let now = format!("{:.0}", self.store.now());
        let mut involved = json!({
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": object::name(about),
            "uid": object::uid(about),
            "resourceVersion": object::text(about, "/metadata/resourceVersion"),
        });
        if !object::namespace(about).is_empty() {
            involved["namespace"] = object::namespace(about).into();
        }
        let mut source = json!({ "component": self.component });
        if !self.host.is_empty() {
            source["host"] = self.host.as_str().into();
        }
        json!({
            "metadata": { "name": name },
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": match severity { Severity::Normal => "Normal", Severity::Warning => "Warning" },
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        })
    }
}

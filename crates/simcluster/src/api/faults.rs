//! What goes wrong on purpose: slow answers, errors, and watches that break off.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::sync::watch;

use crate::store::Status;

/// Errors for the next requests that match.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Only requests with this method; any if none.
    pub method: Option<Method>,
    /// Only requests whose path contains this.
    pub path: String,
    /// What they are answered, such as [`Status::unavailable`].
    pub answer: Status,
    /// How many requests are answered so.
    pub times: u32,
}

/// The faults of one server; clones share them.
#[derive(Debug, Clone)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
    drops: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Plan {
    latency: Duration,
    faults: Vec<Fault>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            plan: Arc::default(),
            drops: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Faults {
    /// Delays every answer from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .latency = latency;
    }

    /// Adds an error; earlier ones strike first.
    pub fn add(&self, fault: Fault) {
        self.plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .faults
            .push(fault);
    }

    /// Breaks every open watch off in the middle, as a lost connection does.
    pub fn drop_watches(&self) {
        self.drops.send_modify(|count| *count += 1);
    }

    pub(super) async fn strike(&self, method: &Method, path: &str) -> Result<(), Status> {
        let (latency, answer) = {
            let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
            let found = plan.faults.iter_mut().find(|fault| {
                fault.times > 0
                    && fault.method.as_ref().is_none_or(|wanted| wanted == method)
                    && path.contains(&fault.path)
            });
            let answer = found.map(|fault| {
                fault.times -= 1;
                fault.answer.clone()
            });
            plan.faults.retain(|fault| fault.times > 0);
            (plan.latency, answer)
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        answer.map_or(Ok(()), Err)
    }

    pub(super) fn watch_drops(&self) -> watch::Receiver<u64> {
        self.drops.subscribe()
    }
}

//! Jobs: pods until so many have ended well, or too many badly. Indexed ones are treated as others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::driver::{Controller, Next};
use super::pods::{self, Hands, has_ended, is_active, is_ready, number};
use crate::events::Severity;
use crate::store::{Kind, Store, object};

/// Pause after the first failed pod; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_mins(6);

pub(super) struct Jobs {
    hands: Hands,
    /// By uid of the Job.
    counted: HashMap<String, Counted>,
}

/// Which pods of a Job were counted as ended, for they may be deleted afterwards.
#[derive(Debug, Default)]
struct Counted {
    uids: HashSet<String>,
    succeeded: usize,
    failed: usize,
    /// When the last one failed.
    last_failure: Option<Instant>,
}

impl Jobs {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            hands: Hands::new(store, "job-controller"),
            counted: HashMap::new(),
        }
    }

    fn count(&mut self, job: &Value, found: &[Arc<Value>]) -> &Counted {
        let counted = self.counted.entry(object::uid(job).to_owned()).or_default();
        for pod in found.iter().filter(|pod| has_ended(pod)) {
            if !counted.uids.insert(object::uid(pod).to_owned()) {
                continue;
            }
            if object::text(pod, "/status/phase") == "Succeeded" {
                counted.succeeded += 1;
            } else {
                counted.failed += 1;
                counted.last_failure = Some(Instant::now());
            }
        }
        counted
    }
}

impl Controller for Jobs {
    const OWNER: Kind = Kind::Job;
    const CHILD: Kind = Kind::Pod;

    async fn sync(&mut self, job: &Arc<Value>) -> Next {
        let has = |kind: &str| {
            object::array(job, "/status/conditions")
                .iter()
                .any(|c| c["type"] == kind && c["status"] == "True")
        };
        if has("Complete") || has("Failed") {
            self.counted.remove(object::uid(job));
            return Next::Rest;
        }
        let found = self.hands.store.owned(Kind::Pod, object::uid(job));
        let counted = self.count(job, &found);
        let (succeeded, failed) = (counted.succeeded, counted.failed);
        let pause = pause(failed);
        let held_back = counted
            .last_failure
            .map(|at| (at + pause).saturating_duration_since(Instant::now()))
            .filter(|left| !left.is_zero());
        let active: Vec<&Arc<Value>> = found.iter().filter(|pod| is_active(pod)).collect();
        let (completions, parallelism) = (
            job.pointer("/spec/completions").and_then(Value::as_u64),
            number(job, "/spec/parallelism"),
        );
        let enough = completions.map_or(succeeded > 0 && active.is_empty(), |wanted| {
            usize::try_from(wanted).is_ok_and(|wanted| succeeded >= wanted)
        });
        let too_many = failed > number(job, "/spec/backoffLimit");
        if enough || too_many {
            self.end(job, &active, succeeded, failed, enough);
            return Next::Rest;
        }
        let left = match completions {
            Some(wanted) => usize::try_from(wanted).map_or(0, |w| w - succeeded),
            // A queue of work: whoever found it empty ended well, and no more come.
            None if succeeded > 0 => 0,
            None => parallelism,
        };
        let wanted = if job["spec"]["suspend"] == true {
            0
        } else {
            parallelism.min(left)
        };
        for pod in active.iter().skip(wanted) {
            self.hands.delete(job, pod);
        }
        let mut next = Next::Rest;
        if active.len() < wanted {
            if let Some(left) = held_back {
                next = Next::After(left);
            } else {
                let missing = wanted - active.len();
                let (_, complete) = self.hands.make(job, Kind::Job, missing).await;
                next = if complete { Next::Rest } else { Next::Retry };
            }
        }
        self.tell(job, succeeded, failed);
        next
    }
}

impl Jobs {
    fn status(&self, job: &Value, succeeded: usize, failed: usize) -> Value {
        let found = self.hands.store.owned(Kind::Pod, object::uid(job));
        let active: Vec<&Arc<Value>> = found.iter().filter(|pod| is_active(pod)).collect();
        let mut status = pods::numbers(&[
            ("active", active.len()),
            ("succeeded", succeeded),
            ("failed", failed),
        ]);
        status["ready"] = active.iter().filter(|pod| is_ready(pod)).count().into();
        status["uncountedTerminatedPods"] = json!({});
        let started = job.pointer("/status/startTime").cloned();
        status["startTime"] = started.unwrap_or_else(|| self.hands.time().into());
        status
    }

    fn tell(&self, job: &Value, succeeded: usize, failed: usize) {
        let status = self.status(job, succeeded, failed);
        self.hands.tell(Kind::Job, job, &status);
    }

    /// It is over, well or badly.
    fn end(
        &self,
        job: &Value,
        active: &[&Arc<Value>],
        succeeded: usize,
        failed: usize,
        well: bool,
    ) {
        for pod in active {
            self.hands.delete(job, pod);
        }
        let now = self.hands.time();
        let mut status = self.status(job, succeeded, failed);
        let (condition, severity, event) = if well {
            status["completionTime"] = now.as_str().into();
            let message = "Reached expected number of succeeded pods";
            (
                ("Complete", true, "CompletionsReached", message),
                Severity::Normal,
                ("Completed", "Job completed"),
            )
        } else {
            let message = "Job has reached the specified backoff limit";
            (
                ("Failed", true, "BackoffLimitExceeded", message),
                Severity::Warning,
                ("BackoffLimitExceeded", message),
            )
        };
        pods::condition(&mut status, job, &now, condition);
        self.hands.tell(Kind::Job, job, &status);
        let (reason, message) = event;
        self.hands.recorder.record(job, severity, reason, message);
    }
}

fn pause(failed: usize) -> Duration {
    let doublings = u32::try_from(failed.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(LAST_PAUSE)
}

//! The life of one pod on its node, as a state machine without I/O: what its containers are is told
//! from outside, by level; what to do next comes out.
//!
//! Times are durations since any fixed start.

mod status;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::behaviour::Behaviour;
use crate::resources::is_sidecar;
use crate::runtime::{Record, State};
use crate::store::object;

pub(super) use status::{Network, rejected};

/// First pause before a crashed container is started again, after one start without any.
const CRASH_BACKOFF: Duration = Duration::from_secs(10);
/// Longest pause.
const MAX_CRASH_BACKOFF: Duration = Duration::from_mins(5);
/// A container that ran for so long starts counting its crashes anew.
const CRASH_RESET: Duration = Duration::from_mins(10);

/// What the worker is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a container.
    Start {
        /// Its name.
        container: String,
        /// The number of the attempt.
        attempt: u32,
    },
    /// Ask a container to end, and kill it after the grace period.
    Stop {
        /// Its name.
        container: String,
        /// The grace period.
        grace: Duration,
    },
}

/// Why a pod is made to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// Time for its containers.
    pub(super) grace: Duration,
    /// The kubelet failed it: reason and message of the status.
    pub(super) failure: Option<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    Sidecar,
    App,
}

#[derive(Debug)]
struct Container {
    name: String,
    kind: Kind,
    crashes: u32,
    /// Attempt whose end has been counted.
    counted: Option<u32>,
    /// Not started before.
    retry_at: Duration,
    /// Why it waits.
    waiting: Option<(String, String)>,
}

/// One pod.
#[derive(Debug)]
pub(super) struct Machine {
    behaviour: Behaviour,
    restart: Restart,
    containers: Vec<Container>,
    deadline: Option<Duration>,
    ending: Option<Ending>,
    retry_start: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    Always,
    OnFailure,
    Never,
}

type Seen<'a> = HashMap<&'a str, &'a Record>;

impl Machine {
    /// The machine of an admitted pod; a failed start is tried again after `retry_start`.
    pub(super) fn new(
        behaviour: Behaviour,
        pod: &Value,
        now: Duration,
        retry_start: Duration,
    ) -> Self {
        let container = |definition: &Value, kind| Container {
            name: object::text(definition, "/name").to_owned(),
            kind,
            crashes: 0,
            counted: None,
            retry_at: now,
            waiting: None,
        };
        let inits = object::array(pod, "/spec/initContainers")
            .iter()
            .map(|definition| {
                let kind = if is_sidecar(definition) {
                    Kind::Sidecar
                } else {
                    Kind::Init
                };
                container(definition, kind)
            });
        let apps = object::array(pod, "/spec/containers");
        let limit = pod
            .pointer("/spec/activeDeadlineSeconds")
            .and_then(Value::as_u64);
        Self {
            behaviour,
            restart: match object::text(pod, "/spec/restartPolicy") {
                "OnFailure" => Restart::OnFailure,
                "Never" => Restart::Never,
                _ => Restart::Always,
            },
            containers: inits
                .chain(apps.iter().map(|d| container(d, Kind::App)))
                .collect(),
            deadline: limit.map(|seconds| now + Duration::from_secs(seconds)),
            ending: None,
            retry_start,
        }
    }

    /// Makes the pod end; a second call can shorten the time and add the reason, no more.
    pub(super) fn end(&mut self, ending: Ending) {
        match &mut self.ending {
            Some(current) => {
                current.grace = current.grace.min(ending.grace);
                if current.failure.is_none() {
                    current.failure = ending.failure;
                }
            }
            None => self.ending = Some(ending),
        }
    }

    /// The pod is being ended.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// A container could not be started.
    pub(super) fn start_failed(&mut self, name: &str, reason: &str, message: &str, now: Duration) {
        let retry_at = now + self.retry_start;
        if let Some(container) = self.containers.iter_mut().find(|c| c.name == name) {
            container.retry_at = retry_at;
            container.waiting = Some((reason.to_owned(), message.to_owned()));
        }
    }

    /// What to do now, given the containers as they are.
    pub(super) fn step(&mut self, now: Duration, records: &[Record]) -> Vec<Action> {
        let seen: Seen<'_> = records.iter().map(|r| (r.container.as_str(), r)).collect();
        self.count_crashes(now, &seen);
        if self.deadline.is_some_and(|deadline| deadline <= now) && !self.has_ended(&seen) {
            self.deadline = None;
            let message = "Pod was active on the node longer than the specified deadline";
            self.end(Ending {
                grace: Duration::from_secs(30),
                failure: Some(("DeadlineExceeded".to_owned(), message.to_owned())),
            });
        }
        if let Some(ending) = &self.ending {
            return stop_all(&seen, ending.grace);
        }
        if self.outcome(&seen).is_some() {
            // Sidecars end when all others have.
            return stop_all(&seen, Duration::from_secs(30));
        }
        self.due(now, &seen)
    }

    /// When [`Machine::step`] will have something to do without any news.
    pub(super) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let waiting = self.containers.iter().map(|container| container.retry_at);
        waiting.chain(self.deadline).filter(|at| *at > now).min()
    }

    /// Nothing runs, and nothing will be started any more.
    pub(super) fn is_over(&self, records: &[Record]) -> bool {
        let seen: Seen<'_> = records.iter().map(|r| (r.container.as_str(), r)).collect();
        let stopped = !records.iter().any(|record| record.state.is_running());
        stopped && (self.ending.is_some() || self.outcome(&seen).is_some())
    }

    fn has_ended(&self, seen: &Seen<'_>) -> bool {
        self.ending.is_some() || self.outcome(seen).is_some()
    }

    fn count_crashes(&mut self, now: Duration, seen: &Seen<'_>) {
        for container in &mut self.containers {
            let Some(record) = seen.get(container.name.as_str()) else {
                continue;
            };
            let State::Exited { since, until, .. } = record.state else {
                container.waiting = None;
                continue;
            };
            if container.counted == Some(record.attempt) {
                continue;
            }
            container.counted = Some(record.attempt);
            let ran = Duration::try_from(until.duration_since(since)).unwrap_or_default();
            if ran >= CRASH_RESET {
                container.crashes = 0;
            }
            let pause = match container.crashes {
                0 => Duration::ZERO,
                n => (CRASH_BACKOFF * 2_u32.pow((n - 1).min(8))).min(MAX_CRASH_BACKOFF),
            };
            container.crashes += 1;
            container.retry_at = now + pause;
            if !pause.is_zero() {
                let message = format!(
                    "back-off {} restarting failed container={} pod={}",
                    seconds(pause),
                    container.name,
                    record.pod
                );
                container.waiting = Some(("CrashLoopBackOff".to_owned(), message));
            }
        }
    }

    /// The containers to start now.
    fn due(&self, now: Duration, seen: &Seen<'_>) -> Vec<Action> {
        let start = |container: &Container| {
            let attempt = seen
                .get(container.name.as_str())
                .map_or(0, |record| record.attempt + 1);
            Action::Start {
                container: container.name.clone(),
                attempt,
            }
        };
        let wants_start = |container: &Container| {
            let code = exit_code(seen, &container.name);
            let running = is_running(seen, &container.name);
            let may = match code {
                None => true,
                Some(code) => self.restarts(container.kind, code),
            };
            !running && may && container.retry_at <= now
        };
        let mut actions = Vec::new();
        let ready = self.initialized(seen);
        for container in &self.containers {
            let is_init = container.kind != Kind::App;
            // Once initialised, finished init containers stay finished; sidecars do not.
            let relevant = if ready {
                container.kind != Kind::Init
            } else {
                is_init
            };
            if relevant && wants_start(container) {
                actions.push(start(container));
            }
            let passed = match container.kind {
                Kind::Init => exit_code(seen, &container.name) == Some(0),
                Kind::Sidecar => is_running(seen, &container.name),
                Kind::App => true,
            };
            if !ready && is_init && !passed {
                break;
            }
        }
        actions
    }

    fn initialized(&self, seen: &Seen<'_>) -> bool {
        let app_seen = |c: &Container| c.kind == Kind::App && seen.contains_key(c.name.as_str());
        self.containers.iter().any(app_seen)
            || self
                .containers
                .iter()
                .all(|container| match container.kind {
                    Kind::Init => exit_code(seen, &container.name) == Some(0),
                    Kind::Sidecar => seen.contains_key(container.name.as_str()),
                    Kind::App => true,
                })
    }

    fn restarts(&self, kind: Kind, code: i32) -> bool {
        match (kind, self.restart) {
            (Kind::Sidecar, _) | (Kind::App, Restart::Always) => true,
            (Kind::App, Restart::OnFailure)
            | (Kind::Init, Restart::Always | Restart::OnFailure) => code != 0,
            // An init container that must not be restarted fails the pod; see `outcome`.
            (Kind::App | Kind::Init, Restart::Never) => false,
        }
    }

    /// `true` for success, `false` for failure, once no container will run again.
    fn outcome(&self, seen: &Seen<'_>) -> Option<bool> {
        let failed_init = self.containers.iter().any(|container| {
            container.kind == Kind::Init
                && self.restart == Restart::Never
                && exit_code(seen, &container.name).is_some_and(|code| code != 0)
        });
        if failed_init {
            return Some(false);
        }
        let mut success = true;
        for container in self.containers.iter().filter(|c| c.kind == Kind::App) {
            let code = exit_code(seen, &container.name)?;
            if self.restarts(Kind::App, code) {
                return None;
            }
            success &= code == 0;
        }
        Some(success)
    }
}

fn exit_code(seen: &Seen<'_>, name: &str) -> Option<i32> {
    match seen.get(name)?.state {
        State::Exited { code, .. } => Some(code),
        State::Running { .. } => None,
    }
}

fn is_running(seen: &Seen<'_>, name: &str) -> bool {
    seen.get(name)
        .is_some_and(|record| record.state.is_running())
}

fn stop_all(seen: &Seen<'_>, grace: Duration) -> Vec<Action> {
    let mut running: Vec<&str> = seen
        .values()
        .filter(|r| r.state.is_running())
        .map(|r| r.container.as_str())
        .collect();
    running.sort_unstable();
    running
        .into_iter()
        .map(|name| Action::Stop {
            container: name.to_owned(),
            grace,
        })
        .collect()
}

/// As Go prints whole seconds: `40s`, `2m40s`.
fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests;

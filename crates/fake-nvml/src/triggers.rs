//! Faults: what goes wrong at the n-th call of a function.
//!
//! Triggers live in the shared state, so that they count the calls of all processes of the host
//! and keep counting when a process is killed and started again.

use serde::{Deserialize, Serialize};

/// A trigger with the number of calls that it has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trigger {
    /// NVML function.
    pub(crate) call: String,
    /// Counts calls for this GPU (index) only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gpu: Option<usize>,
    /// The first call to act on, from 1.
    pub(crate) nth: u64,
    /// How many calls in a row to act on; 0 is for ever.
    pub(crate) repeat: u64,
    /// Calls seen so far.
    pub(crate) seen: u64,
    /// What to do.
    pub(crate) action: Action,
}

/// What a trigger does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// The call goes wrong.
    Fail(Failure),
    /// A hardware error appears.
    Xid(Xid),
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What is done and what is said.
    pub(crate) effect: Effect,
    /// NVML return code for [`Effect::Refuse`] and [`Effect::Perform`].
    pub(crate) code: u32,
    /// Additional latency in milliseconds, before anything else.
    pub(crate) delay_ms: f64,
}

/// What a failing call does before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing is done; the code is returned.
    #[default]
    Refuse,
    /// It is done, but the code is returned.
    Perform,
    /// Nothing is done, but success is returned.
    Pretend,
    /// Nothing happens but the delay.
    Delay,
    /// The calling process is killed before anything is done.
    CrashBefore,
    /// The calling process is killed when it is done, before it learns of it.
    CrashAfter,
}

/// A hardware error as it reaches NVML's event sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Xid {
    /// GPU index.
    pub gpu: usize,
    /// NVIDIA's error number.
    pub xid: u64,
    /// GPU instance id, if the error can be attributed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gi: Option<u32>,
    /// Compute instance id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<u32>,
}

/// A fault as configuration and tests describe it. All but the call has a default: the first call
/// returns `NVML_ERROR_UNKNOWN` and does nothing.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// NVML function.
    pub call: String,
    /// Counts calls for this GPU (index) only.
    #[serde(default)]
    pub gpu: Option<usize>,
    /// The first call that goes wrong, from 1.
    #[serde(default = "one")]
    pub nth: u64,
    /// How many calls in a row go wrong; 0 is for ever.
    #[serde(default = "one")]
    pub repeat: u64,
    /// What is done and what is said.
    #[serde(default)]
    pub effect: Effect,
    /// NVML return code.
    #[serde(default = "unknown")]
    pub code: u32,
    /// Additional latency in milliseconds.
    #[serde(default)]
    pub delay_ms: f64,
}

fn one() -> u64 {
    1
}

fn unknown() -> u32 {
    crate::model::Code::UNKNOWN.0
}

impl Fault {
    /// The first call to `call` is refused with `code`.
    pub fn new(call: &str, code: u32) -> Self {
        Self {
            call: call.to_owned(),
            gpu: None,
            nth: 1,
            repeat: 1,
            effect: Effect::Refuse,
            code,
            delay_ms: 0.0,
        }
    }

    /// The trigger that makes it happen.
    pub(crate) fn trigger(&self) -> Trigger {
        let Self {
            effect,
            code,
            delay_ms,
            ..
        } = *self;
        Trigger {
            call: self.call.clone(),
            gpu: self.gpu,
            nth: self.nth,
            repeat: self.repeat,
            seen: 0,
            action: Action::Fail(Failure {
                effect,
                code,
                delay_ms,
            }),
        }
    }
}

impl Trigger {
    /// Whether a call concerns this trigger.
    pub(crate) fn concerns(&self, call: &str, gpu: Option<usize>) -> bool {
        self.call == call && (self.gpu.is_none() || self.gpu == gpu)
    }

    /// Counts one call that concerns it and says whether to act on it.
    pub(crate) fn fires(&mut self) -> bool {
        self.seen += 1;
        self.seen >= self.nth && (self.repeat == 0 || self.seen - self.nth < self.repeat)
    }
}

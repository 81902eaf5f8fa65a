//! The configuration as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::gpu::{Process as Running, ProcessKind};
use crate::triggers::{Action, Fault, Trigger, Xid as Error};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    pub(super) host: Host,
    pub(super) latency_ms: BTreeMap<String, f64>,
    pub(super) gpu: Vec<Gpu>,
    pub(super) instance: Vec<Instance>,
    pub(super) process: Vec<Process>,
    pub(super) fault: Vec<Fault>,
    pub(super) xid: Vec<Xid>,
}

/// `[host]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Host {
    pub(super) driver_version: String,
    pub(super) cuda_version: i32,
    /// Relative to the configuration file.
    pub(super) state: Option<String>,
    /// GPU uuids are derived from it; the path of the state file if absent.
    pub(super) seed: Option<String>,
    pub(super) privileged: bool,
    pub(super) capacity_needs_mig_mode: bool,
    pub(super) uuids_repeat: bool,
    pub(super) view_lag_ms: f64,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            driver_version: "580.126.09".to_owned(),
            cuda_version: 13_000,
            state: None,
            seed: None,
            privileged: true,
            capacity_needs_mig_mode: false,
            uuids_repeat: true,
            view_lag_ms: 0.0,
        }
    }
}

/// `[[gpu]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Gpu {
    pub(super) board: String,
    pub(super) count: usize,
    /// Slot 3 is the fused one instead of slot 7.
    pub(super) flipped: bool,
    pub(super) fused_slot: Option<u32>,
    /// Mode at the first boot.
    pub(super) mig: bool,
    pub(super) reset_works: bool,
    /// Device minor numbers, one for each of `count`; the index if absent.
    pub(super) minors: Vec<u32>,
    pub(super) uuid: Option<String>,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            board: "A100-SXM4-40GB".to_owned(),
            count: 1,
            flipped: false,
            fused_slot: None,
            mig: false,
            reset_works: true,
            minors: Vec::new(),
            uuid: None,
        }
    }
}

/// `[[instance]]`: exists at the first boot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Instance {
    #[serde(default)]
    pub(super) gpu: usize,
    pub(super) profile: String,
    pub(super) start: Option<u32>,
    /// Whether it has the compute instance that fills it.
    #[serde(default = "yes")]
    pub(super) compute: bool,
}

fn yes() -> bool {
    true
}

/// `[[process]]`: runs at the first boot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Process {
    #[serde(default)]
    pub(super) gpu: usize,
    pid: u32,
    gi: Option<u32>,
    ci: Option<u32>,
    #[serde(default)]
    kind: ProcessKind,
    #[serde(default)]
    memory_mib: u64,
    #[serde(default)]
    name: String,
}

impl Process {
    pub(super) fn process(&self) -> Running {
        Running {
            pid: self.pid,
            gi: self.gi,
            ci: self.ci.or(self.gi.map(|_| 0)),
            kind: self.kind,
            memory_mib: self.memory_mib,
            name: self.name.clone(),
        }
    }
}

fn one() -> u64 {
    1
}

/// `[[xid]]`: appears at the n-th call, by default when a client first waits for events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Xid {
    #[serde(default)]
    gpu: usize,
    #[serde(rename = "xid")]
    number: u64,
    gi: Option<u32>,
    ci: Option<u32>,
    #[serde(default = "wait")]
    call: String,
    #[serde(default = "one")]
    nth: u64,
}

fn wait() -> String {
    "nvmlEventSetWait_v2".to_owned()
}

impl Xid {
    pub(super) fn trigger(&self) -> Trigger {
        Trigger {
            call: self.call.clone(),
            gpu: None,
            nth: self.nth,
            repeat: 1,
            seen: 0,
            action: Action::Xid(Error {
                gpu: self.gpu,
                xid: self.number,
                gi: self.gi,
                ci: self.ci,
            }),
        }
    }
}

//! The configuration of a simulated host, from TOML to hardware.
//!
//! Everything has a default; an empty file is a host with one A100-SXM4-40GB. Names are checked
//! while reading, so that a misspelt call or board is a sentence and not a fault that never comes.

mod raw;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::calls::{CALLS, WITHOUT_RESULT};
use crate::host::{Board, Hardware, State};
use crate::model::{self, Chip, Placement};
use crate::triggers::{Action, Effect, Failure, Fault, Trigger, Xid};

/// Why a configuration cannot be used, or the simulated host not be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("failed to read the configuration {}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML of the expected form.
    #[error("failed to understand the configuration {}: {message}", path.display())]
    Parse {
        /// File.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A value makes no sense.
    #[error("the configuration {} is wrong: {message}", path.display())]
    Value {
        /// File.
        path: PathBuf,
        /// What, and what would be right.
        message: String,
    },
    /// The state file or a lock beside it cannot be used.
    #[error("failed to {action} {}", path.display())]
    State {
        /// What was tried.
        action: &'static str,
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The state file holds something else.
    #[error("{} is not the state of a simulated host ({message}); delete it to start afresh", path.display())]
    Garbled {
        /// File.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The simulated driver refused what was asked.
    #[error("the simulated driver refused to {action}: NVML code {code}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// NVML return code.
        code: u32,
    },
}

/// A configuration that was found to make sense.
#[derive(Debug)]
pub(crate) struct Config {
    /// What the host has.
    pub(crate) hardware: Hardware,
    /// Where the driver's state is kept.
    pub(crate) state: PathBuf,
    /// The driver's state at the first boot.
    pub(crate) first: State,
}

impl Config {
    /// Reads a configuration file.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, path, &folder.join("fake-nvml.state"))
    }

    /// The host that is simulated when nothing is configured: one A100-SXM4-40GB with MIG mode
    /// off, whose state is kept below the temporary folder, one per user.
    pub(crate) fn built_in() -> Result<Self, Error> {
        let user = rustix::process::getuid().as_raw();
        let folder = std::env::temp_dir().join(format!("fake-nvml-{user}"));
        std::fs::create_dir_all(&folder).map_err(|source| Error::State {
            action: "create",
            path: folder.clone(),
            source,
        })?;
        Self::parse("", Path::new("(built in)"), &folder.join("fake-nvml.state"))
    }

    /// Understands the text of a configuration. `path` is for messages and relative paths,
    /// `state` the place of the state file unless the text names another.
    pub(crate) fn parse(text: &str, path: &Path, state: &Path) -> Result<Self, Error> {
        let raw: raw::Config = toml::from_str(text).map_err(|error| Error::Parse {
            path: path.to_owned(),
            message: error.to_string().trim().replace('\n', " "),
        })?;
        let wrong = |message| Error::Value {
            path: path.to_owned(),
            message,
        };
        let state = match &raw.host.state {
            Some(named) => path.parent().unwrap_or(Path::new(".")).join(named),
            None => state.to_owned(),
        };
        let seed = raw
            .host
            .seed
            .clone()
            .unwrap_or_else(|| state.display().to_string());
        let (hardware, modes) = hardware(&raw, &seed).map_err(wrong)?;
        let mut first = State::first_boot(&hardware);
        for (gpu, on) in first.gpus.iter_mut().zip(modes) {
            Arc::make_mut(gpu).mode = model::mode::Mode {
                current: on,
                pending: on,
            };
        }
        for instance in &raw.instance {
            create(&hardware, &mut first, instance).map_err(wrong)?;
        }
        for process in &raw.process {
            let gpu = first.gpu_mut(process.gpu);
            let gpu = gpu.map_err(|_| wrong(no_gpu("process", process.gpu)))?;
            gpu.start_process(process.process()).map_err(|_| {
                wrong(format!(
                    "[[process]] on gpu {} names an instance that does not exist, or the whole \
                     GPU although it is partitioned",
                    process.gpu
                ))
            })?;
        }
        first.triggers = triggers(&raw, &hardware).map_err(wrong)?;
        Ok(Self {
            hardware,
            state,
            first,
        })
    }
}

fn no_gpu(what: &str, gpu: usize) -> String {
    format!("[[{what}]] names gpu {gpu}, which the host does not have (they count from 0)")
}

/// The hardware, and for each GPU whether MIG mode is on at the first boot.
fn hardware(raw: &raw::Config, seed: &str) -> Result<(Hardware, Vec<bool>), String> {
    let default = [raw::Gpu::default()];
    let rows = if raw.gpu.is_empty() {
        &default[..]
    } else {
        &raw.gpu
    };
    let mut gpus: Vec<Board> = Vec::new();
    let mut modes = Vec::new();
    for row in rows {
        let board = model::Board::find(&row.board).ok_or_else(|| {
            let known: Vec<_> = model::board::BOARDS.iter().map(|board| board.key).collect();
            format!(
                "no board \"{}\" is known; known are {}",
                row.board,
                known.join(", ")
            )
        })?;
        if row.mig && !board.mig_capable() {
            return Err(format!(
                "\"{}\" has no MIG, so mig = true cannot be",
                row.board
            ));
        }
        if row.uuid.is_some() && row.count != 1 {
            return Err("uuid is for a single GPU, count must be 1 beside it".to_owned());
        }
        let fused = row.fused_slot.unwrap_or(if row.flipped { 3 } else { 7 });
        if fused > 7 {
            return Err(format!("fused_slot = {fused}, but slots count from 0 to 7"));
        }
        for nth in 0..row.count {
            let index = gpus.len();
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            if index >= 32 {
                return Err("a host has 32 GPUs at most".to_owned());
            }
            let uuid = match &row.uuid {
                Some(text) => Uuid::parse_str(text.trim_start_matches("GPU-"))
                    .map_err(|_| format!("uuid = \"{text}\" is not one; write GPU-xxxxxxxx-..."))?,
                None => Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{seed}/{index}").as_bytes()),
            };
            let minor = row.minors.get(nth).copied().unwrap_or(number);
            let chip = Chip {
                board,
                grid: board.grid(fused),
                reset_works: row.reset_works,
            };
            let twin = |other: &Board| other.minor == minor || other.uuid == uuid;
            if gpus.iter().any(twin) {
                return Err(format!(
                    "two GPUs have minor number {minor} or uuid GPU-{uuid}"
                ));
            }
            gpus.push(Board {
                chip,
                uuid,
                minor,
                bus: 7 + 8 * (number & 31),
            });
            modes.push(row.mig);
        }
    }
    milliseconds("view_lag_ms", raw.host.view_lag_ms)?;
    for (name, &value) in &raw.latency_ms {
        if name != "default" {
            known_call("latency_ms", name)?;
        }
        milliseconds(name, value)?;
    }
    let fingerprint = format!("{:?}", (&gpus, raw.host.uuids_repeat));
    let hardware = Hardware {
        driver_version: raw.host.driver_version.clone(),
        cuda_version: raw.host.cuda_version,
        privileged: raw.host.privileged,
        capacity_needs_mig_mode: raw.host.capacity_needs_mig_mode,
        view_lag_ms: raw.host.view_lag_ms,
        uuids_repeat: raw.host.uuids_repeat,
        latency_ms: raw.latency_ms.clone(),
        fingerprint: Uuid::new_v5(&Uuid::NAMESPACE_OID, fingerprint.as_bytes()),
        gpus,
    };
    Ok((hardware, modes))
}

fn create(hardware: &Hardware, state: &mut State, wish: &raw::Instance) -> Result<(), String> {
    let what = format!("[[instance]] {} on gpu {}", wish.profile, wish.gpu);
    let chip = &hardware
        .gpus
        .get(wish.gpu)
        .ok_or_else(|| no_gpu("instance", wish.gpu))?
        .chip;
    let profile = chip.board.by_name(&wish.profile).ok_or_else(|| {
        let known: Vec<_> = chip
            .board
            .profiles
            .iter()
            .map(|profile| profile.name)
            .collect();
        format!("{what}: {} has {}", chip.board.name, known.join(", "))
    })?;
    let made = if wish.compute {
        state.create_full(hardware, wish.gpu, profile, wish.start)
    } else {
        let size = (chip.grid.slots >> profile.shape.level) * chip.grid.unit;
        let place = wish.start.map(|start| Placement { start, size });
        let serial = state.serial();
        state
            .gpu_mut(wish.gpu)
            .and_then(|gpu| gpu.create_instance(chip, profile.id, place, serial))
    };
    made.map(drop).map_err(|code| match code {
        model::Code::NOT_SUPPORTED => format!("{what}: this GPU needs mig = true"),
        model::Code::INVALID_ARGUMENT => format!("{what}: it cannot start there"),
        _ => format!("{what}: there is no room for it"),
    })
}

fn triggers(raw: &raw::Config, hardware: &Hardware) -> Result<Vec<Trigger>, String> {
    let faults = raw.fault.iter().map(Fault::trigger);
    let xids = raw.xid.iter().map(raw::Xid::trigger);
    let triggers: Vec<Trigger> = faults.chain(xids).collect();
    triggers
        .iter()
        .try_for_each(|trigger| check(trigger, hardware.gpus.len()))?;
    Ok(triggers)
}

/// Says what is wrong with a trigger for a host of so many GPUs.
pub(crate) fn check(trigger: &Trigger, gpus: usize) -> Result<(), String> {
    let (what, gpu) = match trigger.action {
        Action::Fail(Failure {
            effect, delay_ms, ..
        }) => {
            milliseconds("delay_ms", delay_ms)?;
            if effect == Effect::Pretend && !WITHOUT_RESULT.contains(&trigger.call.as_str()) {
                let allowed = WITHOUT_RESULT.join(" and ");
                return Err(format!(
                    "[[fault]] effect = \"pretend\" works for {allowed} only"
                ));
            }
            ("fault", trigger.gpu)
        }
        Action::Xid(Xid { gpu, .. }) => ("xid", Some(gpu)),
    };
    known_call(what, &trigger.call)?;
    if trigger.nth == 0 {
        return Err(format!("[[{what}]] nth counts from 1"));
    }
    match gpu.or(trigger.gpu) {
        Some(gpu) if gpu >= gpus => Err(no_gpu(what, gpu)),
        _ => Ok(()),
    }
}

/// Says whether a call of that name exists.
pub(crate) fn known_call(what: &str, call: &str) -> Result<(), String> {
    if CALLS.contains(&call) {
        return Ok(());
    }
    Err(format!(
        "[{what}] names \"{call}\", which is no NVML call of this library"
    ))
}

/// Says whether a latency makes sense.
pub(crate) fn milliseconds(name: &str, value: f64) -> Result<(), String> {
    if (0.0..=3_600_000.0).contains(&value) {
        return Ok(());
    }
    Err(format!(
        "{name} = {value} is not a number of milliseconds between 0 and an hour"
    ))
}

#[cfg(test)]
mod tests;

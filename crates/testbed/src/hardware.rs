//! The simulated GPUs of a node: how a person writes them, and the driver library that plays them.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Boards by the names that people use, and by the key of the simulated driver.
const BOARDS: [(&str, &str); 8] = [
    ("A30", "A30"),
    ("A100-40GB", "A100-SXM4-40GB"),
    ("A100-80GB", "A100-SXM4-80GB"),
    ("H100-80GB", "H100-80GB-HBM3"),
    ("H100-PCIE", "H100-PCIe"),
    ("H200", "H200"),
    ("RTX-PRO-6000", "RTX-PRO-6000"),
    ("T4", "T4"),
];

/// Most GPUs that a node may have.
const MOST_GPUS: u32 = 16;

/// Some equal GPUs of one node, for example `A100-40GB:4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpus {
    /// The board's key in the simulated driver, for example `A100-SXM4-40GB`.
    pub board: String,
    /// How many.
    pub count: u32,
}

/// Why a text does not name GPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseGpusError {
    /// No such board.
    #[error("no board is called {0:?}; known are {known}", known = known())]
    Board(String),
    /// Not a count.
    #[error("{0:?} is no number of GPUs from 1 to {MOST_GPUS}; write for example A100-40GB:4")]
    Count(String),
}

fn known() -> String {
    BOARDS.map(|(name, _)| name).join(", ")
}

impl Gpus {
    /// `count` boards of that name.
    pub fn new(board: &str, count: u32) -> Result<Self, ParseGpusError> {
        let key = BOARDS
            .iter()
            .find(|(name, key)| name.eq_ignore_ascii_case(board) || key.eq_ignore_ascii_case(board))
            .ok_or_else(|| ParseGpusError::Board(board.to_owned()))?;
        if count == 0 || count > MOST_GPUS {
            return Err(ParseGpusError::Count(count.to_string()));
        }
        Ok(Self {
            board: key.1.to_owned(),
            count,
        })
    }
}

impl FromStr for Gpus {
    type Err = ParseGpusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (board, count) = text.split_once(':').unwrap_or((text, "1"));
        let count = count
            .parse()
            .map_err(|_| ParseGpusError::Count(count.to_owned()))?;
        Self::new(board, count)
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.board, self.count)
    }
}

/// How long the simulated driver takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Milliseconds to create a GPU instance.
    pub create_ms: u64,
    /// Milliseconds to destroy one.
    pub destroy_ms: u64,
    /// Milliseconds to look at a compute instance, which is also done right after it was made.
    pub look_ms: u64,
}

impl Latency {
    /// As measured on real A100 and H100.
    pub const REAL: Self = Self {
        create_ms: 600,
        destroy_ms: 1000,
        look_ms: 0,
    };
    /// No time at all.
    pub const NONE: Self = Self {
        create_ms: 0,
        destroy_ms: 0,
        look_ms: 0,
    };
}

/// One simulated host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its GPUs.
    pub gpus: Vec<Gpus>,
    /// How long its driver takes.
    pub latency: Latency,
    /// Further lines of its driver's configuration: faults, processes.
    pub extra: String,
}

impl Host {
    /// The configuration of the simulated driver. The seed keeps the uuids of hosts apart.
    pub fn config(&self, seed: &str) -> String {
        let mut toml = format!(
            "[host]\nseed = \"{seed}\"\n\n[latency_ms]\n\
             nvmlDeviceCreateGpuInstanceWithPlacement = {}\nnvmlGpuInstanceDestroy = {}\n\
             nvmlComputeInstanceGetInfo_v2 = {}\n",
            self.latency.create_ms, self.latency.destroy_ms, self.latency.look_ms
        );
        for gpus in &self.gpus {
            // Writing to a String cannot fail.
            let _ = write!(
                toml,
                "\n[[gpu]]\nboard = \"{}\"\ncount = {}\n",
                gpus.board, gpus.count
            );
        }
        toml.push_str(&self.extra);
        toml
    }
}

/// Where the driver of a node lies, below the node's host root.
pub const LIBRARY: &str = "usr/lib/libnvidia-ml.so.1";

/// Puts the driver library and its configuration below a node's host root and returns the
/// configuration's path.
pub fn install(
    library: &Path,
    host_root: &Path,
    seed: &str,
    host: &Host,
) -> std::io::Result<PathBuf> {
    let target = host_root.join(LIBRARY);
    let folder = target.parent().unwrap_or(host_root);
    std::fs::create_dir_all(folder)?;
    // A link saves the copy; across file systems there is none.
    if std::fs::hard_link(library, &target).is_err() {
        std::fs::copy(library, &target)?;
    }
    let config = folder.join("fake-nvml.toml");
    std::fs::write(&config, host.config(seed))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_go_by_short_and_by_full_name() {
        let gpus: Gpus = "A100-40GB:8".parse().unwrap();
        assert_eq!(
            gpus,
            Gpus {
                board: "A100-SXM4-40GB".into(),
                count: 8
            }
        );
        assert_eq!("a100-sxm4-40gb:8".parse(), Ok(gpus));
        assert_eq!(
            "A30".parse(),
            Ok(Gpus {
                board: "A30".into(),
                count: 1
            })
        );
    }

    #[test]
    fn wrong_boards_and_counts_are_told_what_is_right() {
        let error = "B9000:2".parse::<Gpus>().unwrap_err().to_string();
        assert!(
            error.contains("B9000") && error.contains("A100-40GB"),
            "{error}"
        );
        for count in ["0", "17", "many", ""] {
            let error = format!("A30:{count}").parse::<Gpus>().unwrap_err();
            assert_eq!(error, ParseGpusError::Count(count.to_owned()));
        }
    }
}

//! The controller as a process of its own, and what the kernel and its log tell of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use testbed::certs::Files;
use testbed::{http, manifests};
use tokio::process::{Child, Command};

/// Level of the log: the parts of passes, and what goes wrong.
const LEVEL: &str = "warn,cdmo_controller::passes=debug";

pub(super) struct Controller {
    child: Child,
    pid: u32,
    port: u16,
    log: PathBuf,
}

/// A planning pass, by its parts.
#[derive(Debug, Clone, Default)]
pub(super) struct Pass {
    pub(super) pods: u64,
    pub(super) total: Duration,
    /// Time of each part.
    pub(super) parts: BTreeMap<&'static str, Duration>,
}

/// The parts of a pass: their names in the log, and what they are.
pub(super) const PARTS: [(&str, &str); 4] = [
    ("board_us", "bring the nodes that changed up to date"),
    ("candidates_us", "gather the waiting pods"),
    ("plan_us", "plan"),
    ("conclude_us", "draw conclusions: begin plans, refuse"),
];

impl Controller {
    pub(super) fn start(
        program: &Path,
        folder: &Path,
        kubeconfig: &Path,
        tls: &Files,
        port: u16,
    ) -> anyhow::Result<Self> {
        let log = folder.join("controller.log");
        let out = std::fs::File::create(&log).context("failed to make a log")?;
        let child = Command::new(program)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--namespace={}", manifests::NAMESPACE))
            .arg(format!("--http-listen=127.0.0.1:{port}"))
            .arg(format!("--tls-ca={}", tls.ca.display()))
            .arg(format!("--tls-cert={}", tls.cert.display()))
            .arg(format!("--tls-key={}", tls.key.display()))
            .args(["--log-format=json", "--log-level", LEVEL])
            .stdin(Stdio::null())
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the controller")?;
        let pid = child.id().context("the controller has ended")?;
        Ok(Self {
            child,
            pid,
            port,
            log,
        })
    }

    pub(super) async fn end(mut self) {
        // It is killed when it is dropped, too.
        let _ = self.child.kill().await;
    }

    pub(super) async fn metrics(&self) -> String {
        let page = http::get("127.0.0.1", self.port, "/metrics").await;
        page.map(|(_, page)| page).unwrap_or_default()
    }

    /// The most that was ever resident, in MiB.
    pub(super) fn peak(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    /// What is resident, in MiB.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.context("the controller has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u32>().ok());
        Ok(f64::from(kib.context("the kernel tells no memory")?) / 1024.0)
    }

    /// Processor time so far, in the kernel's ticks of a hundredth of a second.
    pub(super) fn busy(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        let stat = stat.context("the controller has ended")?;
        // The name before it may have spaces.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks = rest.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// All passes so far, in order.
    pub(super) fn passes(&self) -> anyhow::Result<Vec<Pass>> {
        let log = std::fs::read_to_string(&self.log).context("the log is gone")?;
        Ok(log.lines().filter_map(read).collect())
    }

    /// Lines of its log that are not passes: what went wrong.
    pub(super) fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let other = log.lines().filter(|line| read(line).is_none());
        other.map(str::to_owned).collect()
    }
}

fn read(line: &str) -> Option<Pass> {
    let line: Value = serde_json::from_str(line).ok()?;
    let time = |name: &str| line.get(name)?.as_u64().map(Duration::from_micros);
    let parts = PARTS
        .iter()
        .filter_map(|(name, _)| Some((*name, time(name)?)));
    Some(Pass {
        pods: line.get("pods")?.as_u64()?,
        total: time("total_us")?,
        parts: parts.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_read_from_the_log_and_other_lines_are_not_passes() {
        let line = r#"{"level":"DEBUG","message":"a planning pass","pods":3,"board_us":1,
            "candidates_us":2,"plan_us":30,"conclude_us":4,"total_us":37}"#;
        let pass = read(line).unwrap();
        assert_eq!((pass.pods, pass.total), (3, Duration::from_micros(37)));
        assert_eq!(pass.parts.values().sum::<Duration>(), pass.total);
        assert!(read(r#"{"level":"WARN","message":"failed"}"#).is_none());
        assert!(read("no JSON").is_none());
    }
}

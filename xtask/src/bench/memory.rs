//! Resident memory of agents and controller.

use std::time::Duration;

use anyhow::Context as _;
use simcluster::store::{DeleteOptions, Kind, object};
use testbed::binaries::Binaries;
use testbed::manifests::{AGENT, CONTROLLER};
use testbed::system::System;

use super::document::{Report, Table};
use super::latency::{pod, running, setup, start};
use super::numbers::verdict;

/// What comes and goes: the second round needs the slices of the first, and so on.
const ROUNDS: [(&str, usize); 4] = [
    ("1g.10gb", 56),
    ("2g.20gb", 24),
    ("1g.10gb", 56),
    ("7g.80gb", 8),
];
/// Promised, in MiB.
const TARGET_AGENT: f64 = 12.0;
const TARGET_CONTROLLER: f64 = 16.0;
/// Long after anything that still counts as working.
const LIMIT: Duration = Duration::from_mins(2);

pub(super) async fn measure(binaries: &Binaries) -> anyhow::Result<Report> {
    let system = start(setup(1, 8)?, binaries).await?;
    let result = tokio::time::timeout(LIMIT, work(&system)).await;
    system.shutdown().await;
    let table = result.with_context(|| format!("it took more than {} s", LIMIT.as_secs()))??;
    Ok(Report {
        title: "Resident memory".to_owned(),
        how: format!(
            "Resident set (VmRSS) of the release builds on one node with 8 GPUs: idle three seconds \
             after the start, after {} pods in {} rounds came, ran and went, each round in \
             the places of the one before.",
            ROUNDS.iter().map(|(_, count)| count).sum::<usize>(),
            ROUNDS.len(),
        ),
        tables: vec![("Against what is promised:".to_owned(), table)],
    })
}

async fn work(system: &System) -> anyhow::Result<Table> {
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (agent_idle, controller_idle) = (resident(system, AGENT)?, resident(system, CONTROLLER)?);
    let mut pods = 0;
    for (profile, count) in ROUNDS {
        for _ in 0..count {
            let made = system
                .store()
                .create(Kind::Pod, "default", pod(pods, profile));
            made.map_err(refused)?;
            pods += 1;
        }
        running(system, pods).await;
        for object in system.store().list(Kind::Pod, Some("default")).0 {
            let name = object::name(&object);
            let deleted =
                system
                    .store()
                    .delete(Kind::Pod, "default", name, &DeleteOptions::default());
            deleted.map_err(refused)?;
        }
        while !system.store().list(Kind::Pod, Some("default")).0.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (agent, controller) = (resident(system, AGENT)?, resident(system, CONTROLLER)?);
    let mut table = Table::new(&["program", "idle (MiB)", "after work (MiB)", "promised", ""]);
    let mib = |value: f64| format!("{value:.1}");
    table.row(&[
        AGENT.to_owned(),
        mib(agent_idle),
        mib(agent),
        "after work below 12".to_owned(),
        verdict(agent < TARGET_AGENT),
    ]);
    table.row(&[
        CONTROLLER.to_owned(),
        mib(controller_idle),
        mib(controller),
        "idle below 16".to_owned(),
        verdict(controller_idle < TARGET_CONTROLLER),
    ]);
    Ok(table)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where a closure would"
)]
fn refused(status: simcluster::store::Status) -> anyhow::Error {
    anyhow::anyhow!("the API server refused: {status}")
}

/// Resident set of the one process of that name, in MiB.
fn resident(system: &System, app: &str) -> anyhow::Result<f64> {
    let pid = *system
        .processes(app)
        .first()
        .with_context(|| format!("{app} does not run"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("{app} has ended"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u32>().ok());
    Ok(f64::from(kib.context("the kernel tells no resident set")?) / 1024.0)
}

//! What our programs say of their own memory.

use anyhow::Context as _;
use testbed::http;
use testbed::manifests::{AGENT, AGENT_HTTP, CONTROLLER, CONTROLLER_HTTP};

use super::cluster::Node;
use crate::bench::document::Table;
use crate::bench::numbers::verdict;

/// Promised, in MiB: of the agent after work, of the controller idle.
const TARGET_AGENT: f64 = 12.0;
const TARGET_CONTROLLER: f64 = 16.0;

/// Resident sets, in MiB.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    agent: f64,
    controller: f64,
}

impl Memory {
    /// As of now.
    pub(super) async fn read(node: &Node) -> anyhow::Result<Self> {
        Ok(Self {
            agent: resident(node, AGENT, AGENT_HTTP).await?,
            controller: resident(node, CONTROLLER, CONTROLLER_HTTP).await?,
        })
    }
}

async fn resident(node: &Node, app: &str, port: u16) -> anyhow::Result<f64> {
    let page = node.page(app, port, "metrics").await?;
    let bytes = http::metric(&page, "process_resident_memory_bytes", "");
    Ok(bytes.with_context(|| format!("{app} does not tell its memory"))? / f64::from(1 << 20))
}

/// Both moments beside what is promised.
pub(super) fn table(idle: Memory, worked: Memory) -> Table {
    let mut table = Table::new(&[
        "program",
        "idle (MiB)",
        "after all pods (MiB)",
        "promised",
        "",
    ]);
    let mib = |value: f64| format!("{value:.1}");
    table.row(&[
        AGENT.to_owned(),
        mib(idle.agent),
        mib(worked.agent),
        "after work below 12".to_owned(),
        verdict(worked.agent < TARGET_AGENT),
    ]);
    table.row(&[
        CONTROLLER.to_owned(),
        mib(idle.controller),
        mib(worked.controller),
        "idle below 16".to_owned(),
        verdict(idle.controller < TARGET_CONTROLLER),
    ]);
    table
}

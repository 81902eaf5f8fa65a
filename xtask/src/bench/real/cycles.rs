//! Pods that come and go for long, several at a time and of several profiles, so that instances are
//! made, reused and given up all the while. None may fail.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use testbed::http;
use testbed::manifests::{AGENT, AGENT_HTTP};
use tokio::time::Instant;

use super::Ask;
use super::cluster::Node;
use crate::bench::document::Table;
use crate::bench::numbers::verdict;

/// Pods in all, and at a time.
const CYCLES: usize = 500;
const AT_A_TIME: usize = 12;
/// What they ask for, by turns. Together twelve of them fit, but only if places change hands.
const PROFILES: [&str; 7] = [
    "1g.5gb", "3g.20gb", "2g.10gb", "7g.40gb", "1g.10gb", "4g.20gb", "1g.5gb",
];

/// What became of them.
#[derive(Debug)]
pub(super) struct Cycled {
    /// What is said of those that failed.
    failed: Vec<String>,
    took: Duration,
    /// Instances made and destroyed meanwhile.
    made: f64,
    destroyed: f64,
}

/// Has them come and go.
pub(super) async fn run(node: &Node) -> anyhow::Result<Cycled> {
    anstream::eprintln!("{CYCLES} pods, {AT_A_TIME} at a time, come and go");
    let [made, destroyed] = operations(node).await?;
    let started = Instant::now();
    let pods = node.watch_pods();
    let cycles = futures::stream::iter(0..CYCLES).map(|number| {
        let mut pods = pods.clone();
        async move {
            let name = format!("cycle-{number}");
            let profile = PROFILES.get(number % PROFILES.len()).copied();
            node.create(&name, Ask::Profile(profile.unwrap_or("1g.5gb")))
                .await?;
            // One that fails is told at the end; the others go on.
            let failure = pods.running(&name).await.err();
            node.delete(&name).await?;
            pods.gone(&name).await?;
            anyhow::Ok(failure.map(|error| format!("{error:#}")))
        }
    });
    let failed: Vec<Option<String>> = cycles.buffer_unordered(AT_A_TIME).try_collect().await?;
    let took = started.elapsed();
    let now = operations(node).await?;
    let result = Cycled {
        failed: failed.into_iter().flatten().collect(),
        took,
        made: now[0] - made,
        destroyed: now[1] - destroyed,
    };
    for failure in &result.failed {
        anstream::eprintln!("{failure}");
    }
    Ok(result)
}

/// Instances that the agent has made and destroyed since it started.
async fn operations(node: &Node) -> anyhow::Result<[f64; 2]> {
    let page = node.page(AGENT, AGENT_HTTP, "metrics").await?;
    Ok(["create", "destroy"].map(|operation| {
        let label = format!("code=\"success\",operation=\"{operation}\"");
        // A series that is not there has not begun.
        http::metric(&page, "cdmo_agent_nvml_operations_total", &label).unwrap_or_default()
    }))
}

impl Cycled {
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(&[
            "pods",
            "at a time",
            "failed",
            "promised",
            "",
            "seconds",
            "instances made",
            "destroyed",
        ]);
        table.row(&[
            CYCLES.to_string(),
            AT_A_TIME.to_string(),
            self.failed.len().to_string(),
            "none".to_owned(),
            verdict(self.failed.is_empty()),
            format!("{:.0}", self.took.as_secs_f64()),
            format!("{:.0}", self.made),
            format!("{:.0}", self.destroyed),
        ]);
        table
    }
}

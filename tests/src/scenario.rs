//! Runs a scenario: starts its system, lets it happen, judges, and shows everything if it went
//! wrong.

use std::panic::AssertUnwindSafe;

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;

use crate::dump;
use crate::spec::Spec;
use crate::system::System;

/// How a scenario's story ended.
pub type Outcome = anyhow::Result<()>;

/// What went wrong, as people read it; without the stack, which says nothing here.
pub struct Failure(String);

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

/// How a test ended.
pub type Verdict = Result<(), Failure>;

/// Runs a scenario on a system of its own.
///
/// # Errors
/// What went wrong, and the folder with everything that there is to see of it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "scenarios build their specification in place"
)]
pub fn scenario(spec: Spec, story: impl AsyncFnOnce(&System) -> Outcome) -> Verdict {
    Ok(run(&spec, story)?)
}

fn run(spec: &Spec, story: impl AsyncFnOnce(&System) -> Outcome) -> Outcome {
    // Only the first scenario of a process can set it.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let folder = tempfile::Builder::new().prefix("cdmo-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let system = System::start(spec, folder.path()).await?;
        let told = AssertUnwindSafe(story(&system)).catch_unwind().await;
        let outcome = told.unwrap_or_else(|panic| Err(anyhow!("{}", words(&*panic))));
        finish(system, outcome).await
    });
    runtime.shutdown_background();
    outcome.or_else(|error| {
        let kept = folder.keep();
        Err(error).context(format!("everything about it is in {}", kept.display()))
    })
}

/// Ends the system and adds what the watcher found.
pub(crate) async fn finish(system: System, outcome: Outcome) -> Outcome {
    system.stop.cancel();
    let watched = system.watching.await.context("the watcher ended early");
    let faults = system.watcher.faults();
    let outcome = outcome.and(watched).and_then(|()| match faults.as_slice() {
        [] => Ok(()),
        faults => Err(anyhow!("{}", faults.join("\n"))),
    });
    let report = system.folder.join("report.txt");
    if let Err(error) = &outcome {
        let (store, logs) = (system.cluster.store(), system.folder.join("logs"));
        let state = dump::dump(store, &system.nodes, &logs).await;
        let (faults, states) = (faults.join("\n"), system.watcher.states().join("\n"));
        let told = system.watcher.story().join("\n");
        std::fs::write(
            report,
            format!("{error:#}\n{faults}\n{states}\n== story\n{told}\n{state}"),
        )?;
    }
    system.cluster.shutdown().await;
    outcome
}

pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
}

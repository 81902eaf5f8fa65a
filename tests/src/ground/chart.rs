//! The chart as an administrator handles it: helm and kubectl as programs, wrong values on purpose,
//! and the right ones again afterwards, whatever became of the story.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use futures::FutureExt as _;
use tempfile::TempDir;
use testbed::{binaries, manifests};
use tokio::process::Command;

use super::{Ground, Needs, api_scenario};
use crate::scenario::{self, Outcome, Verdict};

/// The release that `cargo xtask cluster install` makes.
const RELEASE: &str = "cdmo";
/// What that command writes down about the cluster; where kubectl and helm are, among other things.
const RECORD: &str = "/var/lib/cdmo-cluster/record.json";
/// No command takes longer.
const LIMIT: Duration = Duration::from_mins(5);

/// Runs a story about the chart on the real cluster that `KUBECONFIG` names, and brings the values
/// back that were there before. Without such a cluster it is left out, and standard error says so.
///
/// # Errors
/// What went wrong, and the folder with everything that there is to see of it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "stories are written in place"
)]
pub fn installation(story: impl AsyncFn(&Ground, &Chart) -> Outcome) -> Verdict {
    api_scenario(Needs::Chart, async |ground| {
        let chart = Chart::of(ground).await?;
        let told = AssertUnwindSafe(story(ground, &chart)).catch_unwind().await;
        let told = told.unwrap_or_else(|panic| Err(anyhow!("{}", scenario::words(&*panic))));
        let told = match told {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(chart.seen().await)),
        };
        let healed = chart.heal().await;
        told.and(healed)
    })
}

/// The release, with the values that it had when the story began.
pub struct Chart {
    tools: PathBuf,
    kubeconfig: PathBuf,
    values: PathBuf,
    _folder: TempDir,
}

/// What a command wrote, on both ways, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Whether it succeeded.
    pub well: bool,
    /// Its words.
    pub text: String,
}

impl Chart {
    async fn of(ground: &Ground) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        let chart = Self {
            tools: tools()?,
            kubeconfig: ground.kubeconfig.clone(),
            values: folder.path().join("values.json"),
            _folder: folder,
        };
        let values = ["get", "values", RELEASE, "--output=json"];
        let values = chart.said("helm", &in_namespace(&values)).await?;
        std::fs::write(&chart.values, values).context("failed to keep the values")?;
        Ok(chart)
    }

    /// Where the chart lies.
    pub fn path() -> String {
        let path = binaries::repository().join("charts/cdmo");
        path.display().to_string()
    }

    /// The file with the values that the release had.
    pub fn values(&self) -> String {
        self.values.display().to_string()
    }

    /// The release with one thing wrong, as in `helm upgrade --set`, without waiting.
    ///
    /// # Errors
    /// helm refuses it.
    pub async fn upgrade(&self, set: &str) -> anyhow::Result<()> {
        let said = self.try_upgrade(set, &[]).await?;
        ensure!(said.well, "helm upgrade --set {set}: {}", said.text);
        Ok(())
    }

    /// The same, with further arguments; it may fail.
    ///
    /// # Errors
    /// helm cannot be started.
    pub async fn try_upgrade(&self, set: &str, more: &[&str]) -> anyhow::Result<Said> {
        let (path, values) = (Self::path(), self.values());
        let upgrade = ["upgrade", RELEASE, &path, "--reset-values"];
        let with = ["--values", &values, "--set", set];
        self.run("helm", &in_namespace(&[&upgrade[..], &with, more].concat()))
            .await
    }

    /// The right values again, with nothing but helm.
    ///
    /// # Errors
    /// The release does not come up.
    pub async fn heal(&self) -> anyhow::Result<()> {
        let (path, values) = (Self::path(), self.values());
        let upgrade = ["upgrade", "--install", RELEASE, &path, "--reset-values"];
        let with = ["--values", &values, "--wait", "--timeout=150s"];
        let all = [&upgrade[..], &with].concat();
        self.said("helm", &in_namespace(&all)).await.map(drop)
    }

    /// What a command says that must fail.
    ///
    /// # Errors
    /// It succeeds.
    pub async fn refused(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let said = self.run(program, arguments).await?;
        let line = arguments.join(" ");
        ensure!(
            !said.well,
            "{program} {line} was not refused: {}",
            said.text
        );
        Ok(said.text)
    }

    /// What a command says that must succeed.
    ///
    /// # Errors
    /// It fails.
    pub async fn said(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let said = self.run(program, arguments).await?;
        let line = arguments.join(" ");
        ensure!(said.well, "{program} {line} failed: {}", said.text);
        Ok(said.text)
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Said> {
        let mut command = Command::new(self.tools.join(program));
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output())
            .await
            .with_context(|| format!("{program} did not end within {LIMIT:?}"))?
            .with_context(|| format!("failed to start {program}"))?;
        let both = [output.stdout, output.stderr].concat();
        Ok(Said {
            well: output.status.success(),
            text: String::from_utf8_lossy(&both).into_owned(),
        })
    }

    /// What an administrator would look at first, before it is mended.
    async fn seen(&self) -> String {
        let mut all = String::from("it was seen:\n");
        for command in ["get pods --output=wide", "describe pods"] {
            let words: Vec<&str> = command.split(' ').collect();
            let said = self.run("kubectl", &in_namespace(&words)).await;
            let text = said.map_or_else(|error| format!("{error:#}"), |said| said.text);
            all.push_str(&text);
            all.push('\n');
        }
        all
    }
}

/// For the release's namespace.
fn in_namespace<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--namespace", manifests::NAMESPACE]].concat()
}

/// The folder with helm and kubectl: on the PATH, or that of this machine's cluster.
fn tools() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(recorded_tools());
    let has = |folder: &Path, name: &str| folder.join(name).is_file();
    let found = folders
        .into_iter()
        .find(|folder| has(folder, "helm") && has(folder, "kubectl"));
    match found {
        Some(folder) => Ok(folder),
        None => bail!(
            "no folder of PATH has helm and kubectl; eval \"$(cargo xtask cluster up)\" adds one"
        ),
    }
}

fn recorded_tools() -> Option<PathBuf> {
    let record = std::fs::read(RECORD).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
    record["tools"].as_str().map(PathBuf::from)
}

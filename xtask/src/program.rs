//! Other people's programs: run to their end within a limit, and what they said.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

/// Nothing that a command starts takes longer unless it says so, a build in it included.
const LIMIT: Duration = Duration::from_mins(15);

/// What a program printed; if it fails, its last lines are the error.
pub(crate) async fn said(mut command: Command) -> anyhow::Result<String> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(LIMIT, output)
        .await
        .with_context(|| format!("{program} did not end within {} s", LIMIT.as_secs()))?
        .with_context(|| format!("failed to start {program}"))?;
    let text =
        [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned());
    if !output.status.success() {
        anyhow::bail!(
            "{program} ended with {}\n{}",
            output.status,
            last_lines(&text.concat(), 40)
        );
    }
    let [out, _] = text;
    Ok(out)
}

/// The end of a text: where programs say why they failed.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

//! ClearML's own decoder reads what the webhook writes for it.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testbed::binaries::repository;
use tokio::process::Command;

use super::tools;
use crate::program::said;
use crate::python::Python;

const A100: &str = "NVIDIA A100-SXM4-40GB";
const H200: &str = "NVIDIA H200";

/// What a user writes, and what ClearML is to report.
struct Case {
    name: &'static str,
    limits: Value,
    labels: Value,
    annotations: Value,
    /// As the agent in the container sees them, one for each device.
    gpus: &'static [&'static str],
    share: f64,
    /// The fraction is not what the profile beside it is.
    contradicts: bool,
}

/// A case of limits alone.
fn limits(name: &'static str, limits: Value, gpus: &'static [&'static str], share: f64) -> Case {
    Case {
        name,
        limits,
        labels: json!({}),
        annotations: json!({}),
        gpus,
        share,
        contradicts: false,
    }
}

fn cases() -> Vec<Case> {
    let nothing = || json!({});
    vec![
        limits(
            "half a GPU",
            json!({"clear.ml/fraction-1": "0.5"}),
            &[A100],
            0.5,
        ),
        limits(
            "a sixteenth",
            json!({"clear.ml/fraction": "0.0625"}),
            &[A100],
            0.0625,
        ),
        limits(
            "half a GPU that ClearML does not know by name",
            json!({"clear.ml/fraction-1": "0.5", "nvidia.com/mig-3g.71gb": "1"}),
            &[H200],
            0.5,
        ),
        limits(
            "parts of two GPUs",
            json!({"clear.ml/fraction-1": "0.5", "clear.ml/fraction-2": "0.25"}),
            &[A100, A100],
            0.75,
        ),
        limits(
            "three GPUs",
            json!({"clear.ml/fraction-1": "3"}),
            &[A100, A100, A100],
            3.0,
        ),
        limits(
            "a profile and its fraction",
            json!({"clear.ml/fraction-1": "0.25", "nvidia.com/mig-2g.10gb": "1"}),
            &[A100],
            0.25,
        ),
        Case {
            contradicts: true,
            ..limits(
                "a profile and another fraction",
                json!({"clear.ml/fraction-1": "0.25", "nvidia.com/mig-3g.20gb": "1"}),
                &[A100],
                0.5,
            )
        },
        Case {
            contradicts: true,
            ..limits(
                "two GPUs and a fraction",
                json!({"clear.ml/fraction-1": "0.5", "nvidia.com/gpu": "2"}),
                &[A100, A100],
                2.0,
            )
        },
        Case {
            labels: json!({"clearml-injector/fraction": "0.250"}),
            ..limits("a label", nothing(), &[A100], 0.25)
        },
        Case {
            labels: json!({"clearml-injector/fraction": "2"}),
            ..limits("a label of two GPUs", nothing(), &[A100, A100], 2.0)
        },
        Case {
            annotations: json!({"gpu-fraction": "0.125"}),
            ..limits("an annotation", nothing(), &[A100], 0.125)
        },
    ]
}

/// Puts what the webhook writes for every case before the decoder.
pub(super) async fn clearml(python: &Python) -> anyhow::Result<String> {
    let package = tools::clearml_agent(python).await?;
    let cases = cases()
        .iter()
        .map(described)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let file = folder.path().join("cases.json");
    std::fs::write(&file, json!(cases).to_string()).context("failed to write the cases")?;
    let mut command = Command::new(python.program());
    command
        .arg(repository().join("crates/admission/tests/python/check_fractions.py"))
        .arg(&package)
        .arg(&file);
    said(command).await?;
    Ok(format!(
        "clearml-agent {} reads the right share in {} cases",
        tools::CLEARML_AGENT,
        cases.len()
    ))
}

/// A case as the script takes it.
fn described(case: &Case) -> anyhow::Result<Value> {
    let pod = json!({
        "metadata": {"labels": case.labels, "annotations": case.annotations},
        "spec": {"containers": [{"name": "main", "resources": {"limits": case.limits}}]},
    });
    let request = json!({
        "operation": "CREATE",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": pod,
    });
    let decision = admission::review(&request, &admission::Options::default());
    ensure!(
        decision.denial.is_none() && decision.warnings.is_empty() != case.contradicts,
        "{}: {decision:?}",
        case.name
    );
    let patch = serde_json::to_value(&decision.patch).context("failed to write the patch")?;
    let variable = patch
        .as_array()
        .into_iter()
        .flatten()
        .find(|step| step["path"] == "/spec/containers/0/env")
        .map(|step| step["value"][0]["value"].clone())
        .with_context(|| format!("{}: the variable is not set", case.name))?;
    Ok(json!({
        "name": case.name,
        "limits": case.limits,
        "labels": case.labels,
        "annotations": case.annotations,
        "gpus": case.gpus,
        "variable": variable,
        "share": case.share,
        "contradicts": case.contradicts,
    }))
}

//! The webhook in the chart: that it has no rights, that it is shown what it is for and nothing else, and
//! that it is shown the same in the embedded cluster, where its behaviour is tested.

use anyhow::ensure;
use serde_json::{Value, json};
use simcluster::cluster::Behaviour;
use testbed::manifests::{self, WEBHOOK};
use testbed::system::needs_gate;

use super::chart::named;

/// It needs nothing of the API, whatever is set.
pub(super) fn has_no_rights(objects: &[Value]) -> anyhow::Result<()> {
    let Ok(deployment) = named(objects, "Deployment", WEBHOOK) else {
        return Ok(());
    };
    let pod = &deployment["spec"]["template"]["spec"];
    ensure!(
        pod["automountServiceAccountToken"] == false,
        "the webhook mounts a token of the API"
    );
    let mut subjects = objects
        .iter()
        .filter_map(|object| object["subjects"].as_array())
        .flatten();
    ensure!(
        subjects.all(|subject| subject["name"] != WEBHOOK),
        "the webhook's account has rights"
    );
    let volumes = pod["volumes"].to_string();
    let foreign = ["cdmo-controller-tls", "cdmo-agent-tls"];
    ensure!(
        foreign.iter().all(|secret| !volumes.contains(secret)),
        "the webhook mounts a Secret that is not its own"
    );
    Ok(())
}

/// The configuration is the one that the embedded cluster has; whether the pods get our scheduling gate,
/// too.
pub(super) fn check(objects: &[Value], behaviour: Behaviour) -> anyhow::Result<()> {
    let (conditions, gate) = (behaviour.match_conditions(), needs_gate(behaviour));
    let ours = normal(named(objects, "MutatingWebhookConfiguration", WEBHOOK)?);
    let theirs = normal(&manifests::webhook_configuration(conditions, gate, None));
    ensure!(
        ours == theirs,
        "the chart has another webhook configuration than the embedded cluster:\n{ours:#}\n{theirs:#}"
    );
    let deployment = named(objects, "Deployment", WEBHOOK)?;
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    ensure!(
        arguments.contains("--scheduling-gate") == gate,
        "pods get a scheduling gate where they should not, or none where they should"
    );
    Ok(())
}

/// Pods that ask for no fraction go on without the webhook, whatever becomes of those that do.
pub(super) fn gate_never_refuses(objects: &[Value]) -> anyhow::Result<()> {
    let configuration = named(objects, "MutatingWebhookConfiguration", WEBHOOK)?;
    let policy_of = |name: &str| {
        let webhooks = configuration["webhooks"].as_array()?;
        let webhook = webhooks.iter().find(|webhook| webhook["name"] == name)?;
        webhook["failurePolicy"].as_str()
    };
    ensure!(
        policy_of("fractions.cdmo.clear.ml") == Some("Fail"),
        "webhook.failurePolicy does not reach the webhook for fractions"
    );
    ensure!(
        policy_of("gate.cdmo.clear.ml") == Some("Ignore"),
        "pods that ask for slices are refused while there is no webhook"
    );
    Ok(())
}

/// All that matters of a configuration: its webhooks, whatever lines and spaces its conditions have, and
/// without the version of `CronJobs` that the embedded cluster does not serve.
fn normal(configuration: &Value) -> Value {
    let mut webhooks = configuration["webhooks"].clone();
    for webhook in webhooks.as_array_mut().into_iter().flatten() {
        let conditions = webhook["matchConditions"].as_array_mut();
        for condition in conditions.into_iter().flatten() {
            let text = condition["expression"].as_str().unwrap_or_default();
            let tight: String = text.split_whitespace().collect();
            condition["expression"] = tight.into();
        }
        for rule in webhook["rules"].as_array_mut().into_iter().flatten() {
            let versions = rule["apiVersions"].as_array_mut();
            if let Some(versions) = versions.filter(|versions| versions.len() > 1) {
                versions.retain(|version| *version != json!("v1beta1"));
            }
        }
    }
    webhooks
}

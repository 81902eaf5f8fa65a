//! The webhook's configuration is the chart's and the controller's at once.

use scenarios::{Chart, Verdict, installation};

/// A field of the one webhook.
async fn field(chart: &Chart, path: &str) -> anyhow::Result<String> {
    let output = format!("--output=jsonpath={{.webhooks[0].{path}}}");
    let kind = "mutatingwebhookconfiguration";
    let said = chart
        .said("kubectl", &["get", kind, "cdmo-webhook", &output])
        .await?;
    Ok(said.trim().to_owned())
}

#[test]
fn an_upgrade_changes_what_the_chart_says_of_the_webhook_and_leaves_whom_to_trust() -> Verdict {
    installation(async |ground, chart| {
        ground.fractions_are_served().await?;
        let trusted = field(chart, "clientConfig.caBundle").await?;
        assert!(!trusted.is_empty(), "nobody is trusted");
        chart.upgrade("webhook.timeoutSeconds=7").await?;
        assert_eq!(field(chart, "timeoutSeconds").await?, "7");
        assert_eq!(field(chart, "clientConfig.caBundle").await?, trusted);
        ground.fractions_are_served().await
    })
}

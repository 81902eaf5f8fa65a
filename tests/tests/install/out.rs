//! The chart is taken out of the cluster, and put back.

use scenarios::{Chart, Verdict, installation};

/// What of ours there is in the cluster: things of our namespace that no namespace has by itself, and
/// rights.
async fn left(chart: &Chart) -> anyhow::Result<Vec<String>> {
    let ours = ["--namespace", "cdmo-operator", "--output=name"];
    let kinds = "deployments,daemonsets,jobs,pods,secrets,configmaps,serviceaccounts,leases,roles,rolebindings,services";
    let mut all = chart
        .said("kubectl", &[&["get", kinds], &ours[..]].concat())
        .await?;
    let kinds = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations";
    let rights = ["get", kinds, "--output=name"];
    let rights = chart.said("kubectl", &rights).await?;
    all.extend(
        rights
            .lines()
            .filter(|name| name.contains("/cdmo"))
            .map(|name| format!("{name}\n")),
    );
    let own = |name: &&str| {
        let name = name.rsplit('/').next().unwrap_or_default();
        !name.starts_with("default") && name != "kube-root-ca.crt"
    };
    Ok(all.lines().filter(own).map(str::to_owned).collect())
}

#[test]
fn an_uninstalled_chart_leaves_pods_alone_and_nothing_behind_and_can_come_back() -> Verdict {
    installation(async |ground, chart| {
        let held = ground.holder("stays", "3g.20gb").await?;
        assert!(!left(chart).await?.is_empty());
        let uninstall = ["uninstall", "cdmo", "--namespace", "cdmo-operator"];
        let with = ["--wait", "--timeout=4m"];
        chart
            .said("helm", &[&uninstall[..], &with].concat())
            .await?;
        // Helm waits for the Deployment and not for its pods: a webhook serves until nobody is sent to it.
        let behind = left(chart).await?;
        let goes = |name: &String| name.starts_with("pod/cdmo-webhook-");
        assert!(behind.iter().all(goes), "{behind:?} are left");
        let gone = async || left(chart).await.ok().filter(Vec::is_empty);
        ground.until("the last webhook is gone", gone).await?;
        ground.no_node_says_anything().await?;
        ground.unharmed(&held).await?;

        chart.heal().await?;
        ground.still_holds(&held).await
    })
}

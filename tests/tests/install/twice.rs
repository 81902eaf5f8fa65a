//! The chart is installed where it is already.

use scenarios::{Chart, Verdict, installation};

/// What a second installation is told, by its release and namespace.
async fn refusal(chart: &Chart, release: &str, namespace: &str) -> anyhow::Result<String> {
    let (path, values) = (Chart::path(), chart.values());
    let install = ["install", release, &path, "--namespace", namespace];
    let with = ["--create-namespace", "--values", &values];
    chart.refused("helm", &[&install[..], &with].concat()).await
}

#[test]
fn a_second_installation_is_refused_and_told_where_the_first_is() -> Verdict {
    installation(async |ground, chart| {
        let held = ground.holder("stays", "3g.20gb").await?;
        let others = [
            ("second", "second"),
            ("second", "cdmo-operator"),
            ("cdmo", "second"),
        ];
        for (release, namespace) in others {
            let said = refusal(chart, release, namespace).await?;
            for part in [
                "cdmo is in this cluster already, as release cdmo in namespace cdmo-operator",
                "helm upgrade -n cdmo-operator cdmo",
            ] {
                assert!(said.contains(part), "{release} in {namespace}: {said}");
            }
        }
        let again = refusal(chart, "cdmo", "cdmo-operator").await?;
        assert!(
            again.contains("cannot reuse a name that is still in use"),
            "{again}"
        );
        let releases = chart
            .said("helm", &["list", "--all-namespaces", "--short"])
            .await?;
        assert_eq!(releases.trim(), "cdmo", "nothing of the others stays");
        let namespaces = ground.namespaces().await?;
        assert!(!namespaces.contains(&"second".to_owned()), "{namespaces:?}");
        ground.still_holds(&held).await
    })
}

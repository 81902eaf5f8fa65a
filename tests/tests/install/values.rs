//! Values that cannot be right; `cargo xtask verify --only chart` has what each is told.

use scenarios::{Chart, Verdict, installation};

async fn history(chart: &Chart) -> anyhow::Result<String> {
    let history = ["history", "cdmo", "-n", "cdmo-operator", "--output=json"];
    chart.said("helm", &history).await
}

#[test]
fn a_wrong_value_is_refused_by_name_and_changes_nothing() -> Verdict {
    installation(async |ground, chart| {
        let agent = ground.own_ready_pod("mig-node-agent").await?;
        let before = history(chart).await?;
        for (set, word) in [
            ("kubeletDir=var/lib/kubelet", "/kubeletDir"),
            ("kubletDir=/var/lib/kubelet", "kubletDir"),
            (
                "driverRoot=/,runtimeClassName=nvidia",
                "driverRoot and runtimeClassName",
            ),
        ] {
            let set = format!("fakeNvml.enabled=false,{set}");
            let said = chart.try_upgrade(&set, &[]).await?;
            assert!(
                !said.well && said.text.contains(word),
                "{set}: {}",
                said.text
            );
        }
        assert_eq!(history(chart).await?, before);
        let now = ground.own_ready_pod("mig-node-agent").await?;
        assert_eq!(now.metadata.uid, agent.metadata.uid);
        Ok(())
    })
}

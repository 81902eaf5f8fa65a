//! The chart is told the wrong folders of the kubelet.

use scenarios::{Verdict, installation};

#[test]
fn folders_that_are_not_the_kubelets_are_named_on_pod_and_node_and_right_ones_mend_it() -> Verdict {
    installation(async |ground, chart| {
        let held = ground.holder("stays", "3g.20gb").await?;
        chart
            .upgrade("kubeletDir=/nowhere/kubelet,devicePluginDir=/nowhere/plugins")
            .await?;
        for folder in ["/nowhere/kubelet/pod-resources", "/nowhere/plugins"] {
            let said = ground.own_event("FailedMount", folder).await?;
            assert!(said.contains("is not a directory"), "{said}");
        }
        assert!(!std::fs::exists("/nowhere")?, "nothing is made there");
        let said = ground.node_says("the agent does not start").await?;
        assert!(said.contains("describe pod mig-node-agent-"), "{said}");
        ground.unharmed(&held).await?;

        // They are there, but no kubelet serves podresources in them.
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("pod-resources"))?;
        let set = format!("kubeletDir={}", folder.path().display());
        chart.upgrade(&set).await?;
        let said = ground.node_says("Holds cannot be checked").await?;
        for part in ["pod-resources/kubelet.sock", "kubeletDir"] {
            assert!(said.contains(part), "{said}");
        }
        ground.unharmed(&held).await?;
        chart.heal().await?;
        ground.no_node_says_anything().await?;
        ground.still_holds(&held).await
    })
}

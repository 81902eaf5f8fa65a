//! The chart names images that there are not.

use scenarios::{Pod, Verdict, installation};

#[test]
fn images_that_are_not_there_are_named_and_the_old_controller_goes_on() -> Verdict {
    installation(async |ground, chart| {
        // No idle slice may be there for the pod that waits.
        ground.afresh().await?;
        let held = ground.holder("stays", "3g.20gb").await?;
        let before = ground.own_ready_pod("cdmo-controller").await?;
        let set = "image.tag=nowhere,image.pullPolicy=IfNotPresent";
        let said = chart.try_upgrade(set, &["--wait", "--timeout=8s"]).await?;
        assert!(!said.well, "helm waits for what cannot come: {}", said.text);
        for part in ["Deployment/cdmo-operator/cdmo-controller", "not ready"] {
            assert!(said.text.contains(part), "{}", said.text);
        }
        for image in ["/cdmo-controller:nowhere", "/fake-nvml:nowhere"] {
            ground.own_event("Failed", image).await?;
        }
        let said = ground.node_says("fake-nvml:nowhere").await?;
        assert!(said.contains("the agent does not start"), "{said}");
        let now = ground.own_ready_pod("cdmo-controller").await?;
        assert_eq!(
            now.metadata.uid, before.metadata.uid,
            "the old controller stays"
        );
        ground.create(&Pod::of("waits", "2g.10gb")).await?;
        let said = ground.event("waits", "NoNode").await?;
        assert!(said.contains("nothing is known of its GPUs"), "{said}");
        ground.unharmed(&held).await?;

        chart.heal().await?;
        ground.running("waits").await?;
        let now = ground.own_ready_pod("cdmo-controller").await?;
        assert_eq!(now.metadata.uid, before.metadata.uid, "it never had to go");
        ground.no_node_says_anything().await?;
        ground.still_holds(&held).await
    })
}

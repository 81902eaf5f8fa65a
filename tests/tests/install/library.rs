//! The agent does not find the driver's library.

use k8s_openapi::api::core::v1::Pod;
use scenarios::{Verdict, installation};

/// With what the last container of the pod ended.
fn exit_code(pod: &Pod) -> Option<i32> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let container = containers.first()?;
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let mut ends = states
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref());
    ends.next().map(|ended| ended.exit_code)
}

#[test]
fn an_agent_without_the_drivers_library_says_so_on_its_pod_and_on_the_node() -> Verdict {
    installation(async |ground, chart| {
        let held = ground.holder("stays", "3g.20gb").await?;
        let agent = "mig-node-agent";
        chart.upgrade("fakeNvml.enabled=false").await?;
        ground
            .own_pod_until(agent, "ends with 65", |pod| exit_code(pod) == Some(65))
            .await?;
        let sentence = "failed to load the NVIDIA library libnvidia-ml.so.1";
        let of_agents = "describe pods -n cdmo-operator -l app.kubernetes.io/name=mig-node-agent";
        let of_agents: Vec<&str> = of_agents.split(' ').collect();
        let said = chart.said("kubectl", &of_agents).await?;
        assert!(said.contains(sentence), "{said}");
        let said = ground.node_says(sentence).await?;
        for part in ["the agent does not start", "runtimeClassName", "driverRoot"] {
            assert!(said.contains(part), "{said}");
        }
        ground.unharmed(&held).await?;

        // A mount that containers get must be one that is shared, which the kubelet's folder is.
        let empty = tempfile::tempdir_in("/var/lib/kubelet")?;
        let root = empty.path().display();
        let set = format!("fakeNvml.enabled=false,driverRoot={root}");
        chart.upgrade(&set).await?;
        let sentence = format!("failed to find libnvidia-ml.so.1 below /driver-root{root}");
        let said = ground.node_says(&sentence).await?;
        assert!(said.contains("check driverRoot"), "{said}");
        ground.unharmed(&held).await?;

        chart.heal().await?;
        ground.no_node_says_anything().await?;
        ground.still_holds(&held).await
    })
}

//! Parts end and come back: pods go on with the slices they have, and new ones are served.

use scenarios::{Disturbance, Ground, Needs, Outcome, Pod, Verdict, api_scenario};

async fn goes_on(ground: &Ground, disturbance: Disturbance) -> Outcome {
    ground.afresh().await?;
    let before = ground.run(&Pod::of("stays", "3g.20gb")).await?;
    let kept = ground.holds("stays", &["3g.20gb"]).await?;
    ground.disturb(disturbance).await?;
    ground.run(&Pod::of("next", "2g.10gb")).await?;
    ground.holds("next", &["2g.10gb"]).await?;
    assert_eq!(ground.holds("stays", &["3g.20gb"]).await?, kept);
    let after = ground.running("stays").await?;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    let containers = after.status.and_then(|status| status.container_statuses);
    let restarts: i32 = containers.iter().flatten().map(|c| c.restart_count).sum();
    assert_eq!(restarts, 0, "its container went on");
    ground.release(&["stays", "next"]).await?;
    ground.settled().await?;
    ground
        .run(&Pod::new("last").asks(&[("7g.40gb", 2)]))
        .await?;
    ground
        .holds("last", &["7g.40gb", "7g.40gb"])
        .await
        .map(drop)
}

#[test]
fn a_restart_of_the_kubelet_disturbs_no_pod() -> Verdict {
    api_scenario(Needs::Machine, async |ground| {
        goes_on(ground, Disturbance::KubeletRestart).await
    })
}

#[test]
fn a_restart_of_the_agent_disturbs_no_pod() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        goes_on(ground, Disturbance::AgentRestart).await
    })
}

#[test]
fn an_agent_that_is_killed_disturbs_no_pod() -> Verdict {
    api_scenario(Needs::Machine, async |ground| {
        goes_on(ground, Disturbance::AgentKilled).await
    })
}

#[test]
fn a_controller_that_is_killed_disturbs_no_pod() -> Verdict {
    api_scenario(Needs::Machine, async |ground| {
        goes_on(ground, Disturbance::ControllerKilled).await
    })
}

#[test]
fn a_restart_of_the_api_server_disturbs_no_pod() -> Verdict {
    api_scenario(Needs::ApiServer, async |ground| {
        goes_on(ground, Disturbance::ApiServerRestart).await
    })
}

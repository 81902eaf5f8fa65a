//! Pods that controllers make.

use scenarios::{Needs, Pod, Verdict, api_scenario};

#[test]
fn a_job_gets_slices_for_all_its_pods() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let pod = Pod::of("any", "2g.10gb").runs_for(1000);
        ground.create_job("train", &pod, 9, 3).await?;
        ground.job_done("train", 9).await?;
        ground.nothing_held().await
    })
}

#[test]
fn a_deployment_gets_slices_as_it_grows_and_gives_them_back_as_it_shrinks() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let pod = Pod::of("any", "3g.20gb");
        ground.create_deployment("serve", &pod, 1).await?;
        ground.running_with("app", "serve", 1).await?;
        ground.scale("serve", 4).await?;
        for pod in ground.running_with("app", "serve", 4).await? {
            let name = pod.metadata.name.unwrap_or_default();
            ground.holds(&name, &["3g.20gb"]).await?;
        }
        ground.scale("serve", 0).await?;
        ground.running_with("app", "serve", 0).await?;
        ground
            .run(&Pod::new("next").asks(&[("7g.40gb", 2)]))
            .await?;
        ground
            .holds("next", &["7g.40gb", "7g.40gb"])
            .await
            .map(drop)
    })
}

#[test]
fn a_pod_of_a_deployment_that_is_deleted_is_replaced() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground
            .create_deployment("serve", &Pod::of("any", "7g.40gb"), 2)
            .await?;
        let pods = ground.running_with("app", "serve", 2).await?;
        let name = pods[0].metadata.name.clone().unwrap_or_default();
        ground.remove(&name).await?;
        for pod in ground.running_with("app", "serve", 2).await? {
            let name = pod.metadata.name.unwrap_or_default();
            ground.holds(&name, &["7g.40gb"]).await?;
        }
        Ok(())
    })
}

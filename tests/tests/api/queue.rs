//! How ClearML's agent uses a cluster: tasks of a queue become pods, so many at a time; they end as
//! Completed and stay; a task that is suspended is a pod that is deleted.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use scenarios::{Needs, Outcome, Pod, Verdict, api_scenario};

#[test]
fn a_queue_of_thirty_tasks_is_worked_off_ten_pods_at_a_time() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        let task = async |number: u32| -> Outcome {
            let name = format!("task-{number}");
            let profile = ["1g.5gb", "2g.10gb", "1g.5gb"][number as usize % 3];
            let pod = Pod::of(&name, profile).runs_for(1000);
            ground.create(&pod).await?;
            ground.succeeded(&name).await.map(drop)
        };
        let tasks = stream::iter((0..30).map(task)).buffer_unordered(10);
        tasks.try_collect::<()>().await?;
        ground.nothing_held().await
    })
}

#[test]
fn a_suspended_task_gives_its_slice_to_the_next_and_gets_one_when_it_is_resumed() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground
            .run(&Pod::new("else").asks(&[("7g.40gb", 1)]))
            .await?;
        ground.run(&Pod::of("task", "7g.40gb")).await?;
        ground
            .create(&Pod::of("next", "7g.40gb").runs_for(2000))
            .await?;
        ground.event("next", "NoRoom").await?;
        ground.release(&["task"]).await?;
        ground.running("next").await?;
        ground.create(&Pod::of("resumed", "7g.40gb")).await?;
        ground.succeeded("next").await?;
        ground.running("resumed").await?;
        ground.holds("resumed", &["7g.40gb"]).await.map(drop)
    })
}

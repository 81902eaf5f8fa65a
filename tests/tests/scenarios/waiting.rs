//! Pods for which there is no room for long.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use scenarios::{Outcome, Pod, Spec, System, Verdict, scenario};
use simcluster::store::{Change, Kind, object};

/// More than fit on the GPU, so that one always waits for the next gap.
const SMALL_ONES: usize = 10;

/// Small pods for ever: as soon as one has ended, which is counted, the next one comes.
async fn crowd(system: &System, over: &AtomicUsize) -> Outcome {
    let (_, mut watch) = system.store().list_and_watch(Kind::Pod);
    for number in 0..SMALL_ONES {
        system.create(&small(number))?;
    }
    let mut next = SMALL_ONES..;
    loop {
        let event = watch.next().await.context("the test lost track of pods")?;
        let name = object::name(&event.object);
        let ended = object::text(&event.object, "/status/phase") == "Succeeded"
            && event.change != Change::Deleted
            && !object::is_deleting(&event.object);
        if ended && name.starts_with("small-") && system.pod(name).is_some() {
            system.delete(name)?;
            over.fetch_add(1, Ordering::Relaxed);
            system.create(&small(next.next().context("no number is left")?))?;
        }
    }
}

fn small(number: usize) -> Pod {
    // Not all at once.
    let lives = [300, 500, 700][number % 3];
    Pod::of(&format!("small-{number:04}"), "1g.5gb").runs_for(lives)
}

#[test]
fn a_large_pod_starts_although_small_ones_never_cease_to_come() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").controller_arg("--keep-free-after-seconds=3");
    scenario(spec, async |system| {
        let over = AtomicUsize::new(0);
        let large = async {
            let crowded = async || (over.load(Ordering::Relaxed) > SMALL_ONES).then_some(());
            system.until("small pods come and go", crowded).await?;
            system.create(&Pod::of("large", "7g.40gb"))?;
            system.running("large").await
        };
        tokio::select! {
            ended = crowd(system, &over) => ended?,
            started = large => drop(started?),
        }
        let log = system.controller_log();
        anyhow::ensure!(log.contains("keeping slices free"), "it started by chance");
        system.delete("large")?;
        Ok(())
    })
}

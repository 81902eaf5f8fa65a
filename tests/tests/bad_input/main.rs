//! What is wrong with a cluster is said where its administrator looks, and nothing else suffers.

mod certificates;
mod hosts;
mod journal;
mod network;

use scenarios::{Outcome, Pod, System};

/// Pods are served by the node `good`.
async fn others_are_served(system: &System) -> Outcome {
    let pod = Pod::of("other", "3g.20gb").on_nodes_with("kubernetes.io/hostname", "good");
    system.run(&pod).await?;
    assert_eq!(system.profiles("other").await?, ["3g.20gb"]);
    Ok(())
}

//! Pods one after the other, each timed from its creation.

use std::time::Duration;

use super::Ask;
use super::cluster::Node;
use super::logs;
use super::marks::Marks;

/// What becomes of a pod once it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It keeps its device, so that the next one needs another.
    Stay,
    /// It is deleted before the next one comes.
    Go,
}

/// Runs so many pods and tells how long each took to get where. All are gone at the end.
pub(super) async fn run(
    node: &Node,
    count: usize,
    ask: Ask,
    then: Then,
) -> anyhow::Result<Vec<Marks>> {
    let begun = jiff::Timestamp::now();
    let mut pods = node.watch_pods();
    let mut made = Vec::new();
    for number in 0..count {
        let name = format!("pod-{number}");
        let created = logs::now()?;
        node.create(&name, ask).await?;
        pods.running(&name).await?;
        if then == Then::Go {
            node.delete(&name).await?;
            pods.gone(&name).await?;
        }
        made.push((name, created));
    }
    let end = logs::now()?;
    let lines = logs::since(node, begun).await?;
    if then == Then::Stay {
        for (name, _) in &made {
            node.delete(name).await?;
        }
        for (name, _) in &made {
            pods.gone(name).await?;
        }
    }
    let nexts = made.iter().skip(1).map(|(_, created)| *created);
    let nexts: Vec<Duration> = nexts.chain([end]).collect();
    let marks = made.iter().zip(nexts).map(|((name, created), next)| {
        let seen = pods.seen(name);
        let mut marks = Marks {
            bound: seen.bound.and_then(|at| at.checked_sub(*created)),
            running: seen.running.and_then(|at| at.checked_sub(*created)),
            ..Marks::default()
        };
        marks.read(&Node::full_name(name), *created, next, &lines);
        if marks.allocated.is_none() {
            anstream::eprintln!(
                "the agent's log does not say when {name} got its device: {marks:?}"
            );
        }
        marks
    });
    Ok(marks.collect())
}

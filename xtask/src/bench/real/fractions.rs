//! What a fraction costs beside the profile that serves it: the webhook's review, and nothing else.

use super::cluster::Node;
use super::marks::Marks;
use super::{Ask, GPUS, PODS, PROFILE, at, fresh, of, series};
use crate::bench::document::{Report, Table};
use crate::bench::numbers::{percentile, verdict};
use crate::cluster::{Wanted, install};
use std::time::Duration;
use testbed::binaries::Profile;

/// What [`PROFILE`] serves on the node's GPUs.
const FRACTION: &str = "0.125";
/// Pods that find an idle device under another name.
const MOVED: usize = 20;
/// Promised of a fraction, beside the profile.
const AS_FAST: Duration = Duration::from_millis(10);

/// Measures it on the real node.
pub(in crate::bench) async fn measure() -> anyhow::Result<Report> {
    let node = Node::open().await?;
    let result = everything(&node).await;
    node.leave().await?;
    // As scenarios expect it.
    install(Profile::Release, &Wanted::gpus(2)).await?;
    result
}

async fn everything(node: &Node) -> anyhow::Result<Report> {
    let fraction = new(node, "fraction", Ask::Fraction(FRACTION)).await?;
    let profile = new(node, "profile", Ask::Profile(PROFILE)).await?;
    // All that the profile's pods have left is idle, and under the profile's name.
    let moved = series::run(node, MOVED, Ask::Fraction(FRACTION), series::Then::Stay).await?;
    Ok(Report {
        title: "A fraction beside its profile".to_owned(),
        how: format!(
            "Kubernetes 1.20 on one machine, brought up by `cargo xtask cluster up`; our release builds \
             in containers, with the webhook, installed with the chart; one node with {GPUS} simulated \
             A100-40GB whose NVML takes no time. Pods ask for `clear.ml/fraction: \"{FRACTION}\"`, or \
             for one {PROFILE}, which is what serves it, and the next is created when the one before \
             runs. Times begin before the request that creates the pod, so that the webhook's review \
             is in them."
        ),
        tables: vec![
            (
                "From a pod's creation to Allocate:".to_owned(),
                promise(&profile, &fraction, &moved),
            ),
            (
                "When each stage was reached, in ms since the pod's creation (p50 and p99):"
                    .to_owned(),
                super::stages(&[
                    ("the profile, new", profile),
                    ("the fraction, new", fraction),
                    ("the fraction, moved", moved),
                ]),
            ),
        ],
    })
}

/// Pods that all need a new instance.
async fn new(node: &Node, state: &str, ask: Ask) -> anyhow::Result<Vec<Marks>> {
    anstream::eprintln!("{PODS} pods, by {state}");
    install(Profile::Release, &fresh(state)).await?;
    node.settle().await;
    series::run(node, PODS, ask, series::Then::Stay).await
}

fn promise(profile: &[Marks], fraction: &[Marks], moved: &[Marks]) -> Table {
    let mut table = Table::new(&[
        "",
        "pods",
        "p50 (ms)",
        "p99 (ms)",
        "most (ms)",
        "promised",
        "",
    ]);
    let median = |marks: &[Marks]| {
        let times = of(marks, |marks| marks.allocated);
        percentile(&times, 50).filter(|_| times.len() == marks.len())
    };
    let kept = median(fraction)
        .zip(median(profile))
        .is_some_and(|(fraction, profile)| fraction <= profile + AS_FAST);
    let promised = format!("p50 within {} ms of the profile's", AS_FAST.as_millis());
    let nothing = || (String::new(), String::new());
    let rows = [
        ("the profile, new", profile, nothing()),
        ("the fraction, new", fraction, (promised, verdict(kept))),
        (
            "the fraction, by an idle device under the profile's name",
            moved,
            nothing(),
        ),
    ];
    for (name, marks, (promised, kept)) in rows {
        let times = of(marks, |marks| marks.allocated);
        table.row(&[
            name.to_owned(),
            format!("{} of {}", times.len(), marks.len()),
            at(&times, 50),
            at(&times, 99),
            at(&times, 100),
            promised,
            kept,
        ]);
    }
    table
}

//! The whole way on a real Kubernetes node: from a pod's creation to the kubelet's Allocate, what
//! becomes of five hundred pods, and what our programs weigh in their containers.
//!
//! Clocks: the node, our programs and this one share a machine, so times in their logs and here can
//! be compared.

mod cluster;
mod cycles;
pub(super) mod fractions;
mod logs;
mod marks;
mod memory;
mod pods;
mod series;

use std::time::Duration;

use testbed::binaries::Profile;

use self::cluster::Node;
use self::marks::Marks;
use self::memory::Memory;
use super::document::{Report, Table};
use super::numbers::{milliseconds, percentile, verdict};
use crate::cluster::{Wanted, install};

/// The node's GPUs: A100-40GB, so that there are 56 places for the smallest profile.
const GPUS: u32 = 8;
/// What every pod of a series asks for.
const PROFILE: &str = "1g.5gb";
const ASK: Ask = Ask::Profile(PROFILE);
/// Pods of a series that is held against a promise.
const PODS: usize = 50;
/// Pods of a series that only shows what a part is good for; each may take ten seconds.
const FEW: usize = 20;
/// How long NVML takes to make an instance on an A100.
const REAL_LATENCY: Duration = Duration::from_millis(600);
/// Promised for NVML without latency, and with that of an A100.
const TARGET_P50: Duration = Duration::from_millis(75);
const TARGET_P99: Duration = Duration::from_millis(300);
const TARGET_REAL_P50: Duration = Duration::from_millis(675);
/// What counts as equally fast: half of what a pass of the scheduler takes.
const AS_FAST: Duration = Duration::from_millis(5);

/// What a pod asks for.
#[derive(Debug, Clone, Copy)]
enum Ask {
    /// A profile, by its name.
    Profile(&'static str),
    /// A fraction, as users write it.
    Fraction(&'static str),
}

/// One way to set the system up.
struct Variant {
    name: &'static str,
    wanted: Wanted,
    pods: usize,
}

/// A node that never had an instance, with logs that can be read here.
fn fresh(state: &str) -> Wanted {
    Wanted {
        state: Some(format!("bench-{state}-{}.state", std::process::id())),
        json_logs: true,
        ..Wanted::gpus(GPUS)
    }
}

fn variants() -> [Variant; 4] {
    [
        Variant {
            name: "NVML takes 0.6 s",
            wanted: Wanted {
                nvml_latency: REAL_LATENCY,
                ..fresh("slow")
            },
            pods: PODS,
        },
        Variant {
            name: "no status patch",
            wanted: Wanted {
                status_patch: false,
                ..fresh("unpatched")
            },
            pods: FEW,
        },
        Variant {
            name: "no pod annotation",
            wanted: Wanted {
                pod_annotation: false,
                ..fresh("unannotated")
            },
            pods: FEW,
        },
        // The last: what it leaves idle is reused afterwards.
        Variant {
            name: "NVML takes no time",
            wanted: fresh("fast"),
            pods: PODS,
        },
    ]
}

pub(super) async fn measure() -> anyhow::Result<Report> {
    let node = Node::open().await?;
    let result = everything(&node).await;
    node.leave().await?;
    // As scenarios expect it.
    install(Profile::Release, &Wanted::gpus(2)).await?;
    result
}

async fn everything(node: &Node) -> anyhow::Result<Report> {
    let mut series = Vec::new();
    let mut idle = None;
    for variant in variants() {
        anstream::eprintln!("{} pods, {}", variant.pods, variant.name);
        install(Profile::Release, &variant.wanted).await?;
        node.settle().await;
        idle = Some(Memory::read(node).await?);
        let marks = series::run(node, variant.pods, ASK, series::Then::Stay).await?;
        series.push((variant.name, marks));
    }
    anstream::eprintln!("{FEW} pods that find an idle device, with and without the controller");
    let reused = series::run(node, FEW, ASK, series::Then::Go).await?;
    node.scale_controller(0).await?;
    let stock = series::run(node, FEW, ASK, series::Then::Go).await;
    node.scale_controller(1).await?;
    let stock = stock?;
    let cycled = cycles::run(node).await?;
    let worked = Memory::read(node).await?;
    Ok(Report {
        title: "On a real Kubernetes node".to_owned(),
        how: format!(
            "Kubernetes 1.20 (API server, scheduler, kubelet, containerd) on one machine, brought up by \
             `cargo xtask cluster up`; our release builds in containers, installed with the chart; one \
             node with {GPUS} simulated A100-40GB. Pods ask for one {PROFILE} each, and the next is \
             created when the one before runs. Times are those of the programs' own logs, but for bound \
             and running, which are when a watch told of them.\n\n\
             Two things are not as on clusters of today: etcd does not sync its file, so the writes \
             between creation and Allocate do not wait for a disk; and a kubelet of 1.20 cannot be asked \
             what it knows, so that is read in its checkpoint."
        ),
        tables: vec![
            (
                "From a pod's creation to Allocate, every pod needing a new instance:".to_owned(),
                promises(&series),
            ),
            (
                "When each stage was reached, in ms since the pod's creation (p50 and p99):"
                    .to_owned(),
                stages(&series),
            ),
            (
                "An idle device, beside the stock scheduler alone (our controller scaled to zero):"
                    .to_owned(),
                reuse(&reused, &stock),
            ),
            ("Pods that come and go:".to_owned(), cycled.table()),
            (
                "Resident memory in the containers:".to_owned(),
                memory::table(idle.unwrap_or_default(), worked),
            ),
        ],
    })
}

fn of(marks: &[Marks], read: impl Fn(&Marks) -> Option<Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = marks.iter().filter_map(read).collect();
    times.sort();
    times
}

fn at(times: &[Duration], percent: usize) -> String {
    percentile(times, percent).map_or_else(|| "-".to_owned(), milliseconds)
}

fn promises(series: &[(&str, Vec<Marks>)]) -> Table {
    let mut table = Table::new(&[
        "",
        "pods",
        "p50 (ms)",
        "p99 (ms)",
        "most (ms)",
        "promised",
        "",
    ]);
    for (name, marks) in series {
        let times = of(marks, |marks| marks.allocated);
        // A time that nobody wrote down could be any.
        let whole = times.len() == marks.len();
        let keeps = |percent, target| {
            whole && percentile(&times, percent).is_some_and(|time| time < target)
        };
        let (promised, kept) = match *name {
            "NVML takes no time" => (
                "p50 below 75, p99 below 300",
                verdict(keeps(50, TARGET_P50) && keeps(99, TARGET_P99)),
            ),
            "NVML takes 0.6 s" => ("p50 below 675", verdict(keeps(50, TARGET_REAL_P50))),
            _ => ("", String::new()),
        };
        table.row(&[
            (*name).to_owned(),
            format!("{} of {}", times.len(), marks.len()),
            at(&times, 50),
            at(&times, 99),
            at(&times, 100),
            promised.to_owned(),
            kept,
        ]);
    }
    table
}

fn stages(series: &[(&str, Vec<Marks>)]) -> Table {
    let mut head = vec!["stage"];
    head.extend(series.iter().map(|(name, _)| *name));
    let mut table = Table::new(&head);
    for (stage, read) in Marks::STAGES {
        let mut row = vec![stage.to_owned()];
        for (_, marks) in series {
            let times = of(marks, read);
            row.push(format!("{} / {}", at(&times, 50), at(&times, 99)));
        }
        table.row(&row);
    }
    table
}

fn reuse(reused: &[Marks], stock: &[Marks]) -> Table {
    let mut table = Table::new(&[
        "",
        "pods",
        "bound p50 (ms)",
        "Allocate p50 (ms)",
        "Allocate p99 (ms)",
        "promised",
        "",
    ]);
    let median = |marks: &[Marks]| {
        let times = of(marks, |marks| marks.allocated);
        percentile(&times, 50).filter(|_| times.len() == marks.len())
    };
    let kept = median(reused)
        .zip(median(stock))
        .is_some_and(|(ours, theirs)| ours <= theirs + AS_FAST);
    let rows = [
        (
            "with our controller",
            reused,
            format!("p50 within {} ms of without", AS_FAST.as_millis()),
            verdict(kept),
        ),
        ("without", stock, String::new(), String::new()),
    ];
    for (name, marks, promised, kept) in rows {
        let allocated = of(marks, |marks| marks.allocated);
        table.row(&[
            name.to_owned(),
            format!("{} of {}", allocated.len(), marks.len()),
            at(&of(marks, |marks| marks.bound), 50),
            at(&allocated, 50),
            at(&allocated, 99),
            promised,
            kept,
        ]);
    }
    table
}

//! The figures as tables.

use std::time::Duration;

use super::super::document::{Report, Table};
use super::super::numbers::{milliseconds, percentile, verdict};
use super::process::{PARTS, Pass};
use super::{Half, NODES, PODS, Phase, RATE, WATCHED, load};

/// Promised: a planning pass, the memory in MiB, and a share of one core.
const TARGET_PASS: Duration = Duration::from_millis(50);
const TARGET_MEMORY: f64 = 128.0;
const TARGET_CORES: f64 = 1.0;

pub(super) fn report(halves: &[Half]) -> Report {
    let phases: Vec<&Phase> = halves.iter().flat_map(|half| &half.phases).collect();
    let running: usize = halves.iter().map(|half| half.running).sum();
    let failed: usize = halves.iter().map(|half| half.failed).sum();
    let bound: usize = halves.iter().map(|half| half.bound).sum();
    let complaints: usize = halves.iter().map(|half| half.complaints).sum();
    Report {
        title: "The controller with 1,000 nodes".to_owned(),
        how: format!(
            "{NODES} nodes of {} GPUs (six of ten with A100 40GB, two with A100 80GB, one with H100, one with A30) and \
             {PODS} pods of 16 kinds (MIG profiles and fractions, some with a node selector). First an empty \
             cluster, to which all pods come at once; then, with the controller started anew, a full one: {running} \
             pods hold all of it, {PODS} wait from the start, and later {RATE} of those that run end each second \
             and as many come. Each phase at rest or with pods that end is watched for {} s.\n\n\
             The release build of the controller is a process of its own. The embedded API server, the simulated \
             agents (the real protocol over mutual TLS; making and destroying instances takes no time, so that \
             everything comes at once) and a simple scheduler of the benchmark run in one more process, on one \
             thread; the two processes share the machine's cores. There are no kubelets: their nodes' status is \
             written every five minutes each. Passes are timed by the controller itself, each by its parts, in \
             its log. {bound} pods were bound, {failed} of them to a device that was not there; the controller \
             logged {complaints} warnings.",
            load::GPUS,
            WATCHED.as_secs(),
        ),
        tables: vec![
            ("Against what is promised:".to_owned(), promised(halves, &phases)),
            ("Planning passes, in ms:".to_owned(), passes(&phases)),
            (
                "Where the time of passes goes: the share of each part, in all passes of a phase and in its slowest one:"
                    .to_owned(),
                parts(&phases),
            ),
            (
                "What the controller takes. A turn of its loop takes in what came, and makes a pass if that is due; \
                 the rest is TLS, gRPC, HTTP and JSON:"
                    .to_owned(),
                cost(&phases),
            ),
        ],
    }
}

fn promised(halves: &[Half], phases: &[&Phase]) -> Table {
    let mut table = Table::new(&["what", "measured", "promised", ""]);
    let mut row = |what: String, measured: String, promised: &str, kept: bool| {
        table.row(&[what, measured, promised.to_owned(), verdict(kept)]);
    };
    for phase in phases.iter().filter(|phase| !phase.passes.is_empty()) {
        let most = sorted(phase).last().copied().unwrap_or_default();
        row(
            format!("slowest pass: {} (ms)", phase.name),
            milliseconds(most),
            "below 50",
            most < TARGET_PASS,
        );
    }
    let peak = halves.iter().map(|half| half.peak).fold(0.0, f64::max);
    row(
        "most memory at any time (MiB)".to_owned(),
        format!("{peak:.1}"),
        "below 128",
        peak < TARGET_MEMORY,
    );
    for phase in phases.iter().filter(|phase| phase.steady) {
        let share = share(phase);
        row(
            format!("cores: {}", phase.name),
            format!("{share:.3}"),
            "below 1",
            share < TARGET_CORES,
        );
    }
    table
}

fn passes(phases: &[&Phase]) -> Table {
    let mut table = Table::new(&["phase", "passes", "first", "p50", "p99", "slowest"]);
    for phase in phases {
        let sorted = sorted(phase);
        let at =
            |percent| percentile(&sorted, percent).map_or_else(|| "-".to_owned(), milliseconds);
        let first = phase.passes.iter().find(|pass| pass.pods > 0);
        table.row(&[
            phase.name.to_owned(),
            sorted.len().to_string(),
            first.map_or_else(|| "-".to_owned(), |pass| milliseconds(pass.total)),
            at(50),
            at(99),
            at(100),
        ]);
    }
    table
}

fn parts(phases: &[&Phase]) -> Table {
    let with_passes = phases.iter().filter(|phase| !phase.passes.is_empty());
    let with_passes: Vec<_> = with_passes.collect();
    let mut head = vec!["part".to_owned()];
    for phase in &with_passes {
        head.push(format!("{} (%)", phase.name));
        head.push("slowest (ms)".to_owned());
    }
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut table = Table::new(&head);
    for (part, what) in PARTS {
        let mut row = vec![what.to_owned()];
        for phase in &with_passes {
            let time = |pass: &Pass| pass.parts.get(part).copied().unwrap_or_default();
            let all: Duration = phase.passes.iter().map(time).sum();
            let whole: Duration = phase.passes.iter().map(|pass| pass.total).sum();
            let share = 100.0 * all.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE);
            let slowest = phase.passes.iter().max_by_key(|pass| pass.total);
            row.push(format!("{share:.0}"));
            row.push(milliseconds(slowest.map(time).unwrap_or_default()));
        }
        table.row(&row);
    }
    table
}

fn cost(phases: &[&Phase]) -> Table {
    let mut table = Table::new(&[
        "phase",
        "took (s)",
        "processor time (s)",
        "of which turns (s)",
        "turns",
        "cores",
        "memory at its end (MiB)",
    ]);
    for phase in phases {
        let (turns, seconds) = phase.turns;
        table.row(&[
            phase.name.to_owned(),
            format!("{:.1}", phase.took.as_secs_f64()),
            format!("{:.2}", phase.busy.as_secs_f64()),
            format!("{seconds:.2}"),
            format!("{turns:.0}"),
            format!("{:.3}", share(phase)),
            format!("{:.1}", phase.resident),
        ]);
    }
    table
}

fn sorted(phase: &Phase) -> Vec<Duration> {
    let mut times: Vec<_> = phase.passes.iter().map(|pass| pass.total).collect();
    times.sort_unstable();
    times
}

/// Of one core.
fn share(phase: &Phase) -> f64 {
    phase.busy.as_secs_f64() / phase.took.as_secs_f64().max(f64::MIN_POSITIVE)
}

//! The figures of runs, put together to the lines of a table.

use simulation::capacity::Outcome;
use simulation::statistics::{Estimate, quantile};

/// How many GPUs accept as many pods as wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enough {
    /// It was not asked, or is not known yet.
    #[default]
    Unknown,
    /// More than were tried.
    NotFound,
    /// So many.
    Gpus(u32),
}

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pods: f64,
    slices: f64,
    whole: Option<f64>,
    used: f64,
    active: f64,
    made: f64,
    wait: Option<f64>,
    late: Option<f64>,
    asked: u64,
    left: u64,
}

impl Figures {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let largest = (0..outcome.share.len())
            .max_by(|one, other| outcome.share[*one].total_cmp(&outcome.share[*other]));
        let mut waits = outcome.waited(None);
        let count = f64::from(u32::try_from(waits.len()).unwrap_or(u32::MAX));
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        let asked = sum(&outcome.asked);
        Self {
            pods: outcome.pods(),
            slices: outcome.capacity(),
            whole: largest.and_then(|want| outcome.of(want)),
            used: outcome.used,
            active: outcome.active,
            made: outcome.created_per_start(),
            wait: (count > 0.0).then(|| waits.iter().sum::<f64>() / count),
            late: quantile(&mut waits, 0.99),
            asked,
            left: asked - sum(&outcome.accepted),
        }
    }
}

/// What is shown.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What was simulated, in a sentence.
    pub heading: String,
    /// The lines, by load and policy.
    pub rows: Vec<Row>,
    /// Whether pods waited.
    pub queue: bool,
    /// Whether it was asked how many GPUs accept so many percent.
    pub accept: Option<f64>,
    /// Whether waits are seconds, and not mean lifetimes.
    pub seconds: bool,
}

/// One line: the figures of one policy at one load.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The load; `None` for a trace.
    pub load: Option<f64>,
    /// The policy.
    pub policy: &'static str,
    /// Accepted pods in percent.
    pub pods: Estimate,
    /// What they ask for, in percent of what all ask for.
    pub slices: Estimate,
    /// Accepted pods of those that ask for the largest instances, in percent.
    pub whole: Estimate,
    /// Part of the GPUs in use in percent.
    pub used: Estimate,
    /// GPUs on which something runs.
    pub active: Estimate,
    /// Instances made per start.
    pub made: Estimate,
    /// Mean wait.
    pub wait: Estimate,
    /// The wait that 99 % stay below.
    pub late: Estimate,
    /// Pods that came, in the mean of the runs.
    pub asked: Estimate,
    /// Pods that still wait at the end or were lost, in the mean of the runs.
    pub left: Estimate,
    /// GPUs that are enough, if that was asked and found.
    pub enough: Enough,
}

impl Row {
    pub(super) fn new(
        load: Option<f64>,
        policy: &'static str,
        runs: &[&Figures],
        enough: Enough,
    ) -> Self {
        let of = |figure: &dyn Fn(&Figures) -> Option<f64>| {
            let values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
            Estimate::of(&values)
        };
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 pods")]
        let float = |count: u64| Some(count as f64);
        Self {
            load,
            policy,
            pods: of(&|run| Some(run.pods)),
            slices: of(&|run| Some(run.slices)),
            whole: of(&|run| run.whole),
            used: of(&|run| Some(run.used)),
            active: of(&|run| Some(run.active)),
            made: of(&|run| Some(run.made)),
            wait: of(&|run| run.wait),
            late: of(&|run| run.late),
            asked: of(&|run| float(run.asked)),
            left: of(&|run| float(run.left)),
            enough,
        }
    }
}

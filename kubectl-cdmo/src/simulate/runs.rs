//! All runs, on all cores, with results that do not depend on how many there are.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use simulation::capacity::{CapacityError, Outcome, Part, Scenario, Stream};
use simulation::contest::Contestant;
use simulation::law::Law;
use simulation::statistics::Estimate;

use super::input::Input;
use super::options::{Named, Simulate as Options};
use super::summary::{Enough, Figures, Row, Summary};
use crate::error::Error;

/// Mean lifetimes until measuring begins, where pods are drawn.
const WARM_UP: f64 = 10.0;
/// Mean lifetimes that are measured at least, and at most.
const MEASURED: (f64, f64) = (60.0, 2000.0);
/// Pods that come in that time at least, on small clusters.
const PODS: f64 = 5000.0;
/// Moments at which the use is noted.
const SAMPLES: usize = 241;
/// The number of GPUs is sought up to so many times what was named.
const MOST_TIMES: u32 = 64;
/// Runs that decide whether a number of GPUs is enough.
const RUNS_OF_SEARCH: u32 = 3;
/// Parts of a run that are counted for the bar.
const STEPS: u64 = 1000;

/// How far the runs are, for who watches.
#[derive(Debug, Default)]
pub struct Progress {
    stop: AtomicBool,
    steps: AtomicU64,
    all: AtomicU64,
}

impl Progress {
    /// Ends all runs soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// A bar of that width with what is done, in one line.
    pub fn line(&self, width: usize) -> String {
        let (steps, all) = (
            self.steps.load(Ordering::Relaxed),
            self.all.load(Ordering::Relaxed),
        );
        let percent = (steps * 100).checked_div(all).unwrap_or(0).min(100);
        let words = format!(" {percent:>3} % simulated, Ctrl-C shows what is known");
        let room = width.saturating_sub(words.len() + 2).clamp(5, 30);
        let filled = room * usize::try_from(percent).unwrap_or(0) / 100;
        format!(
            "[{}{}]{words}\n",
            "#".repeat(filled),
            ".".repeat(room - filled)
        )
    }
}

/// What is run for one line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Once, with the pods of that number.
    Run(u32),
    /// With more and less GPUs, until it is known how many are enough.
    Search,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    load: usize,
    policy: usize,
    what: What,
}

/// What came of one job.
#[derive(Clone, Debug)]
pub struct Done {
    pub(super) load: usize,
    pub(super) policy: usize,
    pub(super) found: Found,
}

/// What came of one job.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The figures of one run, and all of it for the first run of the highest load.
    Figures(Figures, Option<Box<Outcome>>),
    /// How many GPUs are enough.
    Enough(Enough),
}

/// All that is to be run.
#[derive(Debug)]
pub struct Plan {
    pub(super) input: Input,
    pub(super) loads: Vec<f64>,
    pub(super) policies: Vec<Named<Contestant>>,
    pub(super) queue: bool,
    pub(super) accept: Option<f64>,
    law: Law,
    runs: u32,
    seed: u64,
    jobs: Vec<Job>,
}

impl Plan {
    /// From the options and what was read for them.
    pub fn new(options: &Options, input: Input) -> Self {
        // A trace has its own load, and nothing in it is drawn.
        let is_trace = input.trace.is_some();
        let loads = if is_trace {
            vec![1.0]
        } else {
            options.load.0.clone()
        };
        let runs = if is_trace { 1 } else { options.runs };
        let mut policies: Vec<Named<Contestant>> = Vec::new();
        for policy in &options.policies {
            if !policies.contains(policy) {
                policies.push(policy.clone());
            }
        }
        let mut jobs = Vec::new();
        for load in 0..loads.len() {
            for policy in 0..policies.len() {
                let job = |what| Job { load, policy, what };
                jobs.extend((0..runs).map(|run| job(What::Run(run))));
                jobs.extend(options.accept.map(|_| job(What::Search)));
            }
        }
        Self {
            input,
            loads,
            policies,
            queue: options.queue,
            accept: options.accept,
            law: options.lifetimes.value,
            runs,
            seed: options.seed,
            jobs,
        }
    }

    /// How many jobs there are.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Whether pods come from a trace, whose times are seconds.
    pub(super) fn is_trace(&self) -> bool {
        self.input.trace.is_some()
    }

    /// Runs all that is not stopped; what is done, in the order of the jobs.
    pub fn run(&self, progress: &Progress) -> Result<Vec<Done>, Error> {
        let all = u64::try_from(self.jobs.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(STEPS);
        progress.all.store(all, Ordering::Relaxed);
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Ok(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..threads.min(self.jobs.len()) {
                scope.spawn(|| {
                    while progress.goes_on() {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = self.jobs.get(number) else {
                            return;
                        };
                        let found = self.work(job, progress);
                        let mut done = done
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner);
                        match (found, done.as_mut()) {
                            (Ok(Some(found)), Ok(all)) => all.push((number, found)),
                            (Ok(None), _) | (_, Err(_)) => {}
                            (Err(error), Ok(_)) => {
                                progress.stop();
                                *done = Err(error);
                            }
                        }
                    }
                });
            }
        });
        let done = done
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut done = done.map_err(|error| Error::Simulation {
            why: error.to_string(),
        })?;
        done.sort_unstable_by_key(|(number, _)| *number);
        Ok(done.into_iter().map(|(_, done)| done).collect())
    }

    fn work(&self, job: &Job, progress: &Progress) -> Result<Option<Done>, CapacityError> {
        let found = match job.what {
            What::Run(run) => {
                let mut reached = 0;
                let mut proceed = |part: f64| {
                    // Truncated to thousandths of a run.
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "between 0 and 1000"
                    )]
                    let now = (part.clamp(0.0, 1.0) * 1000.0) as u64;
                    progress
                        .steps
                        .fetch_add(now.saturating_sub(reached), Ordering::Relaxed);
                    reached = reached.max(now);
                    progress.goes_on()
                };
                let parts = &self.input.parts;
                let outcome = self.simulate(parts, job, run, &mut proceed)?;
                progress
                    .steps
                    .fetch_add(STEPS - reached.min(STEPS), Ordering::Relaxed);
                let Some(outcome) = outcome else {
                    return Ok(None);
                };
                let is_shown = run == 0 && job.load + 1 == self.loads.len();
                let figures = Figures::of(&outcome);
                Found::Figures(figures, is_shown.then(|| Box::new(outcome)))
            }
            What::Search => {
                let enough = self.search(job, progress)?;
                progress.steps.fetch_add(STEPS, Ordering::Relaxed);
                if !progress.goes_on() {
                    return Ok(None);
                }
                Found::Enough(enough)
            }
        };
        Ok(Some(Done {
            load: job.load,
            policy: job.policy,
            found,
        }))
    }

    /// One run on these GPUs; the load is that of the GPUs that were named.
    fn simulate(
        &self,
        parts: &[Part],
        job: &Job,
        run: u32,
        proceed: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Option<Outcome>, CapacityError> {
        let seed = self.seed.wrapping_add(u64::from(run));
        let contestant = self.policies[job.policy].value;
        let mut scenario = Scenario {
            parts,
            wants: &self.input.wants,
            shares: &self.input.shares,
            waits: self.queue,
            from: 0.0,
            until: self.input.last(),
            samples: SAMPLES,
        };
        if let Some(pods) = &self.input.trace {
            scenario.from = pods.first().map_or(0.0, |pod| pod.time);
            let span = (scenario.until - scenario.from).max(f64::MIN_POSITIVE);
            let from = scenario.from;
            let pods = pods.iter().copied();
            return scenario.run(contestant, seed, pods, &mut |time| {
                proceed((time - from) / span)
            });
        }
        let rate = self.loads[job.load] * f64::from(self.input.gpus()) / self.mean_share();
        let measured = (PODS / rate).clamp(MEASURED.0, MEASURED.1);
        scenario.from = WARM_UP;
        scenario.until = WARM_UP + measured;
        let until = scenario.until;
        let pods = Stream::new(&self.input.shares, rate, self.law, seed);
        scenario.run(contestant, seed, pods, &mut |time: f64| {
            proceed(time / until)
        })
    }

    /// Part of a GPU that a pod asks for, in the mean.
    fn mean_share(&self) -> f64 {
        let sum: f64 = self
            .input
            .shares
            .iter()
            .map(|share| f64::from(*share))
            .sum();
        let pairs = self.input.wants.iter().zip(&self.input.shares);
        let of = pairs.map(|(want, share)| {
            let ways = want.profiles.iter().zip(&self.input.parts);
            let shares = ways.filter_map(|(profile, part)| {
                let size = part.geometry.profile((*profile)?).size;
                Some(f64::from(size) / f64::from(part.geometry.slices()))
            });
            shares.fold(f64::INFINITY, f64::min) * f64::from(*share)
        });
        of.sum::<f64>() / sum
    }

    /// The least number of GPUs that accepts as many pods as wanted, with the models in proportion.
    fn search(&self, job: &Job, progress: &Progress) -> Result<Enough, CapacityError> {
        let now = self.input.gpus();
        let (mut low, mut high) = (0, now);
        while !self.is_enough(high, job, progress)? {
            if high / MOST_TIMES >= now || !progress.goes_on() {
                return Ok(Enough::NotFound);
            }
            low = high;
            high = high.saturating_mul(2);
        }
        while high - low > 1 && progress.goes_on() {
            let middle = low + (high - low) / 2;
            if self.is_enough(middle, job, progress)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(Enough::Gpus(high))
    }

    fn is_enough(&self, gpus: u32, job: &Job, progress: &Progress) -> Result<bool, CapacityError> {
        let parts = in_proportion(&self.input.parts, gpus);
        let mut accepted = Vec::new();
        for run in 0..self.runs.min(RUNS_OF_SEARCH) {
            let outcome = self.simulate(&parts, job, run, &mut |_| progress.goes_on())?;
            accepted.extend(outcome.map(|outcome| outcome.pods()));
        }
        Ok(Estimate::of(&accepted).mean >= self.accept.unwrap_or(100.0))
    }

    /// The lines of the table, of what is done.
    pub fn summary(&self, done: &[Done]) -> Summary {
        let mut rows = Vec::new();
        for (load, percent) in self.loads.iter().enumerate() {
            for (policy, named) in self.policies.iter().enumerate() {
                let mine = done.iter().filter(|d| d.load == load && d.policy == policy);
                let (mut figures, mut enough) = (Vec::new(), Enough::Unknown);
                for done in mine {
                    match &done.found {
                        Found::Figures(of_run, _) => figures.push(of_run),
                        Found::Enough(gpus) => enough = *gpus,
                    }
                }
                if !figures.is_empty() || enough != Enough::Unknown {
                    let load = (!self.is_trace()).then_some(*percent);
                    rows.push(Row::new(load, named.name, &figures, enough));
                }
            }
        }
        let parts = self.input.models.iter().zip(&self.input.parts);
        let gpus: Vec<String> = parts
            .map(|(model, part)| format!("{}x {model}", part.gpus))
            .collect();
        let fate = if self.queue {
            "pods that find no place wait"
        } else {
            "pods that find no place are lost"
        };
        let runs = if self.runs == 1 { "run" } else { "runs" };
        Summary {
            heading: format!(
                "{}: {}, {fate}; {} {runs} each, seed {}.",
                gpus.join(" and "),
                self.input.words,
                self.runs,
                self.seed
            ),
            rows,
            queue: self.queue,
            accept: self.accept,
            seconds: self.is_trace(),
        }
    }
}

/// So many GPUs in all, of each model its part, rounded up.
fn in_proportion(parts: &[Part], gpus: u32) -> Vec<Part> {
    let all: u64 = parts.iter().map(|part| u64::from(part.gpus)).sum();
    let mut left = gpus;
    let mut scaled = parts.to_vec();
    for part in &mut scaled {
        let mine = (u64::from(part.gpus) * u64::from(gpus)).div_ceil(all.max(1));
        part.gpus = u32::try_from(mine).unwrap_or(u32::MAX).min(left);
        left -= part.gpus;
    }
    scaled
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn gpus_are_scaled_in_proportion_and_sum_up() {
        let parts = |counts: &[u32]| -> Vec<Part> {
            let model = mig::GpuModel::known("NVIDIA A30").unwrap();
            let geometry = std::sync::Arc::new(placement::Geometry::new(&model).unwrap());
            let of = |gpus: &u32| Part {
                geometry: geometry.clone(),
                gpus: *gpus,
                per_node: 8,
            };
            counts.iter().map(of).collect()
        };
        let scaled = |counts: &[u32], gpus| -> Vec<u32> {
            let parts = in_proportion(&parts(counts), gpus);
            parts.iter().map(|part| part.gpus).collect()
        };
        assert_eq!(scaled(&[4, 12], 8), [2, 6]);
        assert_eq!(scaled(&[4, 12], 1), [1, 0]);
        assert_eq!(scaled(&[16], 33), [33]);
        for gpus in 1..50 {
            assert_eq!(scaled(&[3, 5, 9], gpus).iter().sum::<u32>(), gpus);
        }
    }

    fn plan(line: &str) -> Plan {
        let args = crate::Args::try_parse_from(line.split(' ')).unwrap();
        let crate::args::Command::Simulate(options) = args.command else {
            panic!("{line} is another command");
        };
        Plan::new(&options, Input::read(&options).unwrap())
    }

    #[test]
    fn what_is_stopped_ends_at_once_with_what_is_known() {
        // Days of work, were it not stopped.
        let plan = plan("x simulate --gpus A100-80GB:100000 --load 0.5,0.01 --runs 1000");
        let progress = Progress::default();
        let done = std::thread::scope(|scope| {
            let runs = scope.spawn(|| plan.run(&progress));
            while progress.steps.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            progress.stop();
            runs.join().unwrap().unwrap()
        });
        assert!(done.len() < plan.jobs());
        assert_eq!(plan.summary(&[]).rows.len(), 0);
    }

    #[test]
    fn results_do_not_depend_on_the_order_in_which_runs_end() {
        let plan = plan("x simulate --gpus A30:8 --load 0.9,1 --runs 3 --policy mfi --policy ff");
        let run = || {
            let done = plan.run(&Progress::default()).unwrap();
            format!("{:?}", plan.summary(&done).rows)
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn the_bar_never_is_wider_than_the_terminal() {
        let progress = Progress::default();
        progress.all.store(10, Ordering::Relaxed);
        progress.steps.store(5, Ordering::Relaxed);
        for width in [60, 80, 200] {
            let line = progress.line(width);
            assert!(
                line.contains(" 50 %") && line.trim_end().chars().count() <= width,
                "{line}"
            );
        }
    }
}

//! The policies that FGD is compared with, and FGD.

use super::fragmentation::Fragmentation;
use super::workload::{Kind, State, WHOLE};

/// How a machine and a GPU on it are chosen for a pod. Names are those of the paper's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Any machine where the pod fits, any GPU.
    Random,
    /// Where request and rest, as vectors of CPU and GPU, have the smallest dot product (Tetris).
    DotProduct,
    /// Where pods of the same class already run (Gandiva).
    Clustering,
    /// Shared GPUs first, then idle GPUs of used machines, then empty machines.
    Packing,
    /// Where the weighted sum of what remains is smallest.
    BestFit,
    /// Where fragmentation grows least.
    FragmentationGradientDescent,
}

/// Largest machine of the trace; scores are fractions of it.
const LARGEST_CPU: f64 = 128_000.0;
const LARGEST_GPU: u32 = 8000;

impl Rule {
    /// All rules, with the names of the tables.
    pub const ALL: [(&'static str, Self); 6] = [
        ("Random", Self::Random),
        ("DotProd", Self::DotProduct),
        ("Clustering", Self::Clustering),
        ("Packing", Self::Packing),
        ("BestFit", Self::BestFit),
        ("FGD", Self::FragmentationGradientDescent),
    ];

    /// The score of a machine where the pod fits; the largest wins, and of equal ones the first
    /// machine.
    pub(super) fn score(self, state: &State, kind: &Kind, fragmentation: &Fragmentation) -> i16 {
        match self {
            Self::Random => 0,
            Self::DotProduct => {
                let dot = share(state.cpu) * share(kind.cpu)
                    + gpu_share(state.total()) * gpu_share(kind.total());
                truncate((1.0 - dot / 2.0) * 100.0)
            }
            Self::Clustering => clustering(state, kind),
            Self::Packing => packing(state, kind),
            Self::BestFit => {
                let cpu = share(state.cpu) - share(kind.cpu);
                let gpu = gpu_share(state.total()) - gpu_share(kind.total());
                truncate((1.0 - (0.5 * cpu + 0.5 * gpu)) * 100.0)
            }
            Self::FragmentationGradientDescent => descent(state, kind, fragmentation).0,
        }
    }

    /// The machine after the pod came to it. For [`Rule::Random`] `draw` chooses among that many
    /// GPUs.
    pub(super) fn place(
        self,
        state: &State,
        kind: &Kind,
        fragmentation: &Fragmentation,
        draw: &mut dyn FnMut(usize) -> usize,
    ) -> State {
        if !kind.is_shared() {
            return state.with_whole(kind);
        }
        let fitting = || (0..state.gpus().len()).filter(|gpu| state.left[*gpu] >= kind.milli);
        let gpu = match self {
            Self::Random => {
                let chosen = draw(fitting().count());
                fitting().nth(chosen)
            }
            Self::FragmentationGradientDescent => descent(state, kind, fragmentation).1,
            _ => fitting().min_by_key(|gpu| state.left[*gpu]),
        };
        state.with_shared(kind, gpu.unwrap_or(0))
    }
}

impl State {
    /// After a pod took a part of one GPU.
    fn with_shared(&self, kind: &Kind, gpu: usize) -> Self {
        let mut after = *self;
        after.cpu = after.cpu.saturating_sub(kind.cpu);
        after.left[gpu] = after.left[gpu].saturating_sub(kind.milli);
        after.classes |= kind.class();
        after
    }

    /// After a pod took the first idle GPUs, or none.
    fn with_whole(&self, kind: &Kind) -> Self {
        let mut after = *self;
        after.cpu = after.cpu.saturating_sub(kind.cpu);
        let idle = after
            .left
            .iter_mut()
            .filter(|left| u32::from(**left) == WHOLE);
        for gpu in idle.take(usize::from(kind.gpus)) {
            *gpu = 0;
        }
        after.classes |= kind.class();
        after
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "no machine has 2^53 thousandths of a core"
)]
fn share(cpu: u64) -> f64 {
    cpu as f64 / LARGEST_CPU
}

fn gpu_share(milli: u32) -> f64 {
    f64::from(milli) / f64::from(LARGEST_GPU)
}

/// To a whole score, towards zero as the original does.
#[expect(
    clippy::cast_possible_truncation,
    reason = "scores are between -300 and 100"
)]
fn truncate(score: f64) -> i16 {
    score as i16
}

fn small(score: u32) -> i16 {
    i16::try_from(score).unwrap_or(i16::MAX)
}

fn clustering(state: &State, kind: &Kind) -> i16 {
    let class = kind.class();
    if class == 0 {
        return 0;
    }
    let used = 25 * LARGEST_GPU.saturating_sub(state.total()) / LARGEST_GPU;
    let group = match state.classes {
        only if only == class => 75,
        several if several & class != 0 => 50,
        0 => 25,
        _ => 0,
    };
    small(used + group)
}

fn packing(state: &State, kind: &Kind) -> i16 {
    if kind.gpus == 0 {
        return 0;
    }
    let whole = |left: u16| u32::from(left) == WHOLE;
    let idle = state.gpus().iter().filter(|left| whole(**left)).count();
    let idle = u32::try_from(idle).unwrap_or(0);
    if idle == u32::from(state.gpus) {
        return small((33 - idle.min(33)).max(idle));
    }
    let mut left = state.left;
    let left = &mut left[..usize::from(state.gpus)];
    left.sort_unstable();
    let used = left
        .iter()
        .filter(|left| **left >= kind.milli)
        .take(usize::from(kind.gpus));
    let (mut fresh, mut rest) = (0, 0);
    for gpu in used {
        fresh += u32::from(whole(*gpu));
        rest += u32::from(*gpu) / 10;
    }
    if fresh > 0 {
        small((50 - fresh.min(50)).max(33))
    } else {
        small((100 - (rest / 10).min(100)).max(50))
    }
}

/// Score of the best GPU of a machine, and which it is; the first of equal ones.
fn descent(state: &State, kind: &Kind, fragmentation: &Fragmentation) -> (i16, Option<usize>) {
    let before = fragmentation.of(state);
    let score = |after: &State| gradient(before, fragmentation.of(after), fragmentation.weight());
    if !kind.is_shared() {
        return (score(&state.with_whole(kind)), None);
    }
    let mut best: Option<(i16, usize)> = None;
    for (gpu, left) in state.gpus().iter().enumerate() {
        // A GPU with the same rest as an earlier one gives the same state but for the order.
        if *left < kind.milli || state.left[..gpu].contains(left) {
            continue;
        }
        let score = score(&state.with_shared(kind, gpu));
        if best.is_none_or(|(known, _)| score > known) {
            best = Some((score, gpu));
        }
    }
    best.map_or((0, None), |(score, gpu)| (score, Some(gpu)))
}

/// Of 0 to 100, 50 where fragmentation stays the same.
#[expect(
    clippy::cast_precision_loss,
    reason = "sums over a machine are far below 2^53"
)]
fn gradient(before: u64, after: u64, weight: u64) -> i16 {
    let drop = (before as f64 - after as f64) / (weight.max(1) as f64 * 1000.0);
    truncate(100.0 / (1.0 + libm::exp(-drop)))
}

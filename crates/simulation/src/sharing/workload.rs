//! Machines, and the kinds of pods that come.

use std::collections::HashMap;

use crate::trace::{Node, Pod};

/// Thousandths of a whole GPU.
pub(super) const WHOLE: u32 = 1000;
/// Most GPUs of one machine here; no machine of the trace has more.
pub(super) const GPUS: usize = 8;

/// What is left on one machine, as far as scores depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) cpu: u64,
    /// Thousandths left of each GPU, in the machine's order; 0 beyond `gpus`.
    pub(super) left: [u16; GPUS],
    pub(super) gpus: u8,
    /// Bit of its GPU model.
    pub(super) model: u64,
    /// Which classes of pods it holds, one bit each; see [`Kind::class`].
    pub(super) classes: u8,
}

impl State {
    /// Thousandths of a GPU that are left, over all GPUs.
    pub(super) fn total(&self) -> u32 {
        self.left.iter().map(|left| u32::from(*left)).sum()
    }

    pub(super) fn gpus(&self) -> &[u16] {
        &self.left[..usize::from(self.gpus)]
    }

    pub(super) fn is_fit(&self, kind: &Kind) -> bool {
        self.cpu >= kind.cpu && self.model & kind.models != 0 && self.has_gpus(kind)
    }

    pub(super) fn has_gpus(&self, kind: &Kind) -> bool {
        let fitting = self.gpus().iter().filter(|left| **left >= kind.milli);
        fitting.count() >= usize::from(kind.gpus)
    }
}

/// Pods that differ in nothing that a score depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) cpu: u64,
    /// Thousandths of each GPU; 0 without GPUs.
    pub(super) milli: u16,
    pub(super) gpus: u8,
    /// Bits of the GPU models that it may run on.
    pub(super) models: u64,
}

impl Kind {
    pub(super) fn total(&self) -> u32 {
        u32::from(self.milli) * u32::from(self.gpus)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.gpus == 1 && u32::from(self.milli) < WHOLE
    }

    /// Bit of its class: a shared GPU, one, two, four, eight, any other number; 0 without GPUs.
    pub(super) fn class(&self) -> u8 {
        match self.gpus {
            0 => 0,
            1 if self.is_shared() => 1,
            1 => 2,
            2 => 4,
            4 => 8,
            8 => 16,
            _ => 32,
        }
    }
}

/// A cluster and the pods that come to it.
#[derive(Clone, Debug)]
pub struct Workload {
    pub(super) machines: Vec<(State, u64)>,
    pub(super) kinds: Vec<Kind>,
    /// Kind and memory in MiB of every pod of the list.
    pub(super) pods: Vec<(usize, u64)>,
    /// The popular kinds and how many pods of the list are of each.
    pub(super) popular: Vec<(Kind, u64)>,
    pub(super) capacity: u64,
}

/// Why a node or a pod cannot be simulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// A machine with more GPUs than the simulator can hold.
    #[error("the node {name:?} has {gpus} GPUs; at most 8 can be simulated")]
    TooManyGpus {
        /// The node.
        name: String,
        /// Its GPUs.
        gpus: u32,
    },
    /// More models than bits.
    #[error("the nodes have more than 63 GPU models; leave some out")]
    TooManyModels,
    /// Nothing to fill.
    #[error("the nodes have no GPUs, so there is nothing to fill; give a list of GPU nodes")]
    NoGpus,
    /// Nothing to fill it with.
    #[error("the pods ask for no GPUs, so the cluster never fills; give a list with GPU pods")]
    NoPods,
}

/// Share of the pods whose kinds are popular, in percent: the rare ones say little of what comes.
const POPULAR_PERCENT: u64 = 95;

impl Workload {
    /// Of the lists of a trace.
    ///
    /// # Errors
    /// If there are no GPUs, or more of something than can be simulated.
    pub fn new(nodes: &[Node], pods: &[Pod]) -> Result<Self, WorkloadError> {
        let mut models: Vec<&str> = Vec::new();
        for node in nodes {
            if !models.contains(&node.model.as_str()) {
                models.push(&node.model);
            }
        }
        if models.len() > 63 {
            return Err(WorkloadError::TooManyModels);
        }
        let bit = |model: &str| {
            let known = models
                .iter()
                .zip(0_u32..)
                .find(|(known, _)| **known == model);
            known.map_or(0, |(_, at)| 1_u64 << at)
        };
        let machines: Vec<(State, u64)> = nodes
            .iter()
            .map(|node| Ok((machine(node, bit(&node.model))?, node.memory_mib)))
            .collect::<Result<_, _>>()?;
        let capacity: u64 = machines
            .iter()
            .map(|(state, _)| u64::from(state.total()))
            .sum();
        if capacity == 0 {
            return Err(WorkloadError::NoGpus);
        }
        let mut kinds = Vec::new();
        let mut numbers: HashMap<Kind, usize> = HashMap::new();
        let pods: Vec<(usize, u64)> = pods
            .iter()
            .map(|pod| {
                let models = pod.models.iter().map(|model| bit(model));
                let kind = Kind {
                    cpu: pod.cpu_milli,
                    milli: u16::try_from(pod.gpu_milli.min(WHOLE)).unwrap_or(0),
                    gpus: u8::try_from(pod.gpus).unwrap_or(u8::MAX),
                    models: if pod.models.is_empty() {
                        u64::MAX
                    } else {
                        models.fold(0, |all, model| all | model)
                    },
                };
                let number = *numbers.entry(kind).or_insert_with(|| {
                    kinds.push(kind);
                    kinds.len() - 1
                });
                (number, pod.memory_mib)
            })
            .collect();
        if kinds.iter().all(|kind| kind.total() == 0) {
            return Err(WorkloadError::NoPods);
        }
        let popular = popular(&kinds, &pods);
        Ok(Self {
            machines,
            kinds,
            pods,
            popular,
            capacity,
        })
    }

    /// All GPUs, in thousandths of a GPU.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }
}

fn machine(node: &Node, model: u64) -> Result<State, WorkloadError> {
    let gpus = u8::try_from(node.gpus).unwrap_or(u8::MAX);
    let mut left = [0; GPUS];
    for gpu in 0..usize::from(gpus) {
        let gpu = left
            .get_mut(gpu)
            .ok_or_else(|| WorkloadError::TooManyGpus {
                name: node.name.clone(),
                gpus: node.gpus,
            })?;
        *gpu = 1000;
    }
    Ok(State {
        cpu: node.cpu_milli,
        left,
        gpus,
        model,
        classes: 0,
    })
}

/// The kinds that make up most pods, the most frequent first.
fn popular(kinds: &[Kind], pods: &[(usize, u64)]) -> Vec<(Kind, u64)> {
    let mut counts: Vec<(u64, Kind)> = kinds.iter().map(|kind| (0, *kind)).collect();
    for (kind, _) in pods {
        counts[*kind].0 += 1;
    }
    counts.sort_unstable_by(|one, other| other.cmp(one));
    let mut rest = (pods.len() as u64 * POPULAR_PERCENT).div_ceil(100);
    let needed = counts.iter().take_while(|(count, _)| {
        let is_needed = rest > 0;
        rest = rest.saturating_sub(*count);
        is_needed
    });
    needed.map(|(count, kind)| (*kind, *count)).collect()
}

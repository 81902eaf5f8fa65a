//! One window of pods on one candidate after the other.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use super::Worth;
use crate::{
    geometry::{Geometry, ProfileId},
    index::Index,
    pool::{After, Ask, GpuPlace, Pool},
};

/// A pod that is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) time: u64,
    /// `u64::MAX` if it runs beyond the window.
    pub(super) end: u64,
    pub(super) profile: ProfileId,
}

/// Pods in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) pods: Vec<Pod>,
}

/// A window, and what the candidates so far accepted of it.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    window: Window,
    gpus: u32,
    accepted: Vec<i64>,
}

impl Replay {
    pub(super) fn new(window: Window, gpus: u32) -> Self {
        Self {
            window,
            gpus,
            accepted: Vec::new(),
        }
    }

    /// How many candidates are done.
    pub(super) fn done(&self) -> usize {
        self.accepted.len()
    }

    /// Replays on the next candidate.
    pub(super) fn run(&mut self, geometry: &Arc<Geometry>, index: &Arc<Index>, worth: Worth) {
        let accepted = accepted(&self.window, self.gpus, geometry, index, worth);
        self.accepted.push(accepted);
    }

    /// What each accepted, in millionths of what was asked for.
    pub(super) fn finish(self) -> Vec<i64> {
        self.accepted
    }
}

/// What a candidate accepts of the last three quarters of a window on empty GPUs, in millionths.
fn accepted(
    window: &Window,
    gpus: u32,
    geometry: &Arc<Geometry>,
    index: &Arc<Index>,
    worth: Worth,
) -> i64 {
    let mut pool = Pool::new(Arc::clone(geometry), Arc::clone(index));
    for _ in 0..gpus {
        pool.add(GpuPlace::default());
    }
    let mut ends = BinaryHeap::new();
    let (mut asked, mut taken) = (0i64, 0i64);
    for (number, pod) in window.pods.iter().enumerate() {
        while let Some(Reverse((end, gpu, placement))) = ends.peek().copied()
            && end <= pod.time
        {
            ends.pop();
            // What was committed below stands until here.
            let released = pool.release(gpu, placement, After::Idle);
            debug_assert_eq!(released, Ok(()));
        }
        let counts = number >= window.pods.len() / 4;
        let worth = match worth {
            Worth::Pods => 1,
            Worth::Slices => i64::from(geometry.profile(pod.profile).size),
        };
        if counts {
            asked += worth;
        }
        let Some(choice) = pool.choose(&Ask::new(pod.profile)) else {
            continue;
        };
        if pool.commit(&choice).is_ok() {
            ends.push(Reverse((pod.end, choice.gpu, choice.placement)));
            if counts {
                taken += worth;
            }
        }
    }
    taken * 1_000_000 / asked.max(1)
}

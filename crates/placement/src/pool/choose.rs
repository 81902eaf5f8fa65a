//! The decision: the best placement of the whole pool.

use std::cmp::Reverse;

use super::{GpuId, NodeId, Pool};
use crate::{
    classes::ClassSet,
    geometry::{PlacementId, ProfileId, placements},
    index::Index,
    sets::bits,
};

/// What an instance is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    profile: ProfileId,
    classes: Option<&'a ClassSet>,
    /// The first word of the classes that is not empty, and the one after the last.
    span: (usize, usize),
    reuse_bonus: u32,
}

impl<'a> Ask<'a> {
    /// An instance of that profile, anywhere. Among equal scores an idle instance is reused.
    pub fn new(profile: ProfileId) -> Self {
        Self {
            profile,
            classes: None,
            span: (0, usize::MAX),
            reuse_bonus: 0,
        }
    }

    /// Only on GPUs of these node classes.
    #[must_use]
    pub fn within(mut self, classes: &'a ClassSet) -> Self {
        self.classes = Some(classes);
        let span = classes.span();
        self.span = (span.start, span.end);
        self
    }

    /// Reuses an idle instance, too, if a new one elsewhere would score higher by less than this or
    /// exactly this, in the units of the score table.
    #[must_use]
    pub fn reuse_bonus(mut self, bonus: u32) -> Self {
        self.reuse_bonus = bonus;
        self
    }

    /// The profile asked for.
    pub fn profile(&self) -> ProfileId {
        self.profile
    }

    fn word(&self, index: usize) -> u64 {
        self.classes.map_or(u64::MAX, |classes| classes.word(index))
    }
}

/// Where an instance is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The GPU.
    pub gpu: GpuId,
    /// The placement on it.
    pub placement: PlacementId,
    /// Whether exactly this instance stands there idle.
    pub reuse: bool,
    /// What the table says, without a bonus; 0 where a rule without scores decided.
    pub score: i32,
}

impl Choice {
    /// How good it is, larger is better: the score with the bonus, then whether it reuses.
    pub(crate) fn value(&self, bonus: u32) -> (i64, bool) {
        let bonus = if self.reuse { i64::from(bonus) } else { 0 };
        (i64::from(self.score) + bonus, self.reuse)
    }
}

impl Pool {
    /// The best placement by the pool's own index, or `None` if nothing fits.
    ///
    /// Best is the highest score, the bonus for an idle instance added. Ties, in this order: an idle
    /// instance that is reused; the mask that ranks higher (see [`Index`]); the lower start; the
    /// lower class; the GPU that joined its class earlier.
    pub fn choose(&self, ask: &Ask<'_>) -> Option<Choice> {
        self.choose_if(ask, |_| true)
    }

    /// As [`Pool::choose`], among the GPUs that `wanted` says yes to. It is asked about GPUs in the
    /// order in which they would be chosen, some of them more than once, until one is good.
    pub fn choose_if(&self, ask: &Ask<'_>, wanted: impl FnMut(GpuId) -> bool) -> Option<Choice> {
        let words = self.rank_words();
        let first = ask.profile.index() * words;
        let order = self.index.order(ask.profile);
        let ranked = self.ranked[first..first + words].iter().enumerate();
        let filled = ranked.flat_map(|(word, set)| bits(*set).map(move |bit| word * 64 + bit));
        self.walk(&self.index, ask, filled.map(|rank| order[rank]), wanted)
    }

    /// As [`Pool::choose`], by another index of the same geometry. Slower by a look at each bucket
    /// that ranks higher than the one chosen.
    pub fn choose_by(&self, index: &Index, ask: &Ask<'_>) -> Option<Choice> {
        let order = index.order(ask.profile).iter().copied();
        let filled = order.filter(|mask| self.count(*mask) > 0);
        self.walk(index, ask, filled, |_| true)
    }

    /// As [`Pool::choose`], on the GPUs of one node, by a look at each of them. The ask's classes do
    /// not matter. Among equals the GPU that was added to the node first.
    pub fn choose_on(&self, ask: &Ask<'_>, node: NodeId) -> Option<Choice> {
        let candidates = self.node_gpus(node).iter().flat_map(|gpu| {
            let mask = self.mask(*gpu);
            let free = placements(self.geometry.free_of(mask, ask.profile));
            free.map(move |placement| Choice {
                gpu: *gpu,
                placement,
                reuse: self.state(*gpu).idle & placement.bit() != 0,
                score: self.index.table().score(mask, placement),
            })
        });
        let rank = |c: &Choice| self.index.ranks(self.mask(c.gpu))[ask.profile.index()];
        candidates.min_by_key(|c| (Reverse(c.value(ask.reuse_bonus)), rank(c), c.placement))
    }

    /// Looks at buckets from the best to the worst until no later one can win.
    #[inline]
    fn walk(
        &self,
        index: &Index,
        ask: &Ask<'_>,
        filled: impl Iterator<Item = u16>,
        mut wanted: impl FnMut(GpuId) -> bool,
    ) -> Option<Choice> {
        let reusable = self.idle(ask.profile) > 0;
        let mut best: Option<Choice> = None;
        for mask in filled {
            let Some(placement) = index.best(ask.profile, mask) else {
                continue;
            };
            let score = index.table().score(mask, placement);
            let value = best.map(|b| b.value(ask.reuse_bonus));
            let most = (i64::from(score) + i64::from(ask.reuse_bonus), true);
            if value.is_some_and(|value| !reusable || most <= value) {
                break;
            }
            if reusable {
                best = self.reuse(index, ask, mask, best, &mut wanted);
            }
            let new = Choice {
                gpu: GpuId(0),
                placement,
                reuse: false,
                score,
            };
            let better = best.is_none_or(|b| new.value(0) > b.value(ask.reuse_bonus));
            if better && let Some(gpu) = self.first_in(ask, mask, &mut wanted) {
                best = Some(Choice { gpu, ..new });
            }
        }
        best
    }

    /// The best idle instance on GPUs of one mask, if it is better than the best so far.
    fn reuse(
        &self,
        index: &Index,
        ask: &Ask<'_>,
        mask: u16,
        mut best: Option<Choice>,
        wanted: &mut impl FnMut(GpuId) -> bool,
    ) -> Option<Choice> {
        for placement in placements(self.geometry.free_of(mask, ask.profile)) {
            let score = index.table().score(mask, placement);
            let new = Choice {
                gpu: GpuId(0),
                placement,
                reuse: true,
                score,
            };
            let better = |b: Choice| new.value(ask.reuse_bonus) > b.value(ask.reuse_bonus);
            if !best.is_none_or(better) {
                continue;
            }
            let found = self
                .classes_of(ask, mask)
                .find_map(|class| self.shards[class].first_idle(mask, placement, &mut *wanted));
            if let Some(gpu) = found {
                best = Some(Choice { gpu, ..new });
            }
        }
        best
    }

    fn first_in(
        &self,
        ask: &Ask<'_>,
        mask: u16,
        wanted: &mut impl FnMut(GpuId) -> bool,
    ) -> Option<GpuId> {
        self.classes_of(ask, mask)
            .find_map(|class| self.shards[class].first(mask, &mut *wanted))
    }

    /// The classes that may be used and have GPUs with this mask.
    #[inline]
    fn classes_of<'a>(&'a self, ask: &'a Ask<'_>, mask: u16) -> impl Iterator<Item = usize> + 'a {
        let (start, end) = (ask.span.0, ask.span.1.min(self.class_words));
        let first = usize::from(mask) * self.class_words;
        (start..end).flat_map(move |index| {
            let classes = self.bucket_classes[first + index] & ask.word(index);
            bits(classes).map(move |bit| index * 64 + bit)
        })
    }
}

//! Which table is best for the pods that a cluster itself sees, and when that is sure.
//!
//! No table is best on every mix. So the cluster's own recent pods are replayed on all candidates,
//! and the one that places the pods changes only when another one accepted surely more of them. What
//! is replayed is what happened: when each pod came, and how long it ran. Candidates are compared on
//! the same pods, window by window, so that what the pods do to all of them cancels out.
//!
//! A state machine without a clock: the caller says what happened and when ([`Portfolio::arrived`],
//! [`Portfolio::ended`]), gives it time to work ([`Portfolio::work`], one bounded piece at each
//! call), and decides by [`Portfolio::index`]. Integers only: equal histories give equal choices.
//!
//! How sure is sure: windows count as independent samples, and the gain over the last 8, 16, 32 or 64
//! of them must be so many standard errors above nothing (6, 4.5, 4, 3.75) that chance alone would reach
//! it in about 1 of 5,000 comparisons, by Student's distribution. After a change there is none for eight windows.
//! A gain of one percent point shows within some ten windows, one of a tenth of a point takes all 64.

mod gains;
mod recent;
mod replay;

use std::sync::Arc;

use crate::{
    geometry::{Geometry, ProfileId},
    index::Index,
    policy::{self, Mix, valued},
    score::{ScoreTable, TableError},
};
use gains::Gains;
use recent::Recent;
pub use recent::Seen;
use replay::{Replay, Window};

/// What a candidate is.
#[derive(Clone, Debug)]
pub enum Candidate {
    /// A table that stays as it is.
    Table(ScoreTable),
    /// A rule that is told the mix, made anew from what was seen for each window.
    OfMix(fn(&Geometry, &Mix) -> ScoreTable),
}

/// What counts as accepted more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Worth {
    /// Every pod alike.
    #[default]
    Pods,
    /// Every memory slice that a pod asks for.
    Slices,
}

/// How much is kept and replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pods that are replayed at a time, at least 256. The first quarter fills the GPUs and does not
    /// count; it should be more than what runs at a time.
    pub window: usize,
    /// GPUs of the cluster that is replayed, at least 1. Of more GPUs, only each second, third ... pod
    /// is kept, on as many fewer GPUs.
    pub most_gpus: u32,
    /// What counts.
    pub worth: Worth,
    /// Gains below this are not worth a change, in millionths of what is asked for.
    pub least_gain: i64,
}

impl Settings {
    /// With windows as long as that many GPUs fill: 64 pods for each, from 1,024 to 8,192, in powers of
    /// two.
    #[must_use]
    pub fn for_gpus(gpus: u32) -> Self {
        let counted = usize::try_from(gpus.clamp(16, 128)).unwrap_or(128);
        Self {
            window: 64 * counted.next_power_of_two(),
            ..Self::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: 8192,
            most_gpus: 256,
            worth: Worth::Pods,
            least_gain: 200,
        }
    }
}

/// A change of the table that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Candidate that decided before.
    pub from: usize,
    /// Candidate that decides from now on.
    pub to: usize,
    /// How much more it accepted in the mean, in millionths of what was asked for.
    pub gain: i64,
    /// In how many windows.
    pub windows: usize,
}

/// Candidates, what each would have accepted, and which of them decides.
///
/// Memory: 32 bytes for each pod of a window, 24 more while it is replayed, eight for each candidate and each of 64 windows.
/// Work: each call of [`Portfolio::work`] replays at most one window on one candidate, with the
/// default settings about 8,000 starts and as many ends, which take about two milliseconds.
#[derive(Clone, Debug)]
pub struct Portfolio {
    geometry: Arc<Geometry>,
    settings: Settings,
    candidates: Vec<(Candidate, Arc<Index>)>,
    gains: Gains,
    chosen: usize,
    recent: Recent,
    replay: Option<Replay>,
}

impl Portfolio {
    /// Starts with the first candidate. Rules that are told the mix take all profiles alike until
    /// they know better.
    ///
    /// # Errors
    /// [`TableError::Shape`] if a table is for another geometry.
    pub fn new(
        geometry: &Arc<Geometry>,
        first: ScoreTable,
        others: Vec<Candidate>,
        settings: Settings,
    ) -> Result<Self, TableError> {
        let settings = Settings {
            window: settings.window.max(256),
            most_gpus: settings.most_gpus.max(1),
            ..settings
        };
        let all = [Candidate::Table(first)].into_iter().chain(others);
        let mix = Mix::uniform(geometry);
        let ranked = all.map(|candidate| {
            let index = Arc::new(Index::new(geometry, &candidate.table(geometry, &mix))?);
            Ok((candidate, index))
        });
        let candidates: Vec<_> = ranked.collect::<Result<_, TableError>>()?;
        Ok(Self {
            geometry: Arc::clone(geometry),
            gains: Gains::new(candidates.len()),
            recent: Recent::new(settings.window),
            settings,
            candidates,
            chosen: 0,
            replay: None,
        })
    }

    /// All rules whose tables are values of masks ([`ScoreTable::values`]), for those who decide by what a
    /// GPU is worth: ours decides at first.
    ///
    /// # Errors
    /// None; the signature is that of its tables.
    pub fn by_values(geometry: &Arc<Geometry>, settings: Settings) -> Result<Self, TableError> {
        let ours = policy::ours(geometry).ok();
        let ours = ours.filter(|table| table.values().is_some());
        let tables = [valued::fewest_blocked(geometry), valued::best_fit(geometry)];
        let first = ours.unwrap_or_else(|| valued::fewest_blocked(geometry));
        let rules: [fn(&Geometry, &Mix) -> ScoreTable; 2] = [
            |geometry, mix| {
                let mix = valued::open_minded(geometry, mix);
                valued::fragmentation_gradient(geometry, &mix)
            },
            |geometry, mix| {
                let mix = valued::open_minded(geometry, mix);
                valued::least_capability_lost(geometry, &mix)
            },
        ];
        let others = tables.into_iter().map(Candidate::Table);
        let others = others.chain(rules.map(Candidate::OfMix)).collect();
        Self::new(geometry, first, others, settings)
    }

    /// What to decide by.
    pub fn index(&self) -> &Arc<Index> {
        &self.candidates[self.chosen].1
    }

    /// Which candidate decides, by its place; 0 is the first.
    pub fn chosen(&self) -> usize {
        self.chosen
    }

    /// Names of the candidates, by their place.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.candidates
            .iter()
            .map(|(_, index)| index.table().name())
    }

    /// What each candidate accepted in the mean over the last windows, in millionths; nothing
    /// before the first window was replayed.
    pub fn accepted(&self) -> Option<Vec<i64>> {
        self.gains.means()
    }

    /// A pod came, at a time in any unit that never falls. `started` is whether it found a place at once;
    /// of those that did not, the replay takes it that they would have run as long as the one of
    /// their profile before them. `gpus` is how many there are.
    ///
    /// The answer names the pod for [`Portfolio::ended`], if it is kept at all.
    pub fn arrived(
        &mut self,
        time: u64,
        profile: ProfileId,
        started: bool,
        gpus: u32,
    ) -> Option<Seen> {
        let every = gpus.div_ceil(self.settings.most_gpus).max(1);
        self.recent.arrived(time, profile, started, every)
    }

    /// A pod that had found no place found one. The replay lets it live from when it came, for as long
    /// as it runs from now on.
    pub fn started(&mut self, pod: Seen, time: u64) {
        self.recent.started(pod, time);
    }

    /// Whether a pod is still among those that are replayed.
    pub fn is_kept(&self, pod: Seen) -> bool {
        self.recent.is_kept(pod)
    }

    /// A pod ended; one that never started does not matter. One that is too long ago to be kept does not matter.
    pub fn ended(&mut self, pod: Seen, time: u64) {
        self.recent.ended(pod, time);
    }

    /// How many pods are replayed at a time.
    pub fn window(&self) -> usize {
        self.recent.window()
    }

    /// Replays so many pods at a time from now on, at least 256. All pods that were seen are forgotten, and
    /// what windows of another length said; the choice stands.
    pub fn set_window(&mut self, window: usize) {
        let window = window.max(256);
        if window != self.recent.window() {
            self.settings.window = window;
            self.recent.begin_anew(window);
            self.replay = None;
            self.gains = Gains::new(self.candidates.len());
        }
    }

    /// Whether there is something to do.
    pub fn is_due(&self) -> bool {
        self.replay.is_some() || self.recent.is_due()
    }

    /// Does the next piece of work, if there is one: replays what was seen on one candidate. After
    /// the last candidate of a window it may change which one decides. `gpus` is how many there are.
    pub fn work(&mut self, gpus: u32) -> Option<Switch> {
        if self.replay.is_none() {
            let window = self.recent.take()?;
            self.begin(window, gpus);
        }
        let replay = self.replay.as_mut()?;
        let at = replay.done();
        let (_, index) = self.candidates.get(at)?;
        replay.run(&self.geometry, index, self.settings.worth);
        if replay.done() < self.candidates.len() {
            return None;
        }
        let accepted = self.replay.take()?.finish();
        self.gains.add(accepted);
        let (to, gain, windows) = self.gains.better(self.chosen, self.settings.least_gain)?;
        let switch = Switch {
            from: self.chosen,
            to,
            gain,
            windows,
        };
        self.chosen = to;
        self.gains.changed();
        Some(switch)
    }

    /// Rules that are told the mix learn it from the window before the one that they are judged on.
    fn begin(&mut self, window: Window, gpus: u32) {
        let every = gpus.div_ceil(self.settings.most_gpus).max(1);
        self.replay = Some(Replay::new(window, gpus.div_ceil(every)));
        let Some(mix) = self.recent.mix(self.geometry.profiles().len()) else {
            return;
        };
        for (candidate, index) in &mut self.candidates {
            if let Candidate::OfMix(rule) = candidate {
                // Such a table is of this geometry by how it is made.
                if let Ok(made) = Index::new(&self.geometry, &rule(&self.geometry, &mix)) {
                    *index = Arc::new(made);
                }
            }
        }
    }
}

impl Candidate {
    fn table(&self, geometry: &Geometry, mix: &Mix) -> ScoreTable {
        match self {
            Self::Table(table) => table.clone(),
            Self::OfMix(rule) => rule(geometry, mix),
        }
    }
}

#[cfg(test)]
mod tests;

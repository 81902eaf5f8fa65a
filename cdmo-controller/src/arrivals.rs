//! Which pods came, ran and ended, and which placement table that speaks for.
//!
//! For each kind of GPU there is a [`Portfolio`] that replays the pods on all tables. What counts are pods
//! that ask for one device of a profile, or of a fraction, that the kind has:
//!
//! - A pod *comes* when it is first seen to wait for nothing but devices, or to be bound. One that is there when
//!   the controller starts counts as nothing: nobody saw when it came among the others. Where several kinds of GPU
//!   could serve it, they take turns by how many GPUs they have.
//! - It *starts* when it is first seen bound, and lives from when it came for as long as it runs: what the
//!   queue did to it is not repeated.
//! - It *ends* when its phase is terminal, when it is gone, or when another pod has its name. One that ends
//!   without a start found no place; it is replayed as if it had run as long as others of its profile.
//!
//! No I/O and no clock. Memory is bounded however many pods there are: each kind keeps what a window needs
//! ([`Settings::for_gpus`], at most 8,192 pods), together about a megabyte and a half with the names of those that
//! still run, and there are at most six.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mig::{GpuModel, fraction::Class};
use placement::{
    Geometry, Index, ProfileId,
    portfolio::{Portfolio, Seen, Settings, Worth},
};

use crate::{names::PodKey, pods::PodRow};

/// Kinds of GPU that tables are chosen for; others stay with the first table.
const MOST_KINDS: usize = 6;
/// Models that are known by sight.
const MOST_MODELS: usize = 64;

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Held back by somebody else's scheduling gate, or not there.
    Away,
    /// Waits for devices.
    Waiting,
    /// Bound.
    Running,
    /// Over, or on its way out without ever having been bound.
    Ended,
}

impl Stage {
    /// Of a pod.
    pub fn of(row: &PodRow) -> Self {
        if row.terminal || (row.deleting && row.node.is_none()) {
            Self::Ended
        } else if row.node.is_some() {
            Self::Running
        } else if row.gated {
            Self::Away
        } else {
            Self::Waiting
        }
    }
}

/// What a planner should know.
#[derive(Clone, Debug)]
pub struct News {
    /// GPUs that are cut like this ...
    pub geometry: Arc<Geometry>,
    /// ... are worth this, by mask.
    pub values: Arc<[i32]>,
    /// The kind's name.
    pub kind: String,
    /// The table that decides.
    pub table: String,
    /// Another one decided before.
    pub switch: Option<Switched>,
}

/// Another table decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// The one that decided before.
    pub from: String,
    /// Pods that it accepts more, in millionths of those that came.
    pub gain: i64,
    /// In how many windows that was seen.
    pub windows: usize,
}

/// Pods that came and went, by kind of GPU.
#[derive(Debug)]
pub struct Arrivals {
    /// Pods in a window at least.
    least_window: usize,
    models: Vec<(Arc<GpuModel>, Option<usize>)>,
    kinds: Vec<Kind>,
    /// GPUs of each node by kind.
    nodes: HashMap<String, Vec<(usize, u32)>>,
    /// Pods that a portfolio may still want to hear of.
    kept: HashMap<PodKey, Kept>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            least_window: Settings::for_gpus(0).window,
            models: Vec::new(),
            kinds: Vec::new(),
            nodes: HashMap::new(),
            kept: HashMap::new(),
        }
    }
}

#[derive(Debug)]
struct Kind {
    name: String,
    geometry: Arc<Geometry>,
    /// What serves which resource.
    serves: Vec<(String, ProfileId)>,
    gpus: u32,
    portfolio: Portfolio,
    /// What the planner was told last.
    told: Arc<Index>,
    /// Decides whose turn it is.
    credit: i64,
}

#[derive(Debug)]
struct Kept {
    kind: usize,
    seen: Seen,
    uid: Box<str>,
}

impl Arrivals {
    /// The same with windows of so few pods, where they would be longer.
    #[cfg(test)]
    pub fn with_window(window: usize) -> Self {
        Self {
            least_window: window,
            ..Self::default()
        }
    }

    /// A node has these GPUs that can be cut now. Whether that made a kind known.
    pub fn node<'a>(&mut self, node: &str, gpus: impl Iterator<Item = &'a Arc<GpuModel>>) -> bool {
        let known = self.kinds.len();
        let mut new: Vec<(usize, u32)> = Vec::new();
        for model in gpus {
            let Some(kind) = self.kind_of(model) else {
                continue;
            };
            match new.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => new.push((kind, 1)),
            }
        }
        let old = self.nodes.get(node).map_or(&[][..], Vec::as_slice);
        if old != new {
            for (kind, count) in old {
                self.kinds[*kind].gpus -= count;
            }
            for (kind, count) in &new {
                self.kinds[*kind].gpus += count;
            }
            if new.is_empty() {
                self.nodes.remove(node);
            } else {
                self.nodes.insert(node.to_owned(), new);
            }
        }
        self.kinds.len() > known
    }

    /// Each kind of GPU with the table that decides.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.kinds
            .iter()
            .map(|kind| (kind.name.as_str(), kind.told.table().name()))
    }

    /// Something happened to a pod, at a time that never falls. `before` is what it was, with its uid, and `after`
    /// what it is; nothing if it is none that asks for devices.
    pub fn heard(
        &mut self,
        key: &PodKey,
        before: Option<(&str, Stage)>,
        after: Option<&PodRow>,
        at: Duration,
    ) {
        let same = before
            .zip(after)
            .is_some_and(|((uid, _), row)| uid == row.uid);
        let was = before.map_or(Stage::Away, |(_, stage)| stage);
        let was = if same || after.is_none() {
            was
        } else {
            Stage::Away
        };
        if !same && before.is_some() {
            self.end(key, at);
        }
        match (was, after.map_or(Stage::Away, Stage::of)) {
            (Stage::Away, Stage::Waiting) => self.come(key, after, false, at),
            (Stage::Away, Stage::Running) => self.come(key, after, true, at),
            (Stage::Waiting, Stage::Running) => self.start(key, at),
            (Stage::Waiting | Stage::Running, Stage::Away | Stage::Ended) => self.end(key, at),
            _ => {}
        }
    }

    /// Pods were listed anew, which may have dropped some without a word. `is_there` says whether one with that name and
    /// uid still is.
    pub fn relisted(&mut self, is_there: impl Fn(&PodKey, &str) -> bool, at: Duration) {
        let gone = self
            .kept
            .iter()
            .filter(|(key, kept)| !is_there(key, &kept.uid));
        let gone: Vec<PodKey> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.end(&key, at);
        }
    }

    /// Whether there is something to replay.
    pub fn is_due(&self) -> bool {
        self.kinds.iter().any(Kind::is_due)
    }

    /// Does one piece of work, some two milliseconds at most. What the planner should know then.
    pub fn work(&mut self) -> Option<News> {
        let kind = self.kinds.iter_mut().find(|kind| kind.is_due())?;
        let switch = kind.portfolio.work(kind.gpus);
        let index = kind.portfolio.index();
        if Arc::ptr_eq(index, &kind.told) {
            return None;
        }
        let names: Vec<&str> = kind.portfolio.names().collect();
        let switch = switch.map(|switch| Switched {
            from: names
                .get(switch.from)
                .copied()
                .unwrap_or_default()
                .to_owned(),
            gain: switch.gain,
            windows: switch.windows,
        });
        kind.told = Arc::clone(index);
        Some(News {
            geometry: Arc::clone(&kind.geometry),
            values: index.table().values()?.into(),
            kind: kind.name.clone(),
            table: index.table().name().to_owned(),
            switch,
        })
    }

    fn kind_of(&mut self, model: &Arc<GpuModel>) -> Option<usize> {
        let is_it = |known: &Arc<GpuModel>| Arc::ptr_eq(known, model) || known == model;
        if let Some((_, kind)) = self.models.iter().find(|(known, _)| is_it(known)) {
            return *kind;
        }
        let kind = self.new_kind(model);
        if self.models.len() < MOST_MODELS {
            self.models.push((Arc::clone(model), kind));
        }
        kind
    }

    fn new_kind(&mut self, model: &GpuModel) -> Option<usize> {
        let geometry = Arc::new(Geometry::new(model).ok()?);
        let known = self.kinds.iter().position(|kind| kind.geometry == geometry);
        if known.is_some() || self.kinds.len() >= MOST_KINDS {
            return known;
        }
        let settings = Settings {
            window: self.least_window,
            // A pod without room waits. Where pods count alike, a table that keeps large ones waiting for ever, and takes
            // several small ones in the place of each, would win.
            worth: Worth::Slices,
            ..Settings::default()
        };
        let portfolio = Portfolio::by_values(&geometry, settings).ok()?;
        let largest = geometry.profiles().first()?.name.to_string();
        let namesakes = self
            .kinds
            .iter()
            .filter(|kind| kind.largest() == largest)
            .count();
        let name = match namesakes {
            0 => largest,
            others => format!("{largest} ({})", others + 1),
        };
        let of_class = |class: Class| {
            let (profile, _) = class.profile(model)?;
            Some((class.resource_name(), geometry.of_model(profile)?))
        };
        let named = geometry.profile_ids().zip(geometry.profiles());
        let named = named.map(|(id, shape)| (shape.name.resource_name(), id));
        let serves = named
            .chain(Class::ALL.into_iter().filter_map(of_class))
            .collect();
        self.kinds.push(Kind {
            name,
            serves,
            told: Arc::clone(portfolio.index()),
            gpus: 0,
            portfolio,
            credit: 0,
            geometry,
        });
        Some(self.kinds.len() - 1)
    }

    fn come(&mut self, key: &PodKey, row: Option<&PodRow>, started: bool, at: Duration) {
        let Some(row) = row else {
            return;
        };
        let mut wants = row.wants.iter();
        let (Some((resource, 1)), None) = (wants.next(), wants.next()) else {
            return;
        };
        let Some((number, profile)) = self.whose_turn(resource) else {
            return;
        };
        let least_window = self.least_window;
        let Some(kind) = self.kinds.get_mut(number) else {
            return;
        };
        kind.fit_window(least_window);
        let seen = kind
            .portfolio
            .arrived(millis(at), profile, started, kind.gpus);
        if let Some(seen) = seen {
            let kept = Kept {
                kind: number,
                seen,
                uid: row.uid.as_str().into(),
            };
            self.kept.insert(key.clone(), kept);
            self.forget();
        }
    }

    /// The kind that serves the resource next, and with which profile.
    fn whose_turn(&mut self, resource: &str) -> Option<(usize, ProfileId)> {
        let mut all = 0;
        let mut next: Option<(i64, usize, ProfileId)> = None;
        for (number, kind) in self.kinds.iter_mut().enumerate() {
            let Some(profile) = kind.serves(resource).filter(|_| kind.gpus > 0) else {
                continue;
            };
            kind.credit += i64::from(kind.gpus);
            all += i64::from(kind.gpus);
            if next.is_none_or(|(most, ..)| kind.credit > most) {
                next = Some((kind.credit, number, profile));
            }
        }
        let (_, number, profile) = next?;
        self.kinds[number].credit -= all;
        Some((number, profile))
    }

    fn start(&mut self, key: &PodKey, at: Duration) {
        if let Some(kept) = self.kept.get(key) {
            self.kinds[kept.kind]
                .portfolio
                .started(kept.seen, millis(at));
        }
    }

    fn end(&mut self, key: &PodKey, at: Duration) {
        if let Some(kept) = self.kept.remove(key) {
            self.kinds[kept.kind].portfolio.ended(kept.seen, millis(at));
        }
    }

    /// Forgets pods that no portfolio keeps, once there must be many of them.
    fn forget(&mut self) {
        let wanted: usize = self.kinds.iter().map(|kind| kind.portfolio.window()).sum();
        if self.kept.len() > wanted + wanted / 4 {
            let kinds = &self.kinds;
            self.kept
                .retain(|_, kept| kinds[kept.kind].portfolio.is_kept(kept.seen));
        }
    }
}

impl Kind {
    fn is_due(&self) -> bool {
        self.gpus > 0 && self.portfolio.is_due()
    }

    fn largest(&self) -> String {
        let largest = self.geometry.profiles().first();
        largest.map_or_else(String::new, |shape| shape.name.to_string())
    }

    fn serves(&self, resource: &str) -> Option<ProfileId> {
        let mut all = self.serves.iter();
        all.find(|(known, _)| known == resource).map(|(_, id)| *id)
    }

    /// Lengthens the window to what so many GPUs fill, or shortens it once there are far fewer: what was seen is
    /// forgotten each time.
    fn fit_window(&mut self, least: usize) {
        let shortest = Settings::for_gpus(0).window;
        let wanted = Settings::for_gpus(self.gpus).window;
        let wanted = if wanted == shortest { least } else { wanted };
        let has = self.portfolio.window();
        if wanted > has || wanted <= has / 4 {
            self.portfolio.set_window(wanted);
        }
    }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;

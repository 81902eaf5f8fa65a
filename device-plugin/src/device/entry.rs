//! One device: its phase, what the kubelet knows of it, and whether a pod holds it.

use tokio::time::Instant;

use super::{Rules, Tick};
use crate::{Device, DevicePhase, Holder};

/// Former holders remembered for the proof that none of their processes lives.
const HOLDERS_KEPT: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) device: Device,
    pub(super) phase: DevicePhase,
    pub(super) sick: Option<String>,
    /// A pod has, or had, this id under this other resource name; it is not given out meanwhile.
    pub(super) elsewhere: Option<String>,
    pub(super) told: Told,
    /// The kubelet was seen to give it out, some time since it was offered.
    pub(super) known: bool,
    pub(super) grip: Option<Grip>,
    /// As in [`crate::Hold::holders`]; kept beyond the hold's end, until the next grant.
    pub(super) holders: Vec<Holder>,
    /// Names the withdrawal under way: tokens of an earlier one are void.
    pub(super) ticket: u64,
    /// Whether the kubelet's checkpoint has it as healthy, as last read; `None` if it was not.
    pub(super) filed: Option<bool>,
}

/// What the kubelet is known to know of an entry's present health.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is one fact, independent of the others.
pub(super) struct Told {
    /// The list version that first said it.
    pub(super) version: u64,
    /// When that list was handed over.
    pub(super) delivered: Option<(Tick, Instant)>,
    /// The kubelet took it over.
    pub(super) settled: bool,
    /// Looks in a row that fit an unhealthy device.
    pub(super) rounds: u32,
    /// Everything that the kubelet was told of the device before is known to have been taken over. If
    /// not, it may yet read an older list that says what this one says.
    pub(super) clear: bool,
    /// The kubelet counts the device in its capacity.
    pub(super) counted: bool,
    /// A checkpoint that says otherwise was read: one that says the same is a later one.
    pub(super) contrary: bool,
}

/// A hold.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is one fact, independent of the others.
pub(super) struct Grip {
    /// Changes with every grant.
    pub(super) serial: u64,
    /// Grants that are being written to the journal.
    pub(super) pending: u32,
    /// A grant was written, or podresources shows the device: only proof ends the hold.
    pub(super) committed: bool,
    /// The journal has it, and everyone seen with it.
    pub(super) journaled: bool,
    /// When the last grant was answered.
    pub(super) answered: Tick,
    pub(super) since: Instant,
    /// podresources showed it after that.
    pub(super) shown: bool,
    /// Looks in a row since then that did not show it.
    pub(super) absences: u32,
    pub(super) doubt: Option<String>,
    pub(super) start: Start,
    /// The kubelet named it as free after the last grant.
    pub(super) freed: bool,
    /// Granted while it was held, or from before our start: two pods may have it in the kubelet's books.
    pub(super) doubled: bool,
    /// Containers that podresources showed with it since the last grant, without those whose pods are
    /// proven to be gone.
    pub(super) seen: Vec<Holder>,
    /// Two pods that had it at once at the last look.
    pub(super) rivals: Option<Box<(Holder, Holder)>>,
}

/// Whether a container was started with the device since the last grant.
#[derive(Clone, Debug)]
pub(super) enum Start {
    Never,
    /// One may have been.
    Begun,
    /// The grant is not ours, or it is from before our start: one may have been, and the grant may
    /// have been over a hold whose end was not proven.
    Adopted,
    /// None was; the device was granted over a hold whose end was not proven, and none is until it is.
    /// These had it before.
    Contested(Former),
}

/// Pods that had a device before it was granted anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Former {
    /// Those that podresources showed with it.
    pub(super) known: Vec<Holder>,
    /// A container may have been started with it whose pod podresources never showed.
    pub(super) unseen: bool,
}

impl Former {
    /// These and those.
    fn and<'a>(&self, more: impl IntoIterator<Item = &'a Holder>) -> Self {
        let mut all = self.clone();
        for holder in more {
            if !all.known.contains(holder) {
                all.known.push(holder.clone());
            }
        }
        all
    }
}

impl Grip {
    /// A hold that podresources told of.
    pub(super) fn found(serial: u64, now: Instant) -> Self {
        Self {
            journaled: false,
            ..Self::new(serial, true, now)
        }
    }

    pub(super) fn new(serial: u64, committed: bool, now: Instant) -> Self {
        Self {
            serial,
            pending: 0,
            committed,
            journaled: committed,
            answered: 0,
            since: now,
            shown: false,
            absences: 0,
            doubt: None,
            start: if committed {
                Start::Adopted
            } else {
                Start::Never
            },
            freed: false,
            doubled: committed,
            seen: Vec::new(),
            rivals: None,
        }
    }

    /// podresources shows these containers with it. Two pods with one grant are a contest: the kubelet
    /// lost the mark that the device is taken, or an earlier look came too early to show who has it now.
    pub(super) fn shown_with(&mut self, holders: &[&Holder]) {
        let rivals = holders.first().and_then(|one| {
            let other = holders.iter().find(|other| !one.is_of_pod(other))?;
            Some(Box::new(((*one).clone(), (*other).clone())))
        });
        self.rivals = rivals;
        let mut more = false;
        for holder in holders {
            if self.seen.contains(holder) {
                continue;
            }
            more |= self.seen.iter().any(|seen| !seen.is_of_pod(holder));
            if self.seen.len() == HOLDERS_KEPT {
                self.seen.remove(0);
            }
            self.seen.push((*holder).clone());
        }
        if more {
            self.doubled = true;
            if matches!(self.start, Start::Never | Start::Begun) {
                // Who they are is in `seen`.
                self.start = Start::Contested(Former::default());
            }
        }
    }

    /// Whoever had it before that container's pod is proven to be gone.
    pub(super) fn settle(&mut self, present: Option<&Holder>) {
        self.seen
            .retain(|seen| present.is_some_and(|present| present.is_of_pod(seen)));
        self.start = match self.start {
            Start::Never | Start::Contested(_) => Start::Never,
            Start::Begun | Start::Adopted => Start::Begun,
        };
    }

    /// podresources no longer shows the device, and a grant's admission can no longer be under way.
    pub(super) fn quiet(&self, rules: &Rules, now: Instant) -> bool {
        self.pending == 0
            && self.absences > 0
            && (self.shown
                || (self.absences >= rules.unseen_rounds
                    && now.duration_since(self.since) >= rules.unseen_for))
    }
}

impl Entry {
    pub(super) fn offered(device: Device, version: u64, clear: bool, filed: Option<bool>) -> Self {
        Self {
            device,
            phase: DevicePhase::Offered,
            sick: None,
            elsewhere: None,
            told: Told {
                contrary: filed == Some(false),
                ..Told::new(version, clear)
            },
            known: false,
            grip: None,
            holders: Vec::new(),
            ticket: 0,
            filed,
        }
    }

    /// A device of which nothing is known but that it was held.
    pub(super) fn adopted(
        id: String,
        holders: Vec<Holder>,
        version: u64,
        serial: u64,
        now: Instant,
    ) -> Self {
        Self {
            device: Device {
                id,
                group: String::new(),
                specs: Vec::new(),
                cdi: None,
            },
            phase: DevicePhase::Lost,
            sick: None,
            elsewhere: None,
            told: Told::new(version, true),
            known: false,
            grip: Some(Grip::new(serial, true, now)),
            holders,
            ticket: 0,
            filed: None,
        }
    }

    /// The container that podresources shows with the device since the last grant.
    pub(super) fn present(&self) -> Option<&Holder> {
        let grip = self.grip.as_ref()?;
        let shown = grip.shown && grip.absences == 0;
        self.holders.last().filter(|_| shown)
    }

    /// Who may go on using the device although it is being granted anew. None if it is granted to the next
    /// container of the same pod: nothing was started with it, and the kubelet did not name it as free.
    pub(super) fn former(&self) -> Option<Former> {
        let grip = self.grip.as_ref()?;
        // Whoever was before the last grant is proven to be gone.
        let seen = |unseen| Former {
            known: grip.seen.clone(),
            unseen,
        };
        match &grip.start {
            // To start, a pod must be in the kubelet's books, and is then shown.
            Start::Never => (grip.freed || grip.doubled).then(|| seen(false)),
            Start::Begun => Some(seen(grip.seen.is_empty())),
            Start::Adopted => Some(Former {
                known: self.holders.clone(),
                unseen: self.holders.is_empty(),
            }),
            Start::Contested(former) => Some(former.and(&grip.seen)),
        }
    }

    /// Who may go on using the device beside the pod that podresources shows with it; none if nobody may.
    pub(super) fn contested(&self) -> Option<Former> {
        let grip = self.grip.as_ref()?;
        match &grip.start {
            Start::Never | Start::Begun => None,
            Start::Adopted => self.former(),
            Start::Contested(former) => Some(former.and(self.others())),
        }
    }

    /// Containers seen with it since the last grant whose pod is not the one that podresources shows.
    fn others(&self) -> impl Iterator<Item = &Holder> {
        let present = self.present();
        let seen = self.grip.iter().flat_map(|grip| &grip.seen);
        seen.filter(move |seen| !present.is_some_and(|present| present.is_of_pod(seen)))
    }

    /// Listed as healthy.
    pub(super) fn healthy(&self) -> bool {
        self.phase == DevicePhase::Offered && self.sick.is_none() && self.elsewhere.is_none()
    }

    /// Why an offered device is not given out, as half a sentence.
    pub(super) fn ailment(&self) -> Option<String> {
        let elsewhere = || {
            self.elsewhere
                .as_ref()
                .map(|other| format!("a pod has it as {other}"))
        };
        self.sick.clone().or_else(elsewhere)
    }

    /// The health changed with list `version`.
    pub(super) fn retell(&mut self, version: u64) {
        // A list that was not handed over is skipped, not read late.
        let clear = self.told.clear && (self.told.settled || self.told.delivered.is_none());
        self.told = Told {
            counted: self.told.counted,
            contrary: self.filed == Some(!self.healthy()),
            ..Told::new(version, clear)
        };
    }

    /// The kubelet's checkpoint was read.
    pub(super) fn read_in_file(&mut self, present: bool, begun: Tick) {
        self.filed = Some(present);
        if present != self.healthy() {
            self.told.contrary = true;
        } else if self.told.contrary && self.told.clear && self.told_before(begun) {
            self.settle();
        }
    }

    /// The kubelet no longer reads our list: what it knew is void, but it goes on counting.
    pub(super) fn untell(&mut self) {
        let Told {
            version, counted, ..
        } = self.told;
        self.filed = None;
        self.told = Told {
            counted,
            ..Told::new(version, true)
        };
    }

    pub(super) fn delivered(&mut self, version: u64, tick: Tick, now: Instant) {
        if self.told.version <= version && self.told.delivered.is_none() {
            self.told.delivered = Some((tick, now));
            if !self.healthy() {
                self.told.counted = true;
            }
        }
    }

    /// The present health was handed over before that moment.
    pub(super) fn told_before(&self, begun: Tick) -> bool {
        self.told.delivered.is_some_and(|(tick, _)| tick < begun)
    }

    /// How many looks that show a device as given up are needed: where an older list may be on its
    /// way no number is a proof, and two are what can be had.
    pub(super) fn rounds_needed(&self) -> u32 {
        if self.told.clear { 1 } else { 2 }
    }

    pub(super) fn settle(&mut self) {
        self.known |= self.healthy();
        self.told.settled = true;
        self.told.counted = true;
    }

    /// podresources shows this container with the device. True if that is news.
    pub(super) fn shown_with(&mut self, holder: &Holder, first_look: bool) -> bool {
        let news = first_look || !self.holders.contains(holder);
        // The last one is the present one, also where it is not news.
        self.holders.retain(|known| known != holder);
        if self.holders.len() == HOLDERS_KEPT {
            self.holders.remove(0);
        }
        self.holders.push(holder.clone());
        news
    }
}

impl Told {
    fn new(version: u64, clear: bool) -> Self {
        Self {
            version,
            delivered: None,
            settled: false,
            rounds: 0,
            clear,
            counted: false,
            contrary: false,
        }
    }
}

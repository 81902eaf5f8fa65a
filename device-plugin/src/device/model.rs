//! Every order of events in small worlds: one device, one kubelet, one pod at a time.
//!
//! The world's kubelet does what real ones do: it acts on lists late, chooses a device before it asks
//! for it, shows a pod some time after its grant, and frees a device while the container still runs.
//! Worlds that differ only in how often something happened are one world.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use cdmo_proto::podresources::{AllocatableResourcesResponse, ContainerDevices};

use super::grant::Grant;
use super::*;
use crate::listing::Allocatable;
use crate::{Device, DevicePhase, Holder, Listing, Shown};

const MIG: &str = "nvidia.com/mig-3g.20gb";
const ID: &str = "MIG-a";

/// Where one Allocate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    None,
    /// The kubelet has chosen the device.
    Chosen,
    /// The grant is being written to the journal.
    Writing,
}

/// Where the agent's withdrawal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Withdrawal {
    None,
    Begun,
    Settled,
    /// Fenced; the proofs are outstanding.
    Fencing,
    Fenced,
}

/// A question to podresources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Question {
    Allocatable,
    /// The file that kubelets write which cannot be asked.
    Checkpoint,
    List,
}

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is one fact, independent of the others.
struct World {
    about: About,
    /// Shared by the worlds that differ elsewhere.
    table: Rc<Table>,
    // The hardware.
    exists: bool,
    // The kubelet.
    reader: Option<u64>,
    sent: u64,
    /// Lists on their way: not listed, unhealthy, healthy.
    pipe: VecDeque<Option<bool>>,
    knows: Option<bool>,
    /// What the kubelet's checkpoint says, and whether a list was taken over since it was written.
    file: bool,
    unwritten: bool,
    call: Call,
    /// A pod has the device, as the kubelet sees it.
    pod: bool,
    /// List shows that pod.
    shown: bool,
    /// A container runs with the device.
    process: bool,
    /// That container is a former pod's, which the kubelet has forgotten. Always false in models
    /// that are not about it.
    foreign: bool,
    // The agent.
    /// A contest that was proven to be over.
    settled: Option<Contest>,
    look: Option<(Question, Tick, Option<bool>)>,
    quiet: Option<Held>,
    withdrawal: Withdrawal,
    ticket: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Create,
    Offer,
    OpenStream,
    CloseStream,
    Deliver,
    Take,
    WriteCheckpoint,
    Choose,
    BeginGrant,
    JournalWrites,
    JournalFails,
    /// The journal answers too late: the grant is refused, but may be written.
    JournalIsLate,
    Show,
    StartContainer,
    ForgetPod,
    EndProcess,
    /// The agent finds that nothing of the former pod runs.
    ProveContest,
    EndContest,
    Ask(Question),
    Answer,
    Look,
    Release,
    Withdraw,
    Settle,
    GiveUp,
    Fence,
    Prove,
    Destroy,
    Forget,
    Vanish,
}

/// What a model is about. One of everything would have too many worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Devices come and go; containers of a former pod are as good as those of the present one.
    Devices,
    /// Devices come and go at a kubelet that says only in its checkpoint what it knows.
    Checkpoints,
    /// Pods come and go; the device stays.
    Contests,
}

impl About {
    fn has(self, step: Step) -> bool {
        match self {
            Self::Devices => !matches!(
                step,
                Step::ProveContest
                    | Step::EndContest
                    | Step::WriteCheckpoint
                    | Step::Ask(Question::Checkpoint)
            ),
            Self::Checkpoints => !matches!(
                step,
                Step::ProveContest
                    | Step::EndContest
                    | Step::StartContainer
                    | Step::EndProcess
                    | Step::JournalFails
                    | Step::JournalIsLate
                    | Step::Ask(Question::Allocatable)
            ),
            Self::Contests => !matches!(
                step,
                Step::WriteCheckpoint
                    | Step::Ask(Question::Checkpoint)
                    | Step::CloseStream
                    | Step::Withdraw
                    | Step::Settle
                    | Step::GiveUp
                    | Step::Fence
                    | Step::Prove
                    | Step::Destroy
                    | Step::Forget
                    | Step::Vanish
            ),
        }
    }
}

const STEPS: [Step; 32] = [
    Step::Create,
    Step::Offer,
    Step::OpenStream,
    Step::CloseStream,
    Step::Deliver,
    Step::Take,
    Step::WriteCheckpoint,
    Step::Choose,
    Step::BeginGrant,
    Step::JournalWrites,
    Step::JournalFails,
    Step::JournalIsLate,
    Step::Show,
    Step::StartContainer,
    Step::ForgetPod,
    Step::EndProcess,
    Step::ProveContest,
    Step::EndContest,
    Step::Ask(Question::Allocatable),
    Step::Ask(Question::Checkpoint),
    Step::Ask(Question::List),
    Step::Answer,
    Step::Look,
    Step::Release,
    Step::Withdraw,
    Step::Settle,
    Step::GiveUp,
    Step::Fence,
    Step::Prove,
    Step::Destroy,
    Step::Forget,
    Step::Vanish,
];

fn start(about: About) -> World {
    let rules = Rules {
        blind_wait: Duration::ZERO,
        unseen_for: Duration::ZERO,
        unseen_rounds: 2,
        starved_after: Duration::MAX,
    };
    let mut table = Table::new(rules, Vec::new(), Instant::now());
    table.ensure(MIG);
    World {
        about,
        table: Rc::new(table),
        exists: false,
        reader: None,
        sent: 0,
        pipe: VecDeque::new(),
        knows: None,
        file: false,
        unwritten: false,
        call: Call::None,
        pod: false,
        shown: false,
        process: false,
        foreign: false,
        settled: None,
        look: None,
        quiet: None,
        withdrawal: Withdrawal::None,
        ticket: 0,
    }
}

fn device() -> Device {
    Device {
        id: ID.to_owned(),
        group: String::new(),
        specs: Vec::new(),
        cdi: None,
    }
}

fn listing(shown: bool) -> Listing {
    let holder = Holder {
        namespace: String::new(),
        pod: "pod".to_owned(),
        container: String::new(),
    };
    let shown = shown.then(|| Shown {
        holder,
        resource: MIG.to_owned(),
        ids: vec![ID.to_owned()],
    });
    Listing::new(shown.into_iter().collect())
}

fn allocatable(present: bool) -> Allocatable {
    let device_ids = present.then(|| ID.to_owned()).into_iter().collect();
    let devices = ContainerDevices {
        resource_name: MIG.to_owned(),
        device_ids,
    };
    AllocatableResourcesResponse {
        devices: vec![devices],
    }
    .into()
}

fn grant() -> Grant {
    Grant::test(MIG, &[ID])
}

impl World {
    fn entry(&self) -> Option<&Entry> {
        self.table.entry(MIG, ID)
    }

    fn table_mut(&mut self) -> &mut Table {
        Rc::make_mut(&mut self.table)
    }

    /// What an entry made now would know of the checkpoint, and whether a look under way counts.
    fn filed(&self) -> (Option<bool>, Option<bool>) {
        let untold = self.table.resources.get(MIG).map_or(0, |r| r.untold);
        let filed = self.table.filed.as_ref();
        let filed = filed.filter(|(begun, _)| *begun > untold);
        let look = self.look.map(|(_, begun, _)| begun > untold);
        (filed.map(|(_, seen)| seen.has(MIG, ID)), look)
    }

    fn murky(&self) -> bool {
        self.table.resources.values().any(|resource| resource.murky)
    }

    /// What the agent can find out about the device being in use, given what List showed: a pod that
    /// it does not account for, or a process.
    fn in_use(&self, shown: bool) -> bool {
        (self.pod && !shown) || self.process
    }

    fn grantable(&self) -> bool {
        Table::clone(&self.table)
            .begin_grant(MIG, &[ID.to_owned()], Instant::now())
            .is_ok()
    }

    /// Takes the step if it is possible.
    #[allow(clippy::too_many_lines)] // One line a step; splitting would hide the list.
    fn take(&self, step: Step) -> Option<Self> {
        if !self.about.has(step) {
            return None;
        }
        let mut next = self.clone();
        let now = Instant::now();
        let possible = match step {
            Step::Create => {
                !self.exists && self.entry().is_none() && {
                    next.exists = true;
                    true
                }
            }
            Step::Offer => {
                self.exists
                    && self.withdrawal == Withdrawal::None
                    && self
                        .entry()
                        .is_none_or(|entry| entry.phase != DevicePhase::Offered)
                    && next.table_mut().offer(MIG, device()).is_ok()
            }
            Step::OpenStream => {
                self.reader.is_none() && {
                    next.reader = Some(next.table_mut().reader_opened(MIG));
                    next.sent = 0;
                    next.knows = self.knows.map(|_| false);
                    true
                }
            }
            Step::CloseStream => self.reader.is_some_and(|reader| {
                next.table_mut().reader_closed(MIG, reader);
                next.reader = None;
                next.pipe.clear();
                next.knows = self.knows.map(|_| false);
                true
            }),
            Step::Deliver => self.reader.is_some_and(|reader| {
                let list = self.table.list(MIG);
                let news = list.version > self.sent && self.pipe.len() < 2;
                next.sent = list.version;
                next.pipe
                    .push_back(list.devices.first().map(|device| device.healthy));
                next.table_mut().delivered(MIG, reader, list.version, now);
                news
            }),
            Step::Take => next.pipe.pop_front().is_some_and(|list| {
                next.knows = list;
                next.unwritten = self.about == About::Checkpoints;
                true
            }),
            Step::WriteCheckpoint => {
                next.file = self.knows == Some(true);
                next.unwritten = false;
                self.unwritten
            }
            Step::Choose => {
                next.call = Call::Chosen;
                next.table_mut().named_as_free(MIG, [ID.to_owned()].iter());
                self.call == Call::None && self.knows == Some(true) && !self.pod
            }
            Step::BeginGrant => {
                self.call == Call::Chosen && {
                    let begun = next.table_mut().begin_grant(MIG, &[ID.to_owned()], now);
                    next.call = if begun.is_ok() {
                        Call::Writing
                    } else {
                        Call::None
                    };
                    true
                }
            }
            Step::JournalWrites => {
                self.call == Call::Writing && {
                    next.table_mut().commit_grant(&grant(), now);
                    next.call = Call::None;
                    (next.pod, next.shown) = (true, false);
                    assert!(
                        self.exists || self.lost(),
                        "granted what is destroyed: {self:#?}"
                    );
                    assert!(self.knows.is_some(), "the kubelet panics: {self:#?}");
                    true
                }
            }
            Step::JournalFails => {
                self.call == Call::Writing && {
                    next.table_mut().abort_grant(&grant());
                    next.call = Call::None;
                    true
                }
            }
            Step::JournalIsLate => {
                self.call == Call::Writing && {
                    next.table_mut().commit_grant(&grant(), now);
                    next.call = Call::None;
                    true
                }
            }
            Step::Show => {
                next.shown = true;
                self.pod && !self.shown
            }
            Step::StartContainer => {
                let may = self.pod
                    && match self.about {
                        // As if there had been none before: contests are another model's.
                        About::Devices | About::Checkpoints => {
                            let mut table = Table::clone(&self.table);
                            table.begin_start(MIG, &[ID.to_owned()], Tick::MAX).is_ok()
                        }
                        About::Contests => {
                            // When the kubelet called for it is another model's (`doubles.rs`).
                            let asked = self.entry().map_or(0, |entry| {
                                entry.grip.as_ref().map_or(0, |grip| grip.answered)
                            });
                            let ids = [ID.to_owned()];
                            let begun = next.table_mut().begin_start(MIG, &ids, asked);
                            begun.is_ok_and(|contests| contests.is_empty())
                        }
                    };
                if may {
                    assert!(self.exists, "started with what is destroyed: {self:#?}");
                    assert!(!self.foreign, "started beside another pod: {self:#?}");
                }
                if self.pod && self.process && !self.foreign && self.exists && !self.lost() {
                    assert!(
                        may || self.withdrawal != Withdrawal::None,
                        "kept from starting again: {self:#?}"
                    );
                }
                next.process = true;
                may && !self.process
            }
            Step::ForgetPod => {
                (next.pod, next.shown) = (false, false);
                next.foreign = self.process && self.about == About::Contests;
                self.pod
            }
            Step::EndProcess => {
                (next.process, next.foreign) = (false, false);
                self.process
            }
            Step::ProveContest => {
                next.settled = self.table.contests().into_iter().next();
                self.settled.is_none() && next.settled.is_some() && !self.foreign
            }
            Step::EndContest => next.settled.take().is_some_and(|contest| {
                next.table_mut().settle_contest(&contest);
                true
            }),
            Step::Ask(question) => {
                next.look = Some((question, next.table_mut().begin_observation(), None));
                self.look.is_none()
            }
            Step::Answer => match self.look {
                Some((question, begun, None)) => {
                    let answer = match question {
                        Question::Allocatable => self.knows == Some(true),
                        Question::Checkpoint => self.file,
                        Question::List => self.pod && self.shown,
                    };
                    next.look = Some((question, begun, Some(answer)));
                    true
                }
                _ => false,
            },
            Step::Look => match self.look {
                Some((Question::Allocatable, begun, Some(present))) => {
                    next.look = None;
                    next.table_mut()
                        .saw_allocatable(begun, &allocatable(present));
                    true
                }
                Some((Question::Checkpoint, begun, Some(present))) => {
                    next.look = None;
                    next.table_mut().saw_checkpoint(begun, allocatable(present));
                    true
                }
                Some((Question::List, begun, Some(shown))) if self.quiet.is_none() => {
                    next.look = None;
                    let listing = Arc::new(listing(shown));
                    let seen = next.table_mut().saw_list(begun, &listing, now);
                    next.table_mut().looked(begun, listing);
                    let mut quiet = seen.quiet.into_iter().filter(|_| !self.in_use(shown));
                    next.quiet = quiet.next();
                    true
                }
                _ => false,
            },
            Step::Release => next.quiet.take().is_some_and(|held| {
                if next.table.unchanged(&held) {
                    assert!(
                        !self.pod && !self.process,
                        "released what is in use: {self:#?}"
                    );
                }
                next.table_mut().release(&held);
                true
            }),
            Step::Withdraw => {
                self.withdrawal == Withdrawal::None
                    && next.table_mut().withdraw(MIG, ID).is_ok_and(|ticket| {
                        next.withdrawal = Withdrawal::Begun;
                        next.ticket = ticket;
                        true
                    })
            }
            Step::Settle => {
                self.withdrawal == Withdrawal::Begun && {
                    match self.table.withdraw_progress(MIG, ID, self.ticket) {
                        Progress::Settled => {
                            next.withdrawal = Withdrawal::Settled;
                            true
                        }
                        Progress::Held(_) | Progress::Void => {
                            next.reinstate();
                            true
                        }
                        _ => false,
                    }
                }
            }
            Step::GiveUp => {
                self.withdrawal != Withdrawal::None && (self.exists || self.lost()) && {
                    next.reinstate();
                    true
                }
            }
            Step::Fence => {
                self.withdrawal == Withdrawal::Settled && {
                    match next.table_mut().fence(MIG, ID, self.ticket) {
                        Ok(_) => next.withdrawal = Withdrawal::Fencing,
                        Err(_) => next.reinstate(),
                    }
                    true
                }
            }
            Step::Prove => {
                self.withdrawal == Withdrawal::Fencing && {
                    if (self.pod && self.shown) || self.in_use(self.shown) {
                        next.reinstate();
                    } else {
                        next.withdrawal = Withdrawal::Fenced;
                    }
                    true
                }
            }
            Step::Destroy => {
                next.exists = false;
                let destroyed = self.withdrawal == Withdrawal::Fenced && self.exists;
                if destroyed {
                    assert!(
                        !self.pod && !self.process,
                        "destroyed what is in use: {self:#?}"
                    );
                    assert!(
                        self.call != Call::Writing,
                        "destroyed what is granted: {self:#?}"
                    );
                }
                destroyed
            }
            Step::Forget => {
                next.table_mut().forget(MIG, ID, self.ticket);
                next.withdrawal = Withdrawal::None;
                self.withdrawal == Withdrawal::Fenced && !self.exists
            }
            Step::Vanish => {
                self.exists && self.entry().is_some() && {
                    next.exists = false;
                    (next.process, next.foreign) = (false, false);
                    next.table_mut().lose(MIG, ID);
                    true
                }
            }
        };
        possible.then(|| {
            next.check(self, step);
            next
        })
    }

    fn lost(&self) -> bool {
        self.entry()
            .is_none_or(|entry| entry.phase == DevicePhase::Lost)
    }

    fn reinstate(&mut self) {
        let ticket = self.ticket;
        self.table_mut().reinstate(MIG, ID, ticket);
        self.withdrawal = Withdrawal::None;
    }

    /// What must be true in every world.
    fn check(&self, before: &Self, step: Step) {
        let told = || format!("{step:?} led from {before:#?} to {self:#?}");
        if self.pod {
            assert!(
                self.entry().is_some(),
                "an id that a pod has is not listed: {}",
                told()
            );
            let held = self.entry().is_some_and(|entry| entry.grip.is_some());
            assert!(held, "a pod has it without a hold: {}", told());
        }
        if matches!(self.withdrawal, Withdrawal::Fencing | Withdrawal::Fenced) {
            assert!(!self.grantable(), "fenced and grantable: {}", told());
        }
        if !self.exists {
            assert!(!self.grantable(), "destroyed and grantable: {}", told());
        }
        if before.entry().is_some() && self.entry().is_none() {
            // A kubelet that has not even read that a device is healthy may read so after it is gone.
            // Then it asks for what is not listed and is refused. What was confirmed is never so.
            let confirmed = before
                .entry()
                .is_some_and(|entry| entry.told.clear && entry.told.settled);
            assert!(
                !confirmed || before.knows != Some(true),
                "dropped while healthy: {}",
                told()
            );
            assert!(
                before.call != Call::Writing,
                "dropped while granted: {}",
                told()
            );
        }
    }

    /// What tells worlds apart.
    fn key(&self) -> impl Eq + std::hash::Hash + use<> {
        let begun = self
            .look
            .map(|(question, begun, answer)| (question, answer, begun));
        let entry = self.entry().map(|entry| {
            let grip = entry.grip.as_ref().map(|grip| {
                let stale = self.look.map(|(_, begun, _)| begun <= grip.answered);
                let bound = self.table.rules.unseen_rounds;
                (
                    grip.pending,
                    grip.committed,
                    grip.shown,
                    grip.absences.min(bound),
                    stale,
                    std::mem::discriminant(&grip.start),
                    // Nothing else depends on who may start.
                    (self.about == About::Contests).then(|| {
                        let looked = self.table.looked > grip.answered;
                        (grip.freed, grip.doubled, grip.seen.len(), looked)
                    }),
                )
            });
            let told = (
                entry.told.delivered.is_some(),
                self.look.map(|(_, begun, _)| entry.told_before(begun)),
                entry.told.settled,
                entry.told.rounds.min(2),
                entry.told.clear,
                entry.known,
                (entry.told.contrary, entry.filed),
            );
            (entry.phase, told, grip, entry.ticket == self.ticket)
        });
        (
            entry,
            (
                begun.map(|(question, answer, _)| (question, answer)),
                self.withdrawal,
                self.exists,
            ),
            (
                (self.reader.is_some(), self.murky()),
                self.sent < self.table.version(MIG),
                self.pipe.clone(),
            ),
            (
                (self.knows, self.file, self.unwritten),
                self.filed(),
                (self.call, self.pod, self.shown),
            ),
            (self.process, self.foreign),
            [self.quiet.as_ref(), self.settled.as_ref().map(|c| &c.held)]
                .map(|held| held.map(|held| self.table.unchanged(held))),
        )
    }
}

/// Goes through all worlds.
fn explore(about: About) {
    let mut known = HashSet::from([start(about).key()]);
    let mut next = VecDeque::from([start(about)]);
    let mut taken = HashSet::new();
    while let Some(world) = next.pop_front() {
        for step in STEPS {
            if let Some(after) = world.take(step) {
                taken.insert(step);
                if known.insert(after.key()) {
                    next.push_back(after);
                }
            }
        }
    }
    let mut never = STEPS.iter().filter(|step| about.has(**step));
    let never = never.find(|step| !taken.contains(step));
    assert!(never.is_none(), "the model never came to {never:?}");
    println!("{} worlds", known.len());
}

#[test]
fn no_order_of_events_grants_what_is_fenced_or_drops_what_is_held() {
    explore(About::Devices);
}

#[test]
fn no_order_of_events_makes_an_old_checkpoint_a_proof() {
    explore(About::Checkpoints);
}

#[test]
fn no_order_of_events_starts_a_pod_beside_another_or_keeps_it_from_starting_again() {
    explore(About::Contests);
}

//! Every order of events while one kubelet gives one device to two pods.
//!
//! It loses the mark that a device is taken while it waits for our answer to a grant, it remembers late whose the
//! device is, and it forgets a pod that is deleted by force while its containers run. Lists are answered at
//! any time: what `quiet.rs` does against that is not relied on.
//!
//! Left out is a pod that is deleted by force while its start is called for and not answered, which takes
//! milliseconds: no call says for which pod it is, so it is taken for that of the other one.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::{Device, Holder, Shown};

const MIG: &str = "nvidia.com/mig-3g.20gb";
const ID: &str = "MIG-a";

/// A pod in the kubelet's books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Books {
    No,
    /// The device was chosen for it.
    Chosen,
    /// The grant was answered, and is not remembered yet.
    Granted,
    Yes,
}

#[derive(Clone, Copy, Debug)]
struct Pod {
    books: Books,
    /// When the kubelet called for a start that was not answered yet.
    asked: Option<Tick>,
    runs: bool,
}

/// Which of the two pods.
type Which = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Choose(Which),
    Grant(Which),
    Remember(Which),
    /// A List frees what another pod had, and the marks are made anew from what is remembered.
    LoseMarks,
    CallStart(Which),
    AnswerStart(Which),
    Exit(Which),
    End(Which),
    DeleteByForce(Which),
    Ask,
    Answer,
    Look,
    Prove,
    Settle,
}

const STEPS: [Step; 22] = [
    Step::Choose(0),
    Step::Choose(1),
    Step::Grant(0),
    Step::Grant(1),
    Step::Remember(0),
    Step::Remember(1),
    Step::LoseMarks,
    Step::CallStart(0),
    Step::CallStart(1),
    Step::AnswerStart(0),
    Step::AnswerStart(1),
    Step::Exit(0),
    Step::Exit(1),
    Step::End(0),
    Step::End(1),
    Step::DeleteByForce(0),
    Step::DeleteByForce(1),
    Step::Ask,
    Step::Answer,
    Step::Look,
    Step::Prove,
    Step::Settle,
];

#[derive(Clone, Debug)]
struct World {
    table: Rc<Table>,
    pods: [Pod; 2],
    /// The kubelet counts the device as taken.
    mark: bool,
    /// A List under way, and who it shows.
    look: Option<(Tick, Option<[bool; 2]>)>,
    /// A contest that was proven to be over.
    proven: Option<Contest>,
    /// How it came to this.
    steps: Vec<Step>,
}

fn holder(which: Which) -> Holder {
    Holder {
        namespace: String::new(),
        pod: ["a", "b"][which].to_owned(),
        container: String::new(),
    }
}

fn listing(shown: [bool; 2]) -> Arc<Listing> {
    let shown = (0..2).filter(|which| shown[*which]).map(|which| Shown {
        holder: holder(which),
        resource: MIG.to_owned(),
        ids: vec![ID.to_owned()],
    });
    Arc::new(Listing::new(shown.collect()))
}

fn ids() -> [String; 1] {
    [ID.to_owned()]
}

fn start() -> World {
    let rules = Rules {
        blind_wait: Duration::ZERO,
        unseen_for: Duration::ZERO,
        unseen_rounds: 2,
        starved_after: Duration::MAX,
    };
    let now = Instant::now();
    let mut table = Table::new(rules, Vec::new(), now);
    let device = Device {
        id: ID.to_owned(),
        group: String::new(),
        specs: Vec::new(),
        cdi: None,
    };
    table.offer(MIG, device).unwrap();
    let reader = table.reader_opened(MIG);
    table.delivered(MIG, reader, table.version(MIG), now);
    table.entry_mut(MIG, ID).unwrap().settle();
    World {
        table: Rc::new(table),
        pods: [Pod {
            books: Books::No,
            asked: None,
            runs: false,
        }; 2],
        mark: false,
        look: None,
        proven: None,
        steps: Vec::new(),
    }
}

impl World {
    fn table_mut(&mut self) -> &mut Table {
        Rc::make_mut(&mut self.table)
    }

    fn remembered(&self) -> [bool; 2] {
        self.pods.map(|pod| pod.books == Books::Yes)
    }

    /// What the agent can find out: nothing tells it of a process of a pod that is not suspected.
    fn former_are_gone(&self, contest: &Contest) -> bool {
        let listing = self.table.listing();
        let suspected = |which: &Which| {
            let pod = holder(*which);
            let present = contest.present.as_ref() == Some(&pod);
            let known = contest.held.hold.holders.contains(&pod);
            let shown = listing.holders(MIG, ID).any(|shown| *shown == pod);
            !present && (known || (contest.unseen && !shown))
        };
        contest.unclear.is_none() && !(0..2).filter(suspected).any(|which| self.pods[which].runs)
    }

    /// Takes the step if it is possible.
    #[allow(clippy::too_many_lines)] // One line a step; splitting would hide the list.
    fn take(&self, step: Step) -> Option<Self> {
        let mut next = self.clone();
        let now = Instant::now();
        let admits = |pods: &[Pod]| {
            let mut pods = pods.iter();
            pods.any(|pod| matches!(pod.books, Books::Chosen | Books::Granted))
        };
        let possible = match step {
            Step::Choose(which) => {
                next.table_mut().named_as_free(MIG, ids().iter());
                next.pods[which].books = Books::Chosen;
                next.mark = true;
                // Its containers from before are another pod's, of another UID; one is enough.
                let comes = self.pods[which].books == Books::No && !self.pods[which].runs;
                comes && !self.mark && !admits(&self.pods)
            }
            Step::Grant(which) => {
                self.pods[which].books == Books::Chosen && {
                    let begun = next.table_mut().begin_grant(MIG, &ids(), now);
                    let (grant, _) = begun.unwrap();
                    next.table_mut().commit_grant(&grant, now);
                    next.pods[which].books = Books::Granted;
                    true
                }
            }
            Step::Remember(which) => {
                next.pods[which].books = Books::Yes;
                self.pods[which].books == Books::Granted
            }
            Step::LoseMarks => {
                next.mark = self.remembered().contains(&true);
                self.mark && !next.mark
            }
            Step::CallStart(which) => {
                let pod = &self.pods[which];
                let asked = next.table_mut().begin_observation();
                next.pods[which].asked = Some(asked);
                pod.books == Books::Yes && pod.asked.is_none() && !pod.runs
            }
            Step::AnswerStart(which) => self.pods[which].asked.is_some_and(|asked| {
                let begun = next.table_mut().begin_start(MIG, &ids(), asked);
                next.pods[which].asked = None;
                if begun.is_ok_and(|contests| contests.is_empty()) {
                    assert!(!self.pods[1 - which].runs, "two pods run: {self:#?}");
                    next.pods[which].runs = true;
                }
                true
            }),
            Step::Exit(which) => {
                next.pods[which].runs = false;
                self.pods[which].runs
            }
            Step::End(which) => {
                next.pods[which].books = Books::No;
                next.mark = next.remembered().contains(&true) || admits(&next.pods);
                let pod = &self.pods[which];
                pod.books == Books::Yes && pod.asked.is_none() && !pod.runs
            }
            Step::DeleteByForce(which) => {
                next.pods[which].books = Books::No;
                next.pods[which].asked = None;
                next.mark = next.remembered().contains(&true);
                self.pods[which].books == Books::Yes
            }
            Step::Ask => {
                let begun = next.table_mut().begin_observation();
                next.look = Some((begun, None));
                self.look.is_none()
            }
            Step::Answer => self.look.is_some_and(|(begun, shown)| {
                next.look = Some((begun, Some(self.remembered())));
                shown.is_none()
            }),
            Step::Look => self.look.is_some_and(|(begun, shown)| {
                let Some(shown) = shown.map(listing) else {
                    return false;
                };
                next.look = None;
                let seen = next.table_mut().saw_list(begun, &shown, now);
                next.table_mut().looked(begun, shown);
                let free = |pod: &Pod| !pod.runs && pod.books == Books::No;
                if self.pods.iter().all(free) {
                    for quiet in seen.quiet {
                        next.table_mut().release(&quiet);
                    }
                }
                true
            }),
            Step::Prove => {
                let all = self.table.contests().into_iter();
                let starts = self.pods.iter().filter_map(|pod| {
                    let contests = self.table.before_start(MIG, &ids(), pod.asked?);
                    contests.ok()?.into_iter().next()
                });
                next.proven = all.chain(starts).next();
                let proven = next.proven.as_ref();
                self.proven.is_none() && proven.is_some_and(|c| self.former_are_gone(c))
            }
            Step::Settle => next.proven.take().is_some_and(|contest| {
                next.table_mut().settle_contest(&contest);
                true
            }),
        };
        next.steps.push(step);
        possible.then_some(next)
    }

    /// A pod that has the device alone, while nobody else runs with it, is let through in the end.
    fn check(&self) {
        for which in 0..2 {
            let other = &self.pods[1 - which];
            let alone = other.books == Books::No && !other.runs;
            if self.pods[which].books != Books::Yes || !alone {
                continue;
            }
            let mut world = self.clone();
            let asked = world.table_mut().begin_observation();
            let begun = world.table_mut().begin_observation();
            let shown = listing(world.remembered());
            world.table_mut().saw_list(begun, &shown, Instant::now());
            world.table_mut().looked(begun, shown);
            for contest in world.table.contests() {
                assert!(world.former_are_gone(&contest), "{which} waits: {self:#?}");
                world.table_mut().settle_contest(&contest);
            }
            for contest in world.table.before_start(MIG, &ids(), asked).unwrap() {
                assert!(world.former_are_gone(&contest), "{which} waits: {self:#?}");
                world.table_mut().settle_contest(&contest);
            }
            let begun = world.table_mut().begin_start(MIG, &ids(), asked);
            let starts = begun.is_ok_and(|contests| contests.is_empty());
            assert!(starts, "{which} is kept from starting: {self:#?}");
        }
    }

    /// What tells worlds apart.
    fn key(&self) -> impl Eq + std::hash::Hash + use<> {
        let grip = self.table.entry(MIG, ID).unwrap().grip.as_ref();
        let looked = self.table.looked;
        let answered = grip.map_or(0, |grip| grip.answered);
        let pods = self.pods.map(|pod| {
            let asked = pod.asked.map(|asked| {
                let after = self.look.map(|(begun, _)| begun > asked);
                (looked > asked, asked < answered, after)
            });
            (pod.books, asked, pod.runs)
        });
        let start = grip.map(|grip| {
            let former = match &grip.start {
                entry::Start::Contested(former) => Some((names(&former.known), former.unseen)),
                _ => None,
            };
            let absences = grip.absences.min(2);
            (
                (std::mem::discriminant(&grip.start), former),
                (grip.shown, absences, grip.freed, grip.doubled),
                (names(&grip.seen), grip.rivals.is_some()),
                looked > answered,
            )
        });
        let listing = self.table.listing();
        let shown = listing.iter().map(|shown| shown.holder.pod.clone());
        let look = self.look.map(|(begun, shown)| (begun > answered, shown));
        let last = self.table.entry(MIG, ID).unwrap().holders.last().cloned();
        let proven = self.proven.as_ref().map(|proven| {
            let mut table = Table::clone(&self.table);
            (table.settle_contest(proven), proven.present.clone())
        });
        (
            (pods, self.mark, look, proven),
            (start, last, shown.collect::<Vec<_>>()),
        )
    }
}

fn names(holders: &[Holder]) -> Vec<String> {
    holders.iter().map(|holder| holder.pod.clone()).collect()
}

#[test]
fn no_order_of_events_runs_two_pods_on_one_device_or_keeps_a_pod_that_has_it_alone_from_starting() {
    let mut known = HashSet::from([start().key()]);
    let mut next = VecDeque::from([start()]);
    let mut taken = HashSet::new();
    while let Some(world) = next.pop_front() {
        world.check();
        for step in STEPS {
            if let Some(after) = world.take(step) {
                taken.insert(step);
                if known.insert(after.key()) {
                    next.push_back(after);
                }
            }
        }
    }
    let never = STEPS.iter().find(|step| !taken.contains(step));
    assert!(never.is_none(), "the model never came to {never:?}");
    println!("{} worlds", known.len());
}

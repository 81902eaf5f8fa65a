//! Small pods that never cease to come, and large ones among them: everybody starts in the end.
//!
//! The scheduler is the stock one in what matters: a pod fits where what the node's status shows, less what all pods
//! bound there ask for, is enough; it goes by age or as it likes; and it is faster than we are: when a pod ends, the next one
//! is bound before we have heard of it. The kubelet takes any free device.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::RngSeed};

use super::super::*;
use super::bench::*;

const TWO: &str = "nvidia.com/mig-2g.10gb";
const FOUR: &str = "nvidia.com/mig-4g.20gb";
/// What a pod waits until slices are kept free for it.
const WAIT: Duration = Duration::from_mins(5);
const STEP: Duration = Duration::from_secs(10);
/// Small pods that wait at any time.
const QUEUE: usize = 3;

/// A pod of the played crowd.
#[derive(Clone, Debug)]
struct Guest {
    /// In the order of their coming.
    number: usize,
    wants: Vec<(&'static str, u32)>,
    came: Instant,
    /// How long it runs.
    runs: Duration,
    bound: Option<(String, Instant)>,
}

struct Crowd {
    bench: Bench,
    guests: BTreeMap<String, Guest>,
    count: usize,
    /// What is left to chance, again and again.
    dice: Vec<u8>,
    thrown: usize,
    longest: Duration,
    /// The oldest pod does not always go first.
    moody: bool,
}

impl Crowd {
    fn new(nodes: &[(&str, usize)], dice: Vec<u8>) -> Self {
        let mut bench = Bench::new(nodes);
        for host in bench.hosts.values_mut() {
            host.manner = Manner::Careful;
        }
        Self {
            bench,
            guests: BTreeMap::new(),
            count: 0,
            dice,
            thrown: 0,
            longest: Duration::ZERO,
            moody: false,
        }
    }

    fn throw(&mut self) -> usize {
        self.thrown += 1;
        usize::from(self.dice[self.thrown % self.dice.len()]) + self.thrown % 7
    }

    fn come(&mut self, name: &str, wants: &[(&'static str, u32)], runs: Duration) {
        self.count += 1;
        let guest = Guest {
            number: self.count,
            wants: wants.to_vec(),
            came: self.bench.now,
            runs,
            bound: None,
        };
        self.guests.insert(name.to_owned(), guest);
        self.bench.create(name, wants);
    }

    fn waiting(&self) -> Vec<String> {
        let waiting = self
            .guests
            .iter()
            .filter(|(_, guest)| guest.bound.is_none());
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_by_key(|(_, guest)| guest.number);
        waiting.into_iter().map(|(name, _)| name.clone()).collect()
    }

    fn fits(&self, node: &str, wants: &[(&'static str, u32)]) -> bool {
        wants.iter().all(|(resource, count)| {
            let on_node = |guest: &&Guest| guest.bound.as_ref().is_some_and(|(at, _)| at == node);
            let asked = self.guests.values().filter(on_node);
            let asked = asked.flat_map(|guest| &guest.wants);
            let used: u32 = asked
                .filter(|(name, _)| name == resource)
                .map(|(_, count)| count)
                .sum();
            self.bench.shown(node, resource) >= used + count
        })
    }

    fn schedule(&mut self) {
        let mut waiting = self.waiting();
        if self.moody && !waiting.is_empty() {
            let first = self.throw() % waiting.len();
            waiting.rotate_left(first);
        }
        waiting.retain(|name| !name.starts_with("unbindable"));
        for name in waiting {
            let wants = self.guests[&name].wants.clone();
            let nodes: Vec<String> = self.bench.nodes.keys().cloned().collect();
            let fitting: Vec<_> = nodes.iter().filter(|at| self.fits(at, &wants)).collect();
            if fitting.is_empty() {
                continue;
            }
            let node = fitting[self.throw() % fitting.len()].clone();
            let pick = self.throw();
            self.bench.bind_to(&name, &node, pick);
            let now = self.bench.now;
            let guest = self.guests.get_mut(&name).unwrap();
            self.longest = self.longest.max(now - guest.came);
            guest.bound = Some((node, now));
        }
    }

    /// Some seconds pass: pods end, others come, and each is bound as soon as it can be.
    fn step(&mut self) {
        self.bench.pass(STEP);
        let now = self.bench.now;
        let over = |guest: &Guest| {
            let bound = guest.bound.as_ref();
            bound.is_some_and(|(_, at)| now >= *at + guest.runs)
        };
        let all = self.guests.iter().filter(|(_, guest)| over(guest));
        let ended: Vec<_> = all.map(|(name, _)| name.clone()).collect();
        for name in ended {
            self.guests.remove(&name);
            self.bench.finish(&name);
            self.schedule();
        }
        for _ in 0..3 {
            self.bench.run();
            self.schedule();
        }
        self.bench.run();
        self.check();
    }

    fn small_ones_come(&mut self) {
        let small = |name: &&String| name.starts_with("small");
        while self.waiting().iter().filter(small).count() < QUEUE {
            let name = format!("small-{}", self.count);
            let what = [ONE, ONE, TWO][self.throw() % 3];
            let runs = Duration::from_secs(20) * u32::try_from(self.throw() % 30 + 1).unwrap();
            self.come(&name, &[(what, 1)], runs);
        }
    }

    /// No large pod waits for a service to end.
    fn check_services(&self) {
        let windows = self.bench.world.board.planner.windows().iter();
        for window in windows.filter(|window| window.key.starts_with("ns/large")) {
            let gpus = &self.bench.hosts[&window.node].gpus;
            for part in &window.parts {
                let devices = gpus[part.gpu].instances.iter();
                let holders = devices.flat_map(|device| &device.holders);
                let mut services = holders.filter(|holder| holder.pod.starts_with("service"));
                assert!(services.next().is_none(), "{window:?}");
            }
        }
    }

    /// What is shown is never more than there is.
    fn check(&self) {
        for (name, host) in &self.bench.hosts {
            for resource in [ONE, TWO, THREE, FOUR, SEVEN] {
                let devices = host.gpus.iter().flat_map(|gpu| &gpu.instances);
                let there = devices.filter(|device| device.resource == resource).count();
                let shown = self.bench.shown(name, resource);
                assert!(
                    usize::try_from(shown).unwrap() <= there,
                    "{resource} on {name}"
                );
            }
        }
    }
}

fn any_dice() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 20..60)
}

fn any_large() -> impl Strategy<Value = Vec<(&'static str, u32)>> {
    prop_oneof![
        Just(vec![(SEVEN, 1)]),
        Just(vec![(FOUR, 1)]),
        Just(vec![(THREE, 1)]),
        Just(vec![(THREE, 2)]),
        Just(vec![(TWO, 1), (THREE, 1)]),
    ]
}

fn mk_crowd(nodes: &[(&str, usize)]) -> Crowd {
    // Any numbers do; they are the same each time.
    let dice = (1..60u32).map(|n| u8::try_from(n * n * 37 % 251).unwrap());
    Crowd::new(nodes, dice.collect())
}

/// Lets small pods come and go, for so long or until this pod has started; returns how long that took.
fn until_started(crowd: &mut Crowd, name: &str, longest: Duration) -> Duration {
    let begin = crowd.bench.now;
    while crowd.bench.now < begin + longest && crowd.waiting().iter().any(|one| one == name) {
        crowd.small_ones_come();
        crowd.step();
        crowd.check_services();
    }
    crowd.bench.now - begin
}

#[test]
fn a_service_that_never_ends_is_not_waited_for() {
    let mut crowd = mk_crowd(&[("a", 2)]);
    crowd.come("service", &[(FOUR, 1)], Duration::MAX / 4);
    crowd.step();
    let hours = Duration::from_hours(5);
    for _ in 0..hours.as_secs() / STEP.as_secs() {
        crowd.small_ones_come();
        crowd.step();
    }
    // Its patience, and the small ones on the other GPU; when one of them ends, the next may be given its device at that
    // very moment.
    let most = WAIT + 5 * Duration::from_mins(10);
    for number in 0..6 {
        let large = format!("large-{number}");
        crowd.come(&large, &[(SEVEN, 1)], Duration::from_mins(10));
        let took = until_started(&mut crowd, &large, hours);
        assert!(took <= most, "{large}: {took:?}");
        for _ in 0..100 {
            crowd.small_ones_come();
            crowd.step();
        }
    }
}

#[test]
fn large_pods_that_never_end_take_one_place_after_the_other() {
    let mut crowd = mk_crowd(&[("a", 2), ("b", 1)]);
    for _ in 0..60 {
        crowd.small_ones_come();
        crowd.step();
    }
    for number in 0..3 {
        crowd.come(&format!("large-{number}"), &[(FOUR, 1)], Duration::MAX / 4);
    }
    // One window after the other: whoever gets the device of the first, the others' is elsewhere.
    let most = 3 * (WAIT + 2 * Duration::from_mins(10));
    for _ in 0..most.as_secs() / STEP.as_secs() {
        crowd.small_ones_come();
        crowd.step();
    }
    let waiting = crowd.waiting();
    assert!(
        !waiting.iter().any(|name| name.starts_with("large")),
        "{waiting:?}"
    );
}

#[test]
fn a_pod_that_is_never_bound_leaves_windows_to_others() {
    let mut crowd = mk_crowd(&[("a", 1), ("b", 1), ("c", 1)]);
    for _ in 0..60 {
        crowd.small_ones_come();
        crowd.step();
    }
    crowd.come("unbindable", &[(SEVEN, 1)], STEP);
    crowd.step();
    let hours = Duration::from_hours(4);
    for number in 0..4 {
        let large = format!("large-{number}");
        crowd.come(&large, &[(FOUR, 1), (ONE, 2)], Duration::from_mins(10));
        let took = until_started(&mut crowd, &large, hours);
        // A turn of each of the two.
        let most = 2 * (WAIT + 2 * Duration::from_mins(10)) + 6 * STEP;
        assert!(took <= most, "{large}: {took:?}");
    }
    let key = PodKey::new("ns", "unbindable");
    assert!(crowd.bench.world.demands[&key].waiting.has_spent() > Duration::ZERO);
}

proptest! {
    // How long the longest wait is hangs on the dice, so that they are the same each time.
    #![proptest_config(ProptestConfig {
        cases: 12,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn everybody_starts_although_small_pods_never_cease_to_come(
        gpus in prop::collection::vec(1usize..3, 1..3),
        large in prop::collection::vec(any_large(), 1..4),
        dice in any_dice(),
        moody in any::<bool>(),
    ) {
        let nodes: Vec<_> = ["a", "b"].into_iter().zip(gpus).collect();
        let mut crowd = Crowd::new(&nodes, dice);
        crowd.moody = moody;
        for _ in 0..30 {
            crowd.small_ones_come();
            crowd.step();
        }
        for (number, wants) in large.iter().enumerate() {
            crowd.come(&format!("large-{number}"), wants, Duration::from_mins(10));
        }
        let is_large = |name: &&String| name.starts_with("large");
        // Small ones run for ten minutes at most. Each large one waits for its patience, and then for those on its
        // window, behind the other large ones.
        for _ in 0..1_500 {
            crowd.small_ones_come();
            crowd.step();
            if crowd.waiting().iter().find(is_large).is_none() {
                break;
            }
        }
        let waiting = crowd.waiting();
        let windows = crowd.bench.world.board.planner.windows();
        prop_assert!(waiting.iter().find(is_large).is_none(), "{waiting:?}: {windows:#?}");
    }

    #[test]
    fn nobody_waits_for_ever_because_of_one_that_can_never_start(
        gpus in 1usize..3,
        dice in any_dice(),
    ) {
        let mut crowd = Crowd::new(&[("a", gpus)], dice);
        for number in 0..gpus {
            crowd.come(&format!("service-{number}"), &[(THREE, 1)], Duration::MAX / 4);
            crowd.step();
        }
        crowd.come("never", &[(SEVEN, u32::try_from(gpus).unwrap())], STEP);
        let mut kept = 0;
        // Windows of 20, 40 and 80 minutes, and as long without after each; small ones end in the first ten minutes.
        let steps = 5 * 3_600 / STEP.as_secs();
        for _ in 0..steps {
            crowd.small_ones_come();
            crowd.step();
            let windows = crowd.bench.world.board.planner.windows();
            kept += u64::from(windows.iter().any(|window| window.key.ends_with("never")));
        }
        prop_assert!(crowd.waiting().contains(&"never".to_owned()));
        prop_assert!(kept > 0 && kept < steps * 6 / 10, "{kept} of {steps}");
        // Its longer window, and before that one of one's own in vain, under a service, and the pause after it.
        let now = crowd.bench.now;
        let waiting = crowd.guests.iter().filter(|(name, guest)| {
            guest.bound.is_none() && name.as_str() != "never"
        });
        let longest = waiting.map(|(_, guest)| now - guest.came).max();
        let longest = crowd.longest.max(longest.unwrap_or_default());
        prop_assert!(longest < Duration::from_hours(5), "{longest:?}");
        let bound = crowd.guests.values().filter(|guest| guest.bound.is_some());
        prop_assert!(bound.count() > gpus, "small ones run again");
    }
}

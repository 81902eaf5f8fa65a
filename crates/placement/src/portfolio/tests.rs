use super::*;
use crate::{
    After, Ask, GpuPlace, Pool,
    geometry::tests::a100,
    policy::{best_fit, fewest_blocked, fragmentation_gradient, worst_fit},
};
use proptest::prelude::*;

/// Numbers without a pattern, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn settings() -> Settings {
    Settings {
        window: 512,
        ..Settings::default()
    }
}

/// A cluster of eight GPUs that decides by the portfolio and tells it everything.
struct Cluster {
    portfolio: Portfolio,
    pool: Pool,
    numbers: Numbers,
    running: Vec<(u64, crate::Choice, Option<Seen>)>,
    time: u64,
}

impl Cluster {
    fn new(portfolio: Portfolio) -> Self {
        let geometry = Arc::clone(&portfolio.geometry);
        let mut pool = Pool::new(geometry, Arc::clone(portfolio.index()));
        for _ in 0..8 {
            pool.add(GpuPlace::default());
        }
        Self {
            portfolio,
            pool,
            numbers: Numbers(1),
            running: Vec::new(),
            time: 0,
        }
    }

    /// So many pods of these profiles, about as many as fit, and what changed.
    fn run(&mut self, pods: usize, profiles: &[u8]) -> Vec<Switch> {
        let mut switches = Vec::new();
        for _ in 0..pods {
            self.time += self.numbers.below(20);
            let now = self.time;
            while let Some(at) = self.running.iter().position(|(end, ..)| *end <= now) {
                let (end, choice, seen) = self.running.swap_remove(at);
                self.pool
                    .release(choice.gpu, choice.placement, After::Idle)
                    .unwrap();
                if let Some(seen) = seen {
                    self.portfolio.ended(seen, end);
                }
            }
            let count = u64::try_from(profiles.len()).unwrap();
            let drawn = usize::try_from(self.numbers.below(count)).unwrap();
            let profile = ProfileId(profiles[drawn]);
            let choice = self.pool.choose(&Ask::new(profile));
            let seen = self.portfolio.arrived(now, profile, choice.is_some(), 8);
            if let Some(choice) = choice {
                self.pool.commit(&choice).unwrap();
                let end = now + 1 + self.numbers.below(400);
                self.running.push((end, choice, seen));
            }
            while self.portfolio.is_due() {
                switches.extend(self.portfolio.work(8));
            }
            self.pool.set_index(Arc::clone(self.portfolio.index()));
        }
        switches
    }
}

#[test]
fn a_table_that_accepts_surely_more_takes_over() {
    let geometry = Arc::new(a100());
    let others = vec![Candidate::Table(best_fit(&geometry))];
    let portfolio = Portfolio::new(&geometry, worst_fit(&geometry), others, settings()).unwrap();
    let mut cluster = Cluster::new(portfolio);
    let switches = cluster.run(20_000, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(switches.len(), 1, "{switches:?}");
    assert_eq!((switches[0].from, switches[0].to), (0, 1));
    assert!(switches[0].gain > 10_000, "{switches:?}");
    assert_eq!(cluster.portfolio.chosen(), 1);
    let accepted = cluster.portfolio.accepted().unwrap();
    assert!(accepted[1] > accepted[0]);
}

#[test]
fn nothing_changes_where_all_accept_everything() {
    let geometry = Arc::new(a100());
    let others = vec![Candidate::Table(best_fit(&geometry))];
    let portfolio = Portfolio::new(&geometry, worst_fit(&geometry), others, settings()).unwrap();
    let mut cluster = Cluster::new(portfolio);
    // Small ones fit anywhere.
    assert_eq!(cluster.run(20_000, &[5]), []);
    assert_eq!(cluster.portfolio.accepted(), Some(vec![1_000_000; 2]));
}

#[test]
fn equal_tables_never_take_turns() {
    let geometry = Arc::new(a100());
    let table = fewest_blocked(&geometry);
    let twin = Candidate::Table(table.clone().named("twin"));
    let portfolio = Portfolio::new(&geometry, table, vec![twin], settings()).unwrap();
    assert_eq!(Cluster::new(portfolio).run(20_000, &[0, 1, 2, 3, 4, 5]), []);
}

#[test]
fn a_rule_that_is_told_the_mix_learns_it() {
    let geometry = Arc::new(a100());
    let rule = Candidate::OfMix(fragmentation_gradient);
    let portfolio = Portfolio::new(&geometry, best_fit(&geometry), vec![rule], settings()).unwrap();
    let mut cluster = Cluster::new(portfolio);
    let before = cluster.portfolio.candidates[1].1.clone();
    cluster.run(2000, &[2, 2, 3]);
    assert_ne!(cluster.portfolio.candidates[1].1, before);
}

#[test]
fn of_many_gpus_every_nth_pod_is_kept() {
    let geometry = Arc::new(a100());
    let mut portfolio =
        Portfolio::new(&geometry, best_fit(&geometry), Vec::new(), settings()).unwrap();
    let kept = (0..1000)
        .filter(|time| portfolio.arrived(*time, ProfileId(3), true, 1024).is_some())
        .count();
    assert_eq!(kept, 250);
}

#[test]
fn one_call_does_one_candidate() {
    let geometry = Arc::new(a100());
    let others = vec![Candidate::Table(worst_fit(&geometry)); 3];
    let mut portfolio = Portfolio::new(&geometry, best_fit(&geometry), others, settings()).unwrap();
    assert_eq!(portfolio.work(8), None);
    for time in 0..512 {
        portfolio.arrived(time, ProfileId(3), true, 8);
    }
    let mut calls = 0;
    while portfolio.is_due() {
        portfolio.work(8);
        calls += 1;
    }
    assert_eq!(calls, 4);
}

/// How often a candidate takes over that is neither better nor worse.
fn changes_by_noise(windows: u32, candidates: usize) -> u32 {
    let mut numbers = Numbers(7);
    let mut gains = Gains::new(candidates);
    let (mut chosen, mut changes) = (0, 0);
    for _ in 0..windows {
        // A sum of four is near enough to a normal distribution.
        let mut accepted = || {
            (0..4)
                .map(|_| numbers.below(5000).cast_signed())
                .sum::<i64>()
        };
        let window = (0..candidates).map(|_| 900_000 + accepted()).collect();
        gains.add(window);
        if let Some((to, ..)) = gains.better(chosen, 200) {
            chosen = to;
            changes += 1;
            gains.changed();
        }
    }
    changes
}

#[test]
fn noise_alone_hardly_ever_changes_anything() {
    let changes = changes_by_noise(20_000, 5);
    assert!(changes <= 20, "{changes} changes in 20,000 windows");
}

#[test]
fn a_change_is_followed_by_calm() {
    let mut gains = Gains::new(2);
    let mut since = None;
    for window in 0..40_i64 {
        // The better one changes with each window, as loudly as can be.
        let ahead = if window < 20 { 50_000 } else { -500_000 };
        gains.add(vec![900_000, 900_000 + ahead + window]);
        let chosen = usize::from(since.is_some());
        if gains.better(chosen, 200).is_some() {
            let last: i64 = since.unwrap_or(-100);
            assert!(window - last >= 8);
            since = Some(window);
            gains.changed();
        }
    }
    assert!(since.is_some());
}

proptest! {
    #[test]
    fn whatever_it_hears_it_stays_sound(
        pods in proptest::collection::vec((0u64..50, 0u8..6, any::<bool>(), 0u64..300), 0..1500),
        gpus in 0u32..2000,
    ) {
        let geometry = Arc::new(a100());
        let others = vec![Candidate::Table(worst_fit(&geometry))];
        let mut portfolio =
            Portfolio::new(&geometry, best_fit(&geometry), others, settings()).unwrap();
        let mut time = 0;
        for (after, profile, started, life) in pods {
            time += after;
            let seen = portfolio.arrived(time, ProfileId(profile), started, gpus);
            if let Some(seen) = seen.filter(|_| life < 200) {
                portfolio.ended(seen, time + life);
            }
            portfolio.work(gpus);
        }
        prop_assert!(portfolio.chosen() < 2);
        for accepted in portfolio.accepted().unwrap_or_default() {
            prop_assert!((0..=1_000_000).contains(&accepted));
        }
    }
}

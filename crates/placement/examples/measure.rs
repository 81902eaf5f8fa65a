//! Measures decisions: time of each, with its commit and with the departure that makes room for it.
//!
//! `cargo run --release -p placement --example measure`. Times include reading the clock twice, whose
//! own cost is shown.

// Real time is what is measured here.
#![expect(clippy::disallowed_methods, reason = "measures real time")]
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark may end where it cannot go on, and its numbers are small"
)]

use std::{sync::Arc, time::Instant};

use mig::{GpuModel, Placement, Profile};
use placement::{
    After, Ask, ClassId, ClassSet, Geometry, GpuId, GpuPlace, Index, NodeId, PlacementId, Pool,
    ProfileId, ScoreTable, policy,
};

/// An RTX PRO 6000: 12 memory slices in quarters.
fn rtx_pro_6000() -> GpuModel {
    let rows: [(&str, &[u8], u8, u8); 3] = [
        ("1g.24gb", &[0, 3, 6, 9], 3, 4),
        ("2g.48gb", &[0, 6], 6, 2),
        ("4g.96gb", &[0], 12, 1),
    ];
    let profile = |&(name, starts, size, max_instances): &(&str, &[u8], u8, u8)| Profile {
        name: name.parse().unwrap(),
        id: 0,
        placements: starts.iter().map(|s| Placement::new(*s, size)).collect(),
        max_instances,
        multiprocessors: 1,
        memory_mib: 1,
    };
    GpuModel {
        name: "NVIDIA RTX PRO 6000".to_owned(),
        slices: 12,
        profiles: rows.iter().map(profile).collect(),
    }
}

/// A generator that is good enough to shuffle demands.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 33) % u64::try_from(bound).unwrap()).unwrap()
    }
}

struct Case {
    name: &'static str,
    gpus: u32,
    classes: u16,
    /// One class in so many is allowed, at least one.
    one_in: usize,
    after: After,
    bonus: u32,
}

fn main() {
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap();
    let geometry = Arc::new(Geometry::new(&model).unwrap());
    let table = policy::ours(&geometry).unwrap();
    let mut clock: Vec<f64> = (0..10_000)
        .map(|_| Instant::now().elapsed().as_nanos() as f64)
        .collect();
    println!(
        "reading the clock twice: median {:.0} ns",
        quantile(&mut clock, 0.5)
    );
    println!(
        "{:>8} {:<26} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>10}",
        "GPUs",
        "case",
        "mean ns",
        "p50 ns",
        "p90 ns",
        "p99 ns",
        "p99.9 ns",
        "batch us",
        "placed",
        "build us"
    );
    let twelve = Arc::new(Geometry::new(&rtx_pro_6000()).unwrap());
    let table_twelve = policy::ours(&twelve).unwrap();
    for gpus in [100, 1_000, 10_000, 100_000] {
        let case = |name, classes, one_in, after, bonus| Case {
            name,
            gpus,
            classes,
            one_in,
            after,
            bonus,
        };
        by_looking_at_all(&geometry, &table, gpus);
        let (gone, idle) = (After::Destroyed, After::Idle);
        run(&geometry, &table, &case("any node", 1, 1, gone, 0));
        run(
            &geometry,
            &table,
            &case("any node, idle reused", 1, 1, idle, 2),
        );
        run(
            &geometry,
            &table,
            &case("half of 32 classes", 32, 2, gone, 0),
        );
        run(
            &geometry,
            &table,
            &case("half of 32, idle reused", 32, 2, idle, 2),
        );
        if gpus == 1_000 || gpus == 10_000 {
            let nodes = u16::try_from(gpus / 8).unwrap();
            run(
                &geometry,
                &table,
                &case("half of all nodes", nodes, 2, idle, 2),
            );
            let one = usize::from(nodes);
            run(
                &geometry,
                &table,
                &case("about one node", nodes, one, idle, 2),
            );
        }
        run(
            &twelve,
            &table_twelve,
            &case("12 slices, idle reused", 1, 1, idle, 2),
        );
    }
}

/// What a decision takes without buckets: the same table, looked up for each GPU in turn.
fn by_looking_at_all(geometry: &Arc<Geometry>, table: &ScoreTable, gpus: u32) {
    let mut draw = Draw(0x1234_5678_9abc_def1);
    let index = Arc::new(Index::new(geometry, table).unwrap());
    let mut pool = Pool::new(Arc::clone(geometry), Arc::clone(&index));
    for _ in 0..gpus {
        pool.add(GpuPlace::default());
    }
    for _ in 0..gpus * 2 {
        let profile = ProfileId(u8::try_from(draw.below(geometry.profiles().len())).unwrap());
        if let Some(choice) = pool.choose(&Ask::new(profile)) {
            pool.commit(&choice).unwrap();
        }
    }
    let mut times: Vec<f64> = (0..200)
        .map(|_| {
            let profile = ProfileId(u8::try_from(draw.below(geometry.profiles().len())).unwrap());
            let start = Instant::now();
            let score = |gpu: &GpuId| index.best_score(profile, pool.mask(*gpu));
            std::hint::black_box(pool.gpus().max_by_key(score));
            start.elapsed().as_nanos() as f64
        })
        .collect();
    let median = quantile(&mut times, 0.5);
    println!(
        "{gpus:>8} {:<26} {:>9} {median:>9.0}",
        "a look at each GPU", ""
    );
}

fn run(geometry: &Arc<Geometry>, table: &ScoreTable, case: &Case) {
    let mut draw = Draw(0x1234_5678_9abc_def1);
    let profiles = geometry.profiles().len();
    let start = Instant::now();
    let index = Arc::new(Index::new(geometry, table).unwrap());
    let mut pool = Pool::new(Arc::clone(geometry), index);
    for gpu in 0..case.gpus {
        let class = ClassId(u16::try_from(gpu / 8 % u32::from(case.classes)).unwrap());
        pool.add(GpuPlace {
            node: NodeId(gpu / 8),
            class,
        });
    }
    let build = start.elapsed().as_secs_f64() * 1e6;
    let sets: Vec<ClassSet> = (0..256)
        .map(|_| {
            let one = ClassId(u16::try_from(draw.below(case.classes.into())).unwrap());
            let mut set: ClassSet = (0..case.classes)
                .map(ClassId)
                .filter(|_| draw.below(case.one_in) == 0)
                .collect();
            set.insert(one);
            set
        })
        .collect();
    let mut held: Vec<(GpuId, PlacementId)> = Vec::new();
    let mut one = |pool: &mut Pool, held: &mut Vec<(GpuId, PlacementId)>, leave: bool| {
        let profile = ProfileId(u8::try_from(draw.below(profiles)).unwrap());
        let set = &sets[draw.below(sets.len())];
        let leaving = if leave && !held.is_empty() {
            Some(held.swap_remove(draw.below(held.len())))
        } else {
            None
        };
        let mut ask = Ask::new(profile).reuse_bonus(case.bonus);
        if case.classes > 1 {
            ask = ask.within(set);
        }
        let start = Instant::now();
        if let Some((gpu, placement)) = leaving {
            pool.release(gpu, placement, case.after).unwrap();
        }
        let choice = pool.choose(&ask);
        if let Some(choice) = &choice {
            pool.commit(choice).unwrap();
        }
        let taken = start.elapsed();
        held.extend(choice.map(|c| (c.gpu, c.placement)));
        (taken.as_nanos() as f64, choice.is_some())
    };
    // Fill until demands fail, then let as many go as come.
    let mut failed = 0;
    while failed < 20 {
        failed += u32::from(!one(&mut pool, &mut held, false).1);
    }
    for _ in 0..case.gpus * 10 {
        one(&mut pool, &mut held, true);
    }
    let mut times: Vec<f64> = (0..400_000)
        .map(|_| one(&mut pool, &mut held, true).0)
        .collect();
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let quantiles = [0.5, 0.9, 0.99, 0.999].map(|q| quantile(&mut times, q));
    // A batch of demands at once, on a pool that half of the instances have left; undone each time.
    for (gpu, placement) in held.split_off(held.len() / 2) {
        pool.release(gpu, placement, case.after).unwrap();
    }
    let mut placed = 0;
    let mut batches: Vec<f64> = (0..50)
        .map(|_| {
            let mark = pool.mark();
            placed = 0;
            let start = Instant::now();
            for n in 0..1000u32 {
                let profile = ProfileId(u8::try_from(n as usize % profiles).unwrap());
                if let Some(choice) = pool.choose(&Ask::new(profile).reuse_bonus(case.bonus)) {
                    pool.commit(&choice).unwrap();
                    placed += 1;
                }
            }
            let taken = start.elapsed().as_secs_f64() * 1e6;
            pool.rollback(mark);
            taken
        })
        .collect();
    let batch = quantile(&mut batches, 0.5);
    let [p50, p90, p99, p999] = quantiles;
    println!(
        "{:>8} {:<26} {mean:>9.0} {p50:>9.0} {p90:>9.0} {p99:>9.0} {p999:>9.0} {batch:>9.0} {placed:>7} {build:>10.0}",
        case.gpus, case.name
    );
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank is within the list"
)]
fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q) as usize]
}

//! How long passes take on a large cluster: 1,000 nodes with 8 GPUs each and 10,000 waiting pods.
//!
//! `cargo run --release -p planner --example scale`, with the number of demands if not 10,000.

use std::{sync::Arc, time::Duration};

use mig::{GpuModel, Layout, ProfileIndex};
use planner::{
    Cluster, Demand, Eligibilities, Eligibility, Gpu, Instance, Node, Outcome, Planner, Usage,
    Wants,
};

const NODES: usize = 1_000;
const GPUS: usize = 8;

/// Ten different wants, as (resource, count).
const WANTS: [&[(&str, u32)]; 10] = [
    &[("nvidia.com/mig-1g.5gb", 1)],
    &[("nvidia.com/mig-2g.10gb", 1)],
    &[("nvidia.com/mig-3g.20gb", 1)],
    &[("nvidia.com/mig-4g.20gb", 1)],
    &[("nvidia.com/mig-7g.40gb", 1)],
    &[("nvidia.com/mig-1g.5gb", 2)],
    &[("nvidia.com/mig-1g.5gb", 1), ("nvidia.com/mig-3g.20gb", 1)],
    &[("cdmo.clear.ml/fraction-0.125", 1)],
    &[("cdmo.clear.ml/fraction-0.250", 2)],
    &[("cdmo.clear.ml/fraction-0.500", 1)],
];

const MIX: [&str; 4] = [
    "NVIDIA A100-SXM4-40GB",
    "NVIDIA A30",
    "NVIDIA A100-SXM4-80GB",
    "NVIDIA H100 80GB HBM3",
];

#[derive(Clone, Copy, Debug)]
enum Fill {
    Empty,
    /// A third held, a third idle, a third free, at random.
    Half,
    /// Held, but for one GPU in a thousand.
    Full,
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % below
    }
}

fn gpu(model: &Arc<GpuModel>, fill: Fill, dice: &mut Dice) -> Gpu {
    let mut instances = Vec::new();
    let mut layout = Layout::default();
    let mut left = 0;
    let empty = match fill {
        Fill::Empty => true,
        Fill::Half => false,
        Fill::Full => dice.roll(1000) == 0,
    };
    for _ in 0..if empty { 0 } else { 40 } {
        let profile = ProfileIndex(u8::try_from(dice.roll(model.profiles.len())).unwrap_or(0));
        let free: Vec<_> = layout.free_placements(model, profile).collect();
        if free.is_empty() {
            continue;
        }
        let placement = free[dice.roll(free.len())];
        let usage = match fill {
            Fill::Half => [Usage::Held, Usage::Idle, Usage::Leaving][dice.roll(3)],
            Fill::Empty | Fill::Full => Usage::Held,
        };
        if layout.place(model, profile, placement).is_err() || usage == Usage::Leaving {
            continue;
        }
        left += 1;
        instances.push(Instance {
            gi_id: left,
            profile,
            placement,
            resource: model
                .profile(profile)
                .map(|p| p.name.resource_name().into()),
            usage,
            since: 0,
        });
    }
    Gpu {
        uuid: "GPU-12345678-1234-1234-1234-123456789abc".to_owned(),
        version: 1,
        model: Arc::clone(model),
        changeable: true,
        busy: false,
        instances,
    }
}

fn node(number: usize, models: &[Arc<GpuModel>], fill: Fill, dice: &mut Dice) -> Node {
    let model = &models[number % models.len()];
    Node {
        name: format!("node-{number:04}"),
        gpus: (0..GPUS).map(|_| gpu(model, fill, dice)).collect(),
        ..Node::default()
    }
}

fn cluster(products: &[&str], fill: Fill, dice: &mut Dice) -> Cluster {
    let models: Vec<_> = products
        .iter()
        .filter_map(|product| GpuModel::known(product))
        .map(Arc::new)
        .collect();
    Cluster {
        nodes: (0..NODES)
            .map(|number| node(number, &models, fill, dice))
            .collect(),
    }
}

fn demands(count: usize, vectors: usize, dice: &mut Dice) -> Vec<Demand> {
    let allowed = |vector: usize, node: usize| {
        if vector == 0 || !(node + vector).is_multiple_of(2 + vector % 7) {
            Eligibility::Allowed
        } else {
            Eligibility::Excluded("the pod's node selector does not match".into())
        }
    };
    let vectors: Vec<Arc<Eligibilities>> = (0..vectors)
        .map(|vector| Arc::new((0..NODES).map(|node| allowed(vector, node)).collect()))
        .collect();
    let named = |wants: &&[(&str, u32)]| -> Arc<Wants> {
        let all = wants.iter().map(|(r, n)| ((*r).to_owned(), *n));
        Arc::new(all.collect())
    };
    let wants: Vec<_> = WANTS.iter().map(named).collect();
    (0..count)
        .map(|number| Demand {
            id: String::new(),
            priority: 0,
            created: i64::try_from(number).unwrap_or(0),
            window: None,
            group: None,
            wants: Arc::clone(&wants[dice.roll(wants.len())]),
            nodes: Arc::clone(&vectors[dice.roll(vectors.len())]),
        })
        .collect()
}

fn summary(outcomes: &[Outcome]) -> String {
    let count = |of: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| of(outcome)).count();
    format!(
        "{} covered, {} planned, {} wait, {} refused",
        count(|o| matches!(o, Outcome::Covered { .. })),
        count(|o| matches!(o, Outcome::Plan(_))),
        count(|o| matches!(o, Outcome::Wait { .. })),
        count(|o| matches!(o, Outcome::Refused(_))),
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures the time that passes"
)]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = std::time::Instant::now();
    let done = work();
    (done, begin.elapsed())
}

/// Memory in use, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn measure(products: &[&str], fill: Fill, vectors: usize, count: usize) {
    let mut dice = Dice(1);
    let cluster = cluster(products, fill, &mut dice);
    let demands = demands(count, vectors, &mut dice);
    let (mut planner, build) = timed(|| Planner::from(&cluster));
    let (outcomes, first) = timed(|| planner.plan(&demands));
    let (_, again) = timed(|| planner.plan(&demands));
    // Its idle instances are gone.
    let mut node = cluster.nodes[NODES / 2].clone();
    for gpu in &mut node.gpus {
        gpu.instances
            .retain(|instance| instance.usage == Usage::Held);
    }
    let ((), change) = timed(|| planner.replace(NODES / 2, node));
    let (_, changed) = timed(|| planner.plan(&demands));
    println!(
        "{} model(s), {fill:?}, {vectors} vectors: build {build:.1?}, first {first:.1?}, again \
         {again:.1?}, changed {change:.1?} + {changed:.1?}; {}; {} MiB",
        products.len(),
        summary(&outcomes),
        resident(),
    );
}

fn main() {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok());
    for products in [&MIX[..1], &MIX] {
        for fill in [Fill::Empty, Fill::Half, Fill::Full] {
            for vectors in [1, 32, 300] {
                measure(products, fill, vectors, count.unwrap_or(10_000));
            }
        }
    }
}

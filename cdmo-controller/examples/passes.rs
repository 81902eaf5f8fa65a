//! How long decisions take on a large cluster: 1,000 nodes with 8 A100 GPUs each and 10,000 waiting pods.
//!
//! `cargo run --release -p cdmo-controller --example passes`, with the number of pods if not 10,000.

use std::{collections::BTreeMap, time::Duration};

use cdmo_controller::{
    metrics::Metrics,
    objects::{NodeLite, PodLite},
    session::{Report, Said},
    world::{Action, Clock, Config, Input, World},
};
use cdmo_proto::agent::{
    self, Holder, Instance, MigMode, ResourceState, Snapshot, instance::State,
};
use kube::runtime::watcher::Event;
use mig::{GpuModel, Layout, ProfileIndex};
use prometheus::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

const NODES: usize = 1_000;
const GPUS: usize = 8;
const PRODUCT: &str = "NVIDIA A100-SXM4-40GB";

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

#[derive(Clone, Copy, Debug)]
enum Fill {
    Empty,
    /// A third held, a third idle, a third free, at random.
    Half,
    /// Held.
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

fn from<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    Ok(serde_json::from_value(value)?)
}

fn wire_model(model: &GpuModel) -> agent::Model {
    let profile = |p: &mig::Profile| agent::Profile {
        name: p.name.to_string(),
        id: p.id,
        starts: p.placements.iter().map(|p| p.start.into()).collect(),
        size: p.size().into(),
        max_instances: p.max_instances.into(),
        multiprocessors: p.multiprocessors,
        memory_mib: p.memory_mib,
    };
    agent::Model {
        name: model.name.clone(),
        slices: model.slices.into(),
        profiles: model.profiles.iter().map(profile).collect(),
    }
}

fn instances(uuid: &str, model: &GpuModel, fill: Fill, dice: &mut Dice) -> Vec<Instance> {
    let mut all: Vec<Instance> = Vec::new();
    let mut layout = Layout::default();
    let tries = if matches!(fill, Fill::Empty) { 0 } else { 40 };
    for _ in 0..tries {
        let profile = ProfileIndex(u8::try_from(dice.roll(model.profiles.len())).unwrap_or(0));
        let free: Vec<_> = layout.free_placements(model, profile).collect();
        if free.is_empty() {
            continue;
        }
        let placement = free[dice.roll(free.len())];
        let state = match fill {
            Fill::Half => [State::Held, State::Idle, State::Unspecified][dice.roll(3)],
            Fill::Empty | Fill::Full => State::Held,
        };
        let Some(named) = model.profile(profile) else {
            continue;
        };
        if layout.place(model, profile, placement).is_err() || state == State::Unspecified {
            continue;
        }
        let id = format!("{uuid}-{}", placement.start);
        let holder = Holder {
            namespace: "team".into(),
            pod: format!("runs-{id}"),
            ..Holder::default()
        };
        let is_held = state == State::Held;
        all.push(Instance {
            gpu_instance_id: u32::try_from(all.len()).unwrap_or(0) + 1,
            profile: named.name.to_string(),
            start: placement.start.into(),
            size: placement.size.into(),
            device_id: format!("MIG-{id}"),
            resource: named.name.resource_name(),
            state: state.into(),
            holders: is_held.then_some(holder).into_iter().collect(),
            ..Instance::default()
        });
    }
    all
}

fn snapshot(name: &str, model: &GpuModel, fill: Fill, dice: &mut Dice) -> Snapshot {
    let gpus: Vec<_> = (0..GPUS)
        .map(|n| {
            let uuid = format!("GPU-12345678-1234-1234-1234-{name}-{n}");
            agent::Gpu {
                index: u32::try_from(n).unwrap_or(0),
                mig_mode: MigMode::On.into(),
                state_version: 1,
                name: PRODUCT.into(),
                instances: instances(&uuid, model, fill, dice),
                uuid,
                ..agent::Gpu::default()
            }
        })
        .collect();
    let mut resources: BTreeMap<String, ResourceState> = BTreeMap::new();
    for instance in gpus.iter().flat_map(|gpu| &gpu.instances) {
        let state = resources.entry(instance.resource.clone()).or_default();
        state.resource.clone_from(&instance.resource);
        state.capacity += 1;
        state.allocatable += 1;
    }
    Snapshot {
        models: vec![wire_model(model)],
        gpus,
        resources: resources.into_values().collect(),
        ..Snapshot::default()
    }
}

fn node(number: usize, name: &str, snapshot: &Snapshot, version: u32) -> Value {
    let mut counts = json!({"cpu": "256", "memory": "1Ti", "pods": "500"});
    for state in &snapshot.resources {
        counts[&state.resource] = json!(state.allocatable.to_string());
    }
    json!({
        "metadata": {"name": name, "resourceVersion": version.to_string(), "labels": {
            "cdmo.clear.ml/gpu-partitioning": "mig", "zone": (number % 8).to_string(),
        }},
        "status": {"capacity": counts, "allocatable": counts},
    })
}

fn pod(number: usize, kind: usize, dice: &mut Dice) -> Value {
    let mut limits: BTreeMap<&str, String> = WANTS[dice.roll(WANTS.len())]
        .iter()
        .map(|(r, n)| (*r, n.to_string()))
        .collect();
    limits.insert("cpu", format!("{}m", 100 + kind / 8));
    let zone = (kind % 8).to_string();
    let selector = if kind.is_multiple_of(8) {
        json!({})
    } else {
        json!({"zone": zone})
    };
    json!({
        "metadata": {"namespace": "team", "name": format!("pod-{number:05}"),
            "uid": format!("12345678-1234-1234-1234-{number:012}")},
        "spec": {"nodeSelector": selector,
            "containers": [{"name": "main", "resources": {"limits": limits}}]},
        "status": {"phase": "Pending"},
    })
}

fn agent_pod(node: &str) -> Value {
    json!({
        "metadata": {"namespace": "cdmo-operator", "name": format!("agent-{node}"),
            "uid": format!("agent-{node}")},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    })
}

/// Memory in use, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let done = work();
    (done, begin.elapsed())
}

struct Run {
    world: World,
    now: Instant,
    serials: BTreeMap<String, u64>,
    snapshots: Vec<(String, Snapshot)>,
}

impl Run {
    fn new(fill: Fill) -> anyhow::Result<Self> {
        let now = Instant::now();
        let config = Config {
            namespace: "cdmo-operator".into(),
            agent_port_name: "grpc".into(),
            plan_prefix: "1".into(),
            settle: Duration::from_millis(100),
            status_patch: true,
            pod_annotation: true,
            name_holders: true,
            turn_mig_on: true,
            idle: planner::Idle::Offered,
            portfolio: true,
            window_after: Some(Duration::from_mins(5)),
            started: 1_800_000_000,
        };
        let metrics = Metrics::new(&Registry::new())?;
        let Some(model) = GpuModel::known(PRODUCT) else {
            anyhow::bail!("the model is not known");
        };
        let mut dice = Dice(1);
        let snapshots = (0..NODES)
            .map(|number| {
                let name = format!("node-{number:04}");
                let snapshot = snapshot(&name, &model, fill, &mut dice);
                (name, snapshot)
            })
            .collect();
        Ok(Self {
            world: World::new(config, metrics, now),
            now,
            serials: BTreeMap::new(),
            snapshots,
        })
    }

    fn apply(&mut self, input: Input) {
        self.world.apply(input, self.now);
    }

    fn list(&mut self, pods: usize, kinds: usize) -> anyhow::Result<()> {
        let mut dice = Dice(2);
        self.apply(Input::Node(Box::new(Event::Init)));
        for (number, (name, snapshot)) in self.snapshots.clone().iter().enumerate() {
            let node: NodeLite = from(node(number, name, snapshot, 1))?;
            self.apply(Input::Node(Box::new(Event::InitApply(node))));
        }
        self.apply(Input::Node(Box::new(Event::InitDone)));
        self.apply(Input::Pod(Box::new(Event::Init)));
        for number in 0..pods {
            let pod: PodLite = from(pod(number, dice.roll(kinds), &mut dice))?;
            self.apply(Input::Pod(Box::new(Event::InitApply(pod))));
        }
        self.apply(Input::Pod(Box::new(Event::InitDone)));
        self.apply(Input::AgentPod(Box::new(Event::Init)));
        for (name, _) in self.snapshots.clone() {
            let pod: PodLite = from(agent_pod(&name))?;
            self.apply(Input::AgentPod(Box::new(Event::InitApply(pod))));
        }
        self.apply(Input::AgentPod(Box::new(Event::InitDone)));
        for action in self.world.decide(self.now) {
            if let Action::Connect { node, serial, .. } = action {
                self.serials.insert(node, serial);
            }
        }
        for at in 0..self.snapshots.len() {
            self.report(at, Said::Up);
            self.tell(at);
        }
        Ok(())
    }

    fn report(&mut self, at: usize, said: Said) {
        let node = self.snapshots[at].0.clone();
        let serial = self.serials.get(&node).copied().unwrap_or(0);
        self.apply(Input::Report(Report { node, serial, said }));
    }

    fn tell(&mut self, at: usize) {
        let snapshot = self.snapshots[at].1.clone();
        self.report(at, Said::Snapshot(snapshot));
    }

    /// Tends the nodes, then makes a pass; returns how long each took and what is to be done.
    fn decide(&mut self) -> (Duration, Duration, usize) {
        let (first, tending) = timed(|| self.world.decide(self.now));
        self.now += Duration::from_millis(300);
        let (then, pass) = timed(|| self.world.decide(self.now));
        (tending, pass, first.len() + then.len())
    }
}

fn measure(fill: Fill, pods: usize, kinds: usize) -> anyhow::Result<()> {
    let mut run = Run::new(fill)?;
    run.list(pods, kinds)?;
    let (tending, pass, actions) = run.decide();
    println!("{fill:?}, {kinds} kinds of constraints, {} MiB", resident());
    println!("  first: tending {tending:.1?}, pass {pass:.1?}, {actions} actions");
    // Another node has a device less to give each time.
    for at in [500, 501] {
        for gpu in &mut run.snapshots[at].1.gpus {
            gpu.state_version += 100;
            gpu.instances.truncate(2);
        }
        run.tell(at);
        let (tending, pass, actions) = run.decide();
        println!("  one node changed: tending {tending:.1?}, pass {pass:.1?}, {actions} actions");
    }
    for at in 0..NODES {
        run.tell(at);
    }
    let (tending, pass, actions) = run.decide();
    println!("  all nodes reported: tending {tending:.1?}, pass {pass:.1?}, {actions} actions");
    // Pods are told why they wait, and somebody looks at them all.
    run.now += Duration::from_secs(2);
    let (told, telling) = timed(|| run.world.decide(run.now));
    let told = told
        .iter()
        .filter(|action| matches!(action, Action::Publish(_)));
    println!("  telling {} pods: {telling:.1?}", told.count());
    let clock = Clock {
        now: run.now,
        ..Clock::now()
    };
    for _ in 0..2 {
        let (report, took) = timed(|| run.world.report("measured", Some(&[]), clock));
        println!("  telling of {} pods: {took:.1?}", report.waiting.len());
    }
    println!("  {} MiB", resident());
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok());
    for fill in [Fill::Empty, Fill::Half, Fill::Full] {
        for kinds in [1, 32, 300] {
            measure(fill, count.unwrap_or(10_000), kinds)?;
        }
    }
    Ok(())
}

//! A thousand pods come and go over twenty nodes of mixed models.
//!
//! No device is held twice, nothing in use is touched, no pod fails, every one runs, and in the end
//! kubelets, API and drivers agree. The time limit is generous; it is no measure of speed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use scenarios::{NodeSpec, Outcome, Pod, Spec, System, Verdict, scenario};
use simcluster::store::{Change, Kind, object};

const PODS: usize = 1000;
/// Pods that are there at one time.
const AT_ONCE: usize = 100;
/// Not a goal: a machine under load may take long.
const PATIENCE: Duration = Duration::from_mins(25);

/// What one pod asks for.
type Ask = [(&'static str, u32)];

const EIGHTH: &str = "cdmo.clear.ml/fraction-0.125";
const QUARTER: &str = "cdmo.clear.ml/fraction-0.250";
const HALF: &str = "cdmo.clear.ml/fraction-0.500";

/// Models, and the demands that each can serve; many small ones, few large ones. Fractions can go
/// anywhere.
const MODELS: [(&str, &[&Ask]); 3] = [
    (
        "A100-40GB:2",
        &[
            &[("1g.5gb", 1)],
            &[("1g.5gb", 1)],
            &[("2g.10gb", 1)],
            &[("3g.20gb", 1)],
            &[("1g.10gb", 1)],
            &[("1g.5gb+me", 1)],
            &[("1g.5gb", 2), ("2g.10gb", 1)],
            &[("4g.20gb", 1)],
            &[("3g.20gb", 2)],
            &[("7g.40gb", 1)],
            &[(HALF, 1)],
            &[(EIGHTH, 2), (QUARTER, 1)],
        ],
    ),
    (
        "H100-80GB:2",
        &[
            &[("1g.10gb", 1)],
            &[("2g.20gb", 1)],
            &[("3g.40gb", 1)],
            &[("1g.20gb", 1), ("1g.10gb", 1)],
            &[("7g.80gb", 1)],
            &[(HALF, 1)],
        ],
    ),
    (
        "A30:2",
        &[
            &[("1g.6gb", 1)],
            &[("2g.12gb", 1)],
            &[("1g.6gb", 2)],
            &[("4g.24gb", 1)],
            &[(QUARTER, 1)],
        ],
    ),
];

/// The numbers of a fixed sequence without pattern (Knuth's linear congruential generator), so that
/// every run has the same pods.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }
}

/// How a pod leaves.
#[derive(Clone, Copy, PartialEq)]
enum Leaving {
    /// It ends by itself.
    Ends,
    /// It is deleted as soon as it runs.
    Deleted,
}

fn pod(number: usize, dice: &mut Dice) -> (String, Pod, Leaving) {
    let (_, demands) = MODELS[[0, 0, 1, 2][dice.below(4)]];
    let name = format!("p{number:04}");
    let mut pod = Pod::new(&name).asks(demands[dice.below(demands.len())]);
    let leaving = if dice.below(4) == 0 {
        Leaving::Deleted
    } else {
        Leaving::Ends
    };
    if leaving == Leaving::Ends {
        let milliseconds = [50, 200, 500, 1000][dice.below(4)];
        pod = pod.runs_for(milliseconds);
    }
    (name, pod, leaving)
}

async fn come_and_go(system: &System) -> Outcome {
    let mut dice = Dice(1);
    let mut coming = (0..PODS)
        .map(|number| pod(number, &mut dice))
        .collect::<Vec<_>>()
        .into_iter();
    let (_, mut watch) = system.store().list_and_watch(Kind::Pod);
    let mut here: BTreeMap<String, Leaving> = BTreeMap::new();
    loop {
        while here.len() < AT_ONCE
            && let Some((name, pod, leaving)) = coming.next()
        {
            system.create(&pod)?;
            here.insert(name, leaving);
        }
        if here.is_empty() {
            return Ok(());
        }
        let event = watch.next().await.context("the test lost track of pods")?;
        let name = object::name(&event.object);
        let Some(leaving) = here.get(name).copied() else {
            continue;
        };
        if event.change == Change::Deleted {
            here.remove(name);
            continue;
        }
        let over = match object::text(&event.object, "/status/phase") {
            "Running" => leaving == Leaving::Deleted,
            "Succeeded" => true,
            "Failed" if !object::is_deleting(&event.object) => anyhow::bail!("pod {name} failed"),
            _ => false,
        };
        if over && !object::is_deleting(&event.object) && system.pod(name).is_some() {
            system.delete(name)?;
        }
    }
}

#[test]
fn a_thousand_pods_come_and_go_over_twenty_nodes() -> Verdict {
    let nodes = (0..20).map(|number| {
        let (gpus, _) = MODELS[[0, 0, 1, 2][number % 4]];
        NodeSpec::new(&format!("n{number:02}"), gpus)
    });
    // All of it shares a few cores, so that the scheduler, too, sees a node's new status late.
    let spec = nodes
        .fold(Spec::new(), Spec::node)
        .controller_arg("--settle-ms=1000");
    scenario(spec, async |system| {
        tokio::time::timeout(PATIENCE, come_and_go(system))
            .await
            .with_context(|| format!("not all pods ran within {PATIENCE:?}"))??;
        let fates = system.watcher().fates();
        let ran = fates
            .values()
            .filter(|fate| fate.name.starts_with("default/") && fate.ran);
        ensure!(ran.count() == PODS, "not all pods ran");
        ensure!(system.watcher().moments() > 100, "nobody looked");
        system.consistent().await
    })
}

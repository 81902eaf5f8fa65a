use std::collections::BTreeMap;

use super::*;

const HALF: &str = "cdmo.clear.ml/fraction-0.500";

/// Numbers without a pattern, the same each time.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// A resource of A100-40GB: `percent` of 7g, 4g, 3g, 2g, 1g with double memory, 1g.
    pub(crate) fn resource(&mut self, percent: [u64; 6]) -> &'static str {
        let all = [
            "nvidia.com/mig-7g.40gb",
            "nvidia.com/mig-4g.20gb",
            "nvidia.com/mig-3g.20gb",
            "nvidia.com/mig-2g.10gb",
            "nvidia.com/mig-1g.10gb",
            "nvidia.com/mig-1g.5gb",
        ];
        let mut drawn = self.below(percent.iter().sum());
        for (part, name) in percent.into_iter().zip(all) {
            if drawn < part {
                return name;
            }
            drawn -= part;
        }
        all[5]
    }
}

fn model(product: &str) -> Arc<GpuModel> {
    Arc::new(GpuModel::known(product).unwrap())
}

fn key(name: &str) -> PodKey {
    PodKey::new("ns", name)
}

fn row(uid: &str, resource: &str) -> PodRow {
    PodRow {
        group: None,
        succeeded: false,
        uid: uid.to_owned(),
        node: None,
        terminal: false,
        deleting: false,
        gated: false,
        gate: None,
        priority: 0,
        age: 0,
        started: 0,
        wants: BTreeMap::from([(resource.to_owned(), 1)]).into(),
        containers: Arc::default(),
        constraints: Arc::default(),
    }
}

fn bound(uid: &str, resource: &str) -> PodRow {
    PodRow {
        node: Some("n".into()),
        ..row(uid, resource)
    }
}

fn with_gpus(product: &str, count: usize) -> Arrivals {
    let mut arrivals = Arrivals::with_window(512);
    let model = model(product);
    assert!(arrivals.node("n", std::iter::repeat_n(&model, count)));
    arrivals
}

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What becomes of a pod, one event after the other.
struct Story<'a> {
    arrivals: &'a mut Arrivals,
    key: PodKey,
    known: Option<PodRow>,
}

impl Story<'_> {
    fn then(&mut self, after: Option<PodRow>, at: u64) -> &mut Self {
        let before = self
            .known
            .as_ref()
            .map(|row| (row.uid.as_str(), Stage::of(row)));
        self.arrivals
            .heard(&self.key, before, after.as_ref(), second(at));
        self.known = after;
        self
    }
}

fn story<'a>(arrivals: &'a mut Arrivals, name: &str) -> Story<'a> {
    Story {
        arrivals,
        key: key(name),
        known: None,
    }
}

/// Pods of a mix come to eight GPUs and go, about as many as fit; the tables that decided, in their order.
fn flow(arrivals: &mut Arrivals, percent: [u64; 6], pods: u64) -> Vec<String> {
    let mut numbers = Numbers::new(1);
    let mut running: Vec<(u64, PodKey, PodRow)> = Vec::new();
    let mut tables = Vec::new();
    for number in 0..pods {
        let now = number * 1000;
        let (over, rest) = running.into_iter().partition(|(end, ..)| *end <= now);
        running = rest;
        let over: Vec<(u64, PodKey, PodRow)> = over;
        for (end, key, row) in over {
            let was = Some((row.uid.as_str(), Stage::Running));
            arrivals.heard(&key, was, None, Duration::from_millis(end));
        }
        let row = bound(&format!("u{number}"), numbers.resource(percent));
        let key = key(&format!("p{number}"));
        arrivals.heard(&key, None, Some(&row), Duration::from_millis(now));
        running.push((now + 1 + numbers.below(50_000), key, row));
        while arrivals.is_due() {
            tables.extend(
                arrivals
                    .work()
                    .filter(|news| news.switch.is_some())
                    .map(|n| n.table),
            );
        }
    }
    tables
}

#[test]
fn a_mix_on_which_the_trained_table_is_bad_changes_the_table() {
    let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 8);
    let tables = flow(&mut arrivals, [9, 9, 4, 43, 6, 29], 12_000);
    assert!(!tables.is_empty());
    let decides: Vec<_> = arrivals.tables().collect();
    assert_eq!(decides, [("7g.40gb", tables.last().unwrap().as_str())]);
}

#[test]
fn mixes_that_the_table_was_trained_on_change_nothing() {
    for percent in [
        [1, 1, 1, 1, 1, 1],
        [5, 10, 10, 20, 25, 30],
        [30, 25, 20, 10, 10, 5],
    ] {
        let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 8);
        let tables = flow(&mut arrivals, percent, 12_000);
        assert_eq!(tables, Vec::<String>::new(), "{percent:?}");
    }
}

#[test]
fn a_table_that_takes_small_pods_in_the_place_of_large_ones_does_not_take_over() {
    // More pods come than fit. By numbers of pods, MECC-lost and best fit would take over.
    for percent in [[20, 0, 40, 0, 0, 40], [15, 0, 0, 0, 20, 65]] {
        let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 8);
        let tables = flow(&mut arrivals, percent, 12_000);
        assert_eq!(tables, Vec::<String>::new(), "{percent:?}");
    }
}

#[test]
fn what_is_kept_is_bounded_however_many_pods_stay() {
    let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 8);
    for number in 0..5_000_u64 {
        let row = bound(&format!("u{number}"), "nvidia.com/mig-1g.5gb");
        let key = key(&format!("p{number}"));
        arrivals.heard(&key, None, Some(&row), second(number));
        assert!(arrivals.kept.len() <= 512 + 128);
    }
    for number in 0..5_000_u64 {
        let uid = format!("u{number}");
        let key = key(&format!("p{number}"));
        let was = Some((uid.as_str(), Stage::Running));
        arrivals.heard(&key, was, None, second(5_000 + number));
    }
    assert!(arrivals.kept.is_empty());
}

#[test]
fn kinds_and_models_are_bounded_whatever_agents_say() {
    let mut arrivals = Arrivals::default();
    for number in 0..200_u32 {
        let mut model = GpuModel::known("NVIDIA A30").unwrap();
        model.name = format!("GPU {number}");
        for profile in &mut model.profiles {
            profile.name = mig::ProfileName::new(
                profile.name.compute_slices(),
                u16::try_from(number + 1).unwrap(),
                mig::Engines::Shared,
            );
        }
        arrivals.node(&format!("n{number}"), [&Arc::new(model)].into_iter());
    }
    assert!(arrivals.kinds.len() <= MOST_KINDS && arrivals.models.len() <= MOST_MODELS);
}

#[test]
fn a_pod_comes_once_starts_once_and_ends_once() {
    let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 1);
    let name = "nvidia.com/mig-1g.5gb";
    let over = PodRow {
        terminal: true,
        ..bound("u", name)
    };
    story(&mut arrivals, "a")
        .then(Some(row("u", name)), 1)
        .then(Some(row("u", name)), 2)
        .then(Some(bound("u", name)), 3)
        .then(Some(bound("u", name)), 4);
    assert_eq!(arrivals.kept.len(), 1);
    let mut again = story(&mut arrivals, "a");
    again.known = Some(bound("u", name));
    again.then(Some(over), 5).then(None, 6);
    assert!(arrivals.kept.is_empty());
}

#[test]
fn a_pod_that_is_over_when_it_is_first_seen_or_held_back_by_others_did_not_come() {
    let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 1);
    let name = "nvidia.com/mig-1g.5gb";
    let over = PodRow {
        terminal: true,
        ..bound("u", name)
    };
    let gated = PodRow {
        gated: true,
        ..row("v", name)
    };
    story(&mut arrivals, "over")
        .then(Some(over), 1)
        .then(None, 2);
    story(&mut arrivals, "gated").then(Some(gated), 1);
    assert!(arrivals.kept.is_empty());
    let mut opened = story(&mut arrivals, "gated");
    opened.known = Some(PodRow {
        gated: true,
        ..row("v", name)
    });
    opened.then(Some(row("v", name)), 3);
    assert_eq!(arrivals.kept.len(), 1);
}

#[test]
fn a_name_that_is_used_again_is_another_pod_though_no_deletion_was_seen() {
    let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 1);
    let name = "nvidia.com/mig-1g.5gb";
    story(&mut arrivals, "a")
        .then(Some(bound("u1", name)), 1)
        .then(Some(row("u2", name)), 2);
    assert_eq!(&*arrivals.kept[&key("a")].uid, "u2");
}

#[test]
fn a_start_or_an_end_of_a_pod_that_nobody_saw_come_changes_nothing() {
    let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 1);
    let name = "nvidia.com/mig-1g.5gb";
    let mut old = story(&mut arrivals, "old");
    old.known = Some(row("u", name));
    old.then(Some(bound("u", name)), 1)
        .then(None, 2)
        .then(None, 3);
    assert!(arrivals.kept.is_empty());
}

#[test]
fn a_list_ends_the_pods_that_it_does_not_name() {
    let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 1);
    for (name, uid) in [("stays", "u1"), ("gone", "u2"), ("replaced", "u3")] {
        story(&mut arrivals, name).then(Some(bound(uid, "nvidia.com/mig-1g.5gb")), 1);
    }
    arrivals.relisted(
        |key, uid| match key.name() {
            "stays" => uid == "u1",
            "replaced" => uid == "u4",
            _ => false,
        },
        second(9),
    );
    let left: Vec<_> = arrivals.kept.keys().map(PodKey::name).collect();
    assert_eq!(left, ["stays"]);
}

#[test]
fn pods_of_several_devices_or_of_whole_gpus_and_of_kinds_that_are_not_there_do_not_count() {
    let mut arrivals = with_gpus("NVIDIA A100-SXM4-40GB", 1);
    let mut two = row("u", "nvidia.com/mig-1g.5gb");
    Arc::make_mut(&mut two.wants).insert("nvidia.com/mig-1g.5gb".to_owned(), 2);
    let mut mixed = row("u", "nvidia.com/mig-1g.5gb");
    Arc::make_mut(&mut mixed.wants).insert("nvidia.com/mig-2g.10gb".to_owned(), 1);
    let others = [
        "nvidia.com/gpu",
        "nvidia.com/mig-1g.6gb",
        "nvidia.com/mig-1g.5gb.me",
    ];
    let others = others.map(|name| row("u", name));
    for (number, pod) in [two, mixed].into_iter().chain(others).enumerate() {
        story(&mut arrivals, &number.to_string()).then(Some(pod), 1);
    }
    assert!(arrivals.kept.is_empty());
    arrivals.node("n", std::iter::empty());
    story(&mut arrivals, "late").then(Some(row("u", "nvidia.com/mig-1g.5gb")), 1);
    assert!(arrivals.kept.is_empty(), "the GPU is gone");
}

#[test]
fn models_that_are_cut_alike_are_one_kind_and_fractions_are_shared_by_numbers_of_gpus() {
    let mut arrivals = Arrivals::default();
    let (a100, h100) = (
        model("NVIDIA A100-SXM4-80GB"),
        model("NVIDIA H100 80GB HBM3"),
    );
    let a30 = model("NVIDIA A30");
    arrivals.node("n", [&a100, &h100, &h100].into_iter());
    arrivals.node("m", [&a30].into_iter());
    let kinds: Vec<_> = arrivals.tables().collect();
    assert_eq!(kinds, [("7g.80gb", "ours"), ("4g.24gb", "ours")]);
    for number in 0..40 {
        story(&mut arrivals, &number.to_string()).then(Some(row("u", HALF)), number);
    }
    let of = |kind| {
        arrivals
            .kept
            .values()
            .filter(|kept| kept.kind == kind)
            .count()
    };
    assert_eq!((of(0), of(1)), (30, 10));
}

#[test]
fn windows_grow_with_the_cluster_and_do_not_shrink_for_little() {
    let mut arrivals = Arrivals::default();
    let model = model("NVIDIA A100-SXM4-40GB");
    let mut window = |gpus: usize| {
        arrivals.node("n", std::iter::repeat_n(&model, gpus));
        story(&mut arrivals, &gpus.to_string()).then(Some(row("u", HALF)), 1);
        arrivals.kinds[0].portfolio.window()
    };
    let windows = [8, 40, 20, 16, 200, 1000].map(&mut window);
    assert_eq!(windows, [1024, 4096, 4096, 1024, 8192, 8192]);
}

//! The search against brute force: it finds a plan exactly when there is one, and none costs less.

use mig::{ProfileIndex, SliceMask, fraction::exposures};
use proptest::prelude::*;

use super::*;
use crate::{
    Idle,
    cost::{self, GIVEN_UP},
    work::{Kind, Want},
    worth::Worth,
};

const PRODUCTS: [&str; 3] = [
    "NVIDIA A30",
    "NVIDIA A100-SXM4-40GB",
    "NVIDIA H100 80GB HBM3",
];
const USAGES: [Usage; 4] = [Usage::Idle, Usage::Idle, Usage::Held, Usage::Stuck];

/// A GPU with any layout in any state, each instance under any name that it may have, or none.
pub(crate) fn any_gpu() -> impl Strategy<Value = Gpu> {
    let steps = prop::collection::vec((0u8..7, 0usize..8, 0..USAGES.len(), 0usize..8), 0..7);
    (0..PRODUCTS.len(), steps, prop::bool::weighted(0.9)).prop_map(
        |(product, steps, changeable)| {
            let model = Arc::new(GpuModel::known(PRODUCTS[product]).unwrap());
            let mut layout = Layout::default();
            let mut instances = Vec::new();
            for ((profile, pick, usage, name), gi_id) in steps.into_iter().zip(1..) {
                let profile = ProfileIndex(profile);
                let free: Vec<_> = layout.free_placements(&model, profile).collect();
                let Some(&placement) = free.get(pick % free.len().max(1)) else {
                    continue;
                };
                layout.place(&model, profile, placement).unwrap();
                instances.push(Instance {
                    gi_id,
                    profile,
                    placement,
                    // Mostly the profile's own name.
                    resource: exposures(&model, profile)
                        .chain([String::new()])
                        .nth(name / 2)
                        .or_else(|| exposures(&model, profile).next())
                        .filter(|name| !name.is_empty())
                        .map(Into::into),
                    usage: USAGES[usage],
                    since: 0,
                });
            }
            Gpu {
                uuid: "GPU-0".to_owned(),
                version: 7,
                model,
                changeable,
                busy: false,
                instances,
            }
        },
    )
}

/// Wants of profiles of a model and of classes.
fn any_wants() -> impl Strategy<Value = Vec<(usize, u32)>> {
    prop::collection::btree_map(0usize..11, 1u32..3, 1..3)
        .prop_map(|picks| picks.into_iter().collect())
}

fn want(model: &GpuModel, pick: usize, count: u32) -> Option<Want> {
    let classes = mig::fraction::Class::ALL;
    let (resource, of) = if let Some(class) = classes.get(pick) {
        (class.resource_name(), Kind::Class(*class))
    } else {
        let name = model.profiles.get(pick - classes.len())?.name;
        (name.resource_name(), Kind::Profile(name))
    };
    Some(Want {
        resource: resource.into(),
        of,
        count,
    })
}

fn created() -> i64 {
    cost::missing(Idle::Offered) + cost::CREATED
}

fn exposed() -> i64 {
    cost::missing(Idle::Offered) + cost::EXPOSED
}

/// The price, and how much is changed.
type Price = (i64, u32);

/// What the best way costs, by trying everything: every set of idle instances that must go, and for each
/// need every free instance that stays and every place for a new one.
fn brute_force(gpus: &[Gpu], wants: &[Want]) -> Option<Price> {
    let idle: Vec<(usize, usize)> = gpus
        .iter()
        .enumerate()
        .flat_map(|(g, gpu)| (0..gpu.instances.len()).map(move |i| (g, i)))
        .filter(|&(g, i)| gpus[g].changeable && gpus[g].instances[i].usage == Usage::Idle)
        .collect();
    let needs: Vec<&Want> = wants
        .iter()
        .flat_map(|want| std::iter::repeat_n(want, want.count as usize))
        .collect();
    let sets = 0u32..1 << idle.len();
    let prices = sets.filter_map(|bits| {
        let goes = |at: (usize, usize)| {
            let n = idle.iter().position(|i| *i == at);
            n.is_some_and(|n| bits >> n & 1 == 1)
        };
        let mut tried = Tried::new(gpus);
        for (g, gpu) in gpus.iter().enumerate() {
            for (i, instance) in gpu.instances.iter().enumerate() {
                if goes((g, i)) {
                    continue;
                }
                let (profile, placement) = (instance.profile, instance.placement);
                tried.layouts[g]
                    .place(&gpu.model, profile, placement)
                    .unwrap();
                if instance.usage == Usage::Idle {
                    tried.free.push((g, i));
                } else {
                    tried.firm[g] = tried.firm[g].union(placement.mask());
                }
            }
        }
        let before = tried.worth(gpus);
        let (price, changes) = tried.cheapest(gpus, &needs)?;
        let gone = bits.count_ones();
        Some((i64::from(gone) * GIVEN_UP + before + price, gone + changes))
    });
    prices.min()
}

/// A state that was tried.
#[derive(Clone)]
struct Tried {
    layouts: Vec<Layout>,
    /// Slices in use by then.
    firm: Vec<SliceMask>,
    /// Idle instances that are not used yet.
    free: Vec<(usize, usize)>,
}

impl Tried {
    fn new(gpus: &[Gpu]) -> Self {
        Self {
            layouts: vec![Layout::default(); gpus.len()],
            firm: vec![SliceMask::EMPTY; gpus.len()],
            free: Vec::new(),
        }
    }

    fn worth(&self, gpus: &[Gpu]) -> i64 {
        let gpus = gpus.iter().zip(&self.firm);
        gpus.map(|(gpu, firm)| Worth::new(&gpu.model).of(*firm))
            .sum()
    }

    /// The price of the best way to serve each need by a free instance or by a new one, less what is left of
    /// the worth.
    fn cheapest(&self, gpus: &[Gpu], needs: &[&Want]) -> Option<Price> {
        let Some((need, rest)) = needs.split_first() else {
            return Some((-self.worth(gpus), 0));
        };
        let mut best = None;
        let mut consider = |rest: Option<Price>, more: i64| {
            let all = rest.map(|(price, changes)| (price + more, changes + u32::from(more > 0)));
            best = all.into_iter().chain(best).min();
        };
        for (n, &(g, i)) in self.free.iter().enumerate() {
            let (gpu, instance) = (&gpus[g], &gpus[g].instances[i]);
            let own = instance.resource.as_deref() == Some(&need.resource);
            if own || (gpu.changeable && need.profile(&gpu.model) == Some(instance.profile)) {
                let mut next = self.clone();
                next.free.remove(n);
                next.firm[g] = next.firm[g].union(instance.placement.mask());
                consider(next.cheapest(gpus, rest), if own { 0 } else { exposed() });
            }
        }
        for (g, gpu) in gpus.iter().enumerate().filter(|(_, gpu)| gpu.changeable) {
            let Some(profile) = need.profile(&gpu.model) else {
                continue;
            };
            for placement in self.layouts[g].free_placements(&gpu.model, profile) {
                let mut next = self.clone();
                next.layouts[g]
                    .place(&gpu.model, profile, placement)
                    .unwrap();
                next.firm[g] = next.firm[g].union(placement.mask());
                consider(next.cheapest(gpus, rest), created());
            }
        }
        best
    }
}

/// What the changes of a plan cost, and how many there are.
fn price_of(plan: &NodePlan) -> Price {
    let counts = plan.gpus.iter().flat_map(|gpu| {
        [
            (gpu.create.len(), created()),
            (gpu.expose.len(), exposed()),
            (gpu.give_up.len(), GIVEN_UP),
        ]
    });
    counts.fold((0, 0), |(sum, changes), (count, price)| {
        let count = u32::try_from(count).unwrap();
        (sum + i64::from(count) * price, changes + count)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_plan_is_found_exactly_when_there_is_one(
        gpus in prop::collection::vec(any_gpu(), 1..3),
        picks in any_wants(),
    ) {
        let model = Arc::clone(&gpus[0].model);
        let wants: Vec<Want> = picks
            .into_iter()
            .filter_map(|(pick, n)| want(&model, pick, n))
            .collect();
        prop_assume!(!wants.is_empty());
        let expected = brute_force(&gpus, &wants);
        let mut cluster = mk_cluster(vec![mk_node(gpus)]);
        let named: Vec<(&str, u32)> =
            wants.iter().map(|want| (&*want.resource, want.count)).collect();
        match plan_one(&cluster, &named) {
            Outcome::Covered { .. } => prop_assert_eq!(expected.map(|(_, changes)| changes), Some(0)),
            Outcome::Plan(plan) => {
                let (price, changes) = price_of(&plan);
                apply(&mut cluster, &plan);
                // Where the devices are that the demand then uses.
                let (lost, none) = brute_force(&cluster.nodes[0].gpus, &wants).unwrap();
                prop_assert_eq!(none, 0);
                prop_assert_eq!(expected, Some((price + lost, changes)));
                prop_assert_eq!(plan_one(&cluster, &named), Outcome::Covered { node: 0 });
            }
            Outcome::Refused(_) => prop_assert_eq!(expected, None),
            other => prop_assert!(false, "nothing to wait for: {:?}", other),
        }
    }

    #[test]
    fn the_same_question_gets_the_same_answer(gpus in prop::collection::vec(any_gpu(), 1..4)) {
        let cluster = mk_cluster(vec![mk_node(gpus.clone()), mk_node(gpus)]);
        let demands: Vec<_> = [
            "1g.5gb",
            "2g.10gb",
            "cdmo.clear.ml/fraction-0.500",
            "3g.20gb",
            "cdmo.clear.ml/fraction-0.125",
            "1g.10gb",
            "1g.6gb",
        ]
        .iter()
        .map(|name| mk_demand(&cluster, &[(name, 1)]))
        .collect();
        prop_assert_eq!(plan(&cluster, &demands), plan(&cluster, &demands));
    }
}

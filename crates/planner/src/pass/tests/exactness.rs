//! The search against brute force: it finds a plan exactly when there is one, and none gives up
//! fewer idle instances, makes fewer, or moves fewer to another name, in this order.

use mig::{ProfileIndex, fraction::exposures};
use proptest::prelude::*;

use super::*;
use crate::work::{Kind, Want};

const PRODUCTS: [&str; 3] = [
    "NVIDIA A30",
    "NVIDIA A100-SXM4-40GB",
    "NVIDIA H100 80GB HBM3",
];
const USAGES: [Usage; 4] = [Usage::Idle, Usage::Idle, Usage::Held, Usage::Stuck];

/// A GPU with any layout in any state, each instance under any name that it may have, or none.
pub(super) fn any_gpu() -> impl Strategy<Value = Gpu> {
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
                        .filter(|name| !name.is_empty()),
                    usage: USAGES[usage],
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
        resource,
        of,
        count,
    })
}

/// Instances made, and moved to another name.
type Price = (usize, usize);

/// Fewest idle instances that must go, with the price of the best way to do it, by trying everything.
fn brute_force(gpus: &[Gpu], wants: &[Want]) -> Option<(usize, Price)> {
    let idle: Vec<(usize, usize)> = gpus
        .iter()
        .enumerate()
        .flat_map(|(g, gpu)| (0..gpu.instances.len()).map(move |i| (g, i)))
        .filter(|&(g, i)| gpus[g].changeable && gpus[g].instances[i].usage == Usage::Idle)
        .collect();
    let mut best: Option<(usize, Price)> = None;
    let mut sets: Vec<u32> = (0..1 << idle.len()).collect();
    sets.sort_by_key(|bits| bits.count_ones());
    for bits in sets {
        let gone = bits.count_ones() as usize;
        if best.is_some_and(|(fewest, _)| gone > fewest) {
            break;
        }
        let stays = |at: (usize, usize)| {
            let n = idle.iter().position(|i| *i == at);
            n.is_none_or(|n| bits >> n & 1 == 0)
        };
        let mut layouts = vec![Layout::default(); gpus.len()];
        let mut free = Vec::new();
        for (g, gpu) in gpus.iter().enumerate() {
            for (i, instance) in gpu.instances.iter().enumerate() {
                if !stays((g, i)) {
                    continue;
                }
                layouts[g]
                    .place(&gpu.model, instance.profile, instance.placement)
                    .unwrap();
                if instance.usage == Usage::Idle {
                    free.push((g, i));
                }
            }
        }
        let needs: Vec<&Want> = wants
            .iter()
            .flat_map(|want| std::iter::repeat_n(want, want.count as usize))
            .collect();
        if let Some(price) = cheapest(gpus, &layouts, &free, &needs) {
            best = Some(best.map_or((gone, price), |known| known.min((gone, price))));
        }
    }
    best
}

/// The best way to serve each need by a free instance or by a new one.
fn cheapest(
    gpus: &[Gpu],
    layouts: &[Layout],
    free: &[(usize, usize)],
    needs: &[&Want],
) -> Option<Price> {
    let Some((need, rest)) = needs.split_first() else {
        return Some((0, 0));
    };
    let mut best: Option<Price> = None;
    let mut consider = |price: Option<Price>, made: usize, moved: usize| {
        if let Some((m, x)) = price {
            let price = (m + made, x + moved);
            best = Some(best.map_or(price, |known| known.min(price)));
        }
    };
    for (n, &(g, i)) in free.iter().enumerate() {
        let (gpu, instance) = (&gpus[g], &gpus[g].instances[i]);
        let own = instance.resource.as_ref() == Some(&need.resource);
        let alike = |&&(h, j): &&(usize, usize)| {
            let other = &gpus[h].instances[j];
            h == g && other.profile == instance.profile && other.resource == instance.resource
        };
        let fits = own || (gpu.changeable && need.profile(&gpu.model) == Some(instance.profile));
        if fits && !free[..n].iter().any(|other| alike(&other)) {
            let mut left = free.to_vec();
            left.remove(n);
            consider(cheapest(gpus, layouts, &left, rest), 0, usize::from(!own));
        }
    }
    for (g, gpu) in gpus.iter().enumerate().filter(|(_, gpu)| gpu.changeable) {
        let Some(profile) = need.profile(&gpu.model) else {
            continue;
        };
        for placement in layouts[g]
            .free_placements(&gpu.model, profile)
            .collect::<Vec<_>>()
        {
            let mut next = layouts.to_vec();
            next[g].place(&gpu.model, profile, placement).unwrap();
            consider(cheapest(gpus, &next, free, rest), 1, 0);
        }
    }
    best
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
            wants.iter().map(|want| (want.resource.as_str(), want.count)).collect();
        match plan_one(&cluster, &named) {
            Outcome::Covered { .. } => prop_assert_eq!(expected, Some((0, (0, 0)))),
            Outcome::Plan(plan) => {
                let sum = |of: fn(&crate::GpuPlan) -> usize| plan.gpus.iter().map(of).sum::<usize>();
                let price = (sum(|gpu| gpu.create.len()), sum(|gpu| gpu.expose.len()));
                prop_assert_eq!(expected, Some((sum(|gpu| gpu.give_up.len()), price)));
                apply(&mut cluster, &plan);
                prop_assert_eq!(plan_one(&cluster, &named), Outcome::Covered { node: 0 });
            }
            Outcome::Refused(_) => prop_assert_eq!(expected, None),
            other @ Outcome::Wait { .. } => prop_assert!(false, "nothing to wait for: {:?}", other),
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

//! The search against brute force: it finds a plan exactly when there is one, and none gives up
//! fewer idle instances.

use mig::{ProfileIndex, ProfileName};
use proptest::prelude::*;

use super::*;

const PRODUCTS: [&str; 3] = [
    "NVIDIA A30",
    "NVIDIA A100-SXM4-40GB",
    "NVIDIA H100 80GB HBM3",
];
const USAGES: [Usage; 4] = [Usage::Idle, Usage::Idle, Usage::Held, Usage::Stuck];

/// A GPU with any layout in any state.
fn any_gpu() -> impl Strategy<Value = Gpu> {
    let steps = prop::collection::vec((0u8..7, 0usize..8, 0..USAGES.len()), 0..7);
    (0..PRODUCTS.len(), steps, prop::bool::weighted(0.9)).prop_map(
        |(product, steps, changeable)| {
            let model = Arc::new(GpuModel::known(PRODUCTS[product]).unwrap());
            let mut layout = Layout::default();
            let mut instances = Vec::new();
            for ((profile, pick, usage), gi_id) in steps.into_iter().zip(1..) {
                let profile = ProfileIndex(profile);
                let free: Vec<_> = layout.free_placements(&model, profile).collect();
                let Some(&placement) = free.get(pick % free.len().max(1)) else {
                    continue;
                };
                layout.place(&model, profile, placement).unwrap();
                let usage = USAGES[usage];
                let resource = model.profile(profile).map(|p| p.name.resource_name());
                instances.push(Instance {
                    gi_id,
                    profile,
                    placement,
                    resource,
                    usage,
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

/// Fewest idle instances that must go, by trying everything.
fn brute_force(gpus: &[Gpu], wants: &[(ProfileName, u32)]) -> Option<usize> {
    let idle: Vec<(usize, usize)> = gpus
        .iter()
        .enumerate()
        .flat_map(|(g, gpu)| (0..gpu.instances.len()).map(move |i| (g, i)))
        .filter(|&(g, i)| gpus[g].changeable && gpus[g].instances[i].usage == Usage::Idle)
        .collect();
    let mut sets: Vec<u32> = (0..1 << idle.len()).collect();
    sets.sort_by_key(|bits| bits.count_ones());
    for bits in sets {
        let gone = |at: &(usize, usize)| {
            idle.iter()
                .zip(0..)
                .any(|(i, n)| i == at && bits >> n & 1 == 1)
        };
        let mut left = wants.to_vec();
        let mut layouts = Vec::new();
        for (g, gpu) in gpus.iter().enumerate() {
            let mut layout = Layout::default();
            let stays = gpu
                .instances
                .iter()
                .enumerate()
                .filter(|(i, _)| !gone(&(g, *i)));
            for (_, instance) in stays {
                layout
                    .place(&gpu.model, instance.profile, instance.placement)
                    .unwrap();
                let name = gpu.model.profile(instance.profile).unwrap().name;
                let serves = instance.usage == Usage::Idle;
                for want in left.iter_mut().filter(|w| serves && w.0 == name) {
                    want.1 = want.1.saturating_sub(1);
                }
            }
            layouts.push(layout);
        }
        if can_make(gpus, &layouts, &left) {
            return Some(bits.count_ones() as usize);
        }
    }
    None
}

fn can_make(gpus: &[Gpu], layouts: &[Layout], left: &[(ProfileName, u32)]) -> bool {
    let Some(n) = left.iter().position(|(_, count)| *count > 0) else {
        return true;
    };
    for (g, gpu) in gpus.iter().enumerate().filter(|(_, gpu)| gpu.changeable) {
        let Some((profile, _)) = gpu.model.find(&left[n].0) else {
            continue;
        };
        for placement in layouts[g]
            .free_placements(&gpu.model, profile)
            .collect::<Vec<_>>()
        {
            let mut next = layouts.to_vec();
            next[g].place(&gpu.model, profile, placement).unwrap();
            let mut less = left.to_vec();
            less[n].1 -= 1;
            if can_make(gpus, &next, &less) {
                return true;
            }
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_plan_is_found_exactly_when_there_is_one(
        gpus in prop::collection::vec(any_gpu(), 1..3),
        picks in prop::collection::btree_map(0usize..7, 1u32..3, 1..3),
    ) {
        let model = Arc::clone(&gpus[0].model);
        let wants: Vec<(ProfileName, u32)> = picks
            .into_iter()
            .filter_map(|(p, n)| Some((model.profiles.get(p)?.name, n)))
            .collect();
        prop_assume!(!wants.is_empty());
        let expected = brute_force(&gpus, &wants);
        let mut cluster = mk_cluster(vec![mk_node(gpus)]);
        let named: Vec<(String, u32)> =
            wants.iter().map(|(want, n)| (want.resource_name(), *n)).collect();
        let named: Vec<(&str, u32)> = named.iter().map(|(want, n)| (want.as_str(), *n)).collect();
        match plan_one(&cluster, &named) {
            Outcome::Covered { .. } => prop_assert_eq!(expected, Some(0)),
            Outcome::Plan(plan) => {
                let given_up: usize = plan.gpus.iter().map(|gpu| gpu.give_up.len()).sum();
                prop_assert_eq!(expected, Some(given_up));
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
        let demands: Vec<_> = ["1g.5gb", "2g.10gb", "3g.20gb", "1g.10gb", "1g.6gb"]
            .iter()
            .map(|name| mk_demand(&cluster, &[(name, 1)]))
            .collect();
        prop_assert_eq!(plan(&cluster, &demands), plan(&cluster, &demands));
    }
}

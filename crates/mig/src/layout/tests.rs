use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::tables::tests::PRODUCTS;

fn a100() -> GpuModel {
    GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap()
}

fn place(layout: &mut Layout, model: &GpuModel, name: &str, start: u8) -> Result<(), Conflict> {
    let (index, profile) = model.find(&name.parse().unwrap()).unwrap();
    layout.place(model, index, Placement::new(start, profile.size()))
}

fn remaining(layout: &Layout, model: &GpuModel, name: &str) -> usize {
    layout.remaining(model, model.find(&name.parse().unwrap()).unwrap().0)
}

#[test]
fn two_halves_leave_no_room_for_a_seventh_slice() {
    let (model, mut layout) = (a100(), Layout::default());
    place(&mut layout, &model, "4g.20gb", 0).unwrap();
    place(&mut layout, &model, "3g.20gb", 4).unwrap();
    for (_, profile) in model.indices() {
        assert_eq!(remaining(&layout, &model, &profile.name.to_string()), 0);
    }
}

#[test]
fn remaining_capacity_is_what_a_real_a100_counts() {
    // nvidia-smi mig -lgip on an A100-SXM4-40GB after each creation.
    let (model, mut layout) = (a100(), Layout::default());
    let names = [
        "1g.5gb",
        "1g.5gb+me",
        "1g.10gb",
        "2g.10gb",
        "3g.20gb",
        "4g.20gb",
        "7g.40gb",
    ];
    let counts = |layout: &Layout| names.map(|name| remaining(layout, &model, name));
    assert_eq!(counts(&layout), [7, 1, 4, 3, 2, 1, 1]);
    place(&mut layout, &model, "4g.20gb", 0).unwrap();
    assert_eq!(counts(&layout), [3, 1, 2, 1, 1, 0, 0]);
    place(&mut layout, &model, "2g.10gb", 4).unwrap();
    assert_eq!(counts(&layout), [1, 1, 1, 0, 0, 0, 0]);
    place(&mut layout, &model, "1g.5gb", 6).unwrap();
    assert_eq!(counts(&layout), [0; 7]);
}

#[test]
fn the_last_slice_is_out_of_reach_behind_seven_small_instances() {
    let model = a100();
    let mut layout = Layout::default();
    let all = layout.reachable(&model);
    assert!((0..8).all(|slice| all.contains(slice)) && !all.contains(8));
    for start in 0..7 {
        place(&mut layout, &model, "1g.5gb", start).unwrap();
    }
    assert!(layout.reachable(&model).is_empty());
    layout.remove(Placement::new(6, 1)).unwrap();
    let free = layout.reachable(&model);
    assert!(free.contains(6) && !free.contains(5), "{free:?}");
}

#[test]
fn every_conflict_is_told_apart() {
    let (model, mut layout) = (a100(), Layout::default());
    place(&mut layout, &model, "1g.5gb+me", 0).unwrap();
    assert_eq!(
        place(&mut layout, &model, "1g.5gb", 0),
        Err(Conflict::Occupied)
    );
    assert_eq!(
        place(&mut layout, &model, "1g.5gb", 7),
        Err(Conflict::NoSuchPlacement)
    );
    assert_eq!(
        place(&mut layout, &model, "1g.5gb+me", 1),
        Err(Conflict::TooMany)
    );
    let nonsense = layout.check(&model, ProfileIndex(200), Placement::new(0, 1));
    assert_eq!(nonsense, Err(Conflict::NoSuchProfile));

    let a30 = GpuModel::known("NVIDIA A30").unwrap();
    let mut layout = Layout::default();
    place(&mut layout, &a30, "2g.12gb+me", 0).unwrap();
    assert_eq!(
        place(&mut layout, &a30, "1g.6gb+me", 2),
        Err(Conflict::Engines)
    );
    assert_eq!(remaining(&layout, &a30, "1g.6gb+me"), 0);
    assert_eq!(remaining(&layout, &a30, "1g.6gb"), 2);
}

/// Every set of occupants that can be reached by placing alone.
fn reachable(model: &GpuModel) -> BTreeSet<Vec<Occupant>> {
    let mut seen = BTreeSet::new();
    let mut open = vec![Layout::default()];
    while let Some(layout) = open.pop() {
        let mut key = layout.occupants().to_vec();
        key.sort_unstable();
        if !seen.insert(key) {
            continue;
        }
        for (index, _) in model.indices() {
            for placement in layout.free_placements(model, index) {
                let mut next = layout.clone();
                next.place(model, index, placement).unwrap();
                open.push(next);
            }
        }
    }
    seen
}

#[test]
fn memory_slices_alone_keep_every_layout_within_the_compute_slices() {
    for (product, compute) in PRODUCTS.into_iter().zip([4, 7, 7, 7]) {
        let model = GpuModel::known(product).unwrap();
        for layout in reachable(&model) {
            let used: u32 = layout
                .iter()
                .map(|o| u32::from(model.profile(o.profile).unwrap().name.compute_slices()))
                .sum();
            assert!(used <= compute, "{product}: {layout:?}");
        }
    }
}

#[test]
fn the_number_of_layouts_is_the_published_one() {
    // 723 layouts of an 8-slice GPU without +me, 26 of an A30 (docs/design.md, Placement).
    for (product, count) in [("NVIDIA A100-SXM4-80GB", 723), ("NVIDIA A30", 26)] {
        let mut model = GpuModel::known(product).unwrap();
        model
            .profiles
            .retain(|p| p.name.engines() == crate::Engines::Shared);
        assert_eq!(reachable(&model).len(), count, "{product}");
    }
}

proptest! {
    #[test]
    fn any_order_of_placing_and_removing_keeps_masks_true(
        product in 0..PRODUCTS.len(),
        steps in prop::collection::vec((any::<bool>(), 0u8..8, 0u8..9), 0..60),
    ) {
        let model = GpuModel::known(PRODUCTS[product]).unwrap();
        let mut layout = Layout::default();
        for (add, profile, start) in steps {
            let size = model.profile(ProfileIndex(profile)).map_or(1, crate::Profile::size);
            let placement = Placement::new(start, size);
            if add {
                let allowed = layout.check(&model, ProfileIndex(profile), placement);
                prop_assert_eq!(layout.place(&model, ProfileIndex(profile), placement), allowed);
            } else {
                layout.remove(placement);
            }
            let mut union = SliceMask::EMPTY;
            for occupant in layout.occupants() {
                prop_assert!(!union.overlaps(occupant.placement.mask()));
                union = union.union(occupant.placement.mask());
            }
            prop_assert_eq!(union, layout.occupied());
        }
    }

    #[test]
    fn what_is_counted_as_remaining_can_be_placed(
        product in 0..PRODUCTS.len(),
        picks in prop::collection::vec((0u8..8, 0usize..8), 0..8),
    ) {
        let model = GpuModel::known(PRODUCTS[product]).unwrap();
        let mut layout = Layout::default();
        for (profile, pick) in picks {
            let index = ProfileIndex(profile);
            let free: Vec<_> = layout.free_placements(&model, index).collect();
            prop_assert_eq!(free.is_empty(), layout.remaining(&model, index) == 0);
            if let Some(placement) = free.get(pick.min(free.len().saturating_sub(1))) {
                prop_assert_eq!(layout.place(&model, index, *placement), Ok(()));
            }
        }
    }
}

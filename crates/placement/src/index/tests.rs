use super::*;
use crate::geometry::tests::{a30, a100, fine_twelve, rtx};
use proptest::prelude::*;

fn scrambled(geometry: &Geometry, seed: u32) -> ScoreTable {
    ScoreTable::from_fn("scrambled", geometry, |mask, id| {
        let mixed = (u32::from(mask) * 64 + u32::from(id.0) + 1).wrapping_mul(2_654_435_761) ^ seed;
        i32::try_from(mixed.wrapping_mul(40_503) >> 28).unwrap()
    })
}

proptest! {
    #[test]
    fn a_ranking_is_complete_sorted_and_names_the_best_placement(seed: u32, which in 0usize..4) {
        let geometry = [a100, a30, rtx, fine_twelve][which]();
        let table = scrambled(&geometry, seed);
        let index = Index::new(&geometry, &table).unwrap();
        for profile in geometry.profile_ids() {
            let order = index.order(profile);
            let fits = geometry.masks().filter(|m| geometry.free_of(*m, profile) != 0).count();
            prop_assert_eq!(order.len(), fits);
            for (rank, mask) in order.iter().enumerate() {
                prop_assert_eq!(usize::from(index.ranks(*mask)[profile.index()]), rank);
                let best = index.best(profile, *mask).unwrap();
                for id in placements(geometry.free_of(*mask, profile)) {
                    let better = table.score(*mask, id) > table.score(*mask, best);
                    let earlier = table.score(*mask, id) == table.score(*mask, best) && id < best;
                    prop_assert!(!better && !earlier);
                }
            }
            let key = |m: &u16| (Reverse(index.best_score(profile, *m)), Reverse(m.count_ones()), *m);
            prop_assert!(order.is_sorted_by_key(key));
        }
    }
}

#[test]
fn a_table_for_other_gpus_is_refused() {
    let table = scrambled(&a100(), 1);
    assert!(matches!(
        Index::new(&a30(), &table),
        Err(TableError::Shape { .. })
    ));
}

#[test]
fn a_full_gpu_has_no_best_placement() {
    let geometry = a100();
    let index = Index::new(&geometry, &scrambled(&geometry, 1)).unwrap();
    for profile in geometry.profile_ids() {
        assert_eq!(index.best(profile, geometry.full()), None);
        assert_eq!(index.best_score(profile, geometry.full()), INFEASIBLE);
    }
}

//! Compute-instance profiles against real listings.

use super::{best_fit, profiles};
use crate::model::board::Board;

/// Id, most instances and multiprocessors of every profile; the id of the full one.
fn rows(board: &str, profile: &str) -> (Vec<(u32, usize, u32)>, Vec<u32>) {
    let board = Board::find(board).unwrap();
    let all = profiles(board, board.by_name(profile).unwrap());
    let mut rows: Vec<_> = all
        .iter()
        .map(|each| (each.id, each.starts.len(), each.multiprocessors))
        .collect();
    rows.sort_unstable();
    (
        rows,
        all.iter()
            .filter(|each| each.full)
            .map(|each| each.id)
            .collect(),
    )
}

#[test]
fn compute_profiles_are_those_that_drivers_list() {
    let a100 = |profile| rows("A100-SXM4-40GB", profile);
    assert_eq!(a100("1g.5gb"), (vec![(0, 1, 14)], vec![0]));
    assert_eq!(a100("1g.10gb"), (vec![(0, 1, 14)], vec![0]));
    assert_eq!(a100("2g.10gb"), (vec![(0, 2, 14), (1, 1, 28)], vec![1]));
    assert_eq!(
        a100("3g.20gb"),
        (vec![(0, 3, 14), (1, 1, 28), (2, 1, 42)], vec![2])
    );
    assert_eq!(
        a100("4g.20gb"),
        (vec![(0, 4, 14), (1, 2, 28), (3, 1, 56)], vec![3])
    );
    assert_eq!(
        a100("7g.40gb"),
        (
            vec![(0, 7, 14), (1, 3, 28), (2, 2, 42), (3, 1, 56), (4, 1, 98)],
            vec![4]
        )
    );
    assert_eq!(
        rows("A30", "2g.12gb"),
        (vec![(0, 2, 14), (1, 1, 28)], vec![1])
    );
    assert_eq!(
        rows("RTX-PRO-6000", "2g.48gb"),
        (vec![(0, 2, 46), (1, 1, 94)], vec![1])
    );
    let h100 = |profile| rows("H100-80GB-HBM3", profile);
    assert_eq!(h100("1g.10gb"), (vec![(0, 1, 16)], vec![0]));
    assert_eq!(
        h100("2g.20gb"),
        (vec![(0, 2, 16), (1, 1, 32), (7, 1, 26)], vec![1])
    );
    assert_eq!(
        h100("3g.40gb"),
        (vec![(0, 3, 16), (1, 1, 32), (2, 1, 60)], vec![2])
    );
}

#[test]
fn a_double_memory_slice_of_hopper_is_full_with_profile_7_only() {
    for (board, profile) in [("H100-80GB-HBM3", "1g.20gb"), ("H200", "1g.35gb")] {
        assert_eq!(
            rows(board, profile),
            (vec![(0, 1, 16), (7, 1, 26)], vec![7])
        );
    }
}

#[test]
fn every_profile_of_every_board_has_one_full_compute_profile() {
    for board in crate::model::board::BOARDS {
        for profile in board.profiles {
            let full: Vec<_> = profiles(board, profile)
                .into_iter()
                .filter(|each| each.full)
                .collect();
            assert_eq!(full.len(), 1, "{} {}", board.key, profile.name);
            assert_eq!(full[0].multiprocessors, profile.multiprocessors);
        }
    }
}

#[test]
fn the_first_single_slice_spares_the_room_of_the_double_one() {
    let board = Board::find("H100-80GB-HBM3").unwrap();
    let first = |profile| {
        let all = profiles(board, board.by_name(profile).unwrap());
        best_fit(&all[0], &all, &[])
    };
    assert_eq!(first("3g.40gb"), Some(2));
    let a100 = Board::find("A100-SXM4-40GB").unwrap();
    let all = profiles(a100, a100.by_name("2g.10gb").unwrap());
    assert_eq!(best_fit(&all[0], &all, &[]), Some(0));
    assert_eq!(best_fit(&all[0], &all, &[(0, 1)]), Some(1));
}

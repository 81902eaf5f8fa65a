//! The picker against sequences and capacity tables that were seen on real machines.

use crate::model::board::Board;
use crate::model::grid::Placement;

/// A GPU on which instances of plain profiles are created without a placement.
struct Trial {
    board: &'static Board,
    fused: u32,
}

fn plain() -> Trial {
    Trial {
        board: Board::find("H100-80GB-HBM3").unwrap(),
        fused: 7,
    }
}

fn flipped() -> Trial {
    Trial {
        board: Board::find("A100-SXM4-40GB").unwrap(),
        fused: 3,
    }
}

fn a30() -> Trial {
    Trial {
        board: Board::find("A30").unwrap(),
        fused: 7,
    }
}

/// NVML's profile enum of a short name.
fn index(name: &str) -> u32 {
    match name {
        "1g" => 0,
        "2g" => 1,
        "3g" => 2,
        "4g" => 3,
        "7g" => 4,
        "1g2" => 9,
        other => panic!("{other}"),
    }
}

impl Trial {
    fn ids(&self, sequence: &str) -> Vec<Option<u32>> {
        let grid = self.board.grid(self.fused);
        let mut used = Vec::new();
        sequence
            .split_whitespace()
            .map(|name| {
                let shape = self.board.by_index(index(name)).unwrap().shape;
                let id = grid.best_fit(&used, shape, &self.board.shapes());
                used.extend(id);
                id
            })
            .collect()
    }

    fn room(&self, used: &[u32]) -> [usize; 6] {
        let grid = self.board.grid(self.fused);
        ["1g", "1g2", "2g", "3g", "4g", "7g"]
            .map(|name| grid.room(used, self.board.by_index(index(name)).unwrap().shape))
    }
}

#[test]
fn instances_come_where_real_machines_put_them() {
    let seen: [(Trial, &str, &[u32]); 20] = [
        (plain(), "1g 1g 1g 1g 1g 1g 1g", &[13, 11, 12, 7, 8, 9, 10]),
        (plain(), "1g 1g 2g 3g", &[13, 11, 3]),
        (plain(), "3g 1g 2g 1g", &[2, 7, 4, 8]),
        (plain(), "2g 1g 1g 1g 1g 1g", &[5, 13, 7, 8, 9, 10]),
        (plain(), "1g 2g 4g", &[13, 5, 1]),
        (plain(), "2g 2g 2g 1g", &[5, 3, 4, 13]),
        (plain(), "3g 2g 1g", &[2, 3, 9]),
        (plain(), "3g", &[2]),
        (plain(), "1g2", &[6]),
        (flipped(), "3g 4g", &[1, 2]),
        (
            flipped(),
            "1g 1g 1g 1g 1g 1g 1g",
            &[9, 7, 8, 11, 12, 13, 14],
        ),
        (flipped(), "2g 2g 1g", &[3, 5, 9]),
        (flipped(), "3g 2g 1g", &[1, 5, 13]),
        (a30(), "1g", &[3]),
        (a30(), "1g 1g 2g", &[3, 4, 2]),
        (flipped(), "4g 2g 1g", &[2, 3, 9]),
        (plain(), "1g 1g", &[13, 11]),
        (plain(), "1g 3g 1g", &[13, 1, 11]),
        (flipped(), "4g", &[2]),
        (plain(), "3g 3g", &[2, 1]),
    ];
    for (trial, sequence, ids) in seen {
        let mut expected: Vec<_> = ids.iter().copied().map(Some).collect();
        // The driver's own choices can leave no room for what would have fitted.
        expected.resize(sequence.split_whitespace().count(), None);
        assert_eq!(trial.ids(sequence), expected, "{sequence}");
    }
}

#[test]
fn capacity_is_what_real_machines_print() {
    let seen: [(Trial, &[u32], [usize; 6]); 5] = [
        (plain(), &[13, 11], [5, 2, 2, 1, 1, 0]),
        (plain(), &[13, 1, 11], [1, 0, 0, 0, 0, 0]),
        (flipped(), &[2], [3, 2, 1, 1, 0, 0]),
        (flipped(), &[2, 3], [1, 1, 0, 0, 0, 0]),
        (flipped(), &[2, 3, 9], [0, 0, 0, 0, 0, 0]),
    ];
    for (trial, used, expected) in seen {
        assert_eq!(trial.room(used), expected, "{used:?}");
    }
}

#[test]
fn two_halves_leave_nothing_although_a_compute_slice_is_idle() {
    assert_eq!(plain().room(&[2, 1]), [0; 6]);
}

#[test]
fn ids_and_placements_are_related_per_board() {
    let starts = |fused| {
        let grid = plain().board.grid(fused);
        (1..=14)
            .map(|id| grid.placement(id).start)
            .collect::<Vec<_>>()
    };
    assert_eq!(starts(7), [0, 4, 0, 2, 4, 6, 0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(starts(3), [4, 0, 4, 6, 0, 2, 4, 5, 6, 7, 0, 1, 2, 3]);
}

/// Starts and size of every profile id of a board, as `nvidia-smi mig -lgipp` shows them.
fn placements(board: &str, fused: u32, id: u32) -> (Vec<u32>, u32) {
    let board = Board::find(board).unwrap();
    let grid = board.grid(fused);
    let shape = board.by_id(id).unwrap().shape;
    let mut places: Vec<Placement> = grid
        .candidates(shape)
        .map(|id| grid.placement(id))
        .collect();
    places.sort();
    (
        places.iter().map(|place| place.start).collect(),
        places[0].size,
    )
}

#[test]
fn possible_placements_are_those_that_drivers_list() {
    for fused in 0..8 {
        let of = |id| placements("A100-SXM4-80GB", fused, id);
        assert_eq!(of(19), (vec![0, 1, 2, 3, 4, 5, 6], 1));
        assert_eq!(of(20), (vec![0, 1, 2, 3, 4, 5, 6], 1));
        assert_eq!(of(15), (vec![0, 2, 4, 6], 2));
        assert_eq!(of(14), (vec![0, 2, 4], 2));
        assert_eq!(of(9), (vec![0, 4], 4));
        assert_eq!(of(5), (vec![0], 4));
        assert_eq!(of(0), (vec![0], 8));
    }
    for id in [14, 21] {
        assert_eq!(placements("A30", 7, id), (vec![0, 1, 2, 3], 1));
    }
    for id in [5, 6] {
        assert_eq!(placements("A30", 7, id), (vec![0, 2], 2));
    }
    assert_eq!(placements("A30", 7, 0), (vec![0], 4));
    for id in [14, 21, 47, 65, 67] {
        assert_eq!(placements("RTX-PRO-6000", 7, id), (vec![0, 3, 6, 9], 3));
    }
    for id in [5, 35, 64, 66] {
        assert_eq!(placements("RTX-PRO-6000", 7, id), (vec![0, 6], 6));
    }
    for id in [0, 32] {
        assert_eq!(placements("RTX-PRO-6000", 7, id), (vec![0], 12));
    }
}

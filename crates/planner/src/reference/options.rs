//! All that one GPU could do for a demand.
//!
//! For every set of idle instances that could be given up, every way to use those that stay, under
//! their own names or others, and every set of wanted instances that then fits. A GPU is small (723
//! layouts at most on 8 slices), so this is enumerated; equal GPUs share the result.

use std::collections::BTreeMap;

use mig::{GpuModel, Layout, Placement, ProfileIndex, SliceMask};

use super::work::Board;
use crate::{cost::Changes, options::Choice, state::Idle, work::Want, worth::Worth};

/// For each count of devices served, by want, the cheapest choice.
pub(crate) type Options = BTreeMap<Vec<u32>, Choice>;

/// Everything that the GPU could do for these wants, cheapest first per outcome.
pub(crate) fn options(board: &Board, model: &GpuModel, wants: &[Want]) -> Options {
    let mut found = Options::new();
    let worth = Worth::new(model);
    let profiles: Vec<_> = wants.iter().map(|want| want.profile(model)).collect();
    for subset in give_up_sets(board) {
        let layout = standing(board, model, &subset);
        for used in reused(board, &profiles, wants, &subset) {
            let mut search = Search {
                model,
                wants,
                profiles: &profiles,
                worth: &worth,
                before: worth.of(firm(board, |_| false)),
                give_up: &subset,
                firm: firm(board, |index| used.uses(index)),
                used: &used,
                found: &mut found,
            };
            let served = &used.served;
            search.extend(&layout, served, &mut Vec::new(), 0, 0, board.changeable);
        }
    }
    found
}

/// Slices that are in use once some idle instances are used.
fn firm(board: &Board, uses: impl Fn(usize) -> bool) -> SliceMask {
    let mut mask = board.firm.occupied();
    for (index, idle) in board.idle.iter().enumerate() {
        if idle.arriving || uses(index) {
            mask = mask.union(idle.placement.mask());
        }
    }
    mask
}

/// Sets of idle instances that may be given up, by index; the empty one first.
fn give_up_sets(board: &Board) -> impl Iterator<Item = Vec<usize>> {
    let candidates: Vec<usize> = board
        .idle
        .iter()
        .enumerate()
        .filter(|(_, idle)| board.changeable && !idle.arriving)
        .map(|(index, _)| index)
        .collect();
    // At most one instance per slice, so the shift cannot overflow.
    (0u32..1 << candidates.len()).map(move |bits| {
        candidates
            .iter()
            .enumerate()
            .filter(|(n, _)| bits >> n & 1 == 1)
            .map(|(_, c)| *c)
            .collect()
    })
}

/// The layout once the given indices of [`Board::idle`] are gone.
fn standing(board: &Board, model: &GpuModel, gone: &[usize]) -> Layout {
    let mut layout = board.firm.clone();
    for (index, idle) in board.idle.iter().enumerate() {
        if !gone.contains(&index) {
            // What stands was accepted by the driver. If our model of it disagrees (two instances
            // in one place) the slices are taken all the same.
            let _ = layout.place(model, idle.profile, idle.placement);
        }
    }
    layout
}

/// Idle instances that are used.
#[derive(Clone, Default)]
struct Used {
    served: Vec<u32>,
    own: Vec<usize>,
    moved: Vec<(usize, usize)>,
}

impl Used {
    fn uses(&self, index: usize) -> bool {
        self.own.contains(&index) || self.moved.iter().any(|moved| moved.0 == index)
    }
}

/// Every way to use idle instances that stay.
fn reused(
    board: &Board,
    profiles: &[Option<ProfileIndex>],
    wants: &[Want],
    gone: &[usize],
) -> Vec<Used> {
    let mut ways = vec![Used {
        served: vec![0; wants.len()],
        ..Used::default()
    }];
    for (index, idle) in board.idle.iter().enumerate() {
        if gone.contains(&index) {
            continue;
        }
        let movable = board.changeable && !idle.arriving;
        for way in ways.clone() {
            for (number, want) in wants.iter().enumerate() {
                let own = idle.resource.as_deref() == Some(&want.resource);
                let fits = own || (movable && profiles[number] == Some(idle.profile));
                if !fits || way.served[number] >= want.count {
                    continue;
                }
                let mut more = way.clone();
                more.served[number] += 1;
                if own {
                    more.own.push(index);
                } else {
                    more.moved.push((index, number));
                }
                ways.push(more);
            }
        }
    }
    ways
}

struct Search<'a> {
    model: &'a GpuModel,
    wants: &'a [Want],
    /// What serves each want on this GPU.
    profiles: &'a [Option<ProfileIndex>],
    worth: &'a Worth,
    before: i64,
    give_up: &'a [usize],
    firm: SliceMask,
    used: &'a Used,
    found: &'a mut Options,
}

impl Search<'_> {
    /// Records this state, then adds one more instance in every way. Wants and starts only rise
    /// along a path, so that no set of placements is seen twice.
    fn extend(
        &mut self,
        layout: &Layout,
        served: &[u32],
        create: &mut Vec<(usize, ProfileIndex, Placement)>,
        first_want: usize,
        first_start: u8,
        changeable: bool,
    ) {
        self.record(served, create);
        if !changeable {
            return;
        }
        for (number, want) in self.wants.iter().enumerate().skip(first_want) {
            if served[number] >= want.count {
                continue;
            }
            let Some(profile) = self.profiles[number] else {
                continue;
            };
            let from = if number == first_want { first_start } else { 0 };
            let places: Vec<_> = layout
                .free_placements(self.model, profile)
                .filter(|p| p.start >= from)
                .collect();
            for placement in places {
                let mut next = layout.clone();
                if next.place(self.model, profile, placement).is_err() {
                    continue;
                }
                let mut more = served.to_vec();
                more[number] += 1;
                create.push((number, profile, placement));
                self.extend(
                    &next,
                    &more,
                    create,
                    number,
                    placement.start + 1,
                    changeable,
                );
                create.pop();
            }
        }
    }

    fn record(&mut self, served: &[u32], create: &[(usize, ProfileIndex, Placement)]) {
        let taken = create.iter().map(|made| made.2.mask());
        let changes = Changes {
            created: create.len(),
            given_up: self.give_up.len(),
            exposed: self.used.moved.len(),
            lost: self.before - self.worth.of(taken.fold(self.firm, SliceMask::union)),
        };
        let choice = Choice {
            cost: changes.cost(Idle::Offered),
            reuse: self.used.own.clone(),
            give_up: self.give_up.to_vec(),
            expose: self.used.moved.clone(),
            create: create.to_vec(),
        };
        let known = self.found.get(served);
        if known.is_none_or(|known| (choice.cost, choice.order()) < (known.cost, known.order())) {
            self.found.insert(served.to_vec(), choice);
        }
    }
}

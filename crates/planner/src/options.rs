//! All that one GPU could do for a demand.
//!
//! For every set of idle instances that could be given up, every way to use those that stay, under
//! their own names or others, and every set of wanted instances that then fits. A GPU is small (723
//! layouts at most on 8 slices), so this is enumerated; equal GPUs share the result.

use std::collections::BTreeMap;

use mig::{GpuModel, Layout, Placement, ProfileIndex};

use crate::{
    search::Goal,
    work::{Board, Want},
};

/// Price of a choice; smaller is better, the first field decides first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    /// Idle instances given up.
    pub(crate) given_up: u32,
    /// Instances made.
    pub(crate) created: u32,
    /// Idle instances moved to another name.
    pub(crate) exposed: u32,
    /// Free placements lost, over all profiles, weighted by their slices; negative if giving up
    /// wins more than making costs.
    pub(crate) loss: i32,
}

impl Cost {
    /// Whether something changes.
    pub(crate) fn changes(self) -> bool {
        self.given_up > 0 || self.created > 0 || self.exposed > 0
    }

    /// The same as one number: sums and orders of these are those of the costs. Each part has 32 bits, so none
    /// runs over into the next.
    pub(crate) fn packed(self) -> i128 {
        let counts = [self.given_up, self.created, self.exposed];
        let high = counts
            .into_iter()
            .fold(0, |sum, count| sum << 32 | i128::from(count));
        (high << 32) + i128::from(self.loss)
    }

    /// The cost that was packed.
    pub(crate) fn unpacked(packed: i128) -> Self {
        let biased = packed - i128::from(i32::MIN);
        let part = |at: u32| u32::try_from(biased >> (32 * at) & 0xffff_ffff).unwrap_or(u32::MAX);
        Self {
            given_up: part(3),
            created: part(2),
            exposed: part(1),
            loss: part(0).cast_signed().wrapping_add(i32::MIN),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            given_up: self.given_up + other.given_up,
            created: self.created + other.created,
            exposed: self.exposed + other.exposed,
            loss: self.loss + other.loss,
        }
    }
}

/// One thing that a GPU could do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Its price.
    pub(crate) cost: Cost,
    /// Indices into [`Board::idle`].
    pub(crate) give_up: Vec<usize>,
    /// Idle instances to move, as indices into [`Board::idle`], with the wants that they then serve.
    pub(crate) expose: Vec<(usize, usize)>,
    /// What to make, by index into the wants.
    pub(crate) create: Vec<(usize, ProfileIndex, Placement)>,
}

impl Choice {
    /// Whether nothing on the GPU changes.
    pub(crate) fn changes_nothing(&self) -> bool {
        self.give_up.is_empty() && self.expose.is_empty() && self.create.is_empty()
    }

    /// Whether it gives an idle instance up, or moves it.
    pub(crate) fn takes(&self, idle: usize) -> bool {
        self.give_up.contains(&idle) || self.expose.iter().any(|(moved, _)| *moved == idle)
    }

    /// How many devices of a want it makes or moves there.
    pub(crate) fn brings(&self, want: usize) -> u32 {
        let made = self.create.iter().filter(|made| made.0 == want).count();
        let moved = self.expose.iter().filter(|moved| moved.1 == want).count();
        u32::try_from(made + moved).unwrap_or(u32::MAX)
    }
}

/// What the cheapest choice for some count of devices served costs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    pub(crate) cost: Cost,
    /// The number of that count.
    pub(crate) number: u16,
}

/// The cheapest choice for some count of devices served.
#[derive(Clone, Debug)]
pub(crate) struct GpuOption {
    /// Devices by want.
    pub(crate) served: Box<[u32]>,
    /// The number of that, if counts of the [`Goal`] have numbers.
    pub(crate) number: usize,
    /// What the GPU does for it.
    pub(crate) choice: Choice,
}

/// For each count of devices that a GPU can serve, in order, the cheapest choice.
pub(crate) type Options = Vec<GpuOption>;

/// What is known so far, by the count of devices served.
type Best = BTreeMap<Vec<u32>, Choice>;

/// Everything that the GPU could do for these wants.
pub(crate) fn options(board: &Board, wants: &[Want], goal: &Goal) -> Options {
    let best = best(board, &board.model, wants, goal);
    best.into_iter()
        .map(|(served, choice)| goal.option(served, choice))
        .collect()
}

fn best(board: &Board, model: &GpuModel, wants: &[Want], goal: &Goal) -> Best {
    let mut found = Best::new();
    let free_before = freedom(&standing(board, model, &[]), model);
    let profiles: Vec<_> = wants.iter().map(|want| want.profile(model)).collect();
    for subset in give_up_sets(board) {
        let fewer = |known: &Choice| known.give_up.len() < subset.len();
        if goal.is_all(found.len()) && found.values().all(fewer) {
            // To give up more makes nothing cheaper.
            continue;
        }
        let layout = standing(board, model, &subset);
        for (served, expose) in reused(board, &profiles, wants, &subset) {
            let mut search = Search {
                model,
                wants,
                profiles: &profiles,
                free_before,
                give_up: &subset,
                expose: &expose,
                found: &mut found,
            };
            search.extend(&layout, &served, &mut Vec::new(), 0, 0, board.changeable);
        }
    }
    found
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

/// What the idle instances that stay can serve: for each count of devices by want the fewest moves to
/// another name, as pairs of instance and want. Without those that serve less for no fewer moves.
fn reused(
    board: &Board,
    profiles: &[Option<ProfileIndex>],
    wants: &[Want],
    gone: &[usize],
) -> BTreeMap<Vec<u32>, Vec<(usize, usize)>> {
    let mut ways = BTreeMap::from([(vec![0; wants.len()], Vec::new())]);
    for (index, idle) in board.idle.iter().enumerate() {
        if gone.contains(&index) {
            continue;
        }
        let movable = board.changeable && !idle.arriving;
        let mut next = ways.clone();
        for (served, moves) in &ways {
            for (number, want) in wants.iter().enumerate() {
                let own = idle.resource.as_deref() == Some(&want.resource);
                let fits = own || (movable && profiles[number] == Some(idle.profile));
                if !fits || served[number] >= want.count {
                    continue;
                }
                let mut more = served.clone();
                more[number] += 1;
                let mut moves = moves.clone();
                if !own {
                    moves.push((index, number));
                }
                let known = next.get(&more);
                if known.is_none_or(|known: &Vec<_>| moves.len() < known.len()) {
                    next.insert(more, moves);
                }
            }
        }
        ways = next;
    }
    let at_least = |a: &[u32], b: &[u32]| a.iter().zip(b).all(|(a, b)| a >= b);
    let all = ways.clone();
    ways.retain(|served, moves| {
        !all.iter().any(|(more, other)| {
            more != served && at_least(more, served) && other.len() <= moves.len()
        })
    });
    ways
}

/// Free placements over all profiles, each by its slices: how much could still be made. The weight
/// keeps whole GPUs whole: without it the seven small placements outvote the one large one.
fn freedom(layout: &Layout, model: &GpuModel) -> i32 {
    let slices = |(index, profile): (ProfileIndex, &mig::Profile)| {
        layout.remaining(model, index) * usize::from(profile.size())
    };
    i32::try_from(model.indices().map(slices).sum::<usize>()).unwrap_or(i32::MAX)
}

struct Search<'a> {
    model: &'a GpuModel,
    wants: &'a [Want],
    /// What serves each want on this GPU.
    profiles: &'a [Option<ProfileIndex>],
    free_before: i32,
    give_up: &'a [usize],
    expose: &'a [(usize, usize)],
    found: &'a mut Best,
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
        self.record(layout, served, create);
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

    fn record(
        &mut self,
        layout: &Layout,
        served: &[u32],
        create: &[(usize, ProfileIndex, Placement)],
    ) {
        let number = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        let mut cost = Cost {
            given_up: number(self.give_up.len()),
            created: number(create.len()),
            exposed: number(self.expose.len()),
            loss: i32::MIN,
        };
        if self
            .found
            .get(served)
            .is_some_and(|known| cost > known.cost)
        {
            return;
        }
        cost.loss = self.free_before - freedom(layout, self.model);
        let better = self.found.get(served).is_none_or(|known| cost < known.cost);
        if better {
            let choice = Choice {
                cost,
                give_up: self.give_up.to_vec(),
                expose: self.expose.to_vec(),
                create: create.to_vec(),
            };
            self.found.insert(served.to_vec(), choice);
        }
    }
}

//! All that one GPU could do for a demand.
//!
//! For every way to use idle instances, under their own names or others, every set of wanted instances
//! that fits beside what is used; the idle instances that are then in the way are given up. A GPU is
//! small (723 layouts at most on 8 slices), so this is enumerated; equal GPUs share the result.

use std::collections::BTreeMap;

use mig::{Layout, Placement, ProfileIndex, SliceMask};

use crate::{
    cost::{Changes, Cost},
    room::Room,
    search::Goal,
    state::Idle,
    work::{Board, IdleInstance, Want},
    worth::Worth,
};

/// One thing that a GPU could do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What it costs.
    pub(crate) cost: Cost,
    /// Idle instances that serve under their own names, as indices into [`Board::idle`].
    pub(crate) reuse: Vec<usize>,
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

    /// Whether it uses an idle instance or gives it up.
    pub(crate) fn takes(&self, idle: usize) -> bool {
        let moves = || self.expose.iter().any(|(moved, _)| *moved == idle);
        self.give_up.contains(&idle) || self.reuse.contains(&idle) || moves()
    }

    /// Among choices of equal cost the order of these decides, so that it is always the same one.
    pub(crate) fn order(&self) -> impl Ord {
        (&self.create, &self.give_up, &self.expose, &self.reuse)
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
pub(crate) fn options(
    board: &Board,
    (worth, idle): (&Worth, Idle),
    wants: &[Want],
    goal: &Goal,
) -> Options {
    let best = best(board, worth, idle, wants);
    best.into_iter()
        .map(|(served, choice)| goal.option(served, choice))
        .collect()
}

fn best(board: &Board, worth: &Worth, idle: Idle, wants: &[Want]) -> Best {
    let profiles: Vec<_> = wants
        .iter()
        .map(|want| want.profile(&board.model))
        .collect();
    let mut search = Search {
        board,
        worth,
        idle,
        wants,
        profiles: &profiles,
        before: worth.of(taken(board, &Reuse::default())),
        found: Best::new(),
    };
    for (mut served, reuse) in reuses(board, &profiles, wants) {
        let wanted = profiles.iter().flatten().copied();
        let idle = board.idle.iter().map(|idle| idle.profile);
        let room = Room::beside(standing(board, &reuse, wants), &board.model, wanted, idle);
        let firm = taken(board, &reuse);
        search.extend(&room, firm, &mut served, &reuse, &mut Vec::new(), (0, 0));
    }
    search.found
}

/// Idle instances that are used, as indices into [`Board::idle`], ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Reuse {
    /// Under their own names.
    own: Vec<usize>,
    /// Under the name of a want, by its index.
    moved: Vec<(usize, usize)>,
}

impl Reuse {
    fn uses(&self, idle: usize) -> bool {
        self.own.contains(&idle) || self.moved.iter().any(|(moved, _)| *moved == idle)
    }
}

/// Whether it could be given up for these wants, or move to another name. One that is hidden is of no use to those who
/// want its name, whatever becomes of it: as many as are in use and hidden must be idle besides what they get.
fn movable(board: &Board, idle: &IdleInstance, wants: &[Want]) -> bool {
    let wanted = |want: &Want| idle.resource.as_deref() == Some(&want.resource);
    board.changeable && !idle.arriving && !(idle.hidden && wants.iter().any(wanted))
}

/// Idle instances that stay in any case: those in use by then, and those that cannot be given up.
fn firm<'a>(
    board: &'a Board,
    reuse: &'a Reuse,
    wants: &'a [Want],
) -> impl Iterator<Item = &'a IdleInstance> {
    let idle = board.idle.iter().enumerate();
    idle.filter(|(index, idle)| reuse.uses(*index) || !movable(board, idle, wants))
        .map(|(_, idle)| idle)
}

/// The layout of a GPU once everything is given up that can be, but for what is used.
fn standing(board: &Board, reuse: &Reuse, wants: &[Want]) -> Layout {
    let mut layout = board.firm.clone();
    for idle in firm(board, reuse, wants) {
        // What stands was accepted by the driver. If our model of it disagrees (two instances
        // in one place) the slices are taken all the same.
        let _ = layout.place(&board.model, idle.profile, idle.placement);
    }
    layout
}

/// Slices that are in use by then, or about to be.
fn taken(board: &Board, reuse: &Reuse) -> SliceMask {
    let idle = board.idle.iter().enumerate();
    let taken = idle.filter(|(index, idle)| idle.arriving || reuse.uses(*index));
    taken.fold(board.firm.occupied(), |mask, (_, idle)| {
        mask.union(idle.placement.mask())
    })
}

/// Every way to use idle instances, with the count of devices by want that are served so.
fn reuses(
    board: &Board,
    profiles: &[Option<ProfileIndex>],
    wants: &[Want],
) -> Vec<(Vec<u32>, Reuse)> {
    let mut ways = vec![(vec![0; wants.len()], Reuse::default())];
    for (index, idle) in board.idle.iter().enumerate() {
        for way in 0..ways.len() {
            for (number, want) in wants.iter().enumerate() {
                let own = !idle.hidden && idle.resource.as_deref() == Some(&want.resource);
                let moves = movable(board, idle, wants) && profiles[number] == Some(idle.profile);
                let (mut served, mut reuse) = ways[way].clone();
                if !(own || moves) || served[number] >= want.count {
                    continue;
                }
                served[number] += 1;
                if own {
                    reuse.own.push(index);
                } else {
                    reuse.moved.push((index, number));
                }
                ways.push((served, reuse));
            }
        }
    }
    ways
}

type Create = (usize, ProfileIndex, Placement);

struct Search<'a> {
    board: &'a Board,
    worth: &'a Worth,
    /// What becomes of idle instances.
    idle: Idle,
    wants: &'a [Want],
    /// What serves each want on this GPU.
    profiles: &'a [Option<ProfileIndex>],
    /// The worth of the GPU as it is.
    before: i64,
    found: Best,
}

impl Search<'_> {
    /// Records this state, in which `firm` are the slices in use or about to be, then adds one more instance in
    /// every way. Wants and starts only rise along a path, so that no set of placements is seen twice.
    fn extend(
        &mut self,
        room: &Room,
        firm: SliceMask,
        served: &mut Vec<u32>,
        reuse: &Reuse,
        create: &mut Vec<Create>,
        (first_want, first_start): (usize, u8),
    ) {
        self.record(room, firm, served, reuse, create);
        if !self.board.changeable {
            return;
        }
        let (model, wants) = (&self.board.model, self.wants);
        for (number, want) in wants.iter().enumerate().skip(first_want) {
            let Some(profile) = self.profiles[number].filter(|_| served[number] < want.count)
            else {
                continue;
            };
            let from = if number == first_want { first_start } else { 0 };
            for placement in room.places(model, profile, from) {
                let Some(next) = room.with(model, profile, placement) else {
                    continue;
                };
                let firm = firm.union(placement.mask());
                let after = (number, placement.start + 1);
                served[number] += 1;
                create.push((number, profile, placement));
                self.extend(&next, firm, served, reuse, create, after);
                create.pop();
                served[number] -= 1;
            }
        }
    }

    fn record(
        &mut self,
        room: &Room,
        firm: SliceMask,
        served: &[u32],
        reuse: &Reuse,
        create: &[Create],
    ) {
        let mut changes = Changes {
            created: create.len(),
            given_up: 0,
            exposed: reuse.moved.len(),
            lost: self.before - self.worth.of(firm),
        };
        let known = self.found.get(served);
        if known.is_some_and(|known| changes.cost(self.idle) > known.cost) {
            return;
        }
        let give_up = self.in_the_way(room, reuse, create);
        changes.given_up = give_up.len();
        if known.is_some_and(|known| changes.cost(self.idle) > known.cost) {
            return;
        }
        let choice = Choice {
            cost: changes.cost(self.idle),
            reuse: reuse.own.clone(),
            give_up,
            expose: reuse.moved.clone(),
            create: create.to_vec(),
        };
        let better = |known: &Choice| (choice.cost, choice.order()) < (known.cost, known.order());
        if known.is_none_or(better) {
            self.found.insert(served.to_vec(), choice);
        }
    }

    /// The idle instances that cannot stay beside what is made.
    fn in_the_way(&self, room: &Room, reuse: &Reuse, create: &[Create]) -> Vec<usize> {
        if create.is_empty() {
            return Vec::new();
        }
        let mut room = room.clone();
        let mut gone = Vec::new();
        for (index, idle) in self.board.idle.iter().enumerate() {
            let may_go = movable(self.board, idle, self.wants) && !reuse.uses(index);
            // Engines, too, can be what there is not enough of for both.
            if may_go && !room.fill(&self.board.model, idle.profile, idle.placement) {
                gone.push(index);
            }
        }
        gone
    }
}

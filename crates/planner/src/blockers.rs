//! What would have to end on a node so that a demand fits there.
//!
//! Asked when a refusal is put into words, and when slices are to be kept free for a demand that waited long; only then
//! it counts for how long pods have run. Idle instances cost nothing here: the planner would have used them or given them
//! up if that were enough. Everything else that stands has a price, and the set of the lowest price is found, over all GPUs of the node. Instances that are
//! being made, and idle ones that are about to be given to a pod, are in use here: they are somebody's already.

use mig::{GpuModel, Layout, Placement, ProfileIndex, SliceMask};

use crate::{
    search::Goal,
    state::{Gpu, Instance, Node, Usage},
    work::{Board, Want, WorkNode},
};

/// Price of an instance in use; with terms, of one whose pod is young.
const USED: u32 = 1;
/// What age adds to that at most.
const OLDEST: i64 = 1_000;
/// Added to the price of one in use on a GPU where an earlier window was in vain: more than all others of a node, which
/// may have 16 GPUs with seven each.
const AVOIDED: u32 = 1 << 17;
/// Price of one that no pod's end frees, or whose end is not to be waited for: more than all that a node can have in
/// use.
pub(crate) const STUCK: u32 = 1 << 24;

/// What slices that are to be kept free are chosen by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// Who has devices under this name is not waited for: whichever pod the scheduler gives the next of them, nothing
    /// is gained by hiding one.
    pub(crate) own: Option<&'a str>,
    /// Uuids of GPUs that are the last to be chosen.
    pub(crate) avoid: &'a [String],
    /// The present: [`crate::Ask::now`].
    pub(crate) now: i64,
    /// Seconds of age that count as one: [`crate::Ask::grain`].
    pub(crate) grain: i64,
}

/// What the answer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// To be put into words: who is in the way now.
    Words,
    /// To find out on which nodes slices might be kept free, the best first.
    Order,
    /// To choose those slices: what was promised in this pass does not end, and what is kept free for others is not
    /// counted on.
    Window(&'a Terms<'a>),
}

impl<'a> Purpose<'a> {
    fn terms(self) -> Option<&'a Terms<'a>> {
        match self {
            Self::Window(terms) => Some(terms),
            Self::Words | Self::Order => None,
        }
    }

    /// Whether instances could be made on a GPU of the node by the time that others have ended.
    fn counts_on(self, node: &Node, gpu: usize, board: &Board) -> bool {
        let waits = !matches!(self, Self::Words);
        board.changeable || waits && node.soon_changeable.contains(&gpu)
    }
}

/// An instance that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocker {
    /// Index into [`Node::gpus`].
    pub(crate) gpu: usize,
    /// Index into [`Gpu::instances`].
    pub(crate) instance: usize,
}

/// The fewest instances that would have to end, and their price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blockers {
    pub(crate) price: u32,
    pub(crate) all: Vec<Blocker>,
    /// The slices on which the demand's devices would be made then, by GPU; none is without.
    pub(crate) made: Vec<(usize, SliceMask)>,
}

/// What would have to end on the node; nothing if the demand would not fit even then, or if there are too many ways
/// to try.
pub(crate) fn blockers(
    node: &Node,
    work: &WorkNode,
    wants: &[Want],
    goal: &Goal,
    purpose: Purpose<'_>,
) -> Option<Blockers> {
    if !goal.is_numbered(node.gpus.len()) {
        return None;
    }
    let start = wants.iter().map(|want| {
        let fixed = work.fixed.get(&*want.resource);
        fixed.map_or(0, |free| want.count.min(*free))
    });
    let tables: Vec<_> = node
        .gpus
        .iter()
        .zip(&work.boards)
        .enumerate()
        .map(|(number, (gpu, board))| {
            if purpose.counts_on(node, number, board) {
                table(gpu, board, wants, goal, purpose.terms())
            } else {
                vec![only_idle(board, wants, goal)]
            }
        })
        .collect();
    cheapest(goal, goal.number_of(start), &tables)
}

/// What a GPU can serve, and which instances would have to end for it.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// Number of the counts served.
    served: usize,
    price: u32,
    /// Bits for indices into [`Gpu::instances`].
    instances: u32,
    /// Slices of what is made.
    made: SliceMask,
}

/// What a GPU can serve on which nothing can be made.
fn only_idle(board: &Board, wants: &[Want], goal: &Goal) -> Ends {
    let own = |want: &Want| {
        let mut idle = 0;
        for instance in board.idle.iter().filter(|idle| !idle.arriving) {
            idle += u32::from(instance.resource.as_deref() == Some(&want.resource));
        }
        want.count.min(idle)
    };
    Ends {
        served: goal.number_of(wants.iter().map(own)),
        price: 0,
        instances: 0,
        made: SliceMask::EMPTY,
    }
}

fn table(
    gpu: &Gpu,
    board: &Board,
    wants: &[Want],
    goal: &Goal,
    terms: Option<&Terms<'_>>,
) -> Vec<Ends> {
    let mut new = Layout::default();
    new.block(board.kept_free());
    let mut ways = Ways {
        model: &board.model,
        wants,
        profiles: wants.iter().map(|w| w.profile(&board.model)).collect(),
        goal,
        stands: stands(gpu, board, terms),
        new,
        found: Vec::new(),
    };
    ways.extend(&mut vec![0; wants.len()], 0, 0, 0);
    ways.found
}

/// Something that stands and is not free.
#[derive(Clone, Copy, Debug)]
struct Stands {
    /// Its bit: that of its index into [`Gpu::instances`].
    bit: u32,
    profile: ProfileIndex,
    placement: Placement,
    price: u32,
}

fn stands(gpu: &Gpu, board: &Board, terms: Option<&Terms<'_>>) -> Vec<Stands> {
    let firm = board.firm.occupants().iter();
    let firm = firm.map(|o| (o.profile, o.placement));
    let arriving = board.idle.iter().filter(|idle| idle.arriving);
    let arriving = arriving.map(|idle| (idle.profile, idle.placement));
    // There are no more than slices, and those that were promised are no more either.
    let mut others = gpu.instances.len()..;
    let find = |(profile, placement): (ProfileIndex, Placement)| {
        let mut all = gpu.instances.iter().enumerate();
        let known = all.find(|(_, i)| i.placement == placement && i.usage != Usage::Leaving);
        let promised = board.is_promised(placement.mask());
        let at = match known {
            Some((at, _)) => at,
            None => others.next()?,
        };
        let price = match (known, terms) {
            (Some((_, instance)), None) if instance.usage != Usage::Stuck => USED,
            (Some((_, instance)), Some(terms)) if !promised && terms.may_end(instance) => {
                let avoided = terms.avoid.contains(&gpu.uuid);
                terms.weight(instance) + if avoided { AVOIDED } else { 0 }
            }
            _ => STUCK,
        };
        Some(Stands {
            bit: 1u32.checked_shl(u32::try_from(at).ok()?)?,
            profile,
            placement,
            price,
        })
    };
    firm.chain(arriving).filter_map(find).collect()
}

impl Terms<'_> {
    fn may_end(&self, instance: &Instance) -> bool {
        let own = self.own.is_some() && instance.resource.as_deref() == self.own;
        instance.usage != Usage::Stuck && !own
    }

    /// For how long the end of its pod may have to be waited for, as a price.
    fn weight(&self, instance: &Instance) -> u32 {
        let age = match instance.since {
            0 => 0,
            since => self.now.saturating_sub(since).max(0),
        };
        let grains = age.checked_div(self.grain).unwrap_or(0);
        USED + u32::try_from(grains.clamp(0, OLDEST)).unwrap_or(0)
    }
}

/// All ways to put wanted instances on a GPU, whatever stands there.
struct Ways<'a> {
    model: &'a GpuModel,
    wants: &'a [Want],
    profiles: Vec<Option<ProfileIndex>>,
    goal: &'a Goal,
    stands: Vec<Stands>,
    /// What is put there.
    new: Layout,
    found: Vec<Ends>,
}

impl Ways<'_> {
    /// Records what is put there, then adds one more instance in every way. Wants and starts only rise along a path,
    /// so that no set is seen twice.
    fn extend(&mut self, served: &mut [u32], ends: u32, first_want: usize, first_start: u8) {
        self.record(served, ends);
        for number in first_want..self.wants.len() {
            let Some(index) = self.profiles[number] else {
                continue;
            };
            let Some(profile) = self.model.profile(index) else {
                continue;
            };
            if served[number] >= self.wants[number].count {
                continue;
            }
            let from = if number == first_want { first_start } else { 0 };
            for placement in &profile.placements {
                if placement.start < from || self.new.place(self.model, index, *placement).is_err()
                {
                    continue;
                }
                served[number] += 1;
                let more = ends | self.excluded(index, *placement);
                self.extend(served, more, number, placement.start + 1);
                served[number] -= 1;
                self.new.remove(*placement);
            }
        }
    }

    /// What cannot stand beside an instance, by its bits.
    fn excluded(&self, index: ProfileIndex, placement: Placement) -> u32 {
        let engines = |index| self.model.profile(index).map(|p| p.name.engines());
        let wanted = engines(index);
        let conflicts = |stands: &&Stands| {
            stands.placement.mask().overlaps(placement.mask())
                || wanted
                    .zip(engines(stands.profile))
                    .is_some_and(|(one, other)| one.excludes(other))
        };
        let against = self.stands.iter().filter(conflicts);
        against.fold(0, |bits, stands| bits | stands.bit)
    }

    /// What there is one too many of, whatever slices are free, by its bits: the cheapest that stay otherwise.
    fn surplus(&self, ends: u32) -> u32 {
        let mut more = 0;
        for (number, index) in self.profiles.iter().enumerate() {
            let Some(index) =
                index.filter(|index| !self.profiles[..number].contains(&Some(*index)))
            else {
                continue;
            };
            let most = self.model.profile(index).map_or(0, |p| p.max_instances);
            let new = self.new.occupants().iter().filter(|o| o.profile == index);
            let new = new.count();
            let stay = |stands: &&Stands| stands.profile == index && stands.bit & ends == 0;
            let mut stay: Vec<_> = self.stands.iter().filter(stay).collect();
            let surplus = (stay.len() + new).saturating_sub(usize::from(most));
            if new > 0 && surplus > 0 {
                stay.sort_by_key(|stands| stands.price);
                more |= stay.iter().take(surplus).fold(0, |bits, s| bits | s.bit);
            }
        }
        more
    }

    /// Slices of what is put there, with those of what ends elsewhere because there may be only so many of something,
    /// such as the media engines.
    fn made(&self, ends: u32) -> SliceMask {
        let new = self.new.occupants().iter().map(|o| o.placement.mask());
        let new = new.fold(SliceMask::EMPTY, SliceMask::union);
        let ended = self.stands.iter().filter(|s| s.bit & ends != 0);
        let masks = ended.map(|stands| stands.placement.mask());
        let elsewhere = masks.filter(|mask| !mask.overlaps(new));
        elsewhere.fold(new, SliceMask::union)
    }

    fn record(&mut self, served: &[u32], ends: u32) {
        let instances = ends | self.surplus(ends);
        let ended = self.stands.iter().filter(|s| s.bit & instances != 0);
        let new = Ends {
            served: self.goal.number_of(served.iter().copied()),
            price: ended.map(|stands| stands.price).sum(),
            instances,
            made: self.made(instances),
        };
        match self
            .found
            .iter_mut()
            .find(|known| known.served == new.served)
        {
            Some(known) if new.price < known.price => *known = new,
            Some(_) => {}
            None => self.found.push(new),
        }
    }
}

/// The cheapest way to some counts over the GPUs so far.
#[derive(Clone, Copy, Debug)]
struct Step {
    price: u32,
    /// Number of the counts before the last GPU.
    before: usize,
    /// What ends on the last GPU.
    instances: u32,
    /// Slices of what is made there.
    made: SliceMask,
}

/// The cheapest way over all GPUs; of equal ones the first, by the counts that the earlier GPUs serve.
fn cheapest(goal: &Goal, start: usize, tables: &[Vec<Ends>]) -> Option<Blockers> {
    let numbered = goal.numbers();
    let mut steps: Vec<Option<Step>> = vec![None; numbered * (tables.len() + 1)];
    *steps.get_mut(start)? = Some(Step {
        price: 0,
        before: start,
        instances: 0,
        made: SliceMask::EMPTY,
    });
    for (at, table) in tables.iter().enumerate() {
        let (before, after) = steps.split_at_mut((at + 1) * numbered);
        for (number, so_far) in before[at * numbered..].iter().enumerate() {
            let Some(so_far) = so_far else { continue };
            for ends in table {
                let price = so_far.price.saturating_add(ends.price);
                let Some(sum) = goal.sum(number, ends.served) else {
                    continue;
                };
                let known = &mut after[sum];
                if known.is_none_or(|known| price < known.price) {
                    *known = Some(Step {
                        price,
                        before: number,
                        instances: ends.instances,
                        made: ends.made,
                    });
                }
            }
        }
    }
    let mut number = numbered.checked_sub(1)?;
    let mut found = Blockers::default();
    for gpu in (0..tables.len()).rev() {
        let step = steps[(gpu + 1) * numbered + number]?;
        found.price = found.price.max(step.price);
        let bits = (0..u32::BITS)
            .rev()
            .filter(|bit| step.instances >> bit & 1 == 1);
        found.all.extend(bits.filter_map(|bit| {
            let instance = usize::try_from(bit).ok()?;
            Some(Blocker { gpu, instance })
        }));
        if !step.made.is_empty() {
            found.made.push((gpu, step.made));
        }
        number = step.before;
    }
    found.all.reverse();
    found.made.reverse();
    (number == start).then_some(found)
}

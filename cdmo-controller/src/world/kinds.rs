//! Which nodes waiting pods may use, kept for each kind of pod rather than for each pod.
//!
//! Thousands of pods wait for a handful of different things under a handful of different constraints. So it is
//! kept for each wish on which nodes free devices cover it, and for each constraint on which nodes it is met.
//! Both are brought up to date with the nodes that change. Where both are true, devices lie ready for every pod
//! of that kind.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use planner::{Eligibilities, Eligibility, NodeSet, Wants};
use tokio::time::Instant;

use crate::{constraints::Constraints, set_aside};

/// Devices by resource name.
pub(super) type Devices = BTreeMap<String, u32>;

/// Nodes for which something became true lately, and when. What became true longer ago than pods wait for the
/// scheduler has been true for as long as anybody asks.
#[derive(Debug, Default)]
struct Lately {
    nodes: NodeSet,
    since: BTreeMap<usize, Instant>,
    /// How many nodes there are for each of these times.
    times: BTreeMap<Instant, usize>,
}

impl Lately {
    fn forget_old(&mut self, now: Instant) {
        if self.since.is_empty() {
            return;
        }
        self.since
            .retain(|_, since| now < *since + set_aside::PATIENCE);
        self.count_again();
    }

    fn set(&mut self, node: usize, is_true: bool, now: Instant) {
        self.nodes.set(node, is_true);
        let before = if is_true {
            *self.times.entry(now).or_default() += 1;
            self.since.insert(node, now)
        } else {
            self.since.remove(&node)
        };
        let Some(before) = before else { return };
        if let Some(count) = self.times.get_mut(&before) {
            *count -= 1;
            if *count == 0 {
                self.times.remove(&before);
            }
        }
    }

    /// The earliest of these times.
    fn first(&self) -> Option<Instant> {
        self.times.keys().next().copied()
    }

    fn insert(&mut self, node: usize) {
        self.moved(|known| Some(if known < node { known } else { known + 1 }));
    }

    fn remove(&mut self, node: usize) {
        self.moved(|known| match known {
            known if known < node => Some(known),
            known if known > node => Some(known - 1),
            _ => None,
        });
    }

    fn moved(&mut self, to: impl Fn(usize) -> Option<usize>) {
        if self.since.is_empty() {
            return;
        }
        let all = std::mem::take(&mut self.since).into_iter();
        self.since = all.filter_map(|(n, at)| Some((to(n)?, at))).collect();
        self.count_again();
    }

    fn count_again(&mut self) {
        self.nodes = NodeSet::default();
        self.times.clear();
        for (node, since) in &self.since {
            self.nodes.set(*node, true);
            *self.times.entry(*since).or_default() += 1;
        }
    }
}

/// Where free devices cover what some pods ask for.
#[derive(Debug)]
struct Cover {
    wants: Arc<Wants>,
    nodes: NodeSet,
    lately: Lately,
    pass: u64,
}

/// Where some pods could run.
#[derive(Debug)]
struct Place {
    constraints: Arc<Constraints>,
    nodes: Arc<Eligibilities>,
    lately: Lately,
    pass: u64,
}

/// Pods that ask for the same under the same constraints, in one pass.
#[derive(Debug)]
struct Kind {
    cover: usize,
    place: usize,
    ready: NodeSet,
    /// Whether that has been so for as long as anybody asks somewhere.
    long: bool,
    /// Pods for which nothing else is known.
    pods: u32,
}

/// Number of a kind in a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct KindId(usize);

/// All kinds of waiting pods.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    covers: Vec<Cover>,
    places: Vec<Place>,
    /// Positions of covers and places by the addresses of their wants and constraints, which they keep.
    cover_at: HashMap<usize, usize>,
    place_at: HashMap<usize, usize>,
    in_pass: Vec<Kind>,
    kind_at: HashMap<(usize, usize), usize>,
    pass: u64,
}

fn covers(free: &Devices, wants: &Wants) -> bool {
    wants
        .iter()
        .all(|(resource, count)| free.get(resource).is_some_and(|have| have >= count))
}

impl Kinds {
    /// A node comes; those from this position on move up by one.
    pub(super) fn insert(&mut self, node: usize) {
        for cover in &mut self.covers {
            cover.nodes.insert(node, false);
            cover.lately.insert(node);
        }
        for place in &mut self.places {
            let new = Eligibility::Excluded("new".into());
            Arc::make_mut(&mut place.nodes).insert(node, new);
            place.lately.insert(node);
        }
    }

    /// A node goes; those behind it move down by one.
    pub(super) fn remove(&mut self, node: usize) {
        for cover in &mut self.covers {
            cover.nodes.set(node, false);
            cover.nodes.remove(node);
            cover.lately.remove(node);
        }
        for place in &mut self.places {
            Arc::make_mut(&mut place.nodes).remove(node);
            place.lately.remove(node);
        }
    }

    /// A node has other free devices, or other pods may run there.
    pub(super) fn change(
        &mut self,
        node: usize,
        free: &Devices,
        eligibility: impl Fn(&Constraints) -> Eligibility,
        now: Instant,
    ) {
        for cover in &mut self.covers {
            let is_covered = covers(free, &cover.wants);
            if cover.nodes.contains(node) != is_covered {
                cover.nodes.set(node, is_covered);
                cover.lately.set(node, is_covered, now);
            }
        }
        for place in &mut self.places {
            let new = eligibility(&place.constraints);
            if place.nodes.says(node, &new) {
                continue;
            }
            let (was, is) = (
                place.nodes.allowed().contains(node),
                new == Eligibility::Allowed,
            );
            Arc::make_mut(&mut place.nodes).set(node, new);
            if was != is {
                place.lately.set(node, is, now);
            }
        }
    }

    /// A pass begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.forget_unused();
        self.pass += 1;
        self.in_pass.clear();
        self.kind_at.clear();
        let covers = self.covers.iter_mut().map(|cover| &mut cover.lately);
        let places = self.places.iter_mut().map(|place| &mut place.lately);
        covers
            .chain(places)
            .for_each(|lately| lately.forget_old(now));
    }

    /// Forgets what no pod of the last pass asked for.
    fn forget_unused(&mut self) {
        let pass = self.pass;
        let used = |known: u64| known == pass;
        if !self.covers.iter().all(|cover| used(cover.pass)) {
            self.covers.retain(|cover| used(cover.pass));
            let all = self.covers.iter().enumerate();
            self.cover_at = all
                .map(|(at, cover)| (Arc::as_ptr(&cover.wants).addr(), at))
                .collect();
        }
        if !self.places.iter().all(|place| used(place.pass)) {
            self.places.retain(|place| used(place.pass));
            let all = self.places.iter().enumerate();
            self.place_at = all
                .map(|(at, place)| (Arc::as_ptr(&place.constraints).addr(), at))
                .collect();
        }
    }

    /// The kind of pods that ask for this under these constraints.
    pub(super) fn kind<'a>(
        &mut self,
        wants: &Arc<Wants>,
        constraints: &Arc<Constraints>,
        free: impl Iterator<Item = &'a Devices>,
        eligibilities: impl FnOnce(&Constraints) -> Eligibilities,
    ) -> KindId {
        let key = (Arc::as_ptr(wants).addr(), Arc::as_ptr(constraints).addr());
        if let Some(known) = self.kind_at.get(&key) {
            return KindId(*known);
        }
        let covers_now = |(nodes, free): (NodeSet, (usize, &Devices))| {
            let (mut nodes, (at, free)) = (nodes, free);
            nodes.set(at, covers(free, wants));
            nodes
        };
        let cover = *self.cover_at.entry(key.0).or_insert_with(|| {
            let nodes = free
                .enumerate()
                .fold(NodeSet::default(), |nodes, free| covers_now((nodes, free)));
            self.covers.push(Cover {
                wants: Arc::clone(wants),
                nodes,
                lately: Lately::default(),
                pass: 0,
            });
            self.covers.len() - 1
        });
        let place = *self.place_at.entry(key.1).or_insert_with(|| {
            self.places.push(Place {
                constraints: Arc::clone(constraints),
                nodes: Arc::new(eligibilities(constraints)),
                lately: Lately::default(),
                pass: 0,
            });
            self.places.len() - 1
        });
        let (known, allowed) = (&mut self.covers[cover], &mut self.places[place]);
        known.pass = self.pass;
        allowed.pass = self.pass;
        let ready = known.nodes.and(allowed.nodes.allowed());
        let lately = (&known.lately.nodes, &allowed.lately.nodes);
        self.in_pass.push(Kind {
            cover,
            place,
            long: !ready.is_within(lately.0, lately.1),
            ready,
            pods: 0,
        });
        self.kind_at.insert(key, self.in_pass.len() - 1);
        KindId(self.in_pass.len() - 1)
    }

    /// Where pods of the kind could run.
    pub(super) fn nodes(&self, kind: KindId) -> &Arc<Eligibilities> {
        &self.places[self.in_pass[kind.0].place].nodes
    }

    /// Where free devices cover what pods of the kind ask for, wherever they could run.
    pub(super) fn covered(&self, kind: KindId) -> &NodeSet {
        &self.covers[self.in_pass[kind.0].cover].nodes
    }

    /// Where devices lie ready for pods of the kind.
    pub(super) fn ready(&self, kind: KindId) -> &NodeSet {
        &self.in_pass[kind.0].ready
    }

    /// Since when devices have been ready on a node, as far as it was not always so.
    pub(super) fn ready_since(&self, kind: KindId, node: usize) -> Option<Instant> {
        let kind = &self.in_pass[kind.0];
        let cover = self.covers[kind.cover].lately.since.get(&node);
        let place = self.places[kind.place].lately.since.get(&node);
        cover.max(place).copied()
    }

    /// When a pod that was first looked at then has had devices ready on some node for so long that the node is set
    /// aside, at the earliest.
    pub(super) fn ready_in_vain(&self, kind: KindId, looked_at: Instant) -> Option<Instant> {
        let kind = &self.in_pass[kind.0];
        if kind.ready.is_empty() {
            return None;
        }
        let first = [
            self.covers[kind.cover].lately.first(),
            self.places[kind.place].lately.first(),
        ];
        let first = first.into_iter().flatten().min();
        let since = first.filter(|_| !kind.long).max(Some(looked_at))?;
        Some(since + set_aside::PATIENCE)
    }

    /// A pod of the kind of which nothing else is known.
    pub(super) fn count(&mut self, kind: KindId) {
        self.in_pass[kind.0].pods += 1;
    }

    /// What was counted and has devices ready somewhere: how many pods ask for what, and where.
    pub(super) fn counted(&self) -> impl Iterator<Item = (u32, &Wants, &NodeSet)> {
        let ready = |kind: &&Kind| kind.pods > 0 && !kind.ready.is_empty();
        let counted = self.in_pass.iter().filter(ready);
        counted.map(|kind| {
            let wants = self.covers[kind.cover].wants.as_ref();
            (kind.pods, wants, &kind.ready)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "nvidia.com/mig-1g.5gb";

    fn kind(kinds: &mut Kinds, wants: &Arc<Wants>, constraints: &Arc<Constraints>) -> KindId {
        let all = |_: &Constraints| std::iter::repeat_n(Eligibility::Allowed, 2).collect();
        kinds.kind(
            wants,
            constraints,
            [Devices::new(), Devices::new()].iter(),
            all,
        )
    }

    #[test]
    fn a_node_that_comes_or_goes_moves_what_is_known_of_the_others() {
        let (wants, constraints) = (Arc::new(Wants::from([(ONE.into(), 1)])), Arc::default());
        let free = Devices::from([(ONE.to_owned(), 1)]);
        let (mut kinds, now) = (Kinds::default(), Instant::now());
        kinds.begin(now);
        let known = kind(&mut kinds, &wants, &constraints);
        assert!(kinds.ready(known).is_empty());
        kinds.change(1, &free, |_| Eligibility::Allowed, now);
        kinds.insert(0);
        kinds.begin(now);
        let known = kind(&mut kinds, &wants, &constraints);
        assert_eq!(kinds.ready(known).iter().collect::<Vec<_>>(), [2]);
        assert_eq!(kinds.ready_since(known, 2), Some(now));
        assert!(
            !kinds.nodes(known).allowed().contains(0),
            "nobody has said yet"
        );
        kinds.remove(0);
        kinds.begin(now);
        let known = kind(&mut kinds, &wants, &constraints);
        assert_eq!(kinds.ready(known).iter().collect::<Vec<_>>(), [1]);
        assert_eq!(kinds.ready_since(known, 1), Some(now));
        kinds.remove(1);
        kinds.begin(now);
        let known = kind(&mut kinds, &wants, &constraints);
        assert!(kinds.ready(known).is_empty());
    }

    #[test]
    fn what_no_pod_asks_for_any_more_is_forgotten() {
        let (wants, constraints) = (Arc::new(Wants::from([(ONE.into(), 1)])), Arc::default());
        let (mut kinds, now) = (Kinds::default(), Instant::now());
        kinds.begin(now);
        kind(&mut kinds, &wants, &constraints);
        kinds.begin(now);
        assert_eq!((kinds.covers.len(), kinds.places.len()), (1, 1));
        kinds.begin(now);
        assert!(kinds.covers.is_empty() && kinds.places.is_empty());
        assert_eq!(Arc::strong_count(&wants), 1);
    }
}

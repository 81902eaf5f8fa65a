//! Slices that are kept free for pods that waited long for room.
//!
//! The planner chooses them and gives them to nobody else. That is not enough: the stock scheduler sends the
//! next small pod to a device as soon as the one that had it ends. So the node's status leaves out what
//! stands on those slices (`node_status.rs`), and what is idle there is given up.
//!
//! Pods on such slices may run for days, and nobody knows. So a pod that has slices kept free for it loses them when
//! none of those has ended for a while, to others for as long; then it asks again, for twice the time, and elsewhere
//! if there is an elsewhere. So does one that is not bound to the node once its devices are there. Whatever ends is
//! waited for long enough at last, and what never ends costs half of the time of few GPUs: a pod that needs more of them
//! than windows may have at a time waits for its next turn for as much longer.
//!
//! Slices of a GPU that cannot be partitioned are of no use. While that may be for a moment they stay kept free, for what
//! has ended there until then would be lost; if it lasts, the pod asks anew, as if it had never had them.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use mig::SliceMask;
use planner::{Ask, Planner, RefusalKind, Window};
use tokio::time::Instant;

use super::{World, alarms::Alarm, demand::DemandState};
use crate::{names::PodKey, nodes::NodeIndex, pods::PodRow};

/// A window is kept for so many times what pods wait until they get one, unless a pod on it ends before.
const PATIENCE: u32 = 4;
/// So many times as long if pods on it do end, and others are given their devices at that very moment: the scheduler counts
/// what else is idle on the node, the kubelet takes any device.
const MOST_UNLUCKY: u32 = 4;
/// That time is doubled so often at most.
const MOST_DOUBLINGS: u32 = 4;
/// GPUs of windows in vain that are remembered of one pod.
const MOST_AVOIDED: usize = 32;
/// How long GPUs with a window may be such that they cannot be partitioned: longer than one rests after failures, than a
/// node takes to start and a driver to be upgraded, as a rule.
const ABSENCE: Duration = Duration::from_mins(10);
/// How long after a pass the next one goes on with searches that it has put off, if nothing happens before.
const GO_ON: Duration = Duration::from_secs(1);

/// What a pod that waits for room has had of slices kept free.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Since when it waits for room.
    since: Option<Instant>,
    /// The slices that it has now.
    tenure: Option<Tenure>,
    /// Windows that it has had in vain.
    round: u32,
    /// For how long.
    spent: Duration,
    /// GPUs on which they were.
    avoid: Arc<[String]>,
    /// When it may ask again.
    paused: Option<Instant>,
}

/// A pod has a window.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    begun: Instant,
    /// Instances in use on its slices: the fewest so far.
    least: usize,
    /// Since when there have been as few.
    since: Instant,
    /// When the last of their pods was bound, in seconds of Unix time.
    newest: i64,
    /// When that was seen.
    moved: Instant,
    /// Since when its GPUs cannot be partitioned.
    absent: Option<Instant>,
}

/// Whether slices stay kept free for a pod where they are though it could not run there now: unless the node is not for it,
/// or it is not bound there, it only lacks room besides devices, or something is not known for a moment.
pub(super) fn stays(
    (key, row): (&PodKey, &PodRow),
    state: &DemandState,
    planner: &Planner,
    nodes: &NodeIndex,
    now: Instant,
) -> bool {
    if state.waiting.tenure.is_none() {
        return false;
    }
    let mut windows = planner.windows().iter();
    let own = windows.find(|window| PodKey::from(&window.key) == *key);
    own.is_some_and(|own| {
        let node = nodes.get(&own.node);
        let admits = node.is_some_and(|node| row.constraints.admits(node));
        admits && !state.aside.contains(&own.node, now)
    })
}

/// What a pod asks for, if it has a window or has waited long enough for one.
pub(super) fn ask(
    (key, row): (&PodKey, &PodRow),
    state: &DemandState,
    after: Option<Duration>,
    (now, second): (Instant, i64),
) -> Option<Ask> {
    let (after, waiting) = (after?, &state.waiting);
    waiting.asks(after, now).then(|| Ask {
        key: key.text(),
        kind: kind(row, state),
        spent: i64::try_from(waiting.spent.as_nanos()).unwrap_or(i64::MAX),
        avoid: Arc::clone(&waiting.avoid),
        stays: false,
        leaves: waiting.leaves(now),
        now: second,
        grain: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
    })
}

/// The number of all pods that ask for the same under the same constraints, and for which the same nodes are set aside, or
/// were.
fn kind(row: &PodRow, state: &DemandState) -> u64 {
    let mut kind = DefaultHasher::new();
    // Equal ones are shared as long as there are such pods.
    Arc::as_ptr(&row.wants).hash(&mut kind);
    Arc::as_ptr(&row.constraints).hash(&mut kind);
    state.aside.nodes().for_each(|node| node.hash(&mut kind));
    kind.finish()
}

impl Waiting {
    /// It was refused for this reason; when slices may be kept free for it, if that has changed.
    fn refused(&mut self, kind: RefusalKind, after: Duration, now: Instant) -> Option<Instant> {
        if kind == RefusalKind::NoRoom {
            let new = self.since.is_none();
            self.since.get_or_insert(now);
            return new.then(|| now + after);
        }
        // While an agent starts, nothing fits on its node.
        if self.tenure.is_none() {
            self.since = None;
        }
        None
    }

    /// Whether it has a window, or has waited long enough for one.
    fn asks(&self, after: Duration, now: Instant) -> bool {
        let waited = self.since.is_some_and(|since| now >= since + after);
        let may = self.paused.is_none_or(|until| now >= until);
        self.tenure.is_some() || waited && may
    }

    /// How long a window is kept for it though nothing ends there.
    fn hold(&self, after: Duration) -> Duration {
        after * PATIENCE * 2u32.pow(self.round.min(MOST_DOUBLINGS))
    }

    /// So many instances in use stand on its window now, and the last of their pods was bound then, as far as that is
    /// known. When it is to be taken back unless another one ends.
    fn has(&mut self, left: Option<(usize, i64)>, after: Duration, now: Instant) -> Instant {
        let known = self.tenure.map(|known| (known.least, known.newest));
        let (left, newest) = left.or(known).unwrap_or((usize::MAX, 0));
        let mut tenure = self.tenure.unwrap_or(Tenure {
            begun: now,
            least: left,
            since: now,
            newest,
            moved: now,
            absent: None,
        });
        if left < tenure.least {
            (tenure.least, tenure.since) = (left, now);
        }
        if newest > tenure.newest {
            (tenure.newest, tenure.moved) = (newest, now);
        }
        self.tenure = Some(tenure);
        let hold = self.hold(after);
        let last = tenure.since.max(tenure.moved);
        (last + hold).min(tenure.since + hold * MOST_UNLUCKY)
    }

    /// Whether the GPUs of its window can be partitioned now. When it leaves them unless that changes, if they cannot.
    fn sees(&mut self, can: bool, now: Instant) -> Option<Instant> {
        let tenure = self.tenure.as_mut()?;
        tenure.absent = (!can).then(|| tenure.absent.unwrap_or(now));
        tenure.absent.map(|since| since + ABSENCE)
    }

    /// Whether the GPUs of its window could not be partitioned for too long.
    fn leaves(&self, now: Instant) -> bool {
        let absent = self.tenure.and_then(|tenure| tenure.absent);
        absent.is_some_and(|since| now >= since + ABSENCE)
    }

    /// Devices lie ready for it on this node, and it is not bound there: then what is kept free for it there is of no
    /// use.
    pub(super) fn set_aside(
        &mut self,
        key: &PodKey,
        node: &str,
        planner: &Planner,
        after: Option<Duration>,
        now: Instant,
    ) {
        let mut windows = planner.windows().iter();
        let own = windows.find(|window| window.node == node && PodKey::from(&window.key) == *key);
        if let (Some(window), Some(after), true) = (own, after, self.tenure.is_some()) {
            self.in_vain(window, after, planner.most_window_gpus(), now);
        }
    }

    /// For how long it has had windows in vain.
    #[cfg(test)]
    pub(super) fn has_spent(&self) -> Duration {
        self.spent
    }

    /// When it may ask, if it may not now.
    pub(super) fn wake_at(&self, after: Option<Duration>, now: Instant) -> Option<Instant> {
        let at = (self.since? + after?).max(self.paused.unwrap_or(now));
        (self.tenure.is_none() && now < at).then_some(at)
    }

    /// It has had a window in vain, where `most` GPUs may have windows at a time. Returns until when it has none.
    fn in_vain(&mut self, window: &Window, after: Duration, most: usize, now: Instant) -> Instant {
        let hold = self.hold(after);
        let wide = u32::try_from(window.parts.len() / most.max(1)).unwrap_or(1);
        let mut avoid = self.avoid.to_vec();
        for part in &window.parts {
            if !avoid.contains(&part.uuid) {
                avoid.push(part.uuid.clone());
            }
        }
        if avoid.len() > MOST_AVOIDED {
            avoid.clear();
        }
        self.avoid = avoid.into();
        if let Some(tenure) = self.tenure.take() {
            self.spent += now.saturating_duration_since(tenure.begun);
        }
        self.round = self.round.saturating_add(1);
        let until = now + hold * wide.max(1);
        self.paused = Some(until);
        until
    }
}

impl World {
    /// A pod was refused for this reason.
    pub(super) fn waits(&mut self, key: &PodKey, kind: RefusalKind, now: Instant) {
        let demand = self.demands.get_mut(key).zip(self.config.window_after);
        let due = demand.and_then(|(demand, after)| demand.waiting.refused(kind, after, now));
        if let Some(at) = due {
            self.alarms.set(at, Alarm::Plan);
        }
    }

    /// The moment of a second of Unix time, if a clock can say it.
    pub(super) fn moment(&self, second: i64) -> Option<Instant> {
        let later = second.saturating_sub(self.config.started);
        let by = Duration::from_secs(later.unsigned_abs());
        if later < 0 {
            self.started.checked_sub(by)
        } else {
            self.started.checked_add(by)
        }
    }

    /// A pod that was there before us, created at this second, has waited since then, whatever the controller before us
    /// knew. So the first that has waited for long is given what that one kept free, before small ones are.
    pub(super) fn waited(&mut self, created: i64, now: Instant) -> Waiting {
        let after = self.config.window_after;
        let since = self.moment(created).map(|at| at.min(now));
        Waiting {
            since: since.filter(|_| after.is_some() && !self.pods.is_synced()),
            ..Waiting::default()
        }
    }

    /// Seconds of Unix time at a moment since the start.
    pub(super) fn second(&self, at: Instant) -> i64 {
        let passed = at.saturating_duration_since(self.started).as_secs();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        self.config.started.saturating_add(passed)
    }

    /// Slices of a node's GPUs that its status must not show, by uuid.
    pub(super) fn kept_free(&self, node: &str) -> impl Iterator<Item = (&str, SliceMask)> {
        let windows = self.board.planner.windows().iter();
        windows
            .filter(move |window| window.node == node && window.hides)
            .flat_map(|window| &window.parts)
            .map(|part| (part.uuid.as_str(), part.slices))
    }

    /// Devices of a node that pods may be getting at this moment, by resource, as the last pass had it.
    pub(super) fn reserved(&self, node: &str) -> &BTreeMap<String, u32> {
        static NOTHING: BTreeMap<String, u32> = BTreeMap::new();
        let planner = &self.board.planner;
        let node = planner.find(node).ok().and_then(|at| planner.node(at));
        node.map_or(&NOTHING, |node| &node.reserved)
    }

    /// For whom slices of a GPU are kept free.
    pub(super) fn keeps_for(&self, uuid: &str) -> impl Iterator<Item = (&str, SliceMask)> {
        let windows = self.board.planner.windows().iter();
        windows.flat_map(move |window| {
            let parts = window.parts.iter().filter(move |part| part.uuid == uuid);
            parts.map(|part| (&*window.key, part.slices))
        })
    }

    /// A pass is over, before which these slices were kept free: the status of nodes changes with them.
    pub(super) fn note_windows(&mut self, before: &[Window], now: Instant) {
        let windows = self.board.planner.windows();
        for window in windows.iter().filter(|window| !has(before, window)) {
            tracing::info!(pod = &*window.key, node = window.node, slices = ?window.parts, "keeping slices free");
        }
        for window in before.iter().filter(|window| !has(windows, window)) {
            tracing::info!(
                pod = &*window.key,
                node = window.node,
                "keeping no slices free any more"
            );
        }
        // What pods may be getting there may have changed, too.
        let nodes = windows.iter().chain(before).map(|window| &window.node);
        self.dirty.extend(nodes.cloned());
        self.metrics.kept_free(windows);
        for window in before.iter().filter(|window| !has(windows, window)) {
            if let Some(demand) = self.demands.get_mut(&PodKey::from(&window.key)) {
                demand.waiting.tenure = None;
            }
        }
        for window in windows {
            let demand = self.demands.get_mut(&PodKey::from(&window.key));
            if let Some(demand) = demand.filter(|demand| demand.waiting.leaves(now)) {
                // It left its window in this pass, and this is a new one.
                demand.waiting.tenure = None;
            }
        }
        self.watch_windows(now);
        if self.board.planner.puts_searches_off() {
            self.alarms.set(now + GO_ON, Alarm::Plan);
        }
    }

    /// Takes windows back on which nothing has ended for too long.
    fn watch_windows(&mut self, now: Instant) {
        let Some(after) = self.config.window_after else {
            return;
        };
        let planner = &self.board.planner;
        let mut over = false;
        for window in planner.windows() {
            let Some(demand) = self.demands.get_mut(&PodKey::from(&window.key)) else {
                continue;
            };
            let node = planner.find(&window.node).ok();
            let node = node.and_then(|at| planner.node(at));
            let left = node.and_then(|node| window.left(node));
            let mut at = demand.waiting.has(left, after, now);
            let can = node.is_some_and(|node| window.is_changeable(node));
            let leaves = demand.waiting.sees(can, now);
            if at <= now {
                over = true;
                let most = planner.most_window_gpus();
                at = demand.waiting.in_vain(window, after, most, now);
                tracing::info!(
                    pod = &*window.key,
                    node = window.node,
                    "nothing has ended on the slices that were kept free; giving them back"
                );
            }
            let next = leaves
                .filter(|leaves| now < *leaves)
                .map_or(at, |leaves| leaves.min(at));
            self.alarms.set(next, Alarm::Plan);
        }
        if over {
            self.request_plan(now);
        }
    }
}

/// Whether the same slices are kept for the same pod.
fn has(windows: &[Window], window: &Window) -> bool {
    let mut windows = windows.iter();
    windows.any(|known| known.key == window.key && known.parts == window.parts)
}

#[cfg(test)]
mod tests {
    use planner::Part;

    use super::*;

    const AFTER: Duration = Duration::from_mins(10);

    fn window(gpus: usize) -> Window {
        let part = |gpu: usize| Part {
            gpu,
            uuid: format!("GPU-{gpu}"),
            slices: SliceMask::EMPTY,
        };
        Window {
            key: "ns/pod".into(),
            priority: 0,
            node: "a".into(),
            parts: (0..gpus).map(part).collect(),
            hides: true,
        }
    }

    #[test]
    fn who_needs_more_gpus_than_windows_may_have_pauses_for_as_much_longer() {
        let now = Instant::now();
        let pause = |gpus: usize, most: usize| {
            let until = Waiting::default().in_vain(&window(gpus), AFTER, most, now);
            (until - now).as_secs() / AFTER.as_secs()
        };
        assert_eq!((pause(1, 1), pause(2, 2), pause(1, 24)), (4, 4, 4));
        assert_eq!((pause(8, 1), pause(8, 2), pause(3, 2)), (32, 16, 4));
    }

    #[test]
    fn windows_in_vain_become_longer_up_to_a_bound_and_count_as_no_age() {
        let (mut waiting, mut now) = (Waiting::default(), Instant::now());
        let mut all = Duration::ZERO;
        for times in [4, 8, 16, 32, 64, 64, 64] {
            let end = waiting.has(Some((3, 0)), AFTER, now);
            assert_eq!(end - now, AFTER * times);
            all += end - now;
            now = waiting.in_vain(&window(1), AFTER, 1, end);
            assert_eq!(waiting.spent, all);
        }
    }

    #[test]
    fn a_window_is_kept_while_pods_end_there_and_longer_if_others_get_their_devices_but_not_for_ever()
     {
        let (mut waiting, begun) = (Waiting::default(), Instant::now());
        let at = |minutes: u64| begun + Duration::from_mins(minutes);
        assert_eq!(waiting.has(Some((3, 100)), AFTER, begun), at(40));
        assert_eq!(waiting.has(Some((2, 100)), AFTER, at(10)), at(50));
        assert_eq!(waiting.has(Some((3, 100)), AFTER, at(20)), at(50));
        // Its agent starts anew.
        assert_eq!(waiting.has(None, AFTER, at(22)), at(50));
        for minutes in (30..160).step_by(10) {
            let newest = 100 + i64::try_from(minutes).unwrap();
            let end = waiting.has(Some((2, newest)), AFTER, at(minutes));
            assert_eq!(end, at((minutes + 40).min(170)));
        }
    }
}

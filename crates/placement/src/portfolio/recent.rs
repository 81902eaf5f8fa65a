//! The pods that were seen last, and windows of them.

use super::replay::{Pod, Window};
use crate::{geometry::ProfileId, policy::Mix};

/// Names a pod that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen(u64);

#[derive(Clone, Copy, Debug)]
struct Row {
    time: u64,
    /// `u64::MAX` until it starts.
    start: u64,
    /// `u64::MAX` while it runs.
    end: u64,
    profile: ProfileId,
}

impl Row {
    fn has_started(&self) -> bool {
        self.start != u64::MAX
    }
}

/// A ring of pods.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    rows: Vec<Row>,
    window: usize,
    /// Pods of all rings before this one; none of them is kept.
    before_all: u64,
    /// Number of the next pod that is kept; it goes to that place of the ring, round and round.
    next: u64,
    /// Number from which on pods were in no window that counted.
    fresh: u64,
    skipped: u32,
    /// Pods of the last window, by profile.
    mix: Option<Vec<u32>>,
    before: Option<Vec<u32>>,
}

impl Recent {
    pub(super) fn new(window: usize) -> Self {
        Self {
            rows: Vec::new(),
            window,
            before_all: 0,
            next: 0,
            fresh: 0,
            skipped: 0,
            mix: None,
            before: None,
        }
    }

    /// Keeps one of `every` pods.
    pub(super) fn arrived(
        &mut self,
        time: u64,
        profile: ProfileId,
        started: bool,
        every: u32,
    ) -> Option<Seen> {
        self.skipped += 1;
        if self.skipped < every {
            return None;
        }
        self.skipped = 0;
        let row = Row {
            time,
            end: u64::MAX,
            profile,
            start: if started { time } else { u64::MAX },
        };
        let name = Seen(self.before_all + self.next);
        let place = self.place(self.next);
        match self.rows.get_mut(place) {
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
        self.next += 1;
        Some(name)
    }

    /// How many pods a window has.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Begins anew with windows of another length.
    pub(super) fn begin_anew(&mut self, window: usize) {
        let before_all = self.before_all + self.next;
        *self = Self {
            before_all,
            ..Self::new(window)
        };
    }

    pub(super) fn is_kept(&self, pod: Seen) -> bool {
        let number = pod.0.checked_sub(self.before_all);
        number.is_some_and(|n| n < self.next && n + self.length() >= self.next)
    }

    pub(super) fn started(&mut self, pod: Seen, time: u64) {
        if let Some(row) = self.row(pod).filter(|row| !row.has_started()) {
            row.start = time.max(row.time);
        }
    }

    pub(super) fn ended(&mut self, pod: Seen, time: u64) {
        if let Some(row) = self.row(pod).filter(|row| row.has_started()) {
            row.end = time.max(row.start);
        }
    }

    fn row(&mut self, pod: Seen) -> Option<&mut Row> {
        if !self.is_kept(pod) {
            return None;
        }
        let place = self.place(pod.0 - self.before_all);
        self.rows.get_mut(place)
    }

    /// Whether three quarters of a window are new; the first quarter of a window counts for nothing,
    /// so that every pod counts once.
    pub(super) fn is_due(&self) -> bool {
        let warm = if self.fresh == 0 {
            0
        } else {
            self.length() / 4
        };
        self.next - self.fresh + warm >= self.length()
    }

    /// The last window, if it is due.
    pub(super) fn take(&mut self) -> Option<Window> {
        if !self.is_due() {
            return None;
        }
        let first = self.next - self.length();
        let rows = (first..self.next).filter_map(|number| self.rows.get(self.place(number)));
        let rows: Vec<Row> = rows.copied().collect();
        self.fresh = self.next;
        self.before = self.mix.take();
        self.mix = Some(count(&rows));
        Some(window(&rows))
    }

    /// What the window before the last one asked for.
    pub(super) fn mix(&self, profiles: usize) -> Option<Mix> {
        let mut parts = self.before.clone()?;
        parts.resize(profiles, 0);
        Some(Mix::new(parts))
    }

    fn length(&self) -> u64 {
        u64::try_from(self.window).unwrap_or(u64::MAX)
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number % self.length().max(1)).unwrap_or(0)
    }
}

fn count(rows: &[Row]) -> Vec<u32> {
    let mut parts = Vec::new();
    for row in rows {
        let at = row.profile.index();
        if parts.len() <= at {
            parts.resize(at + 1, 0);
        }
        parts[at] += 1;
    }
    parts
}

/// A pod that had to wait is replayed from when it came, for as long as it ran.
///
/// Pods that found no place get the life of the one of their profile that started before them, or
/// of the first that started; without any that started, they say nothing and are left out.
fn window(rows: &[Row]) -> Window {
    let mut life: Vec<Option<u64>> = Vec::new();
    let lasts = |row: &Row| match row.end {
        u64::MAX => u64::MAX,
        end => end.saturating_sub(row.start),
    };
    for row in rows.iter().rev().filter(|row| row.has_started()) {
        let at = row.profile.index();
        if life.len() <= at {
            life.resize(at + 1, None);
        }
        life[at] = Some(lasts(row));
    }
    let mut pods = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(Some(last)) = life.get_mut(row.profile.index()) else {
            continue;
        };
        if row.has_started() {
            *last = lasts(row);
        }
        pods.push(Pod {
            time: row.time,
            end: row.time.saturating_add(*last),
            profile: row.profile,
        });
    }
    Window { pods }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_found_no_place_live_as_long_as_their_neighbours() {
        let mut recent = Recent::new(256);
        let (big, small) = (ProfileId(0), ProfileId(5));
        let one = recent.arrived(10, big, true, 1).unwrap();
        recent.arrived(20, big, false, 1);
        recent.arrived(30, small, false, 1);
        let two = recent.arrived(40, small, true, 1).unwrap();
        recent.ended(one, 15);
        recent.ended(two, 140);
        for time in 50..302 {
            recent.arrived(time, ProfileId(3), false, 1);
        }
        assert!(recent.is_due());
        let pods = recent.take().unwrap().pods;
        let ends: Vec<u64> = pods.iter().map(|pod| pod.end).collect();
        // Of profile 3 nobody knows anything.
        assert_eq!(ends, [15, 25, 130, 140]);
    }

    #[test]
    fn a_pod_that_waited_lives_from_when_it_came_as_long_as_it_ran() {
        let mut recent = Recent::new(256);
        let pod = recent.arrived(10, ProfileId(0), false, 1).unwrap();
        let runs = recent.arrived(20, ProfileId(0), false, 1).unwrap();
        recent.started(pod, 500);
        recent.ended(pod, 530);
        recent.started(runs, 600);
        for time in 50..304 {
            recent.arrived(time, ProfileId(3), false, 1);
        }
        let pods = recent.take().unwrap().pods;
        let ends: Vec<u64> = pods.iter().map(|pod| pod.end).collect();
        assert_eq!(ends, [40, u64::MAX]);
    }

    #[test]
    fn an_end_before_a_start_and_a_second_start_change_nothing() {
        let mut recent = Recent::new(256);
        let never = recent.arrived(10, ProfileId(0), false, 1).unwrap();
        recent.ended(never, 20);
        let twice = recent.arrived(30, ProfileId(0), true, 1).unwrap();
        recent.started(twice, 35);
        recent.ended(twice, 40);
        for time in 50..304 {
            recent.arrived(time, ProfileId(3), false, 1);
        }
        let pods = recent.take().unwrap().pods;
        let ends: Vec<u64> = pods.iter().map(|pod| pod.end).collect();
        // The one that never ran would have run as long as the other.
        assert_eq!(ends, [20, 40]);
    }

    #[test]
    fn names_from_before_a_new_beginning_mean_nobody() {
        let mut recent = Recent::new(256);
        let old = recent.arrived(0, ProfileId(0), true, 1).unwrap();
        recent.begin_anew(512);
        let new = recent.arrived(1, ProfileId(0), true, 1).unwrap();
        assert!(!recent.is_kept(old) && recent.is_kept(new));
        recent.ended(old, 5);
        assert_eq!(recent.rows[0].end, u64::MAX);
        recent.ended(new, 7);
        assert_eq!(recent.rows[0].end, 7);
        for time in 2..512 {
            assert!(recent.take().is_none());
            recent.arrived(time, ProfileId(0), true, 1);
        }
        assert!(!recent.is_due());
        recent.arrived(512, ProfileId(0), true, 1);
        assert_eq!(recent.take().unwrap().pods.len(), 512);
    }

    #[test]
    fn after_the_first_window_three_quarters_are_new_each_time() {
        let mut recent = Recent::new(256);
        let mut due = Vec::new();
        for time in 0..1000 {
            recent.arrived(time, ProfileId(0), true, 1);
            if recent.take().is_some() {
                due.push(time);
            }
        }
        assert_eq!(due, [255, 447, 639, 831]);
    }

    #[test]
    fn an_end_of_a_pod_that_is_no_longer_kept_changes_nothing() {
        let mut recent = Recent::new(256);
        let old = recent.arrived(0, ProfileId(0), true, 1).unwrap();
        for time in 1..=256 {
            recent.arrived(time, ProfileId(0), true, 1);
        }
        recent.ended(old, 7);
        recent.ended(Seen(1_000_000), 7);
        assert!(recent.rows.iter().all(|row| row.end == u64::MAX));
    }
}

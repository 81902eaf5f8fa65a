//! Who waits, by age.

use std::collections::VecDeque;

use placement::ProfileId;

/// A pod that waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Waiting {
    pub(super) since: f64,
    pub(super) lifetime: f64,
    pub(super) profile: ProfileId,
    /// Rises with age of arrival.
    pub(super) number: u64,
}

/// A line for each profile, so that a profile that fits nowhere is asked for once only.
pub(super) struct Line {
    lines: Vec<VecDeque<Waiting>>,
}

impl Line {
    pub(super) fn new(profiles: usize) -> Self {
        Self {
            lines: vec![VecDeque::new(); profiles],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(VecDeque::is_empty)
    }

    pub(super) fn push(&mut self, pod: Waiting) {
        self.lines[pod.profile.index()].push_back(pod);
    }

    /// The oldest pod of the profiles that were not refused.
    pub(super) fn oldest(&self, refused: &[bool]) -> Option<Waiting> {
        let open = self
            .lines
            .iter()
            .zip(refused)
            .filter(|(_, refused)| !**refused);
        let heads = open.filter_map(|(line, _)| line.front());
        heads.min_by_key(|pod| pod.number).copied()
    }

    /// All that wait since before a moment, the oldest first.
    pub(super) fn before(&self, moment: f64) -> Vec<Waiting> {
        let of_line = |line: &VecDeque<Waiting>| -> Vec<Waiting> {
            line.iter()
                .take_while(|pod| pod.since < moment)
                .copied()
                .collect()
        };
        let mut old: Vec<Waiting> = self.lines.iter().flat_map(of_line).collect();
        old.sort_unstable_by_key(|pod| pod.number);
        old
    }

    pub(super) fn take(&mut self, number: u64) -> Option<Waiting> {
        self.lines.iter_mut().find_map(|line| {
            let at = line.binary_search_by_key(&number, |pod| pod.number).ok()?;
            line.remove(at)
        })
    }

    pub(super) fn count_since(&self, moment: f64) -> usize {
        let pods = self.lines.iter().flatten();
        pods.filter(|pod| pod.since >= moment).count()
    }
}

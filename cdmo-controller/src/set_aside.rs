//! Nodes that a pod does not reach for reasons unknown to us.
//!
//! Not every constraint of the scheduler is looked at (pod anti-affinity, volumes, quotas of other
//! plugins). Where devices have been ready for a pod for a while and the scheduler still has not
//! bound it, the node is set aside for that pod, so that it is served elsewhere and no longer keeps
//! idle devices from being given up.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// How long devices must be ready. Longer than the longest back-off of stock schedulers (10 s) and
/// the kubelet's status interval (10 s) together.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a node is set aside the first time; doubles with each time.
const FIRST: Duration = Duration::from_mins(1);
/// Doublings at most: 64 minutes.
const MOST_DOUBLINGS: u32 = 6;
/// Times that a node was set aside for a pod that binds slowly until the pod is no longer taken to be
/// on its way there: a quarter of an hour in all, for stock schedulers wait ten minutes for volumes.
const SLOW_BINDING: u32 = 4;

/// What one pod has learned.
#[derive(Debug, Default)]
pub struct SetAside {
    /// Since when devices for the pod have been ready, by node.
    ready: BTreeMap<String, Instant>,
    /// Until when nodes are set aside, and how often they were.
    until: BTreeMap<String, (Instant, u32)>,
}

impl SetAside {
    /// Whether the node is set aside.
    pub fn contains(&self, node: &str, now: Instant) -> bool {
        self.until.get(node).is_some_and(|(until, _)| now < *until)
    }

    /// Whether the node is set aside, but not for so long that a pod that binds slowly could not still
    /// be on its way there.
    pub fn may_be_bound_to(&self, node: &str, now: Instant) -> bool {
        let known = self.until.get(node);
        known.is_some_and(|(until, times)| now < *until && *times <= SLOW_BINDING)
    }

    /// Whether no node was ever set aside.
    pub fn is_blank(&self) -> bool {
        self.until.is_empty()
    }

    /// The nodes that are set aside, or were.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.until.keys().map(String::as_str)
    }

    /// Devices on the node have been ready for the pod since then, as somebody else kept in mind so far.
    pub fn was_ready(&mut self, node: &str, since: Instant) {
        self.ready.insert(node.to_owned(), since);
    }

    /// Says on which nodes devices are ready for the pod now; returns those set aside by that.
    pub fn review<'a>(
        &mut self,
        ready: impl Iterator<Item = &'a str>,
        now: Instant,
    ) -> Vec<String> {
        let before = std::mem::take(&mut self.ready);
        let mut given_up = Vec::new();
        for node in ready {
            let since = before.get(node).copied().unwrap_or(now);
            if now < since + PATIENCE {
                self.ready.insert(node.to_owned(), since);
                continue;
            }
            let times = self.until.get(node).map_or(0, |(_, times)| *times);
            let rest = FIRST * 2u32.pow(times.min(MOST_DOUBLINGS));
            self.until.insert(node.to_owned(), (now + rest, times + 1));
            given_up.push(node.to_owned());
        }
        given_up
    }

    /// When something changes by time alone.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        let ready = self.ready.values().map(|since| *since + PATIENCE);
        let until = self
            .until
            .values()
            .map(|(until, _)| *until)
            .filter(|until| *until > now);
        ready.chain(until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_where_devices_lie_ready_in_vain_is_set_aside_for_longer_each_time() {
        let (mut aside, now) = (SetAside::default(), Instant::now());
        assert!(aside.review(["a"].into_iter(), now).is_empty());
        assert_eq!(aside.wake_at(now), Some(now + PATIENCE));
        let later = now + PATIENCE;
        assert_eq!(aside.review(["a"].into_iter(), later), ["a"]);
        assert!(aside.contains("a", later) && !aside.contains("b", later));
        assert!(!aside.contains("a", later + FIRST));
        let again = later + FIRST;
        aside.review(["a"].into_iter(), again);
        assert_eq!(aside.review(["a"].into_iter(), again + PATIENCE), ["a"]);
        assert!(aside.contains("a", again + PATIENCE + FIRST));
    }

    #[test]
    fn devices_that_were_taken_in_between_start_the_wait_anew() {
        let (mut aside, now) = (SetAside::default(), Instant::now());
        aside.review(["a"].into_iter(), now);
        aside.review([].into_iter(), now + PATIENCE / 2);
        assert!(aside.review(["a"].into_iter(), now + PATIENCE).is_empty());
    }
}

//! Which admissions are still to come.
//!
//! The agent is told which pods are bound to its node at about the time at which the kubelet is told,
//! so a pod that is new there is about to be admitted, or has been admitted already. The kubelet's own
//! calls tell which: every container's wish for a resource is one Allocate for just so many devices,
//! those that it has from the pod's init containers included. No call says for which pod it is, so calls and
//! wishes are matched by number. Two pods that wish the same are then taken for each other, which does no
//! harm: as many are expected as are still to come.

use std::time::Duration;

use tokio::time::Instant;

/// A pod that was bound to the node a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// UID of the pod.
    pub pod: String,
    /// What the kubelet will ask for it: for each container and resource, the resource's name and a
    /// number of devices above 0.
    pub grants: Vec<(String, usize)>,
}

/// A call that is to come, or came before it was announced.
#[derive(Debug)]
struct Call {
    resource: String,
    count: usize,
    /// When its pod was announced, or the call came.
    since: Instant,
}

impl Call {
    fn is(&self, resource: &str, count: usize) -> bool {
        self.resource == resource && self.count == count
    }
}

/// Calls to Allocate that are to come, and those that nobody had announced.
#[derive(Debug)]
pub(crate) struct Expectations {
    /// An admission begins within this of the word that its pod was bound.
    patience: Duration,
    /// Call and word belong together if they are no farther apart.
    memory: Duration,
    /// With the UIDs of their pods, the oldest first.
    coming: Vec<(String, Call)>,
    /// The oldest first.
    unannounced: Vec<Call>,
}

impl Expectations {
    /// Nothing is to come.
    pub(crate) fn new(patience: Duration, memory: Duration) -> Self {
        Self {
            patience,
            memory,
            coming: Vec::new(),
            unannounced: Vec::new(),
        }
    }

    /// The pod was bound. What the kubelet has asked for already is not to come.
    pub(crate) fn announced(&mut self, pod: &Expected, now: Instant) {
        self.forget_old(now);
        for (resource, count) in &pod.grants {
            let came = self.unannounced.iter();
            if let Some(at) = came.into_iter().position(|call| call.is(resource, *count)) {
                self.unannounced.remove(at);
                continue;
            }
            let call = Call {
                resource: resource.clone(),
                count: *count,
                since: now,
            };
            self.coming.push((pod.pod.clone(), call));
        }
    }

    /// The pod is gone or will not be admitted.
    pub(crate) fn gone(&mut self, pod: &str) {
        self.coming.retain(|(other, _)| other != pod);
    }

    /// The kubelet calls Allocate for so many devices.
    pub(crate) fn called(&mut self, resource: &str, count: usize, now: Instant) {
        self.forget_old(now);
        let mut coming = self.coming.iter();
        if let Some(at) = coming.position(|(_, call)| call.is(resource, count)) {
            self.coming.remove(at);
            return;
        }
        self.unannounced.push(Call {
            resource: resource.to_owned(),
            count,
            since: now,
        });
    }

    /// When nothing is to come any more unless it comes; none if nothing is.
    pub(crate) fn over(&self, now: Instant) -> Option<Instant> {
        let last = self.coming.last().map(|(_, call)| call.since);
        let over = last.map(|since| since + self.patience);
        over.filter(|over| *over > now)
    }

    fn forget_old(&mut self, now: Instant) {
        let recent = |call: &Call| now < call.since + self.memory;
        self.coming.retain(|(_, call)| recent(call));
        self.unannounced.retain(recent);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);
    const MEMORY: Duration = Duration::from_secs(5);

    fn nothing() -> (Expectations, Instant) {
        (Expectations::new(PATIENCE, MEMORY), Instant::now())
    }

    fn pod(uid: &str, grants: &[(&str, usize)]) -> Expected {
        let grants = grants.iter().map(|(name, count)| ((*name).into(), *count));
        Expected {
            pod: uid.to_owned(),
            grants: grants.collect(),
        }
    }

    #[test]
    fn a_pod_is_expected_until_the_kubelet_has_asked_for_all_its_containers() {
        let (mut expected, now) = nothing();
        expected.announced(&pod("a", &[("x", 1), ("x", 2), ("y", 1)]), now);
        for (resource, count) in [("y", 1), ("x", 2)] {
            expected.called(resource, count, now);
            assert_eq!(expected.over(now), Some(now + PATIENCE));
        }
        expected.called("x", 1, now);
        assert_eq!(expected.over(now), None);
    }

    #[test]
    fn a_pod_is_expected_for_so_long_only() {
        let (mut expected, now) = nothing();
        expected.announced(&pod("a", &[("x", 1)]), now);
        assert_eq!(expected.over(now + PATIENCE), None);
    }

    #[test]
    fn the_admission_of_one_pod_leaves_the_others_expected() {
        let (mut expected, now) = nothing();
        expected.announced(&pod("a", &[("x", 1)]), now);
        expected.announced(&pod("b", &[("x", 1)]), now);
        expected.called("x", 1, now);
        assert!(expected.over(now).is_some());
        expected.called("x", 1, now);
        assert_eq!(expected.over(now), None);
    }

    #[test]
    fn a_pod_that_was_admitted_before_it_was_announced_is_not_expected() {
        let (mut expected, now) = nothing();
        expected.called("x", 1, now);
        let later = now + MEMORY / 2;
        expected.announced(&pod("a", &[("x", 1)]), later);
        assert_eq!(expected.over(later), None);
        expected.announced(&pod("b", &[("x", 1)]), later);
        assert!(expected.over(later).is_some(), "one call is for one pod");
    }

    #[test]
    fn an_old_call_says_nothing_about_a_new_pod() {
        let (mut expected, now) = nothing();
        expected.called("x", 1, now);
        let later = now + MEMORY;
        expected.announced(&pod("a", &[("x", 1)]), later);
        assert!(expected.over(later).is_some());
    }

    #[test]
    fn a_call_that_came_late_is_that_of_the_pod_that_was_announced() {
        let (mut expected, now) = nothing();
        expected.announced(&pod("a", &[("x", 1)]), now);
        let late = now + 2 * PATIENCE;
        expected.called("x", 1, late);
        expected.announced(&pod("b", &[("x", 1)]), late);
        assert!(expected.over(late).is_some());
    }

    #[test]
    fn a_pod_that_is_gone_is_not_expected() {
        let (mut expected, now) = nothing();
        expected.announced(&pod("a", &[("x", 1), ("y", 1)]), now);
        expected.announced(&pod("b", &[("x", 1)]), now);
        expected.gone("a");
        assert!(expected.over(now).is_some());
        expected.gone("b");
        assert_eq!(expected.over(now), None);
    }

    proptest! {
        #[test]
        fn in_whatever_order_calls_and_words_come_nothing_is_left_to_come(
            pods in prop::collection::vec(prop::collection::vec((0..2usize, 1..3usize), 1..3), 1..6),
            order in prop::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            enum Event { Word(Expected), Call(String, usize) }
            let (mut expected, now) = nothing();
            let mut events = Vec::new();
            for (number, grants) in pods.into_iter().enumerate() {
                let grants: Vec<_> = grants.into_iter().map(|(r, n)| (format!("r{r}"), n)).collect();
                events.extend(grants.iter().map(|(r, n)| Event::Call(r.clone(), *n)));
                events.push(Event::Word(Expected { pod: number.to_string(), grants }));
            }
            let mut order = order.into_iter();
            while !events.is_empty() {
                let at = order.next().map_or(0, |index| index.index(events.len()));
                match events.swap_remove(at) {
                    Event::Word(pod) => expected.announced(&pod, now),
                    Event::Call(resource, count) => expected.called(&resource, count, now),
                }
            }
            prop_assert_eq!(expected.over(now), None);
            prop_assert!(expected.unannounced.is_empty());
        }
    }
}

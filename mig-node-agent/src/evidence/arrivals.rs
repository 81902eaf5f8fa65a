//! Which pods a new table brings: the kubelet is about to admit them, and is left alone meanwhile.

use std::collections::HashSet;

use cdmo_proto::agent::{Pod, PodTable};
use device_plugin::Expected;

/// What changed from one table of a session to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Pods that were bound to the node and ask for devices.
    pub came: Vec<Expected>,
    /// UIDs of pods that left or have ended.
    pub gone: Vec<String>,
}

impl Arrivals {
    /// Between two tables. Whoever has but one cannot tell a new pod from an old one.
    pub fn between(before: &PodTable, after: &PodTable) -> Self {
        let was_there: HashSet<&str> = before.pods.iter().map(|pod| pod.uid.as_str()).collect();
        let is_there: HashSet<&str> = live(after).map(|pod| pod.uid.as_str()).collect();
        let new = live(after).filter(|pod| !was_there.contains(pod.uid.as_str()));
        let asking = new.map(expected).filter(|pod| !pod.grants.is_empty());
        let gone = live(before).filter(|pod| !is_there.contains(pod.uid.as_str()));
        Self {
            came: asking.collect(),
            gone: gone.map(|pod| pod.uid.clone()).collect(),
        }
    }
}

fn live(table: &PodTable) -> impl Iterator<Item = &Pod> {
    table.pods.iter().filter(|pod| !pod.terminal)
}

fn expected(pod: &Pod) -> Expected {
    let requests = pod.containers.iter().flat_map(|one| &one.requests);
    // A count beyond memory is never granted, and then nothing is called for it.
    let grants = requests.filter_map(|request| {
        let count = usize::try_from(request.count).ok().filter(|n| *n > 0)?;
        Some((request.resource.clone(), count))
    });
    Expected {
        pod: pod.uid.clone(),
        grants: grants.collect(),
    }
}

#[cfg(test)]
mod tests {
    use cdmo_proto::agent::{Container, ResourceCount};

    use super::*;

    fn container(requests: &[(&str, u32)]) -> Container {
        let requests = requests.iter().map(|(resource, count)| ResourceCount {
            resource: (*resource).into(),
            count: *count,
        });
        Container {
            requests: requests.collect(),
            ..Container::default()
        }
    }

    fn pod(uid: &str) -> Pod {
        Pod {
            uid: uid.into(),
            containers: vec![container(&[("x", 1)])],
            ..Pod::default()
        }
    }

    fn ended(uid: &str) -> Pod {
        Pod {
            terminal: true,
            ..pod(uid)
        }
    }

    fn between(before: Vec<Pod>, after: Vec<Pod>) -> Arrivals {
        let table = |pods| PodTable { revision: 1, pods };
        Arrivals::between(&table(before), &table(after))
    }

    #[test]
    fn a_new_pod_is_expected_with_what_each_container_asks_for() {
        let mut new = pod("b");
        new.containers = vec![
            container(&[("x", 1), ("y", 2), ("z", 0)]),
            container(&[]),
            container(&[("x", 1)]),
        ];
        let arrivals = between(vec![pod("a")], vec![pod("a"), new]);
        let grants = [("x", 1), ("y", 2), ("x", 1)].map(|(name, count)| (name.to_owned(), count));
        let came = Expected {
            pod: "b".into(),
            grants: grants.into(),
        };
        assert_eq!(arrivals.came, [came]);
        assert!(arrivals.gone.is_empty());
    }

    #[test]
    fn pods_that_ask_for_nothing_or_have_ended_are_not_expected() {
        let mut idle = pod("b");
        idle.containers = vec![container(&[])];
        let arrivals = between(Vec::new(), vec![idle, ended("c")]);
        assert_eq!(arrivals, Arrivals::default());
    }

    #[test]
    fn a_pod_that_left_or_ended_is_gone_once() {
        let arrivals = between(vec![pod("a"), pod("b"), ended("c")], vec![ended("b")]);
        assert_eq!(arrivals.gone, ["a", "b"]);
        assert!(arrivals.came.is_empty());
    }
}

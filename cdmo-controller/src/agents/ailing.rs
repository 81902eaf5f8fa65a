//! Why an agent's pod does not come up, as far as the pod itself tells.
//!
//! What only its Events say (a directory that is not there, for one) stays with the kubelet; then the
//! pod is named, so that somebody can look.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::{
    names::PodKey,
    objects::{ContainerStatus, PodLite, Terminated},
    pods::key_of,
};

/// What the kubelet says of containers that will start unless something keeps it from it.
const ON_ITS_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// What it says of those that it holds back because they ended too often.
const BACK_OFF: &str = "CrashLoopBackOff";
/// What it says after an attempt to pull an image ...
const PULL_FAILED: &str = "ErrImagePull";
/// ... and until the next one.
const PULL_PAUSES: &str = "ImagePullBackOff";

/// Why a pod does not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// Nothing is wrong that the pod knows of, but it does not start.
    Waits {
        /// The kubelet's word.
        reason: String,
    },
    /// A container cannot be started, or ends.
    Fails {
        /// What happened.
        why: String,
    },
}

impl Ailment {
    /// Between two attempts to pull an image the kubelet says less than after each of them.
    fn is_news_after(&self, known: &Self) -> bool {
        let begins = |ailment: &Self, word: &str| matches!(ailment, Self::Fails { why } if why.starts_with(word));
        let less = begins(self, PULL_PAUSES) && begins(known, PULL_FAILED);
        self != known && !less
    }
}

/// A pod that does not come up.
#[derive(Clone, Debug)]
pub struct Ailing {
    /// The pod.
    pub pod: PodKey,
    /// Why.
    pub ailment: Ailment,
    /// When it was first seen not to come up.
    pub since: Instant,
}

/// What the pod says; nothing if all goes well.
fn ailment(pod: &PodLite) -> Option<Ailment> {
    let status = &pod.status;
    // The kubelet fills these in before it has done anything.
    let all = || {
        status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
    };
    let failure = all().find_map(failure).map(|why| Ailment::Fails { why });
    let waiting = || {
        let mut reasons = all().filter_map(|container| container.state.waiting.as_ref());
        reasons.next().map(|waiting| Ailment::Waits {
            reason: waiting.reason.clone(),
        })
    };
    failure.or_else(waiting)
}

fn failure(container: &ContainerStatus) -> Option<String> {
    if container.ready {
        return None;
    }
    // A container that was just started again may end again.
    let ended = [&container.state, &container.last_state]
        .into_iter()
        .find_map(|state| {
            state
                .terminated
                .as_ref()
                .filter(|ended| ended.exit_code != 0)
        });
    let stuck = container.state.waiting.as_ref().filter(|waiting| {
        waiting.reason != BACK_OFF && !ON_ITS_WAY.contains(&waiting.reason.as_str())
    });
    match (stuck, ended) {
        (Some(waiting), _) if waiting.message.is_empty() => Some(waiting.reason.clone()),
        (Some(waiting), _) => Some(format!("{}: {}", waiting.reason, waiting.message.trim())),
        (None, Some(ended)) => Some(last_words(ended)),
        (None, None) => None,
    }
}

/// The last line that it wrote, which is why it ended if it ended by itself.
fn last_words(ended: &Terminated) -> String {
    let code = ended.exit_code;
    let line = ended.message.lines().rev().map(str::trim);
    match line.clone().find(|line| !line.is_empty()) {
        Some(line) => format!("{line} (exit code {code})"),
        None => format!("it ended with exit code {code}, {}", ended.reason),
    }
}

/// Those that do not come up, by node.
#[derive(Debug, Default)]
pub(super) struct Ward(BTreeMap<String, Ailing>);

impl Ward {
    /// The one of a node.
    pub(super) fn get(&self, node: &str) -> Option<&Ailing> {
        self.0.get(node)
    }

    /// Their pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = &PodKey> {
        self.0.values().map(|ailing| &ailing.pod)
    }

    /// A pod changed. Returns its node if there is something new to say of it.
    pub(super) fn look(&mut self, pod: &PodLite, now: Instant) -> Option<String> {
        let node = pod
            .spec
            .node_name
            .as_ref()
            .filter(|node| !node.is_empty())?;
        let key = key_of(pod);
        // What a pod says on its way out concerns nobody.
        let ends = pod.metadata.deletion_timestamp.is_some();
        let Some(ailment) = ailment(pod).filter(|_| !ends) else {
            return self.discharge(&key);
        };
        let known = self.0.get(node).filter(|known| known.pod == key);
        if known.is_some_and(|known| !ailment.is_news_after(&known.ailment)) {
            return None;
        }
        // That it waited before counts, if it waits for something else now.
        let kind = std::mem::discriminant(&ailment);
        let since = known
            .filter(|known| std::mem::discriminant(&known.ailment) == kind)
            .map_or(now, |known| known.since);
        let ailing = Ailing {
            pod: key,
            ailment,
            since,
        };
        self.0.insert(node.clone(), ailing);
        Some(node.clone())
    }

    /// A pod is well or gone. Returns its node if it was not.
    pub(super) fn discharge(&mut self, key: &PodKey) -> Option<String> {
        let node = self
            .0
            .iter()
            .find(|(_, ailing)| ailing.pod == *key)?
            .0
            .clone();
        self.0.remove(&node);
        Some(node)
    }
}

#[cfg(test)]
mod tests;

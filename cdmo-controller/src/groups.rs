//! Groups of pods that start together or not at all, as annotations name them.
//!
//! A pod says which group of its namespace it belongs to ([`GROUP_ANNOTATION`]), and how many pods that has
//! ([`GROUP_SIZE_ANNOTATION`]). Without a size a group is whoever waits at the moment, and pods of a Job come one
//! after the other. Only pods that ask for our devices count.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use planner::Group;

use crate::{
    names::{GROUP_ANNOTATION, GROUP_SIZE_ANNOTATION, PodKey},
    pods::PodRow,
};

/// Most pods of a group.
const MOST: u32 = 1_000;

/// The group of a pod, as the pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: Arc<str>,
    /// How many pods it has, or what is given instead of a number from 1 to 1,000.
    pub size: Option<Result<u32, Box<str>>>,
}

impl Tag {
    /// What a pod's annotations say; nothing if it is in no group.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let name = annotations.get(GROUP_ANNOTATION)?.trim();
        if name.is_empty() {
            return None;
        }
        let size = annotations.get(GROUP_SIZE_ANNOTATION).map(|text| {
            let size = text.trim().parse().ok();
            let size = size.filter(|size| (1..=MOST).contains(size));
            size.ok_or_else(|| text.chars().take(40).collect::<String>().into())
        });
        Some(Self {
            name: name.into(),
            size,
        })
    }

    /// Equal for pods of the same group.
    pub fn key(&self, namespace: &str) -> Arc<str> {
        format!("{namespace}/{}", self.name).into()
    }
}

/// Which pods belong together.
#[derive(Debug, Default)]
pub struct Groups {
    members: HashMap<Arc<str>, BTreeSet<PodKey>>,
}

impl Groups {
    /// A pod of this group comes.
    pub fn insert(&mut self, tag: &Tag, pod: &PodKey) {
        let key = tag.key(pod.namespace());
        self.members.entry(key).or_default().insert(pod.clone());
    }

    /// It goes.
    pub fn remove(&mut self, tag: &Tag, pod: &PodKey) {
        let key = tag.key(pod.namespace());
        if let Some(members) = self.members.get_mut(&key) {
            members.remove(pod);
            if members.is_empty() {
                self.members.remove(&key);
            }
        }
    }

    /// The pods of a group.
    pub fn members(&self, key: &str) -> impl Iterator<Item = &PodKey> {
        self.members.get(key).into_iter().flatten()
    }
}

/// What is known of the pods of a group.
#[derive(Debug, Default)]
pub struct Muster {
    /// Pods that are there.
    there: u32,
    /// Sizes that pods give.
    sizes: BTreeSet<u32>,
    /// What one of them gives instead of a size.
    wrong: Option<Box<str>>,
}

impl Muster {
    /// So many more pods are there.
    pub fn come(&mut self, pods: u32) {
        self.there = self.there.saturating_add(pods);
    }

    /// Pods of the group say this.
    pub fn hear(&mut self, tag: &Tag) {
        match &tag.size {
            Some(Ok(size)) => {
                self.sizes.insert(*size);
            }
            Some(Err(text)) => self.wrong = Some(text.clone()),
            None => {}
        }
    }

    /// The group as the planner knows it.
    pub fn group(&self, key: Arc<str>, name: &Arc<str>) -> Group {
        Group {
            key,
            name: Arc::clone(name),
            held_back: self.held_back(name).map(Arc::from),
        }
    }

    /// Why no pod of it may start yet.
    fn held_back(&self, name: &str) -> Option<String> {
        if let Some(text) = &self.wrong {
            return Some(format!(
                "annotation {GROUP_SIZE_ANNOTATION} is {text:?} on a pod of its group {name}; give the number of pods \
                 that start together, from 1 to {MOST}"
            ));
        }
        let size = *self.sizes.last()?;
        if self.sizes.len() > 1 {
            let sizes: Vec<_> = self.sizes.iter().take(4).map(u32::to_string).collect();
            return Some(format!(
                "pods of its group {name} give different sizes ({}); give all of them the same {GROUP_SIZE_ANNOTATION}",
                sizes.join(", ")
            ));
        }
        let missing = size
            .checked_sub(self.there)
            .filter(|missing| *missing > 0)?;
        let pods = if missing == 1 { "pod" } else { "pods" };
        Some(format!(
            "{missing} more {pods} of its group {name} must come first; {size} start together or not at all"
        ))
    }
}

/// A group as the planner knows it, of all its pods.
pub fn assemble<'a>(
    key: Arc<str>,
    name: &Arc<str>,
    pods: impl Iterator<Item = &'a PodRow>,
) -> Group {
    let mut muster = Muster::default();
    for row in pods {
        muster.come(u32::from(is_there(row)));
        if let Some(tag) = row
            .group
            .as_ref()
            .filter(|_| !row.deleting && !row.terminal)
        {
            muster.hear(tag);
        }
    }
    muster.group(key, name)
}

/// Whether a pod of a group does its part: it waits for nothing but devices, or has them, or is done with them.
fn is_there(row: &PodRow) -> bool {
    if row.node.is_none() {
        return row.is_pending();
    }
    row.succeeded || (!row.terminal && !row.deleting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(pairs: &[(&str, &str)]) -> Option<Tag> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Tag::of(&pairs.iter().map(owned).collect())
    }

    #[test]
    fn a_pod_is_in_a_group_if_it_names_one() {
        assert_eq!(tag(&[]), None);
        assert_eq!(tag(&[(GROUP_SIZE_ANNOTATION, "2")]), None);
        assert_eq!(tag(&[(GROUP_ANNOTATION, " ")]), None);
        let named = tag(&[(GROUP_ANNOTATION, "train")]).unwrap();
        assert_eq!((&*named.name, named.size), ("train", None));
    }

    #[test]
    fn a_size_is_a_number_that_pods_could_reach() {
        let size = |text| {
            tag(&[(GROUP_ANNOTATION, "a"), (GROUP_SIZE_ANNOTATION, text)])
                .unwrap()
                .size
        };
        assert_eq!(size("4"), Some(Ok(4)));
        assert_eq!(size(" 1000 "), Some(Ok(1000)));
        for text in ["0", "-1", "1001", "four", "", "4.0", "99999999999999999999"] {
            assert_eq!(size(text), Some(Err(text.into())));
        }
        let long = "9".repeat(5_000);
        assert_eq!(size(&long), Some(Err("9".repeat(40).into())));
    }

    #[test]
    fn what_is_wrong_is_said_before_what_is_missing() {
        let said = |sizes: &[u32], wrong: Option<&str>, there| {
            let muster = Muster {
                there,
                sizes: sizes.iter().copied().collect(),
                wrong: wrong.map(Box::from),
            };
            muster.held_back("train")
        };
        assert_eq!(said(&[], None, 1), None);
        assert_eq!(said(&[3], None, 3), None);
        assert_eq!(said(&[3], None, 4), None);
        assert_eq!(
            said(&[3], None, 2).unwrap(),
            "1 more pod of its group train must come first; 3 start together or not at all"
        );
        assert_eq!(
            said(&[3, 4], None, 7).unwrap(),
            "pods of its group train give different sizes (3, 4); give all of them the same cdmo.clear.ml/group-size"
        );
        assert!(said(&[3], Some("four"), 3).unwrap().starts_with(
            "annotation cdmo.clear.ml/group-size is \"four\" on a pod of its group train; give the number"
        ));
    }
}

//! Groups of pods that start together or not at all, as annotations name them.
//!
//! A pod says which group of its namespace it belongs to ([`GROUP_ANNOTATION`]), and how many pods that has
//! ([`GROUP_SIZE_ANNOTATION`]). Without a size a group is whoever waits at the moment, and pods of a Job come one
//! after the other. Only pods that ask for our devices count.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use planner::Group;

use crate::{
    names::{GROUP_ANNOTATION, GROUP_SIZE_ANNOTATION, PodKey},
    pods::PodRow,
};

/// Most pods of a group.
const MOST: u32 = 1_000;
/// Most bytes of a name. An annotation may have a quarter of a million, and each pod's is kept.
const LONGEST_NAME: usize = 253;
/// Characters that are kept of what is wrong.
const MOST_WRONG: usize = 40;

/// The group of a pod, as the pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Equal for pods of the same group: namespace and name.
    pub key: Arc<str>,
    /// The uid of what made the pod, if that is told: pods of one Job have the same.
    pub maker: Option<Box<str>>,
    /// How many pods it has, if the pod says so.
    pub size: Option<Result<u32, Wrong>>,
}

/// What is given on a pod instead of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A name of so many bytes.
    Name(usize),
    /// Instead of a number from 1 to 1,000.
    Size(Box<str>),
}

impl Tag {
    /// What a pod of this namespace says in its annotations; nothing if it is in no group.
    pub fn of(
        namespace: &str,
        annotations: &BTreeMap<String, String>,
        owners: &[OwnerReference],
    ) -> Option<Self> {
        let name = annotations.get(GROUP_ANNOTATION)?.trim();
        if name.is_empty() {
            return None;
        }
        let cut = |text: &str| text.chars().take(MOST_WRONG).collect::<String>();
        let mut size = annotations.get(GROUP_SIZE_ANNOTATION).map(|text| {
            let size = text.trim().parse().ok();
            let size = size.filter(|size| (1..=MOST).contains(size));
            size.ok_or_else(|| Wrong::Size(cut(text).into()))
        });
        let mut key = format!("{namespace}/{name}");
        if name.len() > LONGEST_NAME {
            key = format!("{namespace}/{}...", cut(name));
            size = Some(Err(Wrong::Name(name.len())));
        }
        let mut owners = owners.iter();
        let maker = owners.find(|owner| owner.controller == Some(true));
        Some(Self {
            key: key.into(),
            maker: maker.map(|owner| owner.uid.as_str().into()),
            size,
        })
    }

    /// Its name, as people call it; if that is too long, how it begins.
    pub fn name(&self) -> &str {
        // No namespace has a slash in its name.
        self.key.split_once('/').map_or("", |(_, name)| name)
    }
}

impl Wrong {
    fn words(&self, name: &str) -> String {
        match self {
            Self::Name(bytes) => format!(
                "annotation {GROUP_ANNOTATION} has {bytes} bytes on a pod of its group {name}; give a name of \
                 {LONGEST_NAME} at most"
            ),
            Self::Size(text) => format!(
                "annotation {GROUP_SIZE_ANNOTATION} is {text:?} on a pod of its group {name}; give the number of pods \
                 that start together, from 1 to {MOST}"
            ),
        }
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
        let members = self.members.entry(Arc::clone(&tag.key)).or_default();
        members.insert(pod.clone());
    }

    /// It goes.
    pub fn remove(&mut self, tag: &Tag, pod: &PodKey) {
        if let Some(members) = self.members.get_mut(&tag.key) {
            members.remove(pod);
            if members.is_empty() {
                self.members.remove(&tag.key);
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
    /// Pods that wait or run.
    active: u32,
    /// Pods that have done their part.
    done: u32,
    /// Sizes that pods give.
    sizes: BTreeSet<u32>,
    /// What one of them gives instead.
    wrong: Option<Wrong>,
}

impl Muster {
    /// So many more pods wait or run.
    pub fn come(&mut self, pods: u32) {
        self.active = self.active.saturating_add(pods);
    }

    /// Pods of the group say this.
    pub fn hear(&mut self, tag: &Tag) {
        match &tag.size {
            Some(Ok(size)) => {
                self.sizes.insert(*size);
            }
            Some(Err(wrong)) => self.wrong = Some(wrong.clone()),
            None => {}
        }
    }

    /// The group as the planner knows it.
    pub fn group(&self, tag: &Tag) -> Group {
        let name = tag.name();
        Group {
            key: Arc::clone(&tag.key),
            name: name.into(),
            held_back: self.held_back(name).map(Arc::from),
        }
    }

    /// Why no pod of it may start yet.
    fn held_back(&self, name: &str) -> Option<String> {
        if let Some(wrong) = &self.wrong {
            return Some(wrong.words(name));
        }
        let size = *self.sizes.last()?;
        if self.sizes.len() > 1 {
            let sizes: Vec<_> = self.sizes.iter().take(4).map(u32::to_string).collect();
            return Some(format!(
                "pods of its group {name} give different sizes ({}); give all of them the same {GROUP_SIZE_ANNOTATION}",
                sizes.join(", ")
            ));
        }
        if self.active > size {
            return Some(format!(
                "{} pods of its group {name} wait or run, and {size} start together; give each run a \
                 {GROUP_ANNOTATION} of its own, or the right {GROUP_SIZE_ANNOTATION}",
                self.active
            ));
        }
        let missing = size
            .checked_sub(self.active.saturating_add(self.done))
            .filter(|missing| *missing > 0)?;
        let pods = if missing == 1 { "pod" } else { "pods" };
        Some(format!(
            "{missing} more {pods} of its group {name} must come first; {size} start together or not at all"
        ))
    }
}

/// A group as the planner knows it, of all its pods.
pub fn assemble<'a>(tag: &Tag, pods: impl Iterator<Item = &'a PodRow>) -> Group {
    let mut muster = Muster::default();
    // Pods that succeeded stay for long; those of an earlier run do no part of this one.
    let mut done: BTreeMap<Option<&str>, u32> = BTreeMap::new();
    let mut making = BTreeSet::new();
    for row in pods {
        let Some(tag) = &row.group else { continue };
        let maker = tag.maker.as_deref();
        if row.node.is_some() && row.succeeded {
            *done.entry(maker).or_default() += 1;
        }
        if row.deleting || row.terminal {
            continue;
        }
        muster.hear(tag);
        if row.is_pending() {
            making.insert(maker);
        }
        muster.come(u32::from(row.node.is_some() || row.is_pending()));
    }
    let counted = making.iter().filter_map(|maker| done.get(maker));
    muster.done = counted.sum();
    muster.group(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(pairs: &[(&str, &str)]) -> Option<Tag> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Tag::of("ns", &pairs.iter().map(owned).collect(), &[])
    }

    #[test]
    fn a_pod_is_in_a_group_if_it_names_one() {
        assert_eq!(tag(&[]), None);
        assert_eq!(tag(&[(GROUP_SIZE_ANNOTATION, "2")]), None);
        assert_eq!(tag(&[(GROUP_ANNOTATION, " ")]), None);
        let named = tag(&[(GROUP_ANNOTATION, "train")]).unwrap();
        assert_eq!(
            (&*named.key, named.name(), &named.size),
            ("ns/train", "train", &None)
        );
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
            assert_eq!(size(text), Some(Err(Wrong::Size(text.into()))));
        }
        let long = "9".repeat(5_000);
        assert_eq!(size(&long), Some(Err(Wrong::Size("9".repeat(40).into()))));
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_and_said() {
        let named = |bytes: usize| {
            let name = "a".repeat(bytes);
            tag(&[(GROUP_ANNOTATION, &name), (GROUP_SIZE_ANNOTATION, "2")]).unwrap()
        };
        assert_eq!(named(253).size, Some(Ok(2)));
        let long = named(200_000);
        let mut muster = Muster::default();
        muster.hear(&long);
        let said = muster.group(&long).held_back.unwrap();
        assert_eq!(
            *said,
            format!(
                "annotation cdmo.clear.ml/group has 200000 bytes on a pod of its group {}...; give a name of 253 at most",
                "a".repeat(40)
            )
        );
    }

    #[test]
    fn what_is_wrong_is_said_before_what_is_missing() {
        let of = |sizes: &[u32], wrong: Option<&str>, active, done| {
            let muster = Muster {
                active,
                done,
                sizes: sizes.iter().copied().collect(),
                wrong: wrong.map(|text| Wrong::Size(text.into())),
            };
            muster.held_back("train")
        };
        let said = |sizes: &[u32], wrong: Option<&str>, active| of(sizes, wrong, active, 0);
        assert_eq!(said(&[], None, 1), None);
        assert_eq!(said(&[3], None, 3), None);
        assert_eq!(of(&[3], None, 2, 5), None, "more come as others end");
        assert_eq!(
            of(&[3], None, 4, 1).unwrap(),
            "4 pods of its group train wait or run, and 3 start together; give each run a cdmo.clear.ml/group of its \
             own, or the right cdmo.clear.ml/group-size"
        );
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

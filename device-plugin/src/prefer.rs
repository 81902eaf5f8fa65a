//! Which of the free devices a container had better get: those of as few GPUs as possible.

use std::collections::HashSet;

use crate::device::Candidate;

/// Chooses `size` of the `available` ids, `must` first, then from as few groups as possible. What is not
/// proven to be free comes last, the likeliest to be free first: the kubelet gives a device away while
/// containers of a pod deleted by force still use it, and at times that of a pod that just came. What is not
/// among the `candidates` (in the order offered) is never preferred. The answer is shorter where too few are
/// left; the kubelet then fills up by itself.
pub(crate) fn prefer(
    candidates: &[Candidate<'_>],
    available: &[String],
    must: &[String],
    size: usize,
) -> Vec<String> {
    let mut chosen: Vec<String> = must.iter().take(size).cloned().collect();
    let available: HashSet<&str> = available.iter().map(String::as_str).collect();
    let taken: HashSet<&str> = must.iter().map(String::as_str).collect();
    let started: HashSet<&str> = candidates
        .iter()
        .filter(|c| taken.contains(c.id))
        .map(|c| c.group)
        .collect();

    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut held = Vec::new();
    for candidate in candidates {
        if !available.contains(candidate.id) || taken.contains(candidate.id) {
            continue;
        }
        if let Some(grasp) = candidate.held {
            held.push((grasp, candidate.id));
            continue;
        }
        match groups
            .iter_mut()
            .find(|group| group.name == candidate.group)
        {
            Some(group) => group.ids.push(candidate.id),
            None => groups.push(Group {
                name: candidate.group,
                ids: vec![candidate.id],
            }),
        }
    }

    while chosen.len() < size && !groups.is_empty() {
        let missing = size - chosen.len();
        let best = next(&groups, &started, missing);
        let group = groups.remove(best);
        chosen.extend(group.ids.into_iter().take(missing).map(str::to_owned));
    }
    held.sort_unstable();
    let missing = size.saturating_sub(chosen.len());
    chosen.extend(held.into_iter().take(missing).map(|(_, id)| id.to_owned()));
    chosen
}

struct Group<'a> {
    name: &'a str,
    ids: Vec<&'a str>,
}

/// A group that the container has devices of already; else the smallest one that suffices; else the
/// largest one. The first offered wins a tie.
fn next(groups: &[Group<'_>], started: &HashSet<&str>, missing: usize) -> usize {
    let rank = |group: &Group<'_>| {
        let count = group.ids.len();
        let suffices = count >= missing;
        let size = if suffices { count } else { usize::MAX - count };
        (!started.contains(group.name), !suffices, size)
    };
    let best = groups
        .iter()
        .enumerate()
        .min_by_key(|(at, group)| (rank(group), *at));
    best.map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Grasp;

    const OFFERED: [Candidate<'static>; 6] = [
        Candidate {
            id: "a1",
            group: "a",
            held: None,
        },
        Candidate {
            id: "b1",
            group: "b",
            held: None,
        },
        Candidate {
            id: "b2",
            group: "b",
            held: None,
        },
        Candidate {
            id: "c1",
            group: "c",
            held: None,
        },
        Candidate {
            id: "c2",
            group: "c",
            held: None,
        },
        Candidate {
            id: "c3",
            group: "c",
            held: None,
        },
    ];

    fn grasp(shown: bool, granted: u64) -> Grasp {
        Grasp { shown, granted }
    }

    fn choose(available: &[&str], must: &[&str], size: usize) -> Vec<String> {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        prefer(&OFFERED, &owned(available), &owned(must), size)
    }

    const ALL: [&str; 6] = ["c3", "c2", "c1", "b2", "b1", "a1"];

    #[test]
    fn the_smallest_group_that_suffices_is_used() {
        assert_eq!(choose(&ALL, &[], 1), ["a1"]);
        assert_eq!(choose(&ALL, &[], 2), ["b1", "b2"]);
        assert_eq!(choose(&ALL, &[], 3), ["c1", "c2", "c3"]);
    }

    #[test]
    fn too_large_a_wish_takes_the_largest_groups_first() {
        assert_eq!(choose(&ALL, &[], 5), ["c1", "c2", "c3", "b1", "b2"]);
        assert_eq!(choose(&ALL, &[], 4), ["c1", "c2", "c3", "a1"]);
    }

    #[test]
    fn what_the_kubelet_insists_on_comes_first_and_its_group_next() {
        assert_eq!(choose(&ALL, &["b2"], 2), ["b2", "b1"]);
        assert_eq!(choose(&ALL, &["zz"], 2), ["zz", "a1"]);
    }

    #[test]
    fn what_is_still_held_is_the_last_choice_unless_the_kubelet_insists() {
        let mut offered = OFFERED;
        offered[1].held = Some(grasp(true, 1));
        let all: Vec<_> = ALL.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(prefer(&offered, &all, &[], 2), ["c1", "c2"]);
        let must = ["b1".to_owned()];
        assert_eq!(prefer(&offered, &all, &must, 2), ["b1", "b2"]);
        let every = prefer(&offered, &all, &[], 6);
        assert_eq!(every.last().map(String::as_str), Some("b1"));
    }

    #[test]
    fn of_held_devices_that_of_a_pod_that_is_gone_comes_first_and_the_latest_grant_last() {
        let mut offered = OFFERED;
        for (at, device) in offered.iter_mut().enumerate() {
            device.held = Some(grasp(true, 10 - at as u64));
        }
        offered[0].held = Some(grasp(false, 20));
        let all: Vec<_> = ALL.iter().map(|id| (*id).to_owned()).collect();
        let every = prefer(&offered, &all, &[], 6);
        assert_eq!(every, ["a1", "c3", "c2", "c1", "b2", "b1"]);
        assert_eq!(prefer(&offered, &all, &[], 1), ["a1"]);
    }

    #[test]
    fn a_tie_goes_to_the_first_offered() {
        assert_eq!(choose(&["c2", "b2", "b1", "c3"], &[], 2), ["b1", "b2"]);
    }

    #[test]
    fn what_is_not_offered_or_not_available_is_never_preferred() {
        assert_eq!(choose(&["zz", "b2"], &[], 2), ["b2"]);
        assert_eq!(choose(&[], &[], 2), Vec::<String>::new());
        assert_eq!(choose(&ALL, &["a1", "b1"], 1), ["a1"]);
    }
}

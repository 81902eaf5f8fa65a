//! Why a demand cannot be served, in one sentence.

use std::{borrow::Cow, collections::BTreeSet};

use mig::{
    Layout,
    fraction::{Class, FRACTION_PREFIX},
};

use crate::{
    classes::{Classes, is_stuck},
    demand::Eligibilities,
    node_set::NodeSet,
    outcome::{Refusal, RefusalKind},
    search::Found,
    state::Node,
    work::{Kind, Want},
};

/// Why one node does not serve it.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    kind: RefusalKind,
    text: Cow<'static, str>,
    /// It would fit if nobody had anything there.
    blocked: bool,
}

impl Verdict {
    /// Whether nothing but what is in use is in the way.
    pub(crate) fn is_for_running_pods(&self) -> bool {
        self.blocked
    }

    /// Says the same in other words.
    pub(crate) fn say(&mut self, words: String) {
        self.text = words.into();
    }
}

/// Bytes that an Event can have (events.k8s.io/v1), and so a refusal.
const MOST_BYTES: usize = 1024;

/// For a search that was cut off.
pub(crate) fn too_complex(wants: &[Want]) -> Refusal {
    let text = format!(
        "{} has too many combinations to search; ask for fewer devices or profiles in one pod",
        asked(wants)
    );
    Refusal {
        kind: RefusalKind::TooComplex,
        text: text.into(),
    }
}

/// Explains a demand that could run on `nodes` and that none of them serves, out of a cluster of `count`
/// nodes; `verdicts` are those of each class.
pub(crate) fn refusal(
    wants: &[Want],
    nodes: &Eligibilities,
    count: usize,
    classes: &Classes,
    verdicts: &[Option<Verdict>],
) -> Refusal {
    let asked = asked(wants);
    let mut groups = Groups::default();
    for (number, class) in classes.iter() {
        if let Some(Some(verdict)) = verdicts.get(number) {
            groups.add(verdict.kind, &verdict.text, &class.nodes, nodes.allowed());
        }
    }
    let all = NodeSet::below(count);
    for (text, excluded) in nodes.excluded() {
        groups.add(RefusalKind::NoNode, text, excluded, &all);
    }
    let kind = [
        RefusalKind::NoRoom,
        RefusalKind::TooMany,
        RefusalKind::NoSuchProfile,
        RefusalKind::NoNode,
    ]
    .into_iter()
    .find(|kind| groups.kinds.contains(kind))
    .unwrap_or(RefusalKind::NoNode);
    let (before, after) = match kind {
        RefusalKind::NoRoom => (format!("no room for {asked} now: "), String::new()),
        RefusalKind::TooMany => (
            format!("{asked} is more than any node can give: "),
            "; ask for less in one pod".to_owned(),
        ),
        RefusalKind::NoSuchProfile if wants.iter().any(Want::is_profile) => (
            format!("no node offers {asked}: "),
            format!("; the nodes of this cluster have {}", profiles(classes)),
        ),
        RefusalKind::NoSuchProfile => (format!("no node offers {asked}: "), String::new()),
        _ if groups.all.is_empty() => (
            format!("no node for {asked}: "),
            "no node with GPUs is managed; label one with cdmo.clear.ml/gpu-partitioning=mig"
                .to_owned(),
        ),
        _ => (format!("no node for {asked}: "), String::new()),
    };
    let detail = groups.detail(MOST_BYTES.saturating_sub(before.len() + after.len()));
    let text = before + &detail + &after;
    Refusal {
        kind,
        text: text.into(),
    }
}

fn asked(wants: &[Want]) -> String {
    let each = wants.iter().map(|want| {
        let name = format!("{}x {}", want.count, want.resource);
        match want.of {
            // Users write "0.5"; the name on the pod is the webhook's.
            Kind::Class(class) => format!("{name} ({} of a GPU)", class.share()),
            Kind::Profile(_) | Kind::Fixed => name,
        }
    });
    each.collect::<Vec<_>>().join(" + ")
}

/// What is wrong with a resource that looks like a fraction.
pub(crate) fn no_class(resource: &str) -> String {
    // What users send is quoted back into Events and logs: keep it short.
    let quoted: String = resource.chars().take(80).collect();
    let classes: Vec<_> = Class::ALL.iter().map(ToString::to_string).collect();
    format!(
        "{quoted:?} is not a fraction that is served: those are {FRACTION_PREFIX}{}",
        classes.join(", ")
    )
}

/// Why a node does not serve it, if that needs no search.
pub(crate) fn at_first_sight(node: &Node, wants: &[Want]) -> Option<Verdict> {
    if !has_all(node, wants) {
        return Some(Verdict {
            kind: RefusalKind::NoSuchProfile,
            text: "no GPU has it".into(),
            blocked: false,
        });
    }
    is_stuck(node).then_some(Verdict {
        kind: RefusalKind::NoRoom,
        text: "its GPUs cannot be partitioned at the moment".into(),
        blocked: false,
    })
}

/// Why a node does not serve it, given whether it could if no pod ran on it.
pub(crate) fn if_empty(node: &Node, wants: &[Want], could_be: Found) -> Verdict {
    if could_be == Found::Nothing {
        let text = match wants {
            [want] => format!("at most {}", most(node, want)).into(),
            _ => "not all of it at once".into(),
        };
        return Verdict {
            kind: RefusalKind::TooMany,
            text,
            blocked: false,
        };
    }
    Verdict {
        kind: RefusalKind::NoRoom,
        text: "running pods are in the way".into(),
        blocked: true,
    }
}

/// Whether the node could ever serve each of the wants.
pub(crate) fn has_all(node: &Node, wants: &[Want]) -> bool {
    wants.iter().all(|want| has(node, want))
}

/// Whether the node has any GPU or fixed device that could ever serve the want.
fn has(node: &Node, want: &Want) -> bool {
    let mut gpus = node.gpus.iter();
    node.fixed.contains_key(&*want.resource) || gpus.any(|gpu| want.profile(&gpu.model).is_some())
}

/// The most devices of a want that the empty node could give.
fn most(node: &Node, want: &Want) -> u32 {
    let on_one = |gpu: &crate::Gpu| {
        let index = want.profile(&gpu.model)?;
        let mut layout = Layout::default();
        // Placements of one profile that do not overlap are as many as fit, taken in order.
        for placement in &gpu.model.profile(index)?.placements {
            // One that overlaps an earlier one is refused and left out.
            let _ = layout.place(&gpu.model, index, *placement);
        }
        u32::try_from(layout.occupants().len()).ok()
    };
    node.gpus.iter().filter_map(on_one).sum()
}

/// Nodes by the words for them.
#[derive(Default)]
struct Groups<'a> {
    /// Words, how many nodes, and the first of them.
    all: Vec<(&'a str, usize, usize)>,
    kinds: BTreeSet<RefusalKind>,
}

impl<'a> Groups<'a> {
    /// Adds the nodes that are in both sets.
    fn add(&mut self, kind: RefusalKind, text: &'a str, nodes: &NodeSet, among: &NodeSet) {
        let Some(first) = nodes.first_common(among) else {
            return;
        };
        let count = nodes.count_common(among);
        self.kinds.insert(kind);
        match self.all.iter_mut().find(|(known, ..)| *known == text) {
            Some((_, sum, earliest)) => {
                *sum += count;
                *earliest = first.min(*earliest);
            }
            None => self.all.push((text, count, first)),
        }
    }

    /// "2 nodes: running pods are in the way; 1 node: no GPU has it", the most frequent first, and as many of them
    /// as there is room for, but for the first.
    fn detail(&mut self, room: usize) -> String {
        self.all
            .sort_by_key(|(_, count, first)| (std::cmp::Reverse(*count), *first));
        let mut left: usize = self.all.iter().map(|(_, count, _)| count).sum();
        let more = |left: usize| match left {
            0 => String::new(),
            1 => "; and 1 more node".to_owned(),
            _ => format!("; and {left} more nodes"),
        };
        let mut detail = String::new();
        for (text, count, _) in &self.all {
            let gap = if detail.is_empty() { "" } else { "; " };
            let s = if *count == 1 { "" } else { "s" };
            let words = format!("{gap}{count} node{s}: {text}");
            let rest = more(left - count).len();
            if !detail.is_empty() && detail.len() + words.len() + rest > room {
                break;
            }
            left -= count;
            detail += &words;
        }
        detail + &more(left)
    }
}

/// Every profile that some GPU has, smallest first.
fn profiles(classes: &Classes) -> String {
    let names = classes.profiles();
    if names.is_empty() {
        return "no MIG profiles".to_owned();
    }
    names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

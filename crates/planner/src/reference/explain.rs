//! Why a demand cannot be served, in one sentence.

use std::{borrow::Cow, collections::BTreeSet};

use mig::{
    Layout,
    fraction::{Class, FRACTION_PREFIX},
};

use super::{
    node_search::{Found, Memo, search},
    work::{Board, WorkNode},
};
use crate::{
    demand::{Demand, Eligibility},
    outcome::{Refusal, RefusalKind},
    state::{Cluster, Node},
    work::{Kind, Want},
};

/// Why one node does not serve it.
struct Verdict {
    kind: RefusalKind,
    text: Cow<'static, str>,
}

/// Explains a demand that the pass could not serve.
pub(crate) fn refusal(
    cluster: &Cluster,
    demand: &Demand,
    wants: &[Want],
    cut_off: bool,
    memo: &mut Memo,
) -> Refusal {
    let asked = asked(wants);
    if cut_off {
        let text = format!(
            "{asked} has too many combinations to search; ask for fewer devices or profiles in one pod"
        );
        return Refusal {
            kind: RefusalKind::TooComplex,
            text: text.into(),
        };
    }
    let verdicts: Vec<Verdict> = cluster
        .nodes
        .iter()
        .zip(super::eligibilities(demand))
        .map(|(node, eligibility)| verdict(node, &eligibility, wants, memo))
        .collect();
    let kind = [
        RefusalKind::NoRoom,
        RefusalKind::TooMany,
        RefusalKind::NoSuchProfile,
        RefusalKind::NoNode,
    ]
    .into_iter()
    .find(|kind| verdicts.iter().any(|v| v.kind == *kind))
    .unwrap_or(RefusalKind::NoNode);
    let detail = detail(&verdicts);
    let text = match kind {
        RefusalKind::NoRoom => format!("no room for {asked} now: {detail}"),
        RefusalKind::TooMany => {
            format!("{asked} is more than any node can give: {detail}; ask for less in one pod")
        }
        RefusalKind::NoSuchProfile if wants.iter().any(Want::is_profile) => format!(
            "no node offers {asked}: {detail}; the nodes of this cluster have {}",
            profiles(cluster)
        ),
        RefusalKind::NoSuchProfile => format!("no node offers {asked}: {detail}"),
        _ if verdicts.is_empty() => format!(
            "no node for {asked}: no node with GPUs is managed; label one with cdmo.clear.ml/gpu-partitioning=mig"
        ),
        _ => format!("no node for {asked}: {detail}"),
    };
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

fn verdict(node: &Node, eligibility: &Eligibility, wants: &[Want], memo: &mut Memo) -> Verdict {
    if let Eligibility::Excluded(text) = eligibility {
        return Verdict {
            kind: RefusalKind::NoNode,
            text: text.clone(),
        };
    }
    if wants.iter().any(|want| !has(node, want)) {
        return Verdict {
            kind: RefusalKind::NoSuchProfile,
            text: "no GPU has it".into(),
        };
    }
    if !node.gpus.is_empty() && !node.gpus.iter().any(|gpu| gpu.changeable) {
        return Verdict {
            kind: RefusalKind::NoRoom,
            text: "its GPUs cannot be partitioned at the moment".into(),
        };
    }
    if matches!(search(&emptied(node, wants), wants, memo), Found::Nothing) {
        let text = match wants {
            [want] => format!("at most {}", most(node, want)).into(),
            _ => "not all of it at once".into(),
        };
        return Verdict {
            kind: RefusalKind::TooMany,
            text,
        };
    }
    Verdict {
        kind: RefusalKind::NoRoom,
        text: "running pods are in the way".into(),
    }
}

/// Whether the node has any GPU or fixed device that could ever serve the want.
fn has(node: &Node, want: &Want) -> bool {
    let mut gpus = node.gpus.iter();
    node.fixed.contains_key(&*want.resource) || gpus.any(|gpu| want.profile(&gpu.model).is_some())
}

/// The node as it would be if no pod ran on it.
fn emptied(node: &Node, wants: &[Want]) -> WorkNode {
    let mut work = WorkNode::new(node);
    for board in &mut work.boards {
        *board = Board {
            firm: Layout::default(),
            idle: Vec::new(),
            changeable: true,
            ..board.clone()
        };
    }
    let fixed = |want: &&Want| node.fixed.contains_key(&*want.resource);
    for want in wants.iter().filter(fixed) {
        // How many whole GPUs an empty node would have is not known here; leave the benefit of the
        // doubt.
        work.fixed.insert(want.resource.to_string(), want.count);
    }
    work
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

/// "2 nodes: running pods are in the way; 1 node: no GPU has it", the most frequent first.
fn detail(verdicts: &[Verdict]) -> String {
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for verdict in verdicts {
        match groups.iter_mut().find(|(text, _)| *text == verdict.text) {
            Some((_, count)) => *count += 1,
            None => groups.push((&verdict.text, 1)),
        }
    }
    groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words = |(text, count): &(&str, usize)| {
        format!("{count} node{}: {text}", if *count == 1 { "" } else { "s" })
    };
    groups.iter().map(words).collect::<Vec<_>>().join("; ")
}

/// Every profile that some GPU has, smallest first.
fn profiles(cluster: &Cluster) -> String {
    let names: BTreeSet<_> = cluster
        .nodes
        .iter()
        .flat_map(|node| &node.gpus)
        .flat_map(|gpu| gpu.model.profiles.iter().map(|profile| profile.name))
        .collect();
    if names.is_empty() {
        return "no MIG profiles".to_owned();
    }
    names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

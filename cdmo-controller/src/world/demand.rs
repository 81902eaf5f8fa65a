//! What is remembered of a waiting pod from pass to pass.

use std::sync::{Arc, Weak};

use planner::{Eligibilities, Eligibility, RefusalKind, Wants};
use tokio::time::Instant;

use super::windows::Waiting;
use crate::{constraints::Constraints, notes::Told, set_aside::SetAside};

/// How things stand with a waiting pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// No pass has looked at it yet.
    New,
    /// Devices on the node are ready for it; the scheduler's turn.
    Covered,
    /// An operation is under way for it.
    Planned,
    /// It will be served by something under way, or must wait for that to end.
    Waiting,
    /// It cannot be served now.
    Refused {
        /// The bounded kind.
        kind: RefusalKind,
        /// The sentence.
        text: Arc<str>,
        /// Since when it is refused for a reason of this kind.
        since: Instant,
    },
}

impl Standing {
    /// Bounded word for metrics.
    pub(super) fn category(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Covered => "covered",
            Self::Planned => "planned",
            Self::Waiting => "waiting",
            Self::Refused { kind, .. } => kind.category(),
        }
    }
}

/// What a pod asks for, shared with all that ask for the same.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) wants: Arc<Wants>,
    pub(super) constraints: Arc<Constraints>,
    /// Since when passes have known it like this.
    pub(super) since: Instant,
}

/// What the annotation of a pod says of the devices that lie ready for it.
#[derive(Debug)]
pub(super) struct Annotation {
    /// JSON as text, which takes up far less; there may be thousands.
    pub(super) plan: Box<str>,
    /// The node that it names.
    pub(super) node: Box<str>,
    /// How often just this was written.
    pub(super) written: u32,
    /// Reminders since they lie ready.
    pub(super) reminders: usize,
    /// When it is written again if the pod is not bound by then.
    pub(super) due: Option<Instant>,
}

/// Where a pod could run for which nodes are set aside. The same from pass to pass, so that what the planner found out
/// about it is not found out again.
#[derive(Debug)]
pub(super) struct OwnNodes {
    /// Where others of its kind could run. What these share changes in place only while nobody else looks at it.
    of: Weak<Eligibilities>,
    /// Positions of nodes that are set aside.
    aside: Vec<usize>,
    nodes: Arc<Eligibilities>,
}

impl OwnNodes {
    /// Those of `of` without nodes at these positions; `known` if nothing has changed.
    pub(super) fn without(
        known: Option<Self>,
        of: &Arc<Eligibilities>,
        aside: Vec<usize>,
        why: &'static str,
    ) -> Self {
        if let Some(known) = known
            && known.aside == aside
            && std::ptr::eq(known.of.as_ptr(), Arc::as_ptr(of))
        {
            return known;
        }
        let mut nodes = Eligibilities::clone(of);
        for at in &aside {
            nodes.set(*at, Eligibility::Excluded(why.into()));
        }
        Self {
            of: Arc::downgrade(of),
            aside,
            nodes: Arc::new(nodes),
        }
    }

    pub(super) fn nodes(&self) -> Arc<Eligibilities> {
        Arc::clone(&self.nodes)
    }
}

/// A waiting pod.
#[derive(Debug)]
pub(super) struct DemandState {
    pub(super) uid: String,
    /// When it was first seen.
    pub(super) seen: Instant,
    pub(super) standing: Standing,
    /// What it asks for and under which constraints, once a pass has looked at it.
    pub(super) kind: Option<Kind>,
    pub(super) aside: SetAside,
    /// Where it could run, while nodes are set aside for it.
    pub(super) nodes: Option<OwnNodes>,
    pub(super) told: Option<Told>,
    /// When everything that was made for it was ready.
    pub(super) ready: Option<Instant>,
    /// What was last written onto it, which moves it out of the scheduler's back-off.
    pub(super) plan: Option<Box<Annotation>>,
    /// Other pods of its group have no devices yet: our scheduling gate keeps it back, too.
    pub(super) held_back: bool,
    /// When it was last asked for that our scheduling gate be taken off it.
    pub(super) opened: Option<Instant>,
    /// How long it has waited for room, and what was done about it.
    pub(super) waiting: Waiting,
}

impl DemandState {
    /// A pod seen for the first time.
    pub(super) fn new(uid: String, now: Instant) -> Self {
        Self {
            uid,
            seen: now,
            standing: Standing::New,
            kind: None,
            aside: SetAside::default(),
            nodes: None,
            told: None,
            ready: None,
            plan: None,
            held_back: false,
            opened: None,
            waiting: Waiting::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_pod_could_run_is_the_same_until_something_about_it_changes() {
        let all = std::iter::repeat_n(Eligibility::Allowed, 3);
        let mut all: Arc<Eligibilities> = Arc::new(all.collect());
        let first = OwnNodes::without(None, &all, vec![1], "aside");
        let nodes = first.nodes();
        let allowed = |nodes: &Eligibilities| nodes.allowed().iter().collect::<Vec<_>>();
        assert_eq!(allowed(&nodes), [0, 2]);
        let same = OwnNodes::without(Some(first), &all, vec![1], "aside");
        assert!(Arc::ptr_eq(&same.nodes(), &nodes));
        // Changed in place, where nobody else has it.
        Arc::make_mut(&mut all).set(2, Eligibility::Excluded("cordoned".into()));
        let changed = OwnNodes::without(Some(same), &all, vec![1], "aside");
        assert_eq!(allowed(&changed.nodes()), [0]);
        let other = OwnNodes::without(Some(changed), &all, vec![0], "aside");
        assert_eq!(allowed(&other.nodes()), [1]);
    }
}

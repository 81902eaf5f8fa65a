//! What is kept for kinds of pods against what each pod would find out for itself: pass by pass, whatever
//! becomes free, is taken or may be used in between, the same nodes are ready and the same are set aside.

use std::{collections::BTreeMap, time::Duration};

use planner::{Eligibilities, Eligibility};
use proptest::prelude::*;

use super::*;
use crate::{constraints::Constraints, set_aside::SetAside};

const NODES: usize = 3;
const RESOURCES: [&str; 2] = ["nvidia.com/mig-1g.5gb", "nvidia.com/mig-3g.20gb"];

/// What the cluster is like in one pass: free devices of each resource, and nodes that may be used under
/// each of the two constraints.
#[derive(Clone, Debug)]
struct Scene {
    later: Duration,
    free: Vec<[u32; 2]>,
    allowed: Vec<[bool; 2]>,
    /// The kind of a pod that comes.
    comes: Option<(usize, usize)>,
    /// The pod that waits longest goes.
    goes: bool,
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let later = prop::sample::select(vec![0, 1, 9, 10, 20, 29, 30, 31, 60, 61, 130]);
    let free = prop::collection::vec([0u32..3, 0u32..2], NODES);
    let often = prop::bool::weighted(0.8);
    let allowed = prop::collection::vec([often, often], NODES);
    let comes = prop::option::weighted(0.3, (0usize..2, 0usize..2));
    let goes = prop::bool::weighted(0.15);
    (later, free, allowed, comes, goes).prop_map(|(later, free, allowed, comes, goes)| Scene {
        later: Duration::from_secs(later),
        free,
        allowed,
        comes,
        goes,
    })
}

/// A scene that is mostly like the one before, so that things stay as they are for long.
fn any_scenes() -> impl Strategy<Value = Vec<Scene>> {
    let step = (any_scene(), 0..NODES, any::<bool>());
    (any_scene(), prop::collection::vec(step, 0..25)).prop_map(|(first, steps)| {
        let mut all = vec![first];
        for (new, node, changes) in steps {
            let mut next = all[all.len() - 1].clone();
            (next.later, next.comes, next.goes) = (new.later, new.comes, new.goes);
            if changes {
                next.free[node] = new.free[node];
                next.allowed[node] = new.allowed[node];
            }
            all.push(next);
        }
        all
    })
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

fn eligibility(allowed: bool) -> Eligibility {
    if allowed {
        Eligibility::Allowed
    } else {
        Eligibility::Excluded("cordoned".into())
    }
}

fn devices(free: [u32; 2]) -> BTreeMap<String, u32> {
    let all = RESOURCES.iter().zip(free).filter(|(_, count)| *count > 0);
    all.map(|(name, count)| ((*name).to_owned(), count))
        .collect()
}

struct Pod {
    row: PodRow,
    kind: (usize, usize),
    state: DemandState,
    /// As it would be if the pod looked for itself.
    alone: SetAside,
}

fn pod(
    kind: (usize, usize),
    (wants, constraints): (&Arc<Wants>, &Arc<Constraints>),
    now: Instant,
) -> Pod {
    let row = PodRow {
        group: None,
        succeeded: false,
        uid: "uid".into(),
        node: None,
        terminal: false,
        deleting: false,
        gated: false,
        gate: None,
        priority: 0,
        age: 0,
        started: 0,
        wants: Arc::clone(wants),
        containers: Arc::default(),
        constraints: Arc::clone(constraints),
    };
    Pod {
        row,
        kind,
        state: DemandState::new("uid".into(), now),
        alone: SetAside::default(),
    }
}

impl Pod {
    fn is_covered(&self, scene: &Scene, node: usize) -> bool {
        scene.free[node][self.kind.0] > 0
    }

    /// Where devices lie ready, and where some are to be guarded beside.
    fn looks(&mut self, scene: &Scene, now: Instant) -> (Vec<usize>, Vec<usize>) {
        let mut ready: Vec<_> = (0..NODES)
            .filter(|node| scene.allowed[*node][self.kind.1] && self.is_covered(scene, *node))
            .filter(|node| !self.alone.contains(&name(*node), now))
            .collect();
        let names: Vec<_> = ready.iter().map(|node| name(*node)).collect();
        self.alone.review(names.iter().map(String::as_str), now);
        ready.retain(|node| !self.alone.contains(&name(*node), now));
        let guarded = (0..NODES).filter(|node| {
            self.row.constraints.binds_slowly
                && self.is_covered(scene, *node)
                && self.alone.may_be_bound_to(&name(*node), now)
        });
        (ready, guarded.collect())
    }
}

fn board() -> Board {
    let mut board = Board::default();
    for node in 0..NODES {
        let view = Node {
            name: name(node),
            ..Node::default()
        };
        board.planner.insert(node, view);
        board.kinds.insert(node);
    }
    board
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn pods_of_a_kind_find_what_each_would_find_alone(scenes in any_scenes()) {
        let constraints = [false, true].map(|binds_slowly| {
            let mut new = Constraints::default();
            new.binds_slowly = binds_slowly;
            Arc::new(new)
        });
        let wants = RESOURCES.map(|name| Arc::new(Wants::from([(name.to_owned(), 1)])));
        let mut now = Instant::now();
        let mut board = board();
        let mut pods: Vec<Pod> = Vec::new();
        for scene in &scenes {
            now += scene.later;
            for node in 0..NODES {
                let of = |c: &Constraints| eligibility(scene.allowed[node][usize::from(c.binds_slowly)]);
                board.kinds.change(node, &devices(scene.free[node]), of, now);
            }
            if scene.goes && !pods.is_empty() {
                pods.remove(0);
            }
            pods.extend(scene.comes.map(|kind| pod(kind, (&wants[kind.0], &constraints[kind.1]), now)));
            board.kinds.begin(now);
            let mut wake_at: Option<Instant> = None;
            let mut candidates = Candidates::default();
            for pod in &mut pods {
                recognise(&mut pod.state, &pod.row, now);
                let free: Vec<_> = scene.free.iter().map(|free| devices(*free)).collect();
                let all = |c: &Constraints| -> Eligibilities {
                    let of = |a: &[bool; 2]| eligibility(a[usize::from(c.binds_slowly)]);
                    scene.allowed.iter().map(of).collect()
                };
                let kind = board.kinds.kind(&pod.row.wants, &pod.row.constraints, free.iter(), all);
                let key = PodKey::new("ns", "pod");
                candidates.guarded.clear();
                let (ready, nodes) =
                    candidates.review((&key, &pod.row), &mut pod.state, kind, &mut board, now);
                let (alone, beside) = pod.looks(scene, now);
                let nodes = nodes.as_ref().unwrap_or(board.kinds.nodes(kind));
                for node in 0..NODES {
                    let aside = pod.alone.contains(&name(node), now);
                    prop_assert_eq!(pod.state.aside.contains(&name(node), now), aside);
                    let why = "set aside, the pod was not bound there in time";
                    let expected = if aside {
                        Eligibility::Excluded(why.into())
                    } else {
                        eligibility(scene.allowed[node][pod.kind.1])
                    };
                    prop_assert_eq!(nodes.get(node), Some(expected));
                }
                let mut guarded: Vec<_> = candidates.guarded.iter().map(|(node, _)| *node).collect();
                match &ready {
                    Ready::Kind(kind) => {
                        prop_assert_eq!(board.kinds.ready(*kind).iter().collect::<Vec<_>>(), alone);
                        prop_assert!(guarded.is_empty() && beside.is_empty());
                    }
                    Ready::Own(nodes) => {
                        prop_assert_eq!(nodes.iter().collect::<Vec<_>>(), alone.clone());
                        let mut expected = [alone, beside].concat();
                        expected.sort_unstable();
                        guarded.sort_unstable();
                        prop_assert_eq!(guarded, expected);
                    }
                }
                wake_at = wake_at.into_iter().chain(pod.alone.wake_at(now)).min();
            }
            // Waking early makes a pass more, waking late would miss something.
            prop_assert_eq!(candidates.wake_at.is_some(), wake_at.is_some());
            prop_assert!(candidates.wake_at <= wake_at);
            prop_assert!(candidates.wake_at.is_none_or(|at| at > now));
        }
    }
}

//! Single steps, and a node with everybody who writes on it, in any order.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    names::{PARTITIONING_LABEL, PARTITIONING_MIG},
    objects::NodeLite,
};

/// A node as the API server has it.
#[derive(Clone, Debug)]
struct Object(Value);

impl Object {
    fn new(labels: &[(&str, &str)]) -> Self {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        Self(json!({"metadata": {
            "name": "a", "resourceVersion": "1", "labels": labels, "annotations": {},
        }}))
    }

    fn row(&self) -> NodeRow {
        NodeRow::of(serde_json::from_value::<NodeLite>(self.0.clone()).unwrap())
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.0["metadata"]["labels"][name].as_str()
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        let patch = json!({"metadata": {"labels": {name: value}}});
        self.merge(&patch);
    }

    /// Applies a merge patch; one made from another version is refused.
    fn merge(&mut self, patch: &Value) -> bool {
        let version = &patch["metadata"]["resourceVersion"];
        if !version.is_null() && *version != self.0["metadata"]["resourceVersion"] {
            return false;
        }
        for part in ["labels", "annotations"] {
            let changes = patch["metadata"][part].as_object();
            for (name, value) in changes.into_iter().flatten() {
                let all = self.0["metadata"][part].as_object_mut().unwrap();
                if value.is_null() {
                    all.remove(name);
                } else {
                    all.insert(name.clone(), value.clone());
                }
            }
        }
        let version: u64 = self.0["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        self.0["metadata"]["resourceVersion"] = (version + 1).to_string().into();
        true
    }

    /// Writes until nothing is left to write.
    fn settle(&mut self, cleared: bool) {
        for _ in 0..4 {
            match patch(&self.row(), cleared) {
                Some(patch) => assert!(self.merge(&patch)),
                None => return,
            }
        }
        panic!("it never comes to rest: {:?}", self.0);
    }

    fn hand_over(&mut self) {
        self.set(PARTITIONING_LABEL, Some(PARTITIONING_MIG));
    }
}

const PLUGIN: &str = OPERATOR_LABELS[0];
const MANAGER: &str = OPERATOR_LABELS[1];

#[test]
fn the_operators_labels_come_back_as_they_were_a_missing_one_missing() {
    let mut node = Object::new(&[(PLUGIN, "true"), ("zone", "b")]);
    let before = node.0["metadata"]["labels"].clone();
    node.hand_over();
    node.settle(false);
    assert_eq!(node.label(PLUGIN), Some("false"));
    assert_eq!(node.label(MANAGER), Some("false"));
    assert_eq!(node.label(MANAGED_LABEL), Some("true"));
    node.set(PARTITIONING_LABEL, None);
    node.settle(false);
    assert_eq!(node.label(PLUGIN), Some("false"), "pods still hold devices");
    assert_eq!(node.label(MANAGED_LABEL), Some("true"));
    node.settle(true);
    assert_eq!(node.0["metadata"]["labels"], before);
    assert_eq!(node.0["metadata"]["annotations"], json!({}));
}

#[test]
fn a_part_that_an_administrator_had_off_stays_off() {
    let mut node = Object::new(&[(PLUGIN, "true"), (MANAGER, "false")]);
    node.hand_over();
    node.settle(false);
    node.set(PARTITIONING_LABEL, None);
    node.settle(true);
    assert_eq!(node.label(PLUGIN), Some("true"));
    assert_eq!(node.label(MANAGER), Some("false"));
}

#[test]
fn a_pause_is_not_remembered() {
    let mut node = Object::new(&[(PLUGIN, "paused-for-mig-change")]);
    node.hand_over();
    node.settle(false);
    node.set(PARTITIONING_LABEL, None);
    node.settle(true);
    assert_eq!(node.label(PLUGIN), Some("true"));
}

#[test]
fn a_node_without_the_operator_gets_none_of_its_labels() {
    let mut node = Object::new(&[]);
    node.hand_over();
    node.settle(false);
    assert_eq!((node.label(PLUGIN), node.label(MANAGER)), (None, None));
    assert_eq!(node.label(MANAGED_LABEL), Some("true"));
}

#[test]
fn an_operator_that_comes_later_is_kept_off_from_then_on() {
    let mut node = Object::new(&[]);
    node.hand_over();
    node.settle(false);
    node.set("nvidia.com/gpu.present", Some("true"));
    node.settle(false);
    assert_eq!(node.label(PLUGIN), Some("false"));
}

#[test]
fn a_memory_that_somebody_made_unreadable_leaves_the_operator_its_defaults() {
    let mut node = Object::new(&[(PLUGIN, "true")]);
    node.hand_over();
    node.settle(false);
    node.merge(&json!({"metadata": {"annotations": {OPERATOR_ANNOTATION: "nonsense"}}}));
    node.set(PARTITIONING_LABEL, None);
    node.settle(true);
    assert_eq!(
        (node.label(PLUGIN), node.label(MANAGED_LABEL)),
        (None, None)
    );
}

#[test]
fn what_the_annotation_names_is_read_entry_by_entry() {
    let mut row = NodeRow {
        leave_alone: Some(" 0, GPU-1,,".into()),
        ..NodeRow::default()
    };
    assert_eq!(leave_alone(&row), ["0", "GPU-1"]);
    row.leave_alone = None;
    assert!(leave_alone(&row).is_empty());
}

#[test]
fn a_driver_upgrade_lasts_from_cordoning_to_uncordoning() {
    let upgrading = |state: &str| {
        let node = Object::new(&[(DRIVER_UPGRADE_LABEL, state)]);
        is_upgrading(&node.row())
    };
    for active in [
        "cordon-required",
        "wait-for-jobs-required",
        "pod-deletion-required",
        "drain-required",
        "pod-restart-required",
        "validation-required",
        "uncordon-required",
    ] {
        assert!(upgrading(active), "{active}");
    }
    for idle in ["", "upgrade-required", "upgrade-done", "upgrade-failed"] {
        assert!(!upgrading(idle), "{idle:?}");
    }
    assert!(!is_upgrading(&Object::new(&[]).row()));
}

/// Everything that can happen to the node.
#[derive(Clone, Copy, Debug)]
enum Move {
    On,
    Off,
    /// The operator sets what is missing.
    Operator,
    /// A controller looks, and may write at once or after the next move.
    Look,
    Write,
    /// The controller dies with what it was about to write.
    Die,
    /// The agent, if the node keeps one, takes a device into use or is rid of all.
    Hold,
    Clear,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop::sample::select(vec![
        Move::On,
        Move::Off,
        Move::Operator,
        Move::Look,
        Move::Write,
        Move::Die,
        Move::Hold,
        Move::Clear,
    ]);
    prop::collection::vec(one, 0..60)
}

/// The node with all who act on it.
struct Cluster {
    node: Object,
    held: bool,
    in_flight: Option<Value>,
}

impl Cluster {
    /// What the affinity of the agents' `DaemonSet` says.
    fn has_agent(&self) -> bool {
        self.node.label(PARTITIONING_LABEL) == Some(PARTITIONING_MIG)
            || self.node.label(MANAGED_LABEL) == Some("true")
    }

    fn operator(&mut self) {
        for label in OPERATOR_LABELS {
            if self.node.label(label).is_none() {
                self.node.set(label, Some("true"));
            }
        }
    }

    fn look(&self) -> Option<Value> {
        patch(&self.node.row(), self.has_agent() && !self.held)
    }

    fn write(&mut self) {
        if let Some(patch) = self.in_flight.take() {
            self.node.merge(&patch);
        }
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::On => self.node.hand_over(),
            Move::Off => self.node.set(PARTITIONING_LABEL, None),
            Move::Operator => self.operator(),
            Move::Look => self.in_flight = self.look(),
            Move::Write => self.write(),
            Move::Die => self.in_flight = None,
            // An agent gives out devices of a node that is handed over and kept, once the plugin is off.
            Move::Hold => {
                let ours = self.node.label(PARTITIONING_LABEL).is_some();
                let kept = self.node.label(MANAGED_LABEL).is_some();
                self.held |= ours && kept && self.node.label(PLUGIN) == Some("false");
            }
            Move::Clear => self.held = false,
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        if self.held {
            prop_assert!(
                self.has_agent(),
                "a device is held without agent: {:?}",
                self.node.0
            );
            prop_assert_eq!(self.node.label(PLUGIN), Some("false"));
        }
        Ok(())
    }
}

proptest! {
    /// Whatever happens in whatever order: while a pod holds a device of ours, the agent stays and the
    /// operator's plugin stays away; and once the label is off for good, everything is as it was.
    #[test]
    fn a_node_is_given_back_as_it_was_and_never_under_a_pod(all in moves(), managed in any::<bool>()) {
        let mut labels = vec![(PLUGIN, "true")];
        if managed {
            labels.push((MANAGER, "true"));
        }
        let node = Object::new(&labels);
        let before = node.0["metadata"]["labels"].clone();
        let mut cluster = Cluster { node, held: false, in_flight: None };
        for next in all {
            cluster.make(next);
            cluster.check()?;
        }
        cluster.make(Move::Off);
        cluster.make(Move::Clear);
        for _ in 0..4 {
            cluster.make(Move::Look);
            cluster.make(Move::Write);
            cluster.check()?;
        }
        cluster.operator();
        let mut wanted = before;
        wanted[MANAGER] = "true".into();
        prop_assert_eq!(&cluster.node.0["metadata"]["labels"], &wanted);
        prop_assert_eq!(&cluster.node.0["metadata"]["annotations"], &json!({}));
    }
}

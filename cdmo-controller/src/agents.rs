//! The agents: which pod serves which node, whether its session stands, and what it last reported.

mod ailing;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use kube::runtime::watcher::Event;
use tokio::time::Instant;

use crate::{
    grants::Grants, names::PodKey, objects::PodLite, pods::key_of, relist::Relist,
    session::Problem, snapshot::SnapshotRow,
};

use ailing::Ward;
pub use ailing::{Ailing, Ailment};

/// gRPC port of an agent whose pod names none.
const DEFAULT_PORT: u16 = 7443;
/// How long devices of a node count on after its session broke. An agent that restarts is back
/// sooner; while it is away no container that needs a device can start.
pub const GRACE: Duration = Duration::from_secs(15);

/// A pod that runs an agent.
#[derive(Clone, Debug, PartialEq)]
struct AgentPod {
    node: String,
    uid: String,
    address: SocketAddr,
    created: i64,
}

/// What is known of a node's agent.
#[derive(Debug)]
pub struct AgentState {
    /// Number of this agent pod, unique in the process.
    pub serial: u64,
    /// Uid of its pod.
    pub uid: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether the session stands and a snapshot came over it.
    pub up: bool,
    /// When it came up or went down, or when the pod was first seen.
    pub since: Instant,
    /// Why it is down, once an attempt has failed.
    pub problem: Option<Problem>,
    /// The newest state, kept when the session breaks.
    pub snapshot: Option<SnapshotRow>,
    /// What it granted lately.
    pub grants: Grants,
    /// Revision of the pod table sent last in this session.
    pub revision: u64,
    /// Number of the session, unique for the node.
    pub session: u64,
}

impl AgentState {
    /// Whether its devices can be counted on.
    pub fn serves(&self, now: Instant) -> bool {
        self.snapshot.is_some() && (self.up || now < self.since + GRACE)
    }

    /// Takes in a new state; returns whether it tells of a grant.
    pub fn report(&mut self, snapshot: SnapshotRow, now: Instant) -> bool {
        let granted = self.grants.hear(self.snapshot.as_ref(), &snapshot, now);
        self.snapshot = Some(snapshot);
        granted
    }
}

/// What the shell must do about an agent.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Start sessions with it.
    Connect {
        /// Its node.
        node: String,
        /// Its number.
        serial: u64,
        /// Where it listens.
        address: SocketAddr,
    },
    /// Stop sessions with it.
    Disconnect {
        /// Its node.
        node: String,
        /// Its number.
        serial: u64,
    },
    /// There is something new to say of why it does not come up.
    Ails {
        /// Its node.
        node: String,
    },
}

/// All agents.
#[derive(Debug)]
pub struct AgentTable {
    port_name: String,
    pods: HashMap<PodKey, AgentPod>,
    nodes: BTreeMap<String, AgentState>,
    ward: Ward,
    relist: Relist<PodKey>,
    serials: u64,
}

impl AgentTable {
    /// An empty table; agents listen on the container port of this name.
    pub fn new(port_name: String) -> Self {
        Self {
            port_name,
            pods: HashMap::new(),
            nodes: BTreeMap::new(),
            ward: Ward::default(),
            relist: Relist::default(),
            serials: 0,
        }
    }

    /// Takes in what the watch of agent pods says.
    pub fn apply(&mut self, event: Event<PodLite>, now: Instant) -> Vec<Change> {
        match event {
            Event::Apply(pod) => self.put(&pod, now),
            Event::InitApply(pod) => {
                self.relist.saw(key_of(&pod));
                self.put(&pod, now)
            }
            Event::Delete(pod) => self.remove(&key_of(&pod), now),
            Event::Init => {
                self.relist.begin();
                Vec::new()
            }
            Event::InitDone => {
                let known = self.pods.keys().chain(self.ward.pods()).cloned();
                let gone = self.relist.finish(known);
                gone.iter().flat_map(|key| self.remove(key, now)).collect()
            }
        }
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.relist.is_synced()
    }

    /// Whether every known agent has been heard of, for good or ill.
    pub fn is_settled(&self) -> bool {
        self.is_synced()
            && self
                .nodes
                .values()
                .all(|agent| agent.up || agent.problem.is_some())
    }

    /// A node's agent.
    pub fn get(&self, node: &str) -> Option<&AgentState> {
        self.nodes.get(node)
    }

    /// A node's agent, if it is the one with this number.
    pub fn get_mut(&mut self, node: &str, serial: u64) -> Option<&mut AgentState> {
        self.nodes
            .get_mut(node)
            .filter(|agent| agent.serial == serial)
    }

    /// Why a node's agent does not come up, if it does not.
    pub fn ailing(&self, node: &str) -> Option<&Ailing> {
        self.ward.get(node)
    }

    /// All agents by node.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &AgentState)> {
        self.nodes.iter()
    }

    fn put(&mut self, pod: &PodLite, now: Instant) -> Vec<Change> {
        let key = key_of(pod);
        let ails = self.ward.look(pod, now);
        let ails = ails.map(|node| Change::Ails { node });
        let new = self.read(pod);
        let old = match &new {
            Some(new) if self.pods.get(&key) == Some(new) => return ails.into_iter().collect(),
            Some(new) => self.pods.insert(key, new.clone()),
            None => self.pods.remove(&key),
        };
        let mut nodes: Vec<_> = old.into_iter().chain(new).map(|pod| pod.node).collect();
        nodes.dedup();
        let chosen = nodes.into_iter().flat_map(|node| self.choose(&node, now));
        chosen.chain(ails).collect()
    }

    fn remove(&mut self, key: &PodKey, now: Instant) -> Vec<Change> {
        let ails = self.ward.discharge(key);
        let ails = ails.map(|node| Change::Ails { node });
        let chosen = match self.pods.remove(key) {
            Some(pod) => self.choose(&pod.node, now),
            None => Vec::new(),
        };
        chosen.into_iter().chain(ails).collect()
    }

    /// An agent pod that can be dialled.
    fn read(&self, pod: &PodLite) -> Option<AgentPod> {
        if pod.status.phase != "Running" || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let ip = pod.status.pod_ip.as_ref()?.parse().ok()?;
        let mut ports = pod.spec.containers.iter().flat_map(|c| &c.ports);
        let port = ports
            .find(|p| p.name == self.port_name)
            .map_or(DEFAULT_PORT, |p| p.container_port);
        Some(AgentPod {
            node: pod.spec.node_name.clone().filter(|node| !node.is_empty())?,
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            address: SocketAddr::new(ip, port),
            created: pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(0, |t| t.0.as_second()),
        })
    }

    /// Talks to the newest agent pod of a node, and to no other.
    fn choose(&mut self, node: &str, now: Instant) -> Vec<Change> {
        let newest = self
            .pods
            .values()
            .filter(|pod| pod.node == node)
            .max_by(|a, b| (a.created, &a.uid).cmp(&(b.created, &b.uid)));
        let mut changes = Vec::new();
        let mut snapshot = None;
        if let Some(old) = self.nodes.get_mut(node) {
            if newest.is_some_and(|pod| pod.uid == old.uid && pod.address == old.address) {
                return changes;
            }
            changes.push(Change::Disconnect {
                node: node.to_owned(),
                serial: old.serial,
            });
            snapshot = old.snapshot.take();
        }
        match newest {
            Some(pod) => {
                self.serials += 1;
                let (serial, address) = (self.serials, pod.address);
                let state = AgentState {
                    serial,
                    session: serial << 32,
                    uid: pod.uid.clone(),
                    address,
                    up: false,
                    since: now,
                    problem: None,
                    snapshot,
                    grants: Grants::default(),
                    revision: 0,
                };
                self.nodes.insert(node.to_owned(), state);
                changes.push(Change::Connect {
                    node: node.to_owned(),
                    serial,
                    address,
                });
            }
            None => {
                self.nodes.remove(node);
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, phase: &str, port: &str) -> PodLite {
        serde_json::from_value(json!({
            "metadata": {"namespace": "cdmo-operator", "name": name, "uid": name},
            "spec": {"nodeName": node, "containers": [{"name": "agent", "ports": [
                {"name": "http", "containerPort": 1}, {"name": port, "containerPort": 9443},
            ]}]},
            "status": {"phase": phase, "podIP": "127.0.0.9"},
        }))
        .unwrap()
    }

    fn table() -> AgentTable {
        AgentTable::new("grpc".into())
    }

    fn connect(node: &str, serial: u64, port: u16) -> Change {
        let address = SocketAddr::new([127, 0, 0, 9].into(), port);
        Change::Connect {
            node: node.into(),
            serial,
            address,
        }
    }

    #[test]
    fn a_running_agent_is_dialled_at_its_named_port() {
        let (mut table, now) = (table(), Instant::now());
        assert!(
            table
                .apply(Event::Apply(pod("x", "a", "Pending", "grpc")), now)
                .is_empty()
        );
        let running = || Event::Apply(pod("x", "a", "Running", "grpc"));
        assert_eq!(table.apply(running(), now), [connect("a", 1, 9443)]);
        assert!(table.apply(running(), now).is_empty());
        let other = Event::Apply(pod("y", "b", "Running", "other"));
        assert_eq!(table.apply(other, now), [connect("b", 2, DEFAULT_PORT)]);
    }

    #[test]
    fn a_new_agent_pod_replaces_the_old_one_and_keeps_what_was_known() {
        let (mut table, now) = (table(), Instant::now());
        table.apply(Event::Apply(pod("x", "a", "Running", "grpc")), now);
        table.get_mut("a", 1).unwrap().snapshot = Some(SnapshotRow::default());
        let changes = table.apply(Event::Apply(pod("z", "a", "Running", "grpc")), now);
        let gone = Change::Disconnect {
            node: "a".into(),
            serial: 1,
        };
        assert_eq!(changes, [gone, connect("a", 2, 9443)]);
        assert!(table.get("a").unwrap().snapshot.is_some());
        assert!(
            table.get_mut("a", 1).is_none(),
            "reports of the old one are stale"
        );
    }

    #[test]
    fn an_agent_that_is_gone_is_left_in_peace() {
        let (mut table, now) = (table(), Instant::now());
        table.apply(Event::Apply(pod("x", "a", "Running", "grpc")), now);
        let changes = table.apply(Event::Delete(pod("x", "a", "Running", "grpc")), now);
        assert_eq!(
            changes,
            [Change::Disconnect {
                node: "a".into(),
                serial: 1
            }]
        );
        assert!(table.get("a").is_none());
    }

    #[test]
    fn devices_count_on_for_a_while_after_a_session_broke() {
        let (mut table, now) = (table(), Instant::now());
        table.apply(Event::Apply(pod("x", "a", "Running", "grpc")), now);
        let agent = table.get_mut("a", 1).unwrap();
        assert!(!agent.serves(now), "nothing is known yet");
        agent.snapshot = Some(SnapshotRow::default());
        assert!(agent.serves(now) && !agent.serves(now + GRACE));
        agent.up = true;
        assert!(agent.serves(now + GRACE));
    }
}

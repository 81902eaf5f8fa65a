//! The played cluster.

use std::collections::BTreeMap;

use cdmo_proto::agent::{
    self, Instance, Made, MigMode, PlanProgress, ResourceState, Snapshot, instance::State,
    plan_progress::Stage,
};
use mig::GpuModel;
use prometheus::Registry;
use serde_json::{Value, json};

use super::super::*;
use crate::session::Problem;

pub(super) const ONE: &str = "nvidia.com/mig-1g.5gb";
pub(super) const THREE: &str = "nvidia.com/mig-3g.20gb";
pub(super) const SEVEN: &str = "nvidia.com/mig-7g.40gb";
pub(super) const HALF: &str = "cdmo.clear.ml/fraction-0.500";
pub(super) const GATE: &str = crate::names::SCHEDULING_GATE;

/// Seconds of Unix time when all begins.
pub(super) const NOW: i64 = 1_800_000_000;

/// How an agent of the played cluster behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Manner {
    /// Carries plans out at once.
    Obedient,
    /// The same, but refuses plans that are stale, where others would rather know of them.
    Careful,
    /// Takes messages and does nothing.
    Mute,
    /// The same, and has not said yet what it has.
    Silent,
    /// Refuses every plan with this category.
    Refusing(&'static str),
}

pub(super) struct Host {
    pub(super) gpus: Vec<agent::Gpu>,
    pub(super) manner: Manner,
    pub(super) problems: Vec<String>,
    serial: u64,
    /// Plans that are worked on.
    working: Vec<String>,
    withdrawn: BTreeMap<String, agent::Plan>,
}

pub(super) struct Bench {
    pub(super) world: World,
    started: Instant,
    pub(super) now: Instant,
    pub(super) hosts: BTreeMap<String, Host>,
    pub(super) nodes: BTreeMap<String, Value>,
    pub(super) pods: BTreeMap<String, Value>,
    /// Everything the world did, in order, in short words.
    pub(super) log: Vec<String>,
    pub(super) notes: Vec<Note>,
    pub(super) annotations: Vec<(String, Value)>,
    /// So many writes to gates fail first.
    pub(super) stuck_gates: u32,
    /// Answers to status patches: conflicts to play first.
    pub(super) conflicts: u32,
    /// Do not answer status patches at all.
    pub(super) deaf_api: bool,
    /// This pod is bound to that node before the answer to the next status patch is heard.
    pub(super) bound_at_once: Option<(String, String)>,
    /// What a list shows beyond what the watch has.
    pub(super) unseen: Vec<Value>,
    /// So many lists come before that.
    pub(super) unseen_after_lists: usize,
    /// What agents were told to do with their nodes.
    pub(super) intents: Vec<(String, agent::NodeIntent)>,
    /// Agents say that nothing of ours is left.
    pub(super) given_back: bool,
    version: u64,
    next_gi: u32,
}

impl Bench {
    /// A cluster of managed nodes with A100 40 GB GPUs, all sessions standing.
    pub(super) fn new(nodes: &[(&str, usize)]) -> Self {
        Self::unheard(nodes).begun()
    }

    /// The same, where idle instances are parked.
    pub(super) fn parking(nodes: &[(&str, usize)]) -> Self {
        let mut bench = Self::unheard(nodes);
        bench.world.board = Board::new(planner::Idle::Parked);
        bench.begun()
    }

    /// The same, where so few pods make a window that is replayed; none if the first table stays.
    pub(super) fn replaying(nodes: &[(&str, usize)], window: Option<usize>) -> Self {
        let mut bench = Self::unheard(nodes);
        bench.world.arrivals = window.map(Arrivals::with_window);
        bench.begun()
    }

    fn begun(self) -> Self {
        let mut bench = self;
        bench.list_nodes();
        bench.list_pods();
        bench.list_agents();
        bench.run();
        bench.log.clear();
        bench
    }

    /// The same, but the world has heard nothing of it yet.
    pub(super) fn unheard(nodes: &[(&str, usize)]) -> Self {
        let now = Instant::now();
        let config = Config {
            namespace: "cdmo-operator".into(),
            agent_port_name: "grpc".into(),
            plan_prefix: "1".into(),
            settle: Duration::from_millis(100),
            status_patch: true,
            pod_annotation: true,
            name_holders: true,
            turn_mig_on: true,
            idle: planner::Idle::Offered,
            portfolio: true,
            window_after: Some(Duration::from_mins(5)),
            started: NOW,
        };
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let mut bench = Self {
            world: World::new(config, metrics, now),
            started: now,
            now,
            hosts: BTreeMap::new(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            log: Vec::new(),
            notes: Vec::new(),
            annotations: Vec::new(),
            stuck_gates: 0,
            conflicts: 0,
            deaf_api: false,
            bound_at_once: None,
            unseen: Vec::new(),
            unseen_after_lists: 0,
            intents: Vec::new(),
            given_back: false,
            version: 100,
            next_gi: 1,
        };
        for (name, gpus) in nodes {
            bench.add_node(name, *gpus);
        }
        bench
    }

    /// Another controller begins, which knows nothing of what this one did.
    pub(super) fn restart(&mut self) {
        let config = Config {
            started: self.time().as_second(),
            ..self.world.config.clone()
        };
        let metrics = Metrics::new(&Registry::new()).unwrap();
        self.world = World::new(config, metrics, self.now);
        self.list_nodes();
        self.list_pods();
        self.list_agents();
    }

    pub(super) fn list_nodes(&mut self) {
        self.apply(Input::Node(Box::new(Event::Init)));
        for node in self.nodes.values().cloned().collect::<Vec<_>>() {
            self.apply(Input::Node(Box::new(Event::InitApply(from(node)))));
        }
        self.apply(Input::Node(Box::new(Event::InitDone)));
    }

    pub(super) fn list_pods(&mut self) {
        self.apply(Input::Pod(Box::new(Event::Init)));
        for pod in self.pods.values().cloned().collect::<Vec<_>>() {
            self.apply(Input::Pod(Box::new(Event::InitApply(from(pod)))));
        }
        self.apply(Input::Pod(Box::new(Event::InitDone)));
    }

    pub(super) fn list_agents(&mut self) {
        self.apply(Input::AgentPod(Box::new(Event::Init)));
        for name in self.hosts.keys().cloned().collect::<Vec<_>>() {
            let pod = agent_pod(&name);
            self.apply(Input::AgentPod(Box::new(Event::InitApply(pod))));
        }
        self.apply(Input::AgentPod(Box::new(Event::InitDone)));
    }

    fn add_node(&mut self, name: &str, gpus: usize) {
        let gpu = |n: usize| agent::Gpu {
            uuid: format!("GPU-{name}{n}"),
            index: u32::try_from(n).unwrap(),
            mig_mode: MigMode::On.into(),
            state_version: 1,
            name: "NVIDIA A100-SXM4-40GB".into(),
            ..agent::Gpu::default()
        };
        let host = Host {
            gpus: (0..gpus).map(gpu).collect(),
            manner: Manner::Obedient,
            problems: Vec::new(),
            serial: 0,
            working: Vec::new(),
            withdrawn: BTreeMap::new(),
        };
        self.hosts.insert(name.into(), host);
        self.nodes.insert(
            name.into(),
            json!({
                "metadata": {"name": name, "resourceVersion": "1",
                    "labels": {"cdmo.clear.ml/gpu-partitioning": "mig"}},
                "status": {"capacity": {"cpu": "64"}, "allocatable": {"cpu": "64", "pods": "110"}},
            }),
        );
    }

    pub(super) fn apply(&mut self, input: Input) {
        self.world.apply(input, self.now);
    }

    /// Lets everything happen that happens without time passing, but for planning's few
    /// milliseconds.
    pub(super) fn run(&mut self) {
        for _ in 0..500 {
            let actions = self.world.decide(self.now);
            let planned = self.world.plan_at;
            if actions.is_empty() {
                match planned {
                    Some(at) => self.now = self.now.max(at),
                    None => return,
                }
            }
            for action in actions {
                self.carry_out(action);
            }
        }
        panic!("the world does not come to rest: {:#?}", self.log);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.world.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.run();
        }
        self.now = self.now.max(end);
        self.run();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect { node, serial, .. } => {
                let Some(host) = self.hosts.get_mut(&node) else {
                    return;
                };
                host.serial = serial;
                let talks = host.manner != Manner::Silent;
                self.log.push(format!("connect {node}"));
                self.report(&node, Said::Up);
                if talks {
                    self.snapshot(&node);
                }
            }
            Action::Disconnect { node, .. } => self.log.push(format!("disconnect {node}")),
            Action::Send { node, message, .. } => self.hear(&node, *message),
            Action::PatchStatus { node, patch } => self.patch_status(&node, &patch),
            Action::PatchProblems { node, text } => {
                self.log.push(format!(
                    "problems {node}: {}",
                    text.as_deref().unwrap_or("none")
                ));
                let annotations = match text {
                    Some(text) => json!({"cdmo.clear.ml/problems": text}),
                    None => json!({}),
                };
                self.nodes.get_mut(&node).unwrap()["metadata"]["annotations"] = annotations;
                self.apply(Input::ProblemsAnswer {
                    node: node.clone(),
                    written: true,
                });
                self.node_event(&node);
            }
            Action::PatchNode { node, patch } => self.patch_node(&node, &patch),
            Action::ListBound { operation, node } => {
                self.log.push(format!("list {node}"));
                let early = self.unseen_after_lists > 0;
                self.unseen_after_lists = self.unseen_after_lists.saturating_sub(1);
                let unseen = self.unseen.iter().filter(|_| !early);
                let all = self.pods.values().chain(unseen);
                let bound = all.filter(|pod| pod["spec"]["nodeName"] == node.as_str());
                let pods = Ok(bound.cloned().map(from).collect());
                self.apply(Input::Bound { operation, pods });
            }
            Action::AnnotatePod { pod, plan, .. } => {
                self.log.push(format!("annotate {}", pod.name()));
                self.annotations.push((pod.name().to_owned(), plan));
            }
            Action::OpenGate { pod, uid, at } => self.open_gate(&pod, &uid, at),
            Action::Publish(note) => {
                self.log
                    .push(format!("{} {}", note.reason, note.pod.name()));
                self.notes.push(note);
            }
        }
    }

    fn open_gate(&mut self, pod: &PodKey, uid: &str, at: usize) {
        let name = pod.name();
        let mut object = self.pods[name].clone();
        assert_eq!(object["metadata"]["uid"], uid);
        let gates = object["spec"]["schedulingGates"].as_array_mut().unwrap();
        if self.stuck_gates > 0 {
            self.stuck_gates -= 1;
            self.log.push(format!("open {name} failed"));
            return;
        }
        let gone = gates.remove(at);
        assert_eq!(gone["name"], "cdmo.clear.ml/partitioning");
        self.log.push(format!("open {name}"));
        self.put(name, object);
    }

    /// Labels are not in the log: every story would begin with them.
    fn patch_node(&mut self, name: &str, patch: &Value) {
        let object = self.nodes.get_mut(name).unwrap();
        let seen = &patch["metadata"]["resourceVersion"];
        let conflict = *seen != object["metadata"]["resourceVersion"];
        if !conflict {
            for part in ["labels", "annotations"] {
                for (key, value) in patch["metadata"][part].as_object().unwrap() {
                    if value.is_null() {
                        if let Some(all) = object["metadata"][part].as_object_mut() {
                            all.remove(key);
                        }
                    } else {
                        object["metadata"][part][key] = value.clone();
                    }
                }
            }
        }
        let answer = if conflict {
            Answer::Conflict
        } else {
            Answer::Written
        };
        self.apply(Input::TakeoverAnswer {
            node: name.into(),
            answer,
            written: None,
        });
        self.node_event(name);
    }

    fn patch_status(&mut self, name: &str, patch: &Value) {
        if self.deaf_api {
            self.log.push(format!("status {name} unanswered"));
            return;
        }
        let node = self.nodes.get_mut(name).unwrap();
        let current = node["metadata"]["resourceVersion"] == patch["metadata"]["resourceVersion"];
        if self.conflicts > 0 || !current {
            self.conflicts = self.conflicts.saturating_sub(1);
            self.log.push(format!("status {name} conflict"));
            let answer = Answer::Conflict;
            self.apply(Input::StatusAnswer {
                node: name.into(),
                answer,
                written: None,
            });
            return;
        }
        let counts = patch["status"]["allocatable"].as_object().unwrap();
        let words: Vec<_> = counts
            .iter()
            .map(|(name, count)| {
                format!(
                    "{}={}",
                    name.trim_start_matches("nvidia.com/mig-")
                        .trim_start_matches("cdmo.clear.ml/"),
                    count.as_str().unwrap()
                )
            })
            .collect();
        self.log.push(format!("status {name} {}", words.join(" ")));
        for list in ["capacity", "allocatable"] {
            for (key, value) in patch["status"][list].as_object().unwrap() {
                node["status"][list][key] = value.clone();
            }
        }
        self.version += 1;
        node["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let written = Some(Box::new(from(node.clone())));
        let answer = Answer::Written;
        if let Some((pod, node)) = self.bound_at_once.take() {
            self.bind_only(&pod, &node);
        }
        self.apply(Input::StatusAnswer {
            node: name.into(),
            answer,
            written,
        });
    }

    /// The kubelet writes counts of its own.
    pub(super) fn kubelet_writes(&mut self, name: &str, resource: &str, count: u32) {
        self.version += 1;
        let node = self.nodes.get_mut(name).unwrap();
        node["metadata"]["resourceVersion"] = json!(self.version.to_string());
        node["status"]["capacity"][resource] = json!(count.to_string());
        node["status"]["allocatable"][resource] = json!(count.to_string());
        self.node_event(name);
    }

    pub(super) fn node_event(&mut self, name: &str) {
        let node = self.nodes[name].clone();
        self.apply(Input::Node(Box::new(Event::Apply(from(node)))));
    }

    /// The present as the API writes it.
    fn time(&self) -> jiff::Timestamp {
        let passed = self.now.duration_since(self.started).as_secs();
        jiff::Timestamp::from_second(NOW + i64::try_from(passed).unwrap()).unwrap()
    }

    /// What the scheduler sees.
    pub(super) fn shown(&self, node: &str, resource: &str) -> u32 {
        let count = &self.nodes[node]["status"]["allocatable"][resource];
        count.as_str().map_or(0, |count| count.parse().unwrap())
    }

    /// A pod appears that asks for these.
    pub(super) fn create(&mut self, name: &str, limits: &[(&str, u32)]) {
        let limits: BTreeMap<_, _> = limits.iter().map(|(r, n)| (*r, n.to_string())).collect();
        let pod = json!({
            "metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}")},
            "spec": {"containers": [{"name": "main", "resources": {"limits": limits}}]},
            "status": {"phase": "Pending"},
        });
        self.put(name, pod);
    }

    /// The same pod, with these scheduling gates.
    pub(super) fn create_gated(&mut self, name: &str, limits: &[(&str, u32)], gates: &[&str]) {
        let limits: BTreeMap<_, _> = limits.iter().map(|(r, n)| (*r, n.to_string())).collect();
        let gates: Vec<_> = gates.iter().map(|name| json!({"name": name})).collect();
        let pod = json!({
            "metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}")},
            "spec": {
                "schedulingGates": gates,
                "containers": [{"name": "main", "resources": {"limits": limits}}],
            },
            "status": {"phase": "Pending"},
        });
        self.put(name, pod);
    }

    pub(super) fn put(&mut self, name: &str, mut pod: Value) {
        let known = self
            .pods
            .get(name)
            .map(|pod| &pod["metadata"]["creationTimestamp"]);
        let created = known
            .cloned()
            .unwrap_or_else(|| json!(self.time().to_string()));
        pod["metadata"]["creationTimestamp"] = created;
        self.pods.insert(name.into(), pod.clone());
        self.apply(Input::Pod(Box::new(Event::Apply(from(pod)))));
    }

    /// The scheduler binds a pod; the kubelet grants it devices.
    pub(super) fn bind(&mut self, name: &str, node: &str) {
        self.bind_to(name, node, 0);
    }

    /// The same; of the free devices the kubelet takes that which comes so many after the first, in a circle.
    pub(super) fn bind_to(&mut self, name: &str, node: &str, pick: usize) {
        self.bind_only(name, node);
        let pod = &self.pods[name];
        let limits = pod["spec"]["containers"][0]["resources"]["limits"].clone();
        for (resource, count) in limits.as_object().unwrap() {
            for _ in 0..count.as_str().unwrap().parse::<u32>().unwrap() {
                let gpus = &mut self.hosts.get_mut(node).unwrap().gpus;
                let devices = gpus.iter_mut().flat_map(|gpu| &mut gpu.instances);
                let free = |device: &&mut Instance| {
                    device.resource == *resource && device.state() == State::Idle
                };
                let mut free: Vec<_> = devices.filter(free).collect();
                assert!(!free.is_empty(), "no free {resource} for {name}");
                let at = pick % free.len();
                let device = &mut *free[at];
                device.set_state(State::Held);
                device.holders = vec![agent::Holder {
                    namespace: "ns".into(),
                    pod: name.into(),
                    ..agent::Holder::default()
                }];
            }
        }
        self.snapshot(node);
    }

    /// The scheduler binds a pod; the kubelet has not come to it yet.
    pub(super) fn bind_only(&mut self, name: &str, node: &str) {
        let mut pod = self.pods[name].clone();
        pod["spec"]["nodeName"] = json!(node);
        pod["status"]["conditions"] = json!([
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": self.time().to_string()},
        ]);
        self.put(name, pod);
    }

    /// A pod ends and its devices are free again.
    pub(super) fn finish(&mut self, name: &str) {
        let pod = self.pods.remove(name).unwrap();
        let node = pod["spec"]["nodeName"].as_str().unwrap().to_owned();
        for gpu in &mut self.hosts.get_mut(&node).unwrap().gpus {
            for instance in &mut gpu.instances {
                if instance.holders.iter().any(|holder| holder.pod == name) {
                    instance.holders.clear();
                    instance.set_state(State::Idle);
                    gpu.state_version += 1;
                }
            }
        }
        self.apply(Input::Pod(Box::new(Event::Delete(from(pod)))));
        self.snapshot(&node);
    }

    pub(super) fn device(
        &mut self,
        node: &str,
        resource: &str,
        state: State,
    ) -> Option<&mut Instance> {
        let gpus = &mut self.hosts.get_mut(node).unwrap().gpus;
        let mut all = gpus.iter_mut().flat_map(|gpu| &mut gpu.instances);
        all.find(|instance| instance.resource == resource && instance.state() == state)
    }

    pub(super) fn report(&mut self, node: &str, said: Said) {
        let serial = self.hosts[node].serial;
        self.apply(Input::Report(Report {
            node: node.into(),
            serial,
            said,
        }));
    }

    /// The session breaks.
    pub(super) fn break_session(&mut self, node: &str) {
        self.report(
            node,
            Said::Down(Problem::passing("closed", "the agent ended the session")),
        );
    }

    pub(super) fn snapshot(&mut self, node: &str) {
        let host = &self.hosts[node];
        let mut resources: BTreeMap<&str, ResourceState> = BTreeMap::new();
        for instance in host.gpus.iter().flat_map(|gpu| &gpu.instances) {
            let entry = resources.entry(&instance.resource).or_default();
            entry.resource.clone_from(&instance.resource);
            let healthy = matches!(instance.state(), State::Idle | State::Held);
            entry.capacity += 1;
            entry.allocatable += u32::from(healthy);
        }
        let snapshot = Snapshot {
            models: vec![wire_model()],
            gpus: host.gpus.clone(),
            resources: resources.into_values().collect(),
            problems: host.problems.clone(),
            plans: host.working.clone(),
            given_back: self.given_back,
        };
        self.report(node, Said::Snapshot(snapshot));
    }

    fn hear(&mut self, node: &str, message: ToAgent) {
        match message {
            ToAgent::Plan(plan) => {
                let words = plan_words(&plan);
                self.log.push(format!("plan {node} {words}"));
                match self.hosts[node].manner {
                    Manner::Mute | Manner::Silent => {}
                    Manner::Refusing(category) => {
                        self.progress(node, &plan.id, Stage::Refused, category);
                    }
                    Manner::Careful if self.is_stale(node, &plan) => {
                        self.snapshot(node);
                        self.progress(node, &plan.id, Stage::Refused, "stale");
                    }
                    Manner::Careful | Manner::Obedient => self.obey(node, plan),
                }
            }
            ToAgent::Commit(commit) => {
                self.log.push(format!("commit {node}"));
                if let Some(plan) = self
                    .hosts
                    .get_mut(node)
                    .unwrap()
                    .withdrawn
                    .remove(&commit.plan_id)
                {
                    self.make(node, &plan);
                }
            }
            ToAgent::Abort(abort) => {
                self.log.push(format!("abort {node}"));
                let host = self.hosts.get_mut(node).unwrap();
                host.withdrawn.remove(&abort.plan_id);
                for instance in host.gpus.iter_mut().flat_map(|gpu| &mut gpu.instances) {
                    if instance.state() == State::Withdrawing {
                        instance.set_state(State::Idle);
                    }
                }
                self.hosts.get_mut(node).unwrap().working.clear();
                self.snapshot(node);
                self.progress(node, &abort.plan_id, Stage::Aborted, "");
            }
            ToAgent::Pods(table) => {
                let names: Vec<_> = table.pods.iter().map(|pod| pod.name.as_str()).collect();
                self.log.push(format!(
                    "pods {node} {} [{}]",
                    table.revision,
                    names.join(" ")
                ));
            }
            ToAgent::Intent(intent) => self.intents.push((node.to_owned(), intent)),
            ToAgent::Hello(_) => unreachable!("the session says that"),
        }
    }

    fn is_stale(&self, node: &str, plan: &agent::Plan) -> bool {
        plan.gpus.iter().any(|wanted| {
            let mut gpus = self.hosts[node].gpus.iter();
            let gpu = gpus.find(|known| known.uuid == wanted.gpu_uuid);
            gpu.is_none_or(|gpu| gpu.state_version != wanted.state_version)
        })
    }

    fn obey(&mut self, node: &str, plan: agent::Plan) {
        let host = self.hosts.get_mut(node).unwrap();
        for wanted in &plan.gpus {
            let gpu = host
                .gpus
                .iter_mut()
                .find(|known| known.uuid == wanted.gpu_uuid)
                .unwrap();
            assert_eq!(gpu.state_version, wanted.state_version, "a stale plan");
            gpu.state_version += 1;
        }
        host.working.push(plan.id.clone());
        self.snapshot(node);
        let withdrawn = |gpu: &agent::GpuPlan| {
            let moved = gpu.expose.iter().filter_map(|moved| moved.instance.clone());
            gpu.give_up.iter().cloned().chain(moved).collect::<Vec<_>>()
        };
        if plan.gpus.iter().all(|gpu| withdrawn(gpu).is_empty()) {
            self.make(node, &plan);
            return;
        }
        let host = self.hosts.get_mut(node).unwrap();
        for (gpu, gone) in plan
            .gpus
            .iter()
            .flat_map(|g| withdrawn(g).into_iter().map(move |i| (g, i)))
        {
            let gpu = host
                .gpus
                .iter_mut()
                .find(|known| known.uuid == gpu.gpu_uuid)
                .unwrap();
            let mut all = gpu.instances.iter_mut();
            let instance = all
                .find(|i| i.gpu_instance_id == gone.gpu_instance_id)
                .unwrap();
            assert!(
                matches!(instance.state(), State::Idle | State::Parked),
                "only idle devices may be given up"
            );
            instance.set_state(State::Withdrawing);
        }
        let id = plan.id.clone();
        host.withdrawn.insert(id.clone(), plan);
        self.snapshot(node);
        self.progress(node, &id, Stage::Withdrawn, "");
    }

    fn make(&mut self, node: &str, plan: &agent::Plan) {
        let model = GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap();
        let host = self.hosts.get_mut(node).unwrap();
        let mut made = Vec::new();
        for wanted in &plan.gpus {
            let gpu = host
                .gpus
                .iter_mut()
                .find(|known| known.uuid == wanted.gpu_uuid)
                .unwrap();
            let leaves = |i: &Instance| {
                wanted
                    .give_up
                    .iter()
                    .any(|gone| gone.gpu_instance_id == i.gpu_instance_id)
            };
            gpu.instances.retain(|instance| !leaves(instance));
            for moved in &wanted.expose {
                let id = moved.instance.as_ref().unwrap().gpu_instance_id;
                let mut all = gpu.instances.iter_mut();
                let instance = all.find(|i| i.gpu_instance_id == id).unwrap();
                instance.resource.clone_from(&moved.resource);
                if moved.resource.is_empty() {
                    instance.set_state(State::Parked);
                    continue;
                }
                instance.set_state(State::Idle);
                made.push(Made {
                    gpu_uuid: gpu.uuid.clone(),
                    profile: instance.profile.clone(),
                    start: instance.start,
                    device_id: instance.device_id.clone(),
                    resource: moved.resource.clone(),
                });
            }
            for new in &wanted.create {
                let (_, profile) = model.find(&new.profile.parse().unwrap()).unwrap();
                let device_id = format!("MIG-{}-{}", gpu.uuid, new.start);
                gpu.instances.push(Instance {
                    gpu_instance_id: self.next_gi,
                    profile: new.profile.clone(),
                    start: new.start,
                    size: profile.size().into(),
                    device_id: device_id.clone(),
                    resource: new.resource.clone(),
                    state: State::Idle.into(),
                    ..Instance::default()
                });
                self.next_gi += 1;
                made.push(Made {
                    gpu_uuid: gpu.uuid.clone(),
                    profile: new.profile.clone(),
                    start: new.start,
                    device_id,
                    resource: new.resource.clone(),
                });
            }
            gpu.state_version += 1;
        }
        self.hosts
            .get_mut(node)
            .unwrap()
            .working
            .retain(|id| *id != plan.id);
        self.snapshot(node);
        let progress = PlanProgress {
            plan_id: plan.id.clone(),
            stage: Stage::Done.into(),
            made,
            ..PlanProgress::default()
        };
        self.report(node, Said::Progress(progress));
    }

    pub(super) fn progress(&mut self, node: &str, plan: &str, stage: Stage, category: &str) {
        let progress = PlanProgress {
            plan_id: plan.into(),
            stage: stage.into(),
            category: category.into(),
            message: "the driver says no".into(),
            made: Vec::new(),
        };
        self.report(node, Said::Progress(progress));
    }

    #[track_caller]
    pub(super) fn note(&self, pod: &str, reason: &str) -> &Note {
        let found = self
            .notes
            .iter()
            .find(|n| n.pod.name() == pod && n.reason == reason);
        found.unwrap_or_else(|| panic!("no {reason} for {pod}: {:#?}", self.log))
    }

    /// The log so far, which then starts anew.
    pub(super) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

fn plan_words(plan: &agent::Plan) -> String {
    let gpus = plan.gpus.iter().map(|gpu| {
        let gone = gpu
            .give_up
            .iter()
            .map(|i| format!("-{}@{}", i.profile, i.start));
        let made = gpu
            .create
            .iter()
            .map(|i| format!("+{}@{}", i.profile, i.start));
        let moved = gpu.expose.iter().map(|moved| {
            let instance = moved.instance.as_ref().unwrap();
            let name = moved.resource.trim_start_matches("cdmo.clear.ml/");
            format!("{}@{}>{name}", instance.profile, instance.start)
        });
        let all = gone.chain(moved).chain(made);
        format!("{}: {}", gpu.gpu_uuid, all.collect::<Vec<_>>().join(" "))
    });
    gpus.collect::<Vec<_>>().join("; ")
}

pub(super) fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(super) fn agent_pod(node: &str) -> PodLite {
    from(json!({
        "metadata": {"namespace": "cdmo-operator", "name": format!("agent-{node}"),
            "uid": format!("agent-{node}")},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }))
}

fn wire_model() -> agent::Model {
    let model = GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap();
    let profile = |p: &mig::Profile| agent::Profile {
        name: p.name.to_string(),
        id: p.id,
        starts: p.placements.iter().map(|p| p.start.into()).collect(),
        size: p.size().into(),
        max_instances: p.max_instances.into(),
        multiprocessors: p.multiprocessors,
        memory_mib: p.memory_mib,
    };
    agent::Model {
        name: model.name.clone(),
        slices: model.slices.into(),
        profiles: model.profiles.iter().map(profile).collect(),
    }
}

//! Driving operations: what they ask for is done here, and what they end in is drawn from here.

use cdmo_proto::agent::{self, controller_message::Message as ToAgent, instance::State};
use planner::NodePlan;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Action, World,
    alarms::Alarm,
    board::{LONGEST_PAUSE, LONGEST_REST},
    demand::Standing,
};
use crate::{
    names::PodKey,
    objects::PodLite,
    operation::{Input, Operation, Output, Stage},
    pods::{PodRow, key_of},
    requests,
    snapshot::{GpuRow, InstanceRow},
    view,
    words::{self, Note, Stages},
};

impl World {
    /// Begins to carry out a plan made for a pod.
    pub(super) fn begin(&mut self, node: &str, plan: NodePlan, pod: &PodKey, now: Instant) {
        let Some(uid) = self.demands.get(pod).map(|demand| demand.uid.clone()) else {
            return;
        };
        let sentence = words::planned(node, &plan, |uuid| self.gpu_index(node, uuid));
        tracing::info!(%pod, node, "{sentence}");
        self.actions.push(Action::Publish(Note::new(
            pod.clone(),
            uid.clone(),
            "SlicePlanned",
            &sentence,
            false,
        )));
        self.metrics.event("SlicePlanned");
        self.operation_count += 1;
        let id = format!("{}-{}", self.config.plan_prefix, self.operation_count);
        let pod = (pod.clone(), uid);
        let (operation, output) = Operation::new(
            id.clone(),
            node.to_owned(),
            plan.gpus,
            pod,
            self.config.settle,
            now,
        );
        self.operations.insert(operation);
        self.touch(node, now);
        self.follow(&id, output, now);
    }

    /// Gives an operation news.
    pub(super) fn step_operation(&mut self, id: &str, input: Input, now: Instant) {
        let Some(operation) = self.operations.get_mut(id) else {
            return;
        };
        let node = operation.node.clone();
        let output = operation.step(now, input);
        self.touch(&node, now);
        self.follow(id, output, now);
    }

    pub(super) fn tick(&mut self, id: &str, now: Instant) {
        let Some(operation) = self.operations.get(id) else {
            return;
        };
        if operation.wake_at().is_none_or(|at| now < at) {
            return;
        }
        let writes_soon = self
            .beats
            .get(&operation.node)
            .and_then(|beat| beat.due(now))
            .filter(|_| operation.stage() == Stage::Settling && self.config.status_patch);
        if let Some(until) = writes_soon {
            self.alarms.set(until, Alarm::Operation(id.to_owned()));
            return;
        }
        self.step_operation(id, Input::Tick, now);
    }

    pub(super) fn hear_progress(
        &mut self,
        node: &str,
        progress: agent::PlanProgress,
        now: Instant,
    ) {
        let id = progress.plan_id.clone();
        // An agent reports on plans for its own node only.
        if self
            .operations
            .get(&id)
            .is_some_and(|operation| operation.node == node)
        {
            self.step_operation(&id, Input::Progress(progress), now);
        }
    }

    /// Does what an operation asks for, until it asks for nothing more at the moment.
    pub(super) fn follow(&mut self, id: &str, mut output: Option<Output>, now: Instant) {
        while let Some(asked) = output.take() {
            let Some(operation) = self.operations.get_mut(id) else {
                return;
            };
            let node = operation.node.clone();
            match asked {
                Output::Send => {
                    let plan = ToAgent::Plan(operation.to_proto());
                    self.send(&node, plan);
                }
                Output::Assert => self.statuses.entry(node).or_default().assert(),
                Output::List => {
                    let operation = id.to_owned();
                    self.actions.push(Action::ListBound { operation, node });
                }
                Output::Commit => {
                    let listed = self.listed.remove(id).unwrap_or_default();
                    let pods_revision = self.send_table(&node, &listed);
                    let plan_id = id.to_owned();
                    self.send(
                        &node,
                        ToAgent::Commit(agent::Commit {
                            plan_id,
                            pods_revision,
                        }),
                    );
                }
                Output::Abort => {
                    let plan_id = id.to_owned();
                    self.send(&node, ToAgent::Abort(agent::Abort { plan_id }));
                }
                Output::Made(_) => {
                    let operation = operation.clone();
                    self.outdate(&operation, now);
                }
                Output::Ready => self.end_well(id, now),
                Output::Failed {
                    category,
                    message,
                    blame,
                } => {
                    self.end_badly(id, &category, &message, blame, now);
                }
            }
        }
        if let Some(at) = self.operations.get(id).and_then(Operation::wake_at) {
            self.alarms.set(at, Alarm::Operation(id.to_owned()));
        }
    }

    pub(super) fn hear_bound(
        &mut self,
        id: &str,
        pods: Result<Vec<PodLite>, String>,
        now: Instant,
    ) {
        let verdict = match pods {
            Ok(pods) => {
                let rows: Vec<_> = pods.iter().filter_map(|pod| self.listed_row(pod)).collect();
                let verdict = self.counted_on(id, &rows, now);
                self.listed.insert(id.to_owned(), rows);
                verdict
            }
            Err(why) => Err(why),
        };
        self.step_operation(id, Input::Looked(verdict), now);
        self.listed.remove(id);
    }

    fn listed_row(&mut self, pod: &PodLite) -> Option<(PodKey, PodRow)> {
        let total = requests::of_pod(&pod.spec);
        Some((key_of(pod), self.pods.row_of(pod, &total)?))
    }

    /// Whether pods count on devices that the operation withdraws: those bound to the node, and those
    /// that the scheduler may have sent there before the node's status went down.
    fn counted_on(
        &self,
        id: &str,
        listed: &[(PodKey, PodRow)],
        now: Instant,
    ) -> Result<(), String> {
        let Some(operation) = self.operations.get(id) else {
            return Ok(());
        };
        let node = operation.node.as_str();
        let Some(snapshot) = self
            .agents
            .get(node)
            .and_then(|agent| agent.snapshot.as_ref())
        else {
            return Err(format!("nothing is known of the devices of node {node}"));
        };
        let mut bound: Vec<_> = listed.iter().map(|(key, row)| (key, row)).collect();
        bound.sort_unstable_by_key(|(key, _)| *key);
        let mut claimed = view::claimed(snapshot, &bound);
        for (_, row) in self.on_their_way(operation, listed, now) {
            for (resource, count) in row.wants.iter() {
                let sum = claimed.entry(resource.clone()).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        for resource in operation.withdrawn().filter_map(|gone| gone.resource) {
            let stays = self.staying(operation, resource);
            let needed = claimed.get(resource).copied().unwrap_or(0);
            if needed > stays {
                return Err(format!(
                    "a pod counts on a {resource} of node {node} that was to be withdrawn"
                ));
            }
        }
        Ok(())
    }

    /// Free devices of a resource that no operation on the node withdraws.
    fn staying(&self, operation: &Operation, resource: &str) -> u32 {
        let snapshot = self
            .agents
            .get(&operation.node)
            .and_then(|agent| agent.snapshot.as_ref());
        let gone = |gpu: &GpuRow, row: &InstanceRow| {
            let mut gone = operation.withdrawn();
            gone.any(|gone| gone.gpu == gpu.uuid && gone.gi_id == row.gi_id)
        };
        let gpus = snapshot.into_iter().flat_map(|snapshot| &snapshot.gpus);
        let free = gpus
            .flat_map(|gpu| gpu.instances.iter().map(move |row| (gpu, row)))
            .filter(|(gpu, row)| {
                row.state == State::Idle
                    && row.resource.as_deref() == Some(resource)
                    && !gone(gpu, row)
            });
        let free = u32::try_from(free.count()).unwrap_or(u32::MAX);
        let others = self
            .operations
            .of_node(&operation.node)
            .filter(|o| o.id != operation.id && o.lowers())
            .flat_map(Operation::withdrawn)
            .filter(|gone| gone.resource == Some(resource))
            .count();
        free.saturating_sub(u32::try_from(others).unwrap_or(u32::MAX))
    }

    /// Waiting pods that were there before the status went down and could have been sent to the node.
    fn on_their_way<'a>(
        &'a self,
        operation: &'a Operation,
        listed: &'a [(PodKey, PodRow)],
        now: Instant,
    ) -> impl Iterator<Item = (&'a PodKey, &'a PodRow)> {
        let lowered = operation.times.lowered;
        let row = self.nodes.get(&operation.node);
        let empty = requests::Amounts::new();
        self.pods.pending().filter(move |(key, pod)| {
            let used = self
                .pods
                .load(&operation.node)
                .map_or(&empty, |load| &load.used);
            let asks = operation
                .withdrawn()
                .filter_map(|gone| gone.resource)
                .any(|resource| pod.wants.contains_key(resource));
            let early = || {
                self.demands.get(key).is_some_and(|demand| {
                    // Planned for elsewhere or refused: no room for it here was ever shown, unless that
                    // is why the node was set aside.
                    let was_shown = matches!(demand.standing, Standing::New | Standing::Covered)
                        || pod.constraints.binds_slowly
                            && demand.aside.may_be_bound_to(&operation.node, now);
                    was_shown && lowered.is_some_and(|at| demand.seen <= at)
                })
            };
            let is_listed = listed.iter().any(|(k, _)| k == *key);
            asks && early()
                && !is_listed
                && (*key, &pod.uid) != (&operation.pod.0, &operation.pod.1)
                && row.is_some_and(|row| {
                    pod.constraints.check(row, used) == planner::Eligibility::Allowed
                })
        })
    }

    fn end_well(&mut self, id: &str, now: Instant) {
        let Some(operation) = self.operations.remove(id) else {
            return;
        };
        self.metrics.plan("ready");
        for gpu in &operation.gpus {
            self.board.forgive(&gpu.uuid);
        }
        let (pod, uid) = &operation.pod;
        if pod.is_nobody() {
            tracing::info!(
                node = operation.node,
                plan = id,
                "what was idle is given up, or parked"
            );
            self.touch(&operation.node, now);
            return;
        }
        let times = operation.times;
        let seen = self
            .demands
            .get(pod)
            .map_or(times.planned, |demand| demand.seen);
        let made = times.made.unwrap_or(now);
        let stages = Stages {
            planning: times.planned - seen,
            withdrawing: times.committed.map(|at| at - times.planned),
            making: made - times.committed.unwrap_or(times.planned),
            showing: now - made,
        };
        self.metrics.stage("planning", stages.planning);
        if let Some(took) = stages.withdrawing {
            self.metrics.stage("withdrawing", took);
        }
        self.metrics.stage("making", stages.making);
        self.metrics.stage("showing", stages.showing);
        let sentence = words::ready(&operation, &stages);
        tracing::info!(%pod, "{sentence}");
        let exists = self
            .pods
            .get(pod)
            .is_some_and(|row| row.uid == *uid && !row.terminal);
        if !exists {
            return;
        }
        let device = |made: &agent::Made| {
            json!({
                "gpu": made.gpu_uuid, "profile": made.profile, "start": made.start,
                "device": made.device_id, "resource": made.resource,
            })
        };
        let devices: Vec<_> = operation.made.iter().map(device).collect();
        let plan = json!({"node": operation.node, "devices": devices});
        if self
            .demands
            .get(pod)
            .is_some_and(|demand| !demand.held_back)
        {
            self.open_gate(pod, now);
        }
        if let Some(demand) = self.demands.get_mut(pod) {
            demand.ready = Some(now);
            self.annotate(pod, &operation.node, &plan, now, now);
        } else if self.config.pod_annotation {
            // Bound already: nobody waits for the annotation, but people read it.
            self.actions.push(Action::AnnotatePod {
                pod: pod.clone(),
                uid: uid.clone(),
                plan,
            });
        }
        let note = Note::new(pod.clone(), uid.clone(), "SliceReady", &sentence, false);
        self.actions.push(Action::Publish(note));
        self.metrics.event("SliceReady");
    }

    fn end_badly(&mut self, id: &str, category: &str, message: &str, blame: bool, now: Instant) {
        let Some(operation) = self.operations.remove(id) else {
            return;
        };
        self.metrics.plan(category);
        let (pod, uid) = &operation.pod;
        let node = operation.node.as_str();
        tracing::warn!(%pod, node, category, "plan {id} ended: {message}");
        // What was called off at the last moment would be called off again at once.
        let called_off = matches!(category, "aborted" | "counted_on");
        for gpu in operation.gpus.iter().filter(|_| blame || called_off) {
            let longest = if blame { LONGEST_REST } else { LONGEST_PAUSE };
            let until = self.board.rest(&gpu.uuid, longest, message, now);
            self.alarms.set(until, Alarm::Node(node.to_owned()));
        }
        if operation.is_sent() {
            self.outdate(&operation, now);
        }
        if blame && self.pods.waiting(pod).is_some() {
            let sentence = words::failed(node, message);
            let told = Note::new(pod.clone(), uid.clone(), "AgentError", &sentence, true);
            self.actions.push(Action::Publish(told));
            self.metrics.event("AgentError");
        }
    }

    /// All operations of a node whose session is gone: what became of them, the next snapshot tells.
    pub(super) fn lose_session(&mut self, node: &str, now: Instant) {
        let lost: Vec<_> = self
            .operations
            .of_node(node)
            .map(|operation| operation.id.clone())
            .collect();
        for id in lost {
            self.end_badly(
                &id,
                "session_lost",
                "the session with the agent broke",
                false,
                now,
            );
        }
        self.touch(node, now);
    }

    /// What is reported of the operation's GPUs is out of date until a newer report comes. A report
    /// that names the plan as still worked on is one of those, whatever its version.
    fn outdate(&mut self, operation: &Operation, now: Instant) {
        let node = operation.node.as_str();
        let snapshot = self
            .agents
            .get(node)
            .and_then(|agent| agent.snapshot.as_ref());
        let unfinished = snapshot.filter(|snapshot| snapshot.plans.contains(&operation.id));
        for gpu in &operation.gpus {
            let reported = unfinished
                .and_then(|s| s.gpu(&gpu.uuid))
                .map(|gpu| gpu.version);
            let until = self
                .board
                .outdate(&gpu.uuid, reported.unwrap_or(gpu.version), now);
            self.alarms.set(until, Alarm::Node(node.to_owned()));
        }
    }

    /// A snapshot came: reports of newer versions are up to date.
    pub(super) fn forget_outdated(&mut self, node: &str) {
        if let Some(snapshot) = self
            .agents
            .get(node)
            .and_then(|agent| agent.snapshot.as_ref())
        {
            for gpu in &snapshot.gpus {
                self.board.reported(&gpu.uuid, gpu.version);
            }
        }
    }
}

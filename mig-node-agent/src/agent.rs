//! The loop: everything that happens becomes an input of the node's state machine, and what it
//! asks for becomes tasks.

use std::sync::Arc;
use std::time::Duration;

use cdmo_proto::agent as api;
use cdmo_proto::agent::controller_message::Message;
use cdmo_proto::agent::plan_progress::Stage;
use device_plugin::PluginState;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::driver::Fault;
use crate::evidence::Whereabouts;
use crate::evidence::arrivals::Arrivals;
use crate::journal::Intent;
use crate::metrics::Metrics;
use crate::node::{Action, Input, Node, Now, OpId, Outcome, Slot};
use crate::session::SessionEvent;
use crate::work::Worker;

/// How often the loop shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Where the loop's inputs come from.
pub struct Inputs {
    /// Controllers.
    pub sessions: mpsc::Receiver<SessionEvent>,
    /// Calls that take too long.
    pub late: mpsc::Receiver<OpId>,
    /// Faults that the driver reports.
    pub faults: mpsc::Receiver<Fault>,
    /// Why the journal cannot be written.
    pub journal: watch::Receiver<Option<String>>,
    /// The kubelet's side.
    pub plugins: watch::Receiver<Arc<PluginState>>,
}

/// Where the loop's state is shown.
pub struct Outputs {
    /// To controllers.
    pub snapshots: watch::Sender<Arc<api::Snapshot>>,
    /// To the proofs.
    pub pods: watch::Sender<Option<Arc<api::PodTable>>>,
    /// To the proofs.
    pub whereabouts: watch::Sender<Arc<Whereabouts>>,
    /// To `/livez`: when the loop last went round.
    pub heartbeat: watch::Sender<Instant>,
    /// To Prometheus.
    pub metrics: Metrics,
}

/// The agent's main loop.
pub struct Agent {
    node: Node,
    worker: Worker,
    inputs: Inputs,
    outputs: Outputs,
    started: Instant,
    tasks: JoinSet<Option<(OpId, Outcome)>>,
    session: Option<(u64, mpsc::Sender<api::PlanProgress>)>,
    /// The newest session that was ever opened.
    newest: u64,
}

impl Agent {
    /// A loop around a node that was adopted at `started`.
    pub fn new(
        node: Node,
        worker: Worker,
        inputs: Inputs,
        outputs: Outputs,
        started: Instant,
    ) -> Self {
        Self {
            node,
            worker,
            inputs,
            outputs,
            started,
            tasks: JoinSet::new(),
            session: None,
            newest: 0,
        }
    }

    /// Runs until `shutdown`. What is half done then is found again at the next start.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let first = self.node.take_actions();
        self.act(first);
        // Another plugin may be there already.
        self.see_plugins();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.show();
            let deadline = self.node.deadline().map(|at| self.started + at);
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(event) = self.inputs.sessions.recv() => self.session_event(event),
                Some(op) = self.inputs.late.recv() => self.feed(Input::Late(op)),
                Some(fault) = self.inputs.faults.recv() => self.fault(fault),
                Ok(()) = self.inputs.plugins.changed() => self.see_plugins(),
                Ok(()) = self.inputs.journal.changed() => {
                    let trouble = self.inputs.journal.borrow_and_update().clone();
                    self.feed(Input::Problem("journal_trouble", trouble));
                }
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(Some((op, outcome))) => {
                        self.catch_up();
                        self.feed(Input::Done(op, outcome));
                    }
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "A task died; its GPU stays as it is"),
                },
                () = sleep_until(deadline.unwrap_or(self.started)), if deadline.is_some() => {
                    self.feed(Input::Tick);
                }
                _ = heartbeat.tick() => {
                    self.outputs.heartbeat.send_replace(Instant::now());
                }
            }
        }
    }

    /// An outcome rests on what the kubelet was seen to do; that must be known before it.
    fn catch_up(&mut self) {
        if self.inputs.plugins.has_changed().unwrap_or(false) {
            self.see_plugins();
        }
    }

    fn see_plugins(&mut self) {
        let state = self.inputs.plugins.borrow_and_update().clone();
        self.feed(Input::Plugins(state));
    }

    fn session_event(&mut self, event: SessionEvent) {
        match event {
            // It was admitted before the newest one, which has its place; only its word came late.
            SessionEvent::Opened(id, _) if id <= self.newest => {}
            SessionEvent::Opened(id, progress) => {
                self.newest = id;
                if self.session.replace((id, progress)).is_some() {
                    self.feed(Input::SessionClosed);
                }
                self.outputs.pods.send_replace(None);
                self.outputs.metrics.connected(true);
                self.feed(Input::SessionOpened);
            }
            SessionEvent::Said(id, message) => {
                if self.session.as_ref().is_some_and(|(live, _)| *live == id) {
                    self.said(message);
                }
            }
            SessionEvent::Closed(id) => {
                if self.session.as_ref().is_some_and(|(live, _)| *live == id) {
                    self.close_session();
                }
            }
        }
    }

    fn close_session(&mut self) {
        self.session = None;
        self.outputs.pods.send_replace(None);
        self.outputs.metrics.connected(false);
        self.feed(Input::SessionClosed);
    }

    fn said(&mut self, message: Message) {
        match message {
            Message::Pods(table) => {
                let revision = table.revision;
                let table = Arc::new(table);
                let before = self.outputs.pods.send_replace(Some(table.clone()));
                if let Some(before) = before {
                    // First: what follows asks the kubelet for its pods.
                    let Arrivals { came, gone } = Arrivals::between(&before, &table);
                    self.worker.plugins.expect(came, &gone);
                }
                let (proofs, kubelet) = (self.worker.proofs.clone(), self.worker.plugins.clone());
                self.tasks.spawn(async move {
                    proofs.learn(&table, &kubelet).await;
                    None
                });
                self.worker.plugins.recheck();
                self.feed(Input::Pods(revision));
            }
            Message::Plan(plan) => {
                tracing::info!(plan = plan.id, gpus = plan.gpus.len(), "Taking a plan");
                self.feed(Input::Plan(plan));
            }
            Message::Commit(commit) => self.feed(Input::Commit(commit)),
            Message::Abort(abort) => self.feed(Input::Abort(abort)),
            Message::Intent(intent) => {
                let api::NodeIntent {
                    give_back,
                    turn_mig_on,
                    leave_alone,
                    paused,
                } = intent;
                self.feed(Input::Intent(Intent {
                    give_back,
                    turn_mig_on,
                    leave_alone,
                    paused,
                }));
            }
            Message::Hello(_) => {}
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.outputs.metrics.faults.inc();
        tracing::warn!(
            gpu = fault.gpu,
            instance = fault.instance,
            reason = fault.reason,
            "Fault"
        );
        self.feed(Input::Fault {
            gpu: fault.gpu,
            instance: fault.instance,
            reason: fault.reason,
        });
    }

    fn feed(&mut self, input: Input) {
        let now = Now {
            tick: self.started.elapsed(),
            unix: unix_now(),
        };
        let actions = self.node.handle(now, input);
        // Proofs must find what is being offered or fenced from here on.
        self.show_whereabouts();
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Progress(progress) => self.report(progress),
                action => {
                    tracing::debug!(?action, "Acting");
                    self.tasks.spawn(self.worker.clone().perform(action));
                }
            }
        }
    }

    fn report(&mut self, progress: api::PlanProgress) {
        // The snapshot that the report rests on goes first; see the session.
        self.show();
        let stage = progress.stage();
        let word = stage.as_str_name().to_ascii_lowercase();
        let (plan, category) = (&progress.plan_id, &progress.category);
        tracing::info!(%plan, stage = word, %category, why = progress.message, "Plan");
        if stage != Stage::Withdrawn {
            let plans = &self.outputs.metrics.plans;
            plans.with_label_values(&[word.as_str(), category]).inc();
        }
        let delivered = self
            .session
            .as_ref()
            .is_none_or(|(_, reports)| reports.try_send(progress).is_ok());
        if !delivered {
            // A controller that does not read is none; its session ends with this sender.
            self.close_session();
        }
    }

    /// Shows the node's state wherever it changed.
    fn show(&mut self) {
        let snapshot = self.node.snapshot();
        let metrics = &self.outputs.metrics;
        self.outputs.snapshots.send_if_modified(|shown| {
            let changed = **shown != snapshot;
            if changed {
                metrics.show(&snapshot);
                *shown = Arc::new(snapshot);
            }
            changed
        });
    }

    fn show_whereabouts(&self) {
        let whereabouts: Whereabouts = self
            .node
            .units()
            .filter_map(|(gpu, unit)| {
                let instance = match unit.slot {
                    Slot::Whole => None,
                    Slot::Instance(id) => Some(id),
                };
                let listed = unit.listed.as_ref().map(|(_, id)| id);
                let id = unit.device.as_ref().or(listed)?;
                Some((id.clone(), (gpu.info.uuid.clone(), instance)))
            })
            .collect();
        self.outputs.whereabouts.send_if_modified(|shown| {
            let changed = **shown != whereabouts;
            if changed {
                *shown = Arc::new(whereabouts);
            }
            changed
        });
    }
}

/// Seconds since the Unix epoch, for people to read.
fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

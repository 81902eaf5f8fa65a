//! The loop around the world: takes in what happened, carries out what was decided.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cdmo_proto::agent::controller_message::Message as ToAgent;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    metrics::Metrics,
    page::{Ask, Desk},
    session::{self, Agent, Dialer, Epochs, Problem, Report, Said},
    world::{Action, Clock, Input, World},
    writer::Writer,
};

/// Messages to one agent that may wait; see [`session::Outgoing`].
const OUTBOX: usize = 64;
/// The loop turns at least this often, so that a loop that hangs is noticed.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// Inputs taken in one turn at most, so that decisions are not put off while a big list arrives.
const MOST_INPUTS: usize = 256;

/// What the loop needs.
pub struct Engine {
    /// What is known.
    pub world: World,
    /// Writes to the API server.
    pub writer: Writer,
    /// Reaches agents.
    pub dialer: Arc<dyn Dialer>,
    /// Numbers for sessions.
    pub epochs: Arc<dyn Epochs>,
    /// Name of this controller.
    pub me: String,
    /// What is measured.
    pub metrics: Metrics,
    /// What happened in the cluster.
    pub inputs: mpsc::Receiver<Input>,
    /// What agents say; also handed to their sessions.
    pub reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// Who wants to know what is known.
    pub desk: Desk,
    /// When the loop last turned, and whether the world is complete.
    pub beat: watch::Sender<(Instant, bool)>,
    /// Sessions run here.
    pub tasks: TaskTracker,
}

struct Line {
    serial: u64,
    outbox: mpsc::Sender<Box<ToAgent>>,
    stop: CancellationToken,
}

impl Engine {
    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut lines = HashMap::new();
        loop {
            let now = Instant::now();
            let wake = self
                .world
                .wake_at()
                .unwrap_or(now + HEARTBEAT)
                .min(now + HEARTBEAT);
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(input) = self.inputs.recv() => self.take_in(input),
                Some(report) = self.reports.1.recv() => self.take_in(Input::Report(report)),
                Some(ask) = self.desk.asks.recv() => self.tell(ask),
                () = sleep_until(wake) => {}
            }
            self.take_in_waiting();
            let begin = Instant::now();
            let actions = self.world.decide(begin);
            let end = Instant::now();
            let took = end - begin;
            self.world.took(took, end);
            self.metrics.pass(took);
            for action in actions {
                self.carry_out(action, &mut lines, &shutdown);
            }
            self.desk.revision.send_if_modified(|shown| {
                let revision = self.world.revision();
                std::mem::replace(shown, revision) != revision
            });
            self.beat.send_replace((begin, self.world.is_synced()));
        }
    }

    /// Answers whoever still waits.
    fn tell(&mut self, ask: Ask) {
        let clock = Clock::now();
        match ask {
            Ask::Status { nodes, answer } if !answer.is_closed() => {
                let synced = self.world.is_synced();
                let report = || self.world.report(&self.me, nodes.as_deref(), clock);
                let _ = answer.send(synced.then(report));
            }
            Ask::WhatIf { pods, answer } if !answer.is_closed() => {
                let _ = answer.send(self.world.what_if(&pods, clock));
            }
            Ask::Status { .. } | Ask::WhatIf { .. } => {}
        }
    }

    fn take_in(&mut self, input: Input) {
        self.world.apply(input, Instant::now());
    }

    fn take_in_waiting(&mut self) {
        for _ in 0..MOST_INPUTS {
            if let Ok(report) = self.reports.1.try_recv() {
                self.take_in(Input::Report(report));
            } else if let Ok(input) = self.inputs.try_recv() {
                self.take_in(input);
            } else {
                return;
            }
        }
    }

    fn carry_out(
        &mut self,
        action: Action,
        lines: &mut HashMap<String, Line>,
        shutdown: &CancellationToken,
    ) {
        match action {
            Action::Connect {
                node,
                serial,
                address,
            } => {
                let agent = Agent {
                    node: node.clone(),
                    serial,
                    address,
                    controller: self.me.clone(),
                };
                let (outbox, outgoing) = mpsc::channel(OUTBOX);
                let stop = shutdown.child_token();
                self.tasks.spawn(session::run(
                    agent,
                    Arc::clone(&self.dialer),
                    Arc::clone(&self.epochs),
                    outgoing,
                    self.reports.0.clone(),
                    stop.clone(),
                ));
                lines.insert(
                    node,
                    Line {
                        serial,
                        outbox,
                        stop,
                    },
                );
            }
            Action::Disconnect { node, serial } => {
                if let Some(line) = lines.get(&node)
                    && line.serial == serial
                {
                    line.stop.cancel();
                    lines.remove(&node);
                }
            }
            Action::Send {
                node,
                serial,
                message,
            } => {
                let line = lines.get(&node).filter(|line| line.serial == serial);
                if line.is_some_and(|line| line.outbox.try_send(message).is_err()) {
                    let said = Said::Down(Problem::passing("unread", "the agent reads too slowly"));
                    self.take_in(Input::Report(Report { node, serial, said }));
                }
            }
            Action::PatchStatus { node, patch } => self.writer.patch_status(node, patch),
            Action::PatchProblems { node, text } => self.writer.patch_problems(node, text),
            Action::PatchNode { node, patch } => self.writer.patch_node(node, patch),
            Action::ListBound { operation, node } => self.writer.list_bound(operation, node),
            Action::AnnotatePod { pod, uid, plan } => self.writer.annotate_pod(pod, &uid, &plan),
            Action::OpenGate { pod, uid, at } => self.writer.open_gate(pod, &uid, at),
            Action::Publish(note) => self.writer.publish(note),
        }
    }
}

//! The protocol of one session with one agent, without I/O.
//!
//! The agent speaks first and says the highest epoch it ever obeyed; the controller answers with its
//! own, which it takes anew if that is not certainly its own and above all others. Then snapshots
//! and plan progress flow until the stream ends.

mod shell;

use std::time::Duration;

use cdmo_proto::agent::{self, AgentMessage, ControllerHello, agent_message::Message as FromAgent};

pub use shell::{Agent, Dialer, Epochs, Outgoing, Report, Said, TlsDialer, run};

/// Why a session does not stand, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bounded word for metrics.
    pub category: &'static str,
    /// What, where, what to do.
    pub sentence: String,
    /// Whether waiting does not help; certificates, for example.
    pub lasting: bool,
}

impl Problem {
    /// A problem that may pass by itself.
    pub fn passing(category: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            category,
            sentence: sentence.into(),
            lasting: false,
        }
    }
}

/// How far ahead an agent's epoch may be. Epochs grow by one with each start of a controller; an agent
/// that names the highest number there is would leave none to any controller on any node.
const FARTHEST_EPOCH: u64 = 1 << 32;

/// What happens to a session.
#[derive(Debug)]
pub enum Input {
    /// The agent said something.
    Message(AgentMessage),
    /// An epoch above the one asked for is written down.
    Epoch(u64),
    /// The state's time ran out.
    Timeout,
}

/// What a session wants done.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Answer the agent's hello.
    Hello(ControllerHello),
    /// Write down an epoch above this one, then say so.
    TakeEpochAbove(u64),
    /// The session stands.
    Up,
    /// A state of the node. The first one follows [`Output::Up`].
    Snapshot(agent::Snapshot),
    /// News of a plan.
    Progress(agent::PlanProgress),
    /// End it.
    Close(Problem),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitHello,
    AwaitEpoch,
    AwaitSnapshot,
    Live,
    Closed,
}

/// One session, from the open stream to its end.
#[derive(Debug)]
pub struct Session {
    controller: String,
    epoch: u64,
    /// The epoch that this agent is known to have from us.
    said: Option<u64>,
    state: State,
}

impl Session {
    /// A session on a stream just opened. `said` is the epoch said in the previous session with the
    /// same agent, if any.
    pub fn new(controller: String, epoch: u64, said: Option<u64>) -> Self {
        Self {
            controller,
            epoch,
            said,
            state: State::AwaitHello,
        }
    }

    /// How long the present state may last.
    pub fn patience(&self) -> Option<Duration> {
        match self.state {
            State::AwaitHello => Some(Duration::from_secs(5)),
            State::AwaitEpoch | State::AwaitSnapshot => Some(Duration::from_secs(15)),
            State::Live | State::Closed => None,
        }
    }

    /// The epoch that this agent has from us.
    pub fn said(&self) -> Option<u64> {
        self.said
    }

    /// Takes in what happened; says what to do, in order.
    pub fn step(&mut self, input: Input) -> Vec<Output> {
        match (self.state, input) {
            (State::Closed, _) | (_, Input::Message(AgentMessage { message: None })) => Vec::new(),
            (
                _,
                Input::Message(AgentMessage {
                    message: Some(message),
                }),
            ) => self.hear(message),
            (State::AwaitEpoch, Input::Epoch(epoch)) => {
                self.epoch = epoch;
                self.greet()
            }
            (_, Input::Epoch(_)) | (State::Live, Input::Timeout) => Vec::new(),
            (state, Input::Timeout) => self.close(match state {
                State::AwaitHello => {
                    Problem::passing("silent", "the agent accepted a connection but says nothing")
                }
                State::AwaitEpoch => Problem::passing(
                    "epoch",
                    "the controller could not write its epoch into its Lease; check the API server \
                     and the controller's role",
                ),
                _ => Problem::passing(
                    "silent",
                    "the agent does not say what its GPUs look like; look into its log",
                ),
            }),
        }
    }

    fn hear(&mut self, message: FromAgent) -> Vec<Output> {
        match (self.state, message) {
            (State::AwaitHello, FromAgent::Hello(hello)) => {
                let highest = hello.highest_epoch;
                if highest.saturating_sub(self.epoch) > FARTHEST_EPOCH {
                    return self.close(Problem {
                        category: "epoch",
                        sentence: format!(
                            "the agent claims to have obeyed epoch {highest}, which no controller \
                             can have reached; move its journal away and restart it"
                        ),
                        lasting: true,
                    });
                }
                // An agent that already obeyed our very number, but not from us, obeyed somebody else.
                if highest < self.epoch || (highest == self.epoch && self.said == Some(highest)) {
                    self.greet()
                } else {
                    self.state = State::AwaitEpoch;
                    vec![Output::TakeEpochAbove(highest)]
                }
            }
            (State::AwaitSnapshot, FromAgent::Snapshot(snapshot)) => {
                self.state = State::Live;
                vec![Output::Up, Output::Snapshot(snapshot)]
            }
            (State::Live, FromAgent::Snapshot(snapshot)) => vec![Output::Snapshot(snapshot)],
            (State::Live, FromAgent::Progress(progress)) => vec![Output::Progress(progress)],
            // Plans of a session before this one; the snapshot tells what became of them.
            (State::AwaitSnapshot, FromAgent::Progress(_)) => Vec::new(),
            _ => self.close(Problem::passing(
                "protocol",
                "the agent spoke out of turn; check that agent and controller are of one release",
            )),
        }
    }

    fn greet(&mut self) -> Vec<Output> {
        self.state = State::AwaitSnapshot;
        self.said = Some(self.epoch);
        let controller = self.controller.clone();
        vec![Output::Hello(ControllerHello {
            epoch: self.epoch,
            controller,
            takes_pieces: true,
        })]
    }

    fn close(&mut self, problem: Problem) -> Vec<Output> {
        self.state = State::Closed;
        vec![Output::Close(problem)]
    }
}

/// Delays between attempts: doubling from a quarter of a second to 15 seconds, from the start again
/// after a session that stood.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = Duration::from_millis(250) * 2u32.pow(self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        delay.min(Duration::from_secs(15))
    }

    /// A session stood.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests;

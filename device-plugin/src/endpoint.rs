//! One resource's registration with the kubelet, without I/O.
//!
//! The kubelet calls back while it answers Register, so the socket is served first. The end of an old
//! stream tears down the newer registration in kubelets from 1.25, so old streams are closed, and
//! the kubelet given a moment, before a new Register. A restarted kubelet deletes every socket in its
//! directory and makes its own anew; both are seen in the directory. So is another plugin for the same
//! devices, and while that one listens nothing is registered: the kubelet takes whoever came last.

pub(crate) mod task;

use std::time::Duration;

use crate::pace::Pace;
use crate::{Registration, Timing};

/// After so many attempts in vain the socket itself is suspected, and made anew.
const FRESH_SOCKET_EVERY: u32 = 4;

/// Tells one kubelet process's socket from the next one's: inode and modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketId {
    pub(crate) inode: u64,
    pub(crate) modified: (i64, i64),
}

/// What the plugin directory shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The kubelet's socket, if it is there.
    pub(crate) kubelet: Option<SocketId>,
    /// Our socket is there.
    pub(crate) own: bool,
    /// Nothing is to be registered: another plugin serves the same devices, or is about to.
    pub(crate) yields: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Looked(Look),
    /// Our socket is served, or why not.
    Listening(Result<(), String>),
    /// The kubelet answered Register, or why not.
    Registered(Result<(), String>),
    /// So many streams are open now.
    Streams(usize),
    /// The time asked for has passed.
    Due,
    /// The kubelet reads our list but shows none of our devices.
    Starved,
    Shutdown,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Serve a socket with a fresh name, in place of the one before; then report `Listening`.
    Listen,
    /// Call Register; then report `Registered`.
    Register { attempt: u32 },
    /// End the open streams; they are reported as usual.
    CloseStreams,
    /// Report `Due` after this time, and forget the time asked for before; `None` for never.
    Timer(Option<Duration>),
    /// Stop serving and remove the socket.
    Unlisten,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// No kubelet.
    Absent,
    /// Another plugin is there, or is to come.
    Yielding,
    /// Our socket is being made.
    Opening,
    /// Old streams are being closed.
    Draining,
    /// The kubelet is given a moment to forget the old stream.
    Settling,
    Registering,
    /// Registered; the kubelet has yet to open its stream.
    Accepted,
    /// The kubelet reads our list.
    Live,
    /// Waiting before the next attempt.
    Retrying(String),
    Closed,
}

/// The registration of one resource.
#[derive(Debug)]
pub(crate) struct Endpoint {
    phase: Phase,
    kubelet: Option<SocketId>,
    listening: bool,
    streams: usize,
    attempt: u32,
    backoff: Pace,
    longest: Duration,
    stream_timeout: Duration,
    close_timeout: Duration,
    settle: Duration,
    stable_after: Duration,
}

impl Endpoint {
    pub(crate) fn new(timing: &Timing) -> Self {
        Self {
            phase: Phase::Absent,
            kubelet: None,
            listening: false,
            streams: 0,
            attempt: 0,
            backoff: Pace::new(timing.register_backoff),
            longest: timing.register_backoff_max,
            stream_timeout: timing.stream_timeout,
            close_timeout: timing.close_timeout,
            settle: timing.settle,
            stable_after: timing.stable_after,
        }
    }

    /// Where the registration stands, for people.
    pub(crate) fn registration(&self) -> Registration {
        let attempt = self.attempt.max(1);
        match &self.phase {
            Phase::Absent => Registration::KubeletAbsent,
            Phase::Yielding => Registration::Yielding,
            Phase::Opening
            | Phase::Draining
            | Phase::Settling
            | Phase::Registering
            | Phase::Accepted => Registration::Registering { attempt },
            Phase::Live => Registration::Registered,
            Phase::Retrying(reason) => Registration::Retrying {
                attempt,
                reason: reason.clone(),
            },
            Phase::Closed => Registration::Closed,
        }
    }

    /// Takes one event in and says what to do, in order.
    pub(crate) fn handle(&mut self, event: Event) -> Vec<Action> {
        if self.phase == Phase::Closed {
            return Vec::new();
        }
        match event {
            Event::Looked(look) => self.looked(look),
            Event::Listening(result) => self.listened(result),
            Event::Registered(result) => self.registered(result),
            Event::Streams(open) => self.streams(open),
            Event::Due => self.due(),
            Event::Starved => self.starved(),
            Event::Shutdown => {
                self.phase = Phase::Closed;
                vec![Action::CloseStreams, Action::Unlisten, Action::Timer(None)]
            }
        }
    }

    fn looked(&mut self, look: Look) -> Vec<Action> {
        let lost = self.listening && !look.own;
        self.listening &= look.own;
        let Some(kubelet) = look.kubelet else {
            if self.phase == Phase::Absent {
                return Vec::new();
            }
            self.phase = Phase::Absent;
            self.kubelet = None;
            return vec![Action::CloseStreams, Action::Timer(None)];
        };
        if look.yields {
            self.kubelet = Some(kubelet);
            if self.phase == Phase::Yielding {
                return Vec::new();
            }
            self.phase = Phase::Yielding;
            return vec![Action::CloseStreams, Action::Timer(None)];
        }
        if self.kubelet == Some(kubelet) && !lost && self.phase != Phase::Yielding {
            return Vec::new();
        }
        self.kubelet = Some(kubelet);
        self.attempt = 0;
        self.backoff.restart();
        self.begin()
    }

    fn listened(&mut self, result: Result<(), String>) -> Vec<Action> {
        self.listening = result.is_ok();
        if self.phase != Phase::Opening {
            return Vec::new();
        }
        match result {
            Ok(()) => self.register(),
            Err(reason) => {
                self.attempt += 1;
                self.retry(reason)
            }
        }
    }

    fn registered(&mut self, result: Result<(), String>) -> Vec<Action> {
        if self.phase != Phase::Registering {
            return Vec::new();
        }
        match result {
            Ok(()) if self.streams > 0 => self.live(),
            Ok(()) => {
                self.phase = Phase::Accepted;
                vec![Action::Timer(Some(self.stream_timeout))]
            }
            Err(reason) => self.retry(reason),
        }
    }

    fn streams(&mut self, open: usize) -> Vec<Action> {
        self.streams = open;
        match &self.phase {
            Phase::Accepted if open > 0 => self.live(),
            // A Register that was under way when the other plugin came.
            Phase::Yielding if open > 0 => vec![Action::CloseStreams],
            Phase::Live if open == 0 => self.retry("the kubelet closed its stream".to_owned()),
            Phase::Draining if open == 0 => {
                self.phase = Phase::Settling;
                vec![Action::Timer(Some(self.settle))]
            }
            _ => Vec::new(),
        }
    }

    fn due(&mut self) -> Vec<Action> {
        match &self.phase {
            Phase::Retrying(_) if self.attempt.is_multiple_of(FRESH_SOCKET_EVERY) => {
                self.listening = false;
                self.begin()
            }
            Phase::Retrying(_) | Phase::Settling => self.begin(),
            Phase::Draining => {
                // The old streams do not end: leave them behind with their socket.
                self.open()
            }
            Phase::Accepted => self.retry("the kubelet did not read the list".to_owned()),
            Phase::Live => {
                self.attempt = 0;
                self.backoff.restart();
                Vec::new()
            }
            Phase::Absent
            | Phase::Yielding
            | Phase::Opening
            | Phase::Registering
            | Phase::Closed => Vec::new(),
        }
    }

    fn starved(&mut self) -> Vec<Action> {
        if self.phase == Phase::Live {
            self.begin()
        } else {
            Vec::new()
        }
    }

    /// Does what is missing for a Register: no old streams, a socket.
    fn begin(&mut self) -> Vec<Action> {
        if self.streams == 0 {
            return if self.listening {
                self.register()
            } else {
                self.open()
            };
        }
        self.phase = Phase::Draining;
        vec![
            Action::CloseStreams,
            Action::Timer(Some(self.close_timeout)),
        ]
    }

    fn open(&mut self) -> Vec<Action> {
        self.phase = Phase::Opening;
        self.listening = false;
        self.streams = 0;
        vec![Action::CloseStreams, Action::Timer(None), Action::Listen]
    }

    fn register(&mut self) -> Vec<Action> {
        self.attempt += 1;
        self.phase = Phase::Registering;
        vec![
            Action::Timer(None),
            Action::Register {
                attempt: self.attempt,
            },
        ]
    }

    fn live(&mut self) -> Vec<Action> {
        self.phase = Phase::Live;
        vec![Action::Timer(Some(self.stable_after))]
    }

    fn retry(&mut self, reason: String) -> Vec<Action> {
        self.phase = Phase::Retrying(reason);
        vec![Action::Timer(Some(self.backoff.pause(self.longest)))]
    }
}

#[cfg(test)]
mod tests;

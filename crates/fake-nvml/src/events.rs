//! NVML's event sets: errors that other processes or the simulated hardware raise later.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify;

use crate::host::{Event, State};
use crate::model::Code;
use crate::session::Session;

/// Event types that a GPU can report: ECC errors of both kinds and XIDs.
pub(crate) const SUPPORTED: u64 = 0x1 | 0x2 | crate::host::EVENT_XID;
/// How often the state is looked at if the kernel has no more inotify instances to give.
const WITHOUT_INOTIFY: Duration = Duration::from_millis(20);

/// An event set of one process.
#[derive(Debug, Default)]
pub(crate) struct EventSet {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    registered: Vec<Registration>,
    next: u64,
}

/// Events of one GPU; those before the registration are lost.
#[derive(Debug)]
struct Registration {
    gpu: usize,
    kinds: u64,
    from: u64,
}

impl EventSet {
    /// Lets the set receive the events of a GPU from now on.
    pub(crate) fn register(&self, gpu: usize, kinds: u64, state: &State) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.registered.push(Registration {
            gpu,
            kinds,
            from: state.next_event,
        });
    }

    fn take(&self, state: &State) -> Option<Event> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |event: &&Event| {
            event.seq >= inner.next
                && inner.registered.iter().any(|each| {
                    each.gpu == event.xid.gpu
                        && each.kinds & event.kind != 0
                        && each.from <= event.seq
                })
        };
        let event = state.events.iter().find(wanted)?.clone();
        inner.next = event.seq + 1;
        Some(event)
    }

    /// The next event, waiting for it if there is none.
    #[expect(
        clippy::disallowed_methods,
        reason = "the caller's thread waits, as in the driver"
    )]
    pub(crate) fn wait(&self, session: &Session, timeout: Duration) -> Result<Event, Code> {
        let deadline = Instant::now() + timeout;
        let watch = if timeout.is_zero() {
            None
        } else {
            watch(session.store.path()).ok()
        };
        loop {
            if let Some(event) = self.take(&*session.state()?) {
                return Ok(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Code::TIMEOUT);
            }
            match &watch {
                Some(watch) => wait_for_change(watch, left),
                None => std::thread::sleep(left.min(WITHOUT_INOTIFY)),
            }
        }
    }
}

/// Watches for changes of the state.
fn watch(state: &Path) -> rustix::io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, state, inotify::WatchFlags::MODIFY)?;
    Ok(watch)
}

fn wait_for_change(watch: &OwnedFd, longest: Duration) {
    let time = Timespec::try_from(longest).unwrap_or_default();
    let mut polled = [PollFd::new(watch, PollFlags::IN)];
    // Whatever it ends with, the caller looks at the state and the clock next.
    let _ = rustix::event::poll(&mut polled, Some(&time));
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    while reader.next().is_ok() {}
}

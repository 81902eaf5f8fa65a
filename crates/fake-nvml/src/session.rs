//! What one process has open on the simulated driver, and the way of every call through it:
//! count it, be slow, fail on purpose, then ask or change the state.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::config::{Config, Error};
use crate::events::EventSet;
use crate::host::{Hardware, State};
use crate::model::Code;
use crate::store::{Lock, Store};
use crate::triggers::{Effect, Failure};

/// An initialised library.
#[derive(Debug)]
pub(crate) struct Session {
    /// What the host has.
    pub(crate) hardware: Hardware,
    /// What the driver remembers.
    pub(crate) store: Store,
    boot: Uuid,
    client: Lock,
    sets: Mutex<BTreeMap<u64, Arc<EventSet>>>,
    next_set: AtomicU64,
    views: Mutex<BTreeMap<usize, (Instant, Vec<u64>)>>,
}

/// One call of an NVML function.
#[derive(Debug)]
pub(crate) struct Call {
    /// Name of the function.
    pub(crate) name: &'static str,
    /// Of the calling process.
    pub(crate) session: Arc<Session>,
}

/// What a call must do beside its job.
struct Fate {
    failure: Option<Failure>,
    latency: Duration,
    /// The driver's state when the call began.
    state: Arc<State>,
}

impl Session {
    /// Opens the host of a configuration file, or the built-in one.
    pub(crate) fn open(config: Option<&Path>) -> Result<Self, Error> {
        let config = match config {
            Some(path) => Config::load(path)?,
            None => Config::built_in()?,
        };
        let store = Store::open(&config.state, &config.first)?;
        let client = store.lock_clients()?;
        let boot = store.load()?.boot;
        Ok(Self {
            hardware: config.hardware,
            store,
            boot,
            client,
            sets: Mutex::default(),
            next_set: AtomicU64::new(1),
            views: Mutex::default(),
        })
    }

    /// The driver's state as it is now.
    pub(crate) fn state(&self) -> Result<Arc<State>, Code> {
        let state = self.store.load().map_err(report)?;
        // Real processes do not live through a reboot; to one that did, the driver is gone.
        if state.boot == self.boot {
            Ok(state)
        } else {
            Err(Code::DRIVER_NOT_LOADED)
        }
    }

    fn fate(&self, call: &str, gpu: Option<usize>) -> Result<Fate, Code> {
        let state = self.state()?;
        let failure = if state.watches(call, gpu) {
            self.store
                .update(|state| state.count(call, gpu))
                .map_err(report)?
        } else {
            None
        };
        let latency = Duration::from_secs_f64(state.latency_ms(&self.hardware, call) / 1000.0);
        Ok(Fate {
            failure,
            latency,
            state,
        })
    }

    /// The serial numbers of a GPU's MIG devices as this session sees them: `now`, or what it saw
    /// shortly before. Its own changes it sees at once.
    #[expect(
        clippy::disallowed_methods,
        reason = "a slow view, as slow as the configuration says"
    )]
    pub(crate) fn listed(&self, gpu: usize, now: Vec<u64>) -> Vec<u64> {
        if self.hardware.view_lag_ms == 0.0 {
            return now;
        }
        let lag = Duration::from_secs_f64(self.hardware.view_lag_ms / 1000.0);
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        match views.get(&gpu) {
            Some((seen, view)) if seen.elapsed() < lag => view.clone(),
            _ => {
                views.insert(gpu, (Instant::now(), now.clone()));
                now
            }
        }
    }

    fn forget_view(&self, gpu: usize) {
        self.views
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&gpu);
    }

    /// Makes an event set and returns its number.
    pub(crate) fn add_set(&self) -> u64 {
        let number = self.next_set.fetch_add(1, Ordering::Relaxed);
        self.lock_sets().insert(number, Arc::default());
        number
    }

    /// The event set of that number.
    pub(crate) fn set(&self, number: u64) -> Result<Arc<EventSet>, Code> {
        self.lock_sets()
            .get(&number)
            .map(Arc::clone)
            .ok_or(Code::INVALID_ARGUMENT)
    }

    /// Frees an event set.
    pub(crate) fn remove_set(&self, number: u64) -> Result<(), Code> {
        self.lock_sets()
            .remove(&number)
            .map(drop)
            .ok_or(Code::INVALID_ARGUMENT)
    }

    fn lock_sets(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<EventSet>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// A call that changes nothing: it waits for no lock.
    pub(crate) fn read<T>(
        &self,
        gpu: Option<usize>,
        job: impl FnOnce(&Hardware, &State) -> Result<T, Code>,
    ) -> Result<T, Code> {
        let fate = self.session.fate(self.name, gpu)?;
        fate.before()?;
        let state = if fate.latency.is_zero() && fate.failure.is_none() {
            Arc::clone(&fate.state)
        } else {
            sleep(fate.latency);
            self.session.state()?
        };
        let value = job(&self.session.hardware, &state)?;
        fate.after()?;
        Ok(value)
    }

    /// As [`Call::read`], for calls that need permission.
    pub(crate) fn read_privileged<T>(
        &self,
        gpu: usize,
        job: impl FnOnce(&Hardware, &State) -> Result<T, Code>,
    ) -> Result<T, Code> {
        self.permitted()?;
        self.read(Some(gpu), job)
    }

    /// A call that changes one GPU: it has that GPU for itself from its beginning to its end, but
    /// not the host. What it does becomes visible in the middle of its latency, so that a process
    /// killed at a random moment leaves either outcome behind.
    pub(crate) fn write<T: Default>(
        &self,
        gpu: usize,
        job: impl FnOnce(&Hardware, &mut State) -> Result<T, Code>,
    ) -> Result<T, Code> {
        self.permitted()?;
        self.session.hardware.board(gpu)?;
        let _busy = self.session.store.lock_gpu(gpu).map_err(report)?;
        let fate = self.session.fate(self.name, Some(gpu))?;
        fate.before()?;
        sleep(fate.latency / 2);
        if fate.pretends() {
            return Ok(T::default());
        }
        let Session {
            hardware,
            store,
            boot,
            ..
        } = &*self.session;
        let change = |state: &mut State| {
            if state.boot == *boot {
                job(hardware, state)
            } else {
                Err(Code::DRIVER_NOT_LOADED)
            }
        };
        let value = store.try_update(change).map_err(report)??;
        self.session.forget_view(gpu);
        sleep(fate.latency / 2);
        fate.after()?;
        Ok(value)
    }

    /// Whether another process has a session. To be asked inside [`Call::write`] only.
    pub(crate) fn has_company(&self) -> bool {
        !self.session.client.is_alone()
    }

    fn permitted(&self) -> Result<(), Code> {
        if self.session.hardware.privileged {
            Ok(())
        } else {
            Err(Code::NO_PERMISSION)
        }
    }
}

impl Fate {
    fn before(&self) -> Result<(), Code> {
        let Some(failure) = self.failure else {
            return Ok(());
        };
        sleep(Duration::from_secs_f64(failure.delay_ms / 1000.0));
        match failure.effect {
            Effect::Refuse if failure.code != 0 => Err(Code(failure.code)),
            Effect::CrashBefore => crash(),
            _ => Ok(()),
        }
    }

    fn pretends(&self) -> bool {
        self.failure
            .is_some_and(|failure| failure.effect == Effect::Pretend)
    }

    fn after(&self) -> Result<(), Code> {
        let Some(failure) = self.failure else {
            return Ok(());
        };
        match failure.effect {
            Effect::Perform if failure.code != 0 => Err(Code(failure.code)),
            Effect::CrashAfter => crash(),
            _ => Ok(()),
        }
    }
}

/// Ends this process as `kill -9` does: no destructor and no handler runs.
fn crash() -> ! {
    let own = rustix::process::getpid();
    let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    std::process::abort()
}

#[expect(
    clippy::disallowed_methods,
    reason = "callers are threads that expect a slow driver"
)]
fn sleep(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

/// Tells a person what NVML's codes cannot.
pub(crate) fn report(error: Error) -> Code {
    let mut sentence = format!("fake-nvml: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        sentence = format!("{sentence}: {inner}");
        cause = inner.source();
    }
    eprintln!("{sentence}");
    drop(error);
    Code::UNKNOWN
}

//! The file in which the simulated driver keeps its state, shared by all processes of a host.
//!
//! A change is made under a lock and put in place by renaming, so a process that is killed at any
//! moment leaves the state before or after its change, and readers never wait for anybody. There
//! is no fsync: the state has to outlive processes, not power cuts.
//!
//! Files, all beside the state: `.lock` is held for the microseconds of one change; `.gpuN.lock`
//! as long as one GPU is busy with an operation; `.clients` is locked shared by every process
//! with an NVML session.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FlockOperation;

use crate::config::Error;
use crate::host::State;

/// Access to the state of one host.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    cache: Mutex<Cache>,
}

/// What was read last. Comparing bytes is much cheaper than parsing them.
#[derive(Debug, Default)]
struct Cache {
    fresh: Vec<u8>,
    bytes: Vec<u8>,
    state: Option<Arc<State>>,
}

/// A lock that ends when it is dropped, or with the process.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Store {
    /// Opens the state at `path`. If there is none yet, or one of other hardware, `first` is it.
    pub(crate) fn open(path: &Path, first: &State) -> Result<Self, Error> {
        let store = Self {
            path: path.to_owned(),
            cache: Mutex::default(),
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Error::State {
                action: "create the folder",
                path: folder.to_owned(),
                source,
            })?;
        }
        let _lock = store.lock("lock", FlockOperation::LockExclusive)?;
        match store.load() {
            Ok(state) if state.fingerprint == first.fingerprint => {}
            Err(Error::State { source, .. }) if source.kind() != ErrorKind::NotFound => {
                return Err(store.error("read", source));
            }
            Err(garbled @ Error::Garbled { .. }) => return Err(garbled),
            _ => store.write(first.clone())?,
        }
        Ok(store)
    }

    fn error(&self, action: &'static str, source: std::io::Error) -> Error {
        Error::State {
            action,
            path: self.path.clone(),
            source,
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".");
        path.push(suffix);
        path.into()
    }

    fn lock(&self, suffix: &str, how: FlockOperation) -> Result<Lock, Error> {
        let path = self.beside(suffix);
        let lock = || -> std::io::Result<File> {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            flock(&file, how)?;
            Ok(file)
        };
        lock().map(Lock).map_err(|source| Error::State {
            action: "lock",
            path: path.clone(),
            source,
        })
    }

    /// Holds one GPU as an operation on it does; waits for the one before.
    pub(crate) fn lock_gpu(&self, gpu: usize) -> Result<Lock, Error> {
        self.lock(&format!("gpu{gpu}.lock"), FlockOperation::LockExclusive)
    }

    /// Registers this process as a client of the driver.
    pub(crate) fn lock_clients(&self) -> Result<Lock, Error> {
        self.lock("clients", FlockOperation::LockShared)
    }

    /// Whether any process has a session.
    pub(crate) fn has_clients(&self) -> Result<bool, Error> {
        match self.lock("clients", FlockOperation::NonBlockingLockExclusive) {
            Ok(_) => Ok(false),
            Err(Error::State { source, .. }) if source.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The state as it is now.
    pub(crate) fn load(&self) -> Result<Arc<State>, Error> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let Cache {
            fresh,
            bytes,
            state,
        } = &mut *cache;
        fresh.clear();
        File::open(&self.path)
            .and_then(|mut file| file.read_to_end(fresh))
            .map_err(|source| self.error("read", source))?;
        if let Some(known) = state
            && fresh == bytes
        {
            return Ok(Arc::clone(known));
        }
        let parsed: State = serde_json::from_slice(fresh).map_err(|error| Error::Garbled {
            path: self.path.clone(),
            message: error.to_string(),
        })?;
        std::mem::swap(fresh, bytes);
        Ok(Arc::clone(state.insert(Arc::new(parsed))))
    }

    /// Changes the state. `change` sees it as it is now, and nobody else changes it meanwhile.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, Error> {
        let done = self.try_update(|state| Ok::<_, Infallible>(change(state)))?;
        Ok(done.unwrap_or_else(|never| match never {}))
    }

    /// As [`Store::update`]; a change that fails halfway is as if it had not been tried.
    pub(crate) fn try_update<T, E>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        let _lock = self.lock("lock", FlockOperation::LockExclusive)?;
        let before = self.load()?;
        let mut after = State::clone(&before);
        let done = change(&mut after);
        if done.is_ok() && *before != after {
            self.write(after)?;
        }
        Ok(done)
    }

    fn write(&self, state: State) -> Result<(), Error> {
        let fresh = self.beside("new");
        let text = serde_json::to_vec(&state)
            .map_err(|error| self.error("write", std::io::Error::other(error)))?;
        File::create(&fresh)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| std::fs::rename(&fresh, &self.path))
            .map_err(|source| self.error("write", source))?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.bytes = text;
        cache.state = Some(Arc::new(state));
        Ok(())
    }

    /// The folder in which the state is replaced whenever it changes.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

impl Lock {
    /// For a client's lock: whether it is the only one. Call it inside [`Store::update`], so that
    /// two clients do not ask at the same time.
    pub(crate) fn is_alone(&self) -> bool {
        let alone = flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_ok();
        // Asking gave the shared lock away.
        flock(&self.0, FlockOperation::LockShared).is_ok() && alone
    }
}

fn flock(file: &File, how: FlockOperation) -> std::io::Result<()> {
    loop {
        match rustix::fs::flock(file, how) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests;

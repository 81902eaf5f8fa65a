//! The file in which the simulated driver keeps its state, shared by all processes of a host.
//!
//! The file holds two slots and a generation number that tells which of them counts. A change is
//! made under a lock on the file: the new state goes into the slot that does not count, then one
//! word flips. A process that is killed at any moment therefore leaves the state before or after
//! its change, and readers never wait for anybody: they read again if the generation moved while
//! they read. (Renaming a new file over the old one would do the same, but costs a good part of a
//! millisecond on common file systems.) There is no fsync: the state has to outlive processes, not
//! power cuts.
//!
//! Beside the state lie `.gpuN.lock`, locked as long as one GPU is busy with an operation, and
//! `.clients`, locked shared by every process with an NVML session.

mod text;

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FlockOperation;

use crate::config::Error;
use crate::host::State;
use crate::store::text::Cache;

/// First bytes of the file; the generation follows.
const MAGIC: [u8; 8] = *b"fakenvml";
const GENERATION_AT: u64 = 8;
/// Where the slots begin; the file is sparse.
const SLOTS_AT: u64 = 4096;
/// Room for the largest host: 32 GPUs with all instances take a tenth of it.
const SLOT: u64 = 1 << 20;

/// Access to the state of one host.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    cache: Mutex<Cache>,
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
        let file = Self::lock(path, FlockOperation::LockExclusive)?.0;
        let length = file
            .metadata()
            .map_err(|source| store.error("read", source))?
            .len();
        let begun = length > 0 && store.generation(&file)? > 0;
        let known = if begun {
            Some(store.read(&file)?)
        } else {
            None
        };
        if known.is_none_or(|state| state.fingerprint != first.fingerprint) {
            store.write(&file, first.clone())?;
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

    fn garbled(&self, message: &impl ToString) -> Error {
        Error::Garbled {
            path: self.path.clone(),
            message: message.to_string(),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".");
        path.push(suffix);
        path.into()
    }

    fn lock(path: &Path, how: FlockOperation) -> Result<Lock, Error> {
        let options = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .clone();
        let file = options
            .open(path)
            .and_then(|file| flock(&file, how).map(|()| file));
        file.map(Lock).map_err(|source| Error::State {
            action: "lock",
            path: path.to_owned(),
            source,
        })
    }

    /// Holds one GPU as an operation on it does; waits for the one before.
    pub(crate) fn lock_gpu(&self, gpu: usize) -> Result<Lock, Error> {
        Self::lock(
            &self.beside(&format!("gpu{gpu}.lock")),
            FlockOperation::LockExclusive,
        )
    }

    /// Registers this process as a client of the driver.
    pub(crate) fn lock_clients(&self) -> Result<Lock, Error> {
        Self::lock(&self.beside("clients"), FlockOperation::LockShared)
    }

    /// Whether any process has a session.
    pub(crate) fn has_clients(&self) -> Result<bool, Error> {
        match Self::lock(
            &self.beside("clients"),
            FlockOperation::NonBlockingLockExclusive,
        ) {
            Ok(_) => Ok(false),
            Err(Error::State { source, .. }) if source.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The state as it is now.
    pub(crate) fn load(&self) -> Result<Arc<State>, Error> {
        let file = File::open(&self.path).map_err(|source| self.error("read", source))?;
        self.read(&file)
    }

    fn generation(&self, file: &File) -> Result<u64, Error> {
        let mut head = [0; 16];
        match file.read_exact_at(&mut head, 0) {
            Err(short) if short.kind() == ErrorKind::UnexpectedEof => {
                return Err(self.garbled(&"it is too short"));
            }
            other => other.map_err(|source| self.error("read", source))?,
        }
        let (magic, generation) = head.split_at(8);
        // Zeros: whoever made the file was killed before its first state was complete.
        if magic != MAGIC && head != [0; 16] {
            return Err(self.garbled(&"it begins with something else"));
        }
        let mut word = [0; 8];
        word.copy_from_slice(generation);
        Ok(u64::from_ne_bytes(word))
    }

    fn read(&self, file: &File) -> Result<Arc<State>, Error> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut generation = self.generation(file)?;
        loop {
            let read = cache.read_slot(file, SLOTS_AT + (generation & 1) * SLOT, SLOT);
            let after = self.generation(file)?;
            if after == generation {
                read.map_err(|source| self.error("read", source))?;
                return cache.understand().map_err(|error| self.garbled(&error));
            }
            generation = after;
        }
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
        // Not created anew: a state that was deleted under running sessions is an error.
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = file
            .and_then(|file| flock(&file, FlockOperation::LockExclusive).map(|()| file))
            .map_err(|source| self.error("lock", source))?;
        let before = self.read(&file)?;
        let mut after = State::clone(&before);
        let done = change(&mut after);
        if done.is_ok() && *before != after {
            self.write(&file, after)?;
        }
        Ok(done)
    }

    fn write(&self, file: &File, state: State) -> Result<(), Error> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |source| self.error("write", source);
        let generation = self.generation(file).unwrap_or(0).wrapping_add(1);
        let text = cache
            .express(state)
            .map_err(std::io::Error::other)
            .map_err(failed)?;
        if text.len() as u64 > SLOT {
            return Err(failed(ErrorKind::FileTooLarge.into()));
        }
        file.write_all_at(text, SLOTS_AT + (generation & 1) * SLOT)
            .map_err(failed)?;
        if generation == 1 {
            file.write_all_at(&[MAGIC, generation.to_ne_bytes()].concat(), 0)
                .map_err(failed)
        } else {
            file.write_all_at(&generation.to_ne_bytes(), GENERATION_AT)
                .map_err(failed)
        }
    }

    /// The file that is written to whenever the state changes.
    pub(crate) fn path(&self) -> &Path {
        &self.path
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

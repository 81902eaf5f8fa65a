//! The journal as a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::format;
use super::record::Recorded;

/// A journal beyond this is not read: compaction keeps real ones thousands of times smaller.
const LARGEST: u64 = 64 << 20;

/// Where the journal's bytes go. Each method returns only once they would survive a crash.
pub trait Storage: Send + 'static {
    /// Adds to the end, wholly or not at all.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Puts this in the place of everything, wholly or not at all.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// How many bytes there are.
    fn size(&self) -> u64;
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or file cannot be made, read or written.
    #[error("failed to open the journal {path}: {source}; the agent must be able to write there", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the journal {path} is in use by another agent; only one may run on a node", path = path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer agent.
    #[error("the journal {path} has format {found}, this agent knows formats up to {known}; install the newer agent again, or move the file away once no pod on this node uses a GPU", path = path.display(), known = format::VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// A journal that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Where to write on.
    pub storage: FileStorage,
    /// What it said.
    pub recorded: Recorded,
    /// Facts may be missing: say so to the administrator, and trust no device to be free unproven.
    pub damage: Option<String>,
}

/// Opens the journal of a state directory, making both if need be.
///
/// A torn tail is cut off; a damaged file is kept aside as `journal.damaged` and its readable
/// records are written anew.
///
/// # Errors
/// [`OpenError`].
pub fn open(directory: &Path) -> Result<Opened, OpenError> {
    let path = directory.join("journal");
    let failed = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let lock = lock(directory, &path)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    let mut bytes = Vec::new();
    (&mut file)
        .take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let reading = format::read(&bytes).map_err(|newer| OpenError::Newer {
        path: path.clone(),
        found: newer.0,
    })?;
    if reading.torn > 0 {
        tracing::warn!(
            journal = %path.display(),
            lost_bytes = reading.torn,
            "The journal ends in an unfinished record, cut off; the act it describes was not begun"
        );
    }
    let damage = (reading.damaged_lines > 0).then(|| {
        let aside = directory.join("journal.damaged");
        // Kept for a person to look at; the agent runs on without it.
        if let Err(error) = std::fs::write(&aside, &bytes) {
            tracing::warn!(%error, file = %aside.display(), "Failed to keep the damaged journal");
        }
        format!(
            "The journal {} was damaged at line {} ({} unreadable lines of {} bytes in all); every device is treated as held until proven free, and the damaged file is kept as {}.",
            path.display(),
            reading.first_damaged,
            reading.damaged_lines,
            bytes.len(),
            aside.display()
        )
    });
    let mut storage = FileStorage {
        directory: directory.to_owned(),
        file,
        good: 0,
        _lock: lock,
    };
    let whole = format::render(&reading.recorded);
    if bytes == whole {
        storage.good = bytes.len() as u64;
    } else {
        storage.replace(&whole).map_err(failed)?;
    }
    Ok(Opened {
        storage,
        recorded: reading.recorded,
        damage,
    })
}

/// The lock is a file of its own, because compaction replaces the journal's.
fn lock(directory: &Path, path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: path.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// [`Storage`] in a file that is replaced by an atomic rename.
#[derive(Debug)]
pub struct FileStorage {
    directory: PathBuf,
    file: File,
    /// Length up to which the file is known to be whole.
    good: u64,
    _lock: File,
}

impl Storage for FileStorage {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What a failed write before this one left behind goes first.
        if self.file.seek(SeekFrom::End(0))? != self.good {
            self.file.set_len(self.good)?;
            self.file.seek(SeekFrom::Start(self.good))?;
        }
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.good += bytes.len() as u64;
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.directory.join("journal.new");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, self.directory.join("journal"))?;
        self.file = file;
        self.good = bytes.len() as u64;
        File::open(&self.directory)?.sync_all()
    }

    fn size(&self) -> u64 {
        self.good
    }
}

#[cfg(test)]
mod tests;

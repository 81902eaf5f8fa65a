//! The thread, and the handle to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Hardware;
use crate::metrics::Metrics;
use crate::node::Failure;

/// Commands waiting for the driver. There is at most one change per GPU under way, and a few looks.
const QUEUE: usize = 64;
/// Longest that a call may take, its wait in the queue included, before the GPU counts as stuck.
pub const PATIENCE: Duration = Duration::from_mins(1);

type Command = Box<dyn FnOnce(&dyn Hardware) + Send>;

/// Handle to the thread that owns the driver library.
#[derive(Clone, Debug)]
pub struct Driver {
    commands: mpsc::Sender<Command>,
    closing: Arc<AtomicBool>,
    metrics: Metrics,
    /// See [`PATIENCE`]; tests shorten it.
    pub patience: Duration,
}

impl Driver {
    /// Starts the thread and opens the driver on it. The receiver resolves when the thread ended.
    ///
    /// # Errors
    /// What `open` says, or that there is no thread to be had.
    pub async fn start<H, E>(
        open: impl FnOnce() -> Result<H, E> + Send + 'static,
        metrics: Metrics,
    ) -> Result<(Self, oneshot::Receiver<()>), E>
    where
        H: Hardware,
        E: From<std::io::Error> + Send + 'static,
    {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (opened, result) = oneshot::channel();
        let (ended, closed) = oneshot::channel();
        let closing = Arc::new(AtomicBool::new(false));
        let stop = closing.clone();
        std::thread::Builder::new()
            .name("nvml".into())
            .stack_size(512 << 10)
            .spawn(move || {
                match open() {
                    Ok(hardware) => {
                        // The receiver waits below.
                        let _ = opened.send(Ok(()));
                        serve(&hardware, queue, &stop);
                    }
                    Err(error) => {
                        let _ = opened.send(Err(error));
                    }
                }
                // Nobody listens where nobody cares when it ended.
                let _ = ended.send(());
            })?;
        let died = || E::from(std::io::Error::other("the NVML thread ended"));
        result.await.map_err(|_| died())??;
        let driver = Self {
            commands,
            closing,
            metrics,
            patience: PATIENCE,
        };
        Ok((driver, closed))
    }

    /// Queues a call. The answer comes whenever the driver gives it; if the queue is full, at once.
    pub fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&dyn Hardware) -> T + Send + 'static,
        code: impl FnOnce(&T) -> &'static str + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Failure> {
        let (reply, answer) = oneshot::channel();
        let metrics = self.metrics.clone();
        let command: Command = Box::new(move |hardware| {
            let timer = metrics
                .nvml_seconds
                .with_label_values(&[operation])
                .start_timer();
            let result = call(hardware);
            timer.observe_duration();
            metrics
                .nvml_operations
                .with_label_values(&[operation, code(&result)])
                .inc();
            // Who gave up waiting needs no answer.
            let _ = reply.send(result);
        });
        match self.commands.try_send(command) {
            Ok(()) => Ok(answer),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Failure::new(
                "driver_busy",
                format!("{QUEUE} calls wait for the driver already."),
            )),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(closed()),
        }
    }

    /// A look at a GPU, with the usual limit of time.
    pub async fn look<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&dyn Hardware) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let answer = self.ask(operation, call, code)?;
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(closed())),
            Err(_) => Err(Failure::new(
                "driver_stuck",
                format!("The driver did not answer within {:?}.", self.patience),
            )),
        }
    }

    /// The call under way is finished, those that wait are dropped.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

/// Label of a result.
pub(super) fn code<T>(result: &Result<T, Failure>) -> &'static str {
    match result {
        Ok(_) => "success",
        Err(failure) => failure.category,
    }
}

/// The thread is gone.
pub fn closed() -> Failure {
    Failure::new(
        "closed",
        "The driver is closed, because the agent is ending.",
    )
}

fn serve(hardware: &dyn Hardware, mut queue: mpsc::Receiver<Command>, stop: &AtomicBool) {
    while let Some(command) = queue.blocking_recv() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        command(hardware);
    }
}

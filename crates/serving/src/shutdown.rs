//! Signals to a shutdown token: the first asks, the second insists.

use std::{io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell shows for a process that SIGTERM ended.
const ABORTED: i32 = 128 + 15;

/// Returns a token that the first SIGTERM or SIGINT cancels. A second one ends the process at once,
/// for the case that the orderly way out hangs.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn shutdown_on_signals() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::info!("received {name}, shutting down; a second signal aborts");
        token.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::error!("received {name} again, aborting");
        process::exit(ABORTED);
    });
    Ok(shutdown)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

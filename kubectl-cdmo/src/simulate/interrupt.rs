//! Ctrl-C: once for what is known so far, twice for an end at once.
//!
//! The second one is heard on a thread of its own, since the first may find the program in the middle of a table or
//! of files, and whoever asks twice does not wait for those.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// As a shell says it of SIGINT.
const INTERRUPTED: i32 = 130;

/// Hears of the first Ctrl-C from now on. The second one ends the process.
pub(super) fn watch() -> std::io::Result<oneshot::Receiver<()>> {
    let (tell, first) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    // Taken over here, not on the thread, so that none is missed while it starts.
    let mut signals = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    std::thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                signals.recv().await;
                // Nobody listens if all is done.
                let _ = tell.send(());
                signals.recv().await;
                std::process::exit(INTERRUPTED);
            });
        })?;
    Ok(first)
}

//! The program runs as one of its parts: as the controller, the webhook, or a clean-up.

use crate::{Args, args::Command, cleanup, exit, run, webhook};

/// Runs what the arguments say until that ends, or the process is told to.
///
/// # Errors
/// Why it could not start or go on.
pub fn start(args: Args) -> Result<(), exit::Error> {
    // One thread decides while another talks to agents and the API server; a third would cost memory.
    let threads = match args.command {
        Some(Command::Webhook(_)) => 2,
        Some(Command::CleanUp(_)) | None => 1,
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        args.log.init()?;
        let shutdown = serving::shutdown_on_signals()?;
        match args.command.clone() {
            Some(Command::CleanUp(options)) => cleanup::run(args, options, shutdown).await,
            Some(Command::Webhook(options)) => webhook::run(args, options, shutdown).await,
            None => Box::pin(run(args, shutdown)).await,
        }
    })
}

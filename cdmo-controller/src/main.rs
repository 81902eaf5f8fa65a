//! The controller as a process.

use std::process::ExitCode;

use cdmo_controller::{Args, args::Command, cleanup, exit, run, webhook};
use clap::Parser as _;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output and are no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cdmo-controller: {error}");
            error.code()
        }
    }
}

// One thread decides while the other talks to agents and the API server.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn start(args: Args) -> Result<(), exit::Error> {
    args.log.init()?;
    let shutdown = serving::shutdown_on_signals()?;
    match args.command.clone() {
        Some(Command::CleanUp(options)) => cleanup::run(args, options, shutdown).await,
        Some(Command::Webhook(options)) => webhook::run(args, options, shutdown).await,
        None => Box::pin(run(args, shutdown)).await,
    }
}

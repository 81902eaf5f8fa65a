//! The agent as a process.

use std::process::ExitCode;

use clap::Parser as _;
use mig_node_agent::{Args, Listeners, exit, run};

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
            eprintln!("mig-node-agent: {error}");
            error.code()
        }
    }
}

// One thread for everything that waits; NVML and the journal have threads of their own.
#[tokio::main(flavor = "current_thread")]
async fn start(args: Args) -> Result<(), exit::Error> {
    args.log.init()?;
    let shutdown = serving::shutdown_on_signals()?;
    let listeners = Listeners::bind(&args).await?;
    run(args, listeners, shutdown).await
}

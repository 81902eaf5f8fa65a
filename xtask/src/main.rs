//! Developer commands: the demo, the simulated driver, checks that need other tools, benchmarks.

mod bench;
mod cli;
mod cluster;
mod demo;
mod fake_nvml;
mod image;
mod interrupt;
mod kubernetes_tools;
mod outcome;
mod program;
mod python;
mod train;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("error: failed to start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(cli.run()).into()
}

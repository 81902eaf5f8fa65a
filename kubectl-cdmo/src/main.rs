//! The user's command line: `kubectl cdmo`.

use std::process::ExitCode;

use clap::Parser as _;
use kubectl_cdmo::{Args, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

//! The user's command line: `kubectl cdmo`.

use std::process::ExitCode;

use clap::Parser as _;
use kubectl_cdmo::{Args, Outcome, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(args).await {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Unfit) => ExitCode::from(3),
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

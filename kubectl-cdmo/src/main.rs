//! The user's command line: `kubectl cdmo`.

use std::process::ExitCode;

use clap::Parser as _;
use kubectl_cdmo::{Args, Outcome, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            anstream::eprintln!("{}", kubectl_cdmo::args::sentence(&error));
            return ExitCode::from(2);
        }
        // Help and version.
        Err(error) => error.exit(),
    };
    match run(args).await {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Unfit) => ExitCode::from(3),
        // As a shell says it of SIGINT.
        Ok(Outcome::Interrupted) => ExitCode::from(130),
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

//! The command line.

use clap::{Parser, Subcommand};

use crate::outcome::Outcome;
use crate::{bench, cluster, demo, fake_nvml, image, train, verify};

/// Developer commands of this repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Options),
    FakeNvml(fake_nvml::Options),
    Image(image::Options),
    Verify(verify::Options),
    Bench(bench::Options),
    Cluster(cluster::Options),
    Train(train::Options),
}

impl Cli {
    /// Runs the command; whatever went wrong is on standard error when this returns.
    pub(crate) async fn run(self) -> Outcome {
        let result = match self.command {
            Command::Demo(options) => demo::run(options).await,
            Command::FakeNvml(options) => fake_nvml::run(options).await,
            Command::Image(options) => image::run(options).await,
            Command::Verify(options) => verify::run(options).await,
            Command::Bench(options) => bench::run(options).await,
            Command::Cluster(options) => cluster::run(options).await,
            Command::Train(options) => train::run(options).await,
        };
        result.unwrap_or_else(|error| {
            anstream::eprintln!("error: {error:#}");
            Outcome::Failed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_typing_error_is_answered_with_what_was_meant() {
        let error = Cli::try_parse_from(["xtask", "demo", "--node", "3"]).unwrap_err();
        assert!(error.to_string().contains("--nodes"), "{error}");
    }
}

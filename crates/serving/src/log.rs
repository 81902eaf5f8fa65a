//! Logs: human text for a terminal, JSON for a cluster's log store.

use std::io;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How to log. Flatten it into a daemon's arguments.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// How each line looks.
    #[arg(long, env = "CDMO_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, also per module, as in
    /// `info,mtls=debug`.
    #[arg(long, env = "CDMO_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

impl Default for LogArgs {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is not one.
    #[error("failed to understand --log-level {level:?}: {reason}; try info, or info,mtls=debug")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else set a log up first.
    #[error("failed to set the log up: this process already has one")]
    AlreadySet,
}

impl LogArgs {
    /// Sends the log of this process to standard error. Standard output stays free for results.
    pub fn init(&self) -> Result<(), Error> {
        let filter = self.filter()?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
        match self.log_format {
            LogFormat::Text => lines.try_init(),
            LogFormat::Json => lines.json().flatten_event(true).try_init(),
        }
        .map_err(|_| Error::AlreadySet)
    }

    fn filter(&self) -> Result<EnvFilter, Error> {
        EnvFilter::builder()
            .parse(&self.log_level)
            .map_err(|error| Error::Level {
                level: self.log_level.clone(),
                reason: error.to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Daemon {
        #[command(flatten)]
        log: LogArgs,
    }

    #[test]
    fn flags_and_defaults_agree() {
        let daemon = Daemon::parse_from(["daemon"]);
        assert_eq!(daemon.log.log_level, LogArgs::default().log_level);
        assert_eq!(daemon.log.log_format, LogArgs::default().log_format);
        let daemon = Daemon::parse_from(["daemon", "--log-format", "json", "--log-level", "warn"]);
        assert_eq!(daemon.log.log_format, LogFormat::Json);
        assert_eq!(daemon.log.log_level, "warn");
    }

    #[test]
    fn a_level_may_differ_per_module() {
        let args = LogArgs {
            log_level: "info,mtls=debug".to_owned(),
            ..LogArgs::default()
        };
        args.filter().unwrap();
    }

    #[test]
    fn a_level_that_is_none_is_named_with_its_flag() {
        let args = LogArgs {
            log_level: "info,mtls=loud".to_owned(),
            ..LogArgs::default()
        };
        let error = args.filter().unwrap_err().to_string();
        assert!(error.contains("--log-level \"info,mtls=loud\""), "{error}");
    }
}

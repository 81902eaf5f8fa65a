//! How a command ended, as a shell sees it.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well: 0.
    Good,
    /// Something is not as it should be: 1.
    Failed,
    /// What was given cannot be used: 2, as for a wrong option.
    Usage,
    /// A signal ended it: 128 and the signal's number.
    Interrupted(u8),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Good => Self::SUCCESS,
            Outcome::Failed => Self::FAILURE,
            Outcome::Usage => Self::from(2),
            Outcome::Interrupted(signal) => Self::from(128 + signal),
        }
    }
}

//! What can go wrong, each in one sentence: which call, which GPU, what it means, what to do.

use mig::Placement;

use crate::code::Code;

/// A failure of the library, the driver or a GPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The library could not be loaded.
    #[error(
        "failed to load the NVIDIA library {path}: {reason}; install the NVIDIA driver on this \
         node, or say where it is: runtimeClassName or driverRoot of the chart, --driver-root or \
         --nvml-library of the agent"
    )]
    Library {
        /// Where it was looked for.
        path: String,
        /// What the loader said.
        reason: String,
    },

    /// The library lacks a function that is needed.
    #[error(
        "failed to find the function {call} in the NVIDIA library; the driver is too old, or the \
         file is another library"
    )]
    MissingFunction {
        /// The function.
        call: &'static str,
    },

    /// A call returned an error.
    #[error(
        "failed to call {call}{on}: {code}{remedy}",
        on = on(gpu.as_deref()),
        remedy = remedy(*code, call)
    )]
    Call {
        /// The function.
        call: &'static str,
        /// The GPU's uuid, if the call was about one.
        gpu: Option<String>,
        /// What it returned.
        code: Code,
    },

    /// A call succeeded with an answer that cannot be true.
    #[error("failed to understand the answer of {call}{on}: {what}", on = on(gpu.as_deref()))]
    Answer {
        /// The function.
        call: &'static str,
        /// The GPU's uuid, if the call was about one.
        gpu: Option<String>,
        /// What is wrong with it.
        what: String,
    },

    /// There was no GPU of that uuid when the library was loaded.
    #[error("failed to find the GPU {gpu}: this node did not have it when the driver was opened")]
    UnknownGpu {
        /// The uuid asked for.
        gpu: String,
    },

    /// The GPU does not have a profile of that id.
    #[error("failed to find the profile with id {profile_id} on {gpu}: the GPU does not have it")]
    UnknownProfile {
        /// The GPU's uuid.
        gpu: String,
        /// NVML's profile id.
        profile_id: u32,
    },

    /// No compute-instance profile fills the GPU instance.
    #[error("failed to find a compute profile that fills GPU instance {gi_id} on {gpu}")]
    NoFullProfile {
        /// The GPU's uuid.
        gpu: String,
        /// The GPU instance.
        gi_id: u32,
    },

    /// The driver made something else than it was asked for; it was destroyed again.
    #[error(
        "failed to create the instance asked for on {gpu}: asked for profile {profile_id} at \
         {placement}, the driver shows {found}"
    )]
    Different {
        /// The GPU's uuid.
        gpu: String,
        /// NVML's id of the profile asked for.
        profile_id: u32,
        /// The place asked for.
        placement: Placement,
        /// What was read back.
        found: String,
    },

    /// Creation failed half-way, and what had been made could not be destroyed again.
    #[error(
        "failed to create an instance on {gpu}, and a part of it remains: {source}; cleaning up \
         failed as well: {cleanup}"
    )]
    Remains {
        /// The GPU's uuid.
        gpu: String,
        /// The GPU instance that remains, if its id could be read.
        gi_id: Option<u32>,
        /// Why creation failed.
        source: Box<Error>,
        /// Why cleaning up failed.
        cleanup: Box<Error>,
    },

    /// The driver took the wish for a MIG mode and did nothing.
    #[error(
        "failed to turn MIG mode {mode} on {gpu}: the driver accepted the wish and did nothing; \
         reset the GPU or reboot the node",
        mode = if *on { "on" } else { "off" }
    )]
    ModeUnchanged {
        /// The GPU's uuid.
        gpu: String,
        /// The mode asked for.
        on: bool,
    },
}

impl Error {
    /// What NVML returned, if it is an NVML call that failed.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { code, .. } => Some(*code),
            Self::Remains { source, .. } => source.code(),
            _ => None,
        }
    }

    /// A bounded word for metrics and Events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Library { .. } => "library",
            Self::MissingFunction { .. } => "missing_function",
            Self::Call { code, .. } => code.category(),
            Self::Answer { .. } => "answer",
            Self::UnknownGpu { .. } => "unknown_gpu",
            Self::UnknownProfile { .. } => "unknown_profile",
            Self::NoFullProfile { .. } => "no_full_profile",
            Self::Different { .. } => "different",
            Self::Remains { .. } => "remains",
            Self::ModeUnchanged { .. } => "mode_unchanged",
        }
    }
}

fn on(gpu: Option<&str>) -> String {
    gpu.map(|gpu| format!(" on {gpu}")).unwrap_or_default()
}

fn remedy(code: Code, call: &str) -> String {
    code.remedy(call)
        .map(|remedy| format!("; {remedy}"))
        .unwrap_or_default()
}

/// A failed call, before it is known which GPU it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) call: &'static str,
    pub(crate) problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Missing,
    Code(Code),
    Answer(String),
}

impl Failure {
    pub(crate) fn missing(call: &'static str) -> Self {
        Self {
            call,
            problem: Problem::Missing,
        }
    }

    pub(crate) fn code(call: &'static str, code: Code) -> Self {
        Self {
            call,
            problem: Problem::Code(code),
        }
    }

    pub(crate) fn answer(call: &'static str, what: impl Into<String>) -> Self {
        Self {
            call,
            problem: Problem::Answer(what.into()),
        }
    }

    pub(crate) fn is(&self, code: Code) -> bool {
        self.problem == Problem::Code(code)
    }

    pub(crate) fn into_error(self, gpu: Option<&str>) -> Error {
        let Self { call, problem } = self;
        let gpu = gpu.map(str::to_owned);
        match problem {
            Problem::Missing => Error::MissingFunction { call },
            Problem::Code(code) => Error::Call { call, gpu, code },
            Problem::Answer(what) => Error::Answer { call, gpu, what },
        }
    }
}

/// Says which GPU a failed call was about.
pub(crate) trait On<T> {
    fn on(self, gpu: &str) -> Result<T, Error>;
}

impl<T> On<T> for Result<T, Failure> {
    fn on(self, gpu: &str) -> Result<T, Error> {
        self.map_err(|failure| failure.into_error(Some(gpu)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_says_which_call_which_gpu_what_and_what_to_do() {
        let failure = Failure::code("nvmlDeviceSetMigMode", Code::InUse);
        assert_eq!(
            failure.into_error(Some("GPU-1")).to_string(),
            "failed to call nvmlDeviceSetMigMode on GPU-1: something still uses it (NVML code 19); \
             stop all programs that use the GPU, monitoring too, then try again"
        );
    }

    #[test]
    fn a_call_about_no_gpu_names_none() {
        let failure = Failure::code("nvmlInit_v2", Code::Other(77));
        assert_eq!(
            failure.into_error(None).to_string(),
            "failed to call nvmlInit_v2: the driver returned a code that is not known here (NVML \
             code 77)"
        );
    }
}

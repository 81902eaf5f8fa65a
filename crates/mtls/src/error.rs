//! Why certificate files cannot be used, each in one sentence that names the file and the remedy.

use std::{fmt, io, path::PathBuf};

/// One of the three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Certificates of the authorities that the other side must be issued by.
    Ca,
    /// Our own certificate, followed by its intermediates.
    Certificate,
    /// The private key of our own certificate.
    Key,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca => "CA certificate (--tls-ca)",
            Self::Certificate => "certificate (--tls-cert)",
            Self::Key => "private key (--tls-key)",
        })
    }
}

/// Certificate files that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file does not exist.
    #[error(
        "failed to find the {part}: {path} does not exist; mount the Secret that holds the \
         certificates there"
    )]
    Missing {
        /// Which of the files.
        part: Part,
        /// Where it was looked for.
        path: PathBuf,
    },

    /// The file exists but cannot be read.
    #[error("failed to read the {part} from {path}: {source}; check the file's type and mode")]
    Unreadable {
        /// Which of the files.
        part: Part,
        /// Where it is.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The file holds no PEM section of the right kind, or a damaged one.
    #[error("failed to read the {part} from {path}: it is not usable PEM ({reason}); replace it")]
    NotPem {
        /// Which of the files.
        part: Part,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The certificate has expired.
    #[error("the certificate {path} expired on {on}; renew it")]
    Expired {
        /// Where the certificate is.
        path: PathBuf,
        /// The last moment at which it was valid.
        on: String,
    },

    /// The certificate is valid only later.
    #[error(
        "the certificate {path} is not valid before {from}; check this machine's clock, or wait"
    )]
    NotYetValid {
        /// Where the certificate is.
        path: PathBuf,
        /// The first moment at which it is valid.
        from: String,
    },

    /// The certificate was issued by somebody else than the CA given with it.
    #[error(
        "the certificate {path} was not issued by the CA in {ca}; take both from the same Secret"
    )]
    WrongCa {
        /// Where the certificate is.
        path: PathBuf,
        /// Where the CA is.
        ca: PathBuf,
    },

    /// The private key belongs to another certificate.
    #[error("the private key {key} does not fit the certificate {path}; take both from one Secret")]
    KeyMismatch {
        /// Where the key is.
        key: PathBuf,
        /// Where the certificate is.
        path: PathBuf,
    },

    /// The TLS library refuses the files for another reason.
    #[error("failed to use the {part} {path}: {source}; replace it")]
    Unusable {
        /// Which of the files.
        part: Part,
        /// Where it is.
        path: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },

    /// The files changed again and again while they were read.
    #[error("failed to read the certificates in {path}: they keep changing; wait for the writer")]
    Unstable {
        /// Where the certificate is.
        path: PathBuf,
    },
}

impl Error {
    /// A bounded word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Unreadable { .. } => "unreadable",
            Self::NotPem { .. } => "not_pem",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::WrongCa { .. } => "wrong_ca",
            Self::KeyMismatch { .. } => "key_mismatch",
            Self::Unusable { .. } => "unusable",
            Self::Unstable { .. } => "unstable",
        }
    }
}

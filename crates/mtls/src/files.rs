//! The three files, and how their bytes are read in one consistent piece.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use crate::error::{Error, Part};

/// How often the files are read again when they change while they are being read.
const READ_ATTEMPTS: usize = 5;

/// Where the certificates are. All three files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that the other side must be issued by.
    pub ca: PathBuf,
    /// Our own certificate, followed by its intermediates.
    pub cert: PathBuf,
    /// The private key of our own certificate.
    pub key: PathBuf,
}

/// The files' contents, kept to tell whether they changed.
#[derive(PartialEq, Eq)]
pub(crate) struct Contents {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

/// What the files say, parsed but not yet judged.
pub(crate) struct Parsed {
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl TlsFiles {
    /// Reads the three files as one writer left them: a Secret volume swaps all of them at once, and
    /// a swap between two of our reads would pair a new certificate with an old key.
    pub(crate) fn read(&self) -> Result<Contents, Error> {
        let mut before = self.read_once()?;
        for _ in 0..READ_ATTEMPTS {
            let after = self.read_once()?;
            if after == before {
                return Ok(after);
            }
            before = after;
        }
        Err(Error::Unstable {
            path: self.cert.clone(),
        })
    }

    fn read_once(&self) -> Result<Contents, Error> {
        Ok(Contents {
            ca: read(Part::Ca, &self.ca)?,
            cert: read(Part::Certificate, &self.cert)?,
            key: read(Part::Key, &self.key)?,
        })
    }

    pub(crate) fn parse(&self, contents: &Contents) -> Result<Parsed, Error> {
        Ok(Parsed {
            authorities: certificates(Part::Ca, &self.ca, &contents.ca)?,
            chain: certificates(Part::Certificate, &self.cert, &contents.cert)?,
            key: PrivateKeyDer::from_pem_slice(&contents.key)
                .map_err(|error| not_pem(Part::Key, &self.key, &error))?,
        })
    }
}

fn read(part: Part, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            part,
            path: path.to_owned(),
        },
        _ => Error::Unreadable {
            part,
            path: path.to_owned(),
            source,
        },
    })
}

fn certificates(
    part: Part,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_pem(part, path, &error))?;
    if certificates.is_empty() {
        return Err(not_pem(part, path, &pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn not_pem(part: Part, path: &Path, error: &pem::Error) -> Error {
    let reason = match error {
        pem::Error::NoItemsFound => match part {
            Part::Ca | Part::Certificate => "it holds no certificate".to_owned(),
            Part::Key => "it holds no private key".to_owned(),
        },
        other => other.to_string(),
    };
    Error::NotPem {
        part,
        path: path.to_owned(),
        reason,
    }
}

//! A small certificate authority.

use std::{fs, path::Path};

use mtls::{Error, Reloading, TlsFiles};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};

pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn issue(&self, name: &str) -> Pair {
        self.issue_with(name, |_| {})
    }

    pub(crate) fn issue_expired(&self, name: &str) -> Pair {
        self.issue_with(name, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 2, 3);
        })
    }

    /// A certificate that only the given role may use.
    pub(crate) fn issue_for(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Pair {
        self.issue_with(name, |params| {
            params.extended_key_usages = vec![purpose];
        })
    }

    pub(crate) fn issue_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

pub(crate) fn files_in(dir: &Path) -> TlsFiles {
    TlsFiles {
        ca: dir.join("ca.crt"),
        cert: dir.join("tls.crt"),
        key: dir.join("tls.key"),
    }
}

pub(crate) fn write(dir: &Path, ca: &str, pair: &Pair) -> TlsFiles {
    fs::create_dir_all(dir).unwrap();
    let files = files_in(dir);
    fs::write(&files.ca, ca).unwrap();
    fs::write(&files.cert, &pair.cert).unwrap();
    fs::write(&files.key, &pair.key).unwrap();
    files
}

/// Loads certificates that trust `ca` and show `pair`.
pub(crate) fn load(ca: &Authority, pair: &Pair) -> Result<Reloading, Error> {
    let dir = tempfile::tempdir().unwrap();
    Reloading::load(write(dir.path(), &ca.pem(), pair))
}

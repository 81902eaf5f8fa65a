//! What the two Secrets hold, read from PEM and written as PEM.

use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::due::{self, Span};

/// An authority that is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// What counts about it.
    pub facts: due::Authority,
    /// Its certificate.
    pub certificate: String,
    /// Its key, if it is there.
    pub key: Option<Secret>,
}

/// The certificate of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// What counts about it.
    pub facts: due::Leaf,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: Secret,
}

/// A private key in PEM, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a private key)")
    }
}

/// All authorities of a bundle that can be understood, with those of the keys that are theirs.
pub fn authorities(bundle: &str, keys: &str) -> Vec<Authority> {
    let keys: Vec<(Vec<u8>, &str)> = sections(keys)
        .filter_map(|pem| Some((public_key(pem)?, pem)))
        .collect();
    sections(bundle)
        .filter_map(|pem| {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
            let (_, parsed) = X509Certificate::from_der(&der).ok()?;
            let key = keys
                .iter()
                .find(|(public, _)| public == parsed.public_key().raw);
            Some(Authority {
                facts: due::Authority {
                    name: parsed.subject().to_string(),
                    span: span(&parsed),
                    can_sign: key.is_some() && parsed.is_ca(),
                },
                certificate: normal(pem),
                key: key.map(|(_, pem)| Secret(normal(pem))),
            })
        })
        .collect()
}

/// A certificate for that name with its key; none if it is not one that an authority signed, or if the
/// two do not belong together.
pub fn leaf(certificate: &str, key: &str, name: &str, authorities: &[Authority]) -> Option<Leaf> {
    let (certificate, key) = (sections(certificate).next()?, sections(key).next()?);
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let is_named = names
        .value
        .general_names
        .contains(&GeneralName::DNSName(name));
    let issuer = parsed.issuer().to_string();
    let signed = authorities
        .iter()
        .any(|authority| authority.facts.name == issuer && has_signed(authority, &parsed));
    let fits = public_key(key)? == parsed.public_key().raw;
    (is_named && signed && fits).then(|| Leaf {
        facts: due::Leaf {
            issuer,
            span: span(&parsed),
        },
        certificate: normal(certificate),
        key: Secret(normal(key)),
    })
}

fn has_signed(authority: &Authority, leaf: &X509Certificate<'_>) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(authority.certificate.as_bytes()) else {
        return false;
    };
    let Ok((_, authority)) = X509Certificate::from_der(&der) else {
        return false;
    };
    leaf.verify_signature(Some(authority.public_key())).is_ok()
}

fn span(certificate: &X509Certificate<'_>) -> Span {
    let validity = certificate.validity();
    Span {
        from: validity.not_before.timestamp(),
        until: validity.not_after.timestamp(),
    }
}

fn public_key(pem: &str) -> Option<Vec<u8>> {
    let key = KeyPair::from_pem(pem).ok()?;
    Some(key.subject_public_key_info())
}

/// One text of all certificates.
pub fn bundle<'a>(authorities: impl IntoIterator<Item = &'a Authority>) -> String {
    let all = authorities.into_iter();
    all.map(|authority| authority.certificate.as_str())
        .collect()
}

/// One text of all keys.
pub fn keys<'a>(authorities: impl IntoIterator<Item = &'a Authority>) -> String {
    let all = authorities.into_iter();
    all.filter_map(|authority| Some(authority.key.as_ref()?.0.as_str()))
        .collect()
}

/// The PEM sections of a text.
fn sections(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices("-----BEGIN ").map(|(at, _)| at);
    starts.filter_map(move |start| {
        let end = start + text[start..].find("-----END ")?;
        let line = text[end..].find('\n').unwrap_or(text.len() - end);
        Some(&text[start..end + line])
    })
}

/// A section as it is written: lines end the same way everywhere.
pub(super) fn normal(section: &str) -> String {
    let mut lines: String = section
        .lines()
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect();
    if !lines.ends_with('\n') {
        lines.push('\n');
    }
    lines
}

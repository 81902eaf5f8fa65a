//! Making authorities and certificates.

use std::{fmt::Write as _, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::{
    due::{self, AUTHORITY_LIFE, LEAF_LIFE, Span},
    held::{Authority, Leaf, Secret, authorities, normal},
};

/// A new authority.
pub(super) fn authority(now: i64) -> Result<Authority, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    // A name of its own each, by which a certificate tells who signed it.
    let mut name = "cdmo authority ".to_owned();
    for byte in key.public_key_raw().iter().rev().take(8) {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    stamp(&mut params, Span::starting(now, AUTHORITY_LIFE));
    let certificate = params.self_signed(&key)?;
    authorities(&certificate.pem(), &key.serialize_pem())
        .pop()
        .ok_or(rcgen::Error::CouldNotParseCertificate)
}

/// A new certificate of that name.
pub(super) fn leaf(
    signer: &Authority,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
    now: i64,
) -> Result<Leaf, rcgen::Error> {
    let signing = signer
        .key
        .as_ref()
        .ok_or(rcgen::Error::CouldNotParseKeyPair)?;
    let issuer = Issuer::from_ca_cert_pem(&signer.certificate, KeyPair::from_pem(&signing.0)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    // For people alone, and 64 characters at most (RFC 5280, ub-common-name).
    let common: String = name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    let mut span = Span::starting(now, LEAF_LIFE);
    span.from = span.from.max(signer.facts.span.from);
    span.until = span.until.min(signer.facts.span.until);
    stamp(&mut params, span);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Leaf {
        facts: due::Leaf {
            issuer: signer.facts.name.clone(),
            span,
        },
        certificate: normal(&certificate.pem()),
        key: Secret(normal(&key.serialize_pem())),
    })
}

fn stamp(params: &mut CertificateParams, span: Span) {
    let at = |seconds: i64| {
        date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    params.not_before = at(span.from);
    params.not_after = at(span.until);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::held;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn what_is_made_is_read_back_as_it_was_meant() {
        let authority = authority(NOW).unwrap();
        assert!(authority.facts.can_sign);
        assert_eq!(authority.facts.span, Span::starting(NOW, AUTHORITY_LIFE));
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        let leaf = leaf(&authority, "a.internal", purpose, NOW).unwrap();
        let all = [authority];
        let read = held::leaf(&leaf.certificate, &leaf.key.0, "a.internal", &all);
        assert_eq!(read.as_ref(), Some(&leaf));
        assert!(held::leaf(&leaf.certificate, &leaf.key.0, "b.internal", &all).is_none());
    }

    #[test]
    fn a_key_is_found_among_others_and_a_foreign_one_is_none() {
        let (a, b) = (authority(NOW).unwrap(), authority(NOW).unwrap());
        let keys = held::keys([&b, &a]);
        let both = held::authorities(&held::bundle([&a, &b]), &keys);
        assert_eq!(both, [a.clone(), b.clone()]);
        let one = held::authorities(&a.certificate, &b.key.as_ref().unwrap().0);
        assert!(!one[0].facts.can_sign);
        let purpose = ExtendedKeyUsagePurpose::ServerAuth;
        let leaf = leaf(&a, "a.internal", purpose, NOW).unwrap();
        let foreign = &b.key.as_ref().unwrap().0;
        assert!(held::leaf(&leaf.certificate, foreign, "a.internal", &both).is_none());
        assert!(held::leaf(&leaf.certificate, &leaf.key.0, "a.internal", &[b]).is_none());
    }

    #[test]
    fn damaged_text_is_nothing() {
        let a = authority(NOW).unwrap();
        assert!(held::authorities("garbage", "garbage").is_empty());
        let cut = &a.certificate[..a.certificate.len() / 2];
        assert!(held::authorities(cut, "").is_empty());
        let bent = a.certificate.replace("MII", "AAA");
        assert!(held::authorities(&bent, "").is_empty());
        assert!(!format!("{a:?}").contains("PRIVATE"));
    }
}

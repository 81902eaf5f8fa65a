//! Files that cannot be used are refused at start, each with its own sentence.

use std::fs;

use mtls::{CLIENT_NAME, Error, Part, Reloading, SERVER_NAME};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};

use crate::certificates::{Authority, Pair, files_in, load, write};

#[test]
fn a_certificate_for_either_role_loads() {
    let ca = Authority::new("ours");
    load(&ca, &ca.issue(SERVER_NAME)).unwrap();
    load(
        &ca,
        &ca.issue_for(SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth),
    )
    .unwrap();
    load(
        &ca,
        &ca.issue_for(CLIENT_NAME, ExtendedKeyUsagePurpose::ClientAuth),
    )
    .unwrap();
}

#[test]
fn a_missing_file_is_named_with_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new("ours");
    let files = write(dir.path(), &ca.pem(), &ca.issue(SERVER_NAME));
    fs::remove_file(&files.key).unwrap();
    let error = Reloading::load(files.clone()).unwrap_err();
    assert!(matches!(&error, Error::Missing { part: Part::Key, path } if *path == files.key));
    assert!(error.to_string().contains("--tls-key"), "{error}");
}

#[test]
fn a_directory_in_place_of_a_file_is_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new("ours");
    let files = write(dir.path(), &ca.pem(), &ca.issue(SERVER_NAME));
    fs::remove_file(&files.ca).unwrap();
    fs::create_dir(&files.ca).unwrap();
    let error = Reloading::load(files).unwrap_err();
    assert!(
        matches!(error, Error::Unreadable { part: Part::Ca, .. }),
        "{error}"
    );
}

#[test]
fn text_that_is_not_pem_is_refused_in_each_file() {
    let ca = Authority::new("ours");
    for (part, name) in [
        (Part::Ca, "ca.crt"),
        (Part::Certificate, "tls.crt"),
        (Part::Key, "tls.key"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), &ca.pem(), &ca.issue(SERVER_NAME));
        for garbage in ["", "hello", "-----BEGIN CERTIFICATE-----\nnot base64"] {
            fs::write(dir.path().join(name), garbage).unwrap();
            let error = Reloading::load(files.clone()).unwrap_err();
            assert!(
                matches!(error, Error::NotPem { part: p, .. } if p == part),
                "{error}"
            );
        }
    }
}

#[test]
fn pem_around_something_else_than_a_certificate_is_refused() {
    let ca = Authority::new("ours");
    let pair = ca.issue(SERVER_NAME);
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = load(
        &ca,
        &Pair {
            cert: garbled.to_owned(),
            key: pair.key,
        },
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unusable {
                part: Part::Certificate,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn an_expired_certificate_is_refused_with_its_date() {
    let ca = Authority::new("ours");
    for purpose in [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ] {
        let pair = ca.issue_with(SERVER_NAME, |params| {
            params.extended_key_usages = vec![purpose];
            params.not_after = date_time_ymd(2021, 2, 3);
        });
        let error = load(&ca, &pair).unwrap_err();
        assert!(matches!(error, Error::Expired { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains("expired on 2021-02-03T00:00:00Z"),
            "{error}"
        );
    }
}

#[test]
fn a_certificate_from_the_future_points_at_the_clock() {
    let ca = Authority::new("ours");
    let pair = ca.issue_with(SERVER_NAME, |params| {
        params.not_before = date_time_ymd(2999, 1, 1);
    });
    let error = load(&ca, &pair).unwrap_err();
    assert!(matches!(error, Error::NotYetValid { .. }), "{error}");
    assert!(error.to_string().contains("clock"), "{error}");
}

#[test]
fn a_certificate_of_another_ca_is_refused_even_when_both_cas_have_one_name() {
    let ours = Authority::new("ours");
    for theirs in [Authority::new("theirs"), Authority::new("ours")] {
        let error = load(&ours, &theirs.issue(SERVER_NAME)).unwrap_err();
        assert!(matches!(error, Error::WrongCa { .. }), "{error}");
    }
}

#[test]
fn a_key_of_another_certificate_does_not_fit() {
    let ca = Authority::new("ours");
    let pair = Pair {
        cert: ca.issue(SERVER_NAME).cert,
        key: ca.issue(SERVER_NAME).key,
    };
    let error = load(&ca, &pair).unwrap_err();
    assert!(matches!(error, Error::KeyMismatch { .. }), "{error}");
}

#[test]
fn a_bundle_of_several_cas_trusts_each_of_them() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let dir = tempfile::tempdir().unwrap();
    let bundle = format!("{}{}", old.pem(), new.pem());
    for ca in [&old, &new] {
        Reloading::load(write(dir.path(), &bundle, &ca.issue(SERVER_NAME))).unwrap();
    }
    assert!(files_in(dir.path()).ca.exists());
}

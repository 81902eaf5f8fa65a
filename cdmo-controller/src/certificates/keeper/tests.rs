use super::*;
use crate::certificates::due::SPREAD;

const NOW: i64 = 1_800_000_000;
const YEAR: i64 = 365 * 24 * 3600;

fn secret(data: Data) -> Secret {
    let bytes = |(key, text): (&str, String)| (key.to_owned(), ByteString(text.into_bytes()));
    Secret {
        data: Some(data.into_iter().map(bytes).collect()),
        ..Secret::default()
    }
}

fn read(wanted: &Wanted) -> Read {
    Read {
        controller: secret(wanted.controller.clone()),
        agent: secret(wanted.agent.clone()),
    }
}

fn first() -> Wanted {
    let empty = Read {
        controller: Secret::default(),
        agent: Secret::default(),
    };
    wanted(&empty, NOW).unwrap()
}

fn same(a: &Wanted, b: &Wanted) -> bool {
    a.controller == b.controller && a.agent == b.agent && a.own == b.own
}

#[test]
fn empty_secrets_are_filled_and_then_left_alone() {
    let made = first();
    assert!(same(&made, &wanted(&read(&made), NOW + 3600).unwrap()));
}

#[test]
fn agents_get_nothing_that_lets_them_sign_or_command() {
    let made = first();
    assert_eq!(
        made.agent.keys().copied().collect::<Vec<_>>(),
        ["ca.crt", "tls.crt", "tls.key"]
    );
    assert_ne!(made.agent["tls.key"], made.controller["tls.key"]);
    assert_ne!(made.agent["tls.key"], made.controller["ca.key"]);
}

#[test]
fn a_damaged_certificate_is_made_anew_and_nothing_else() {
    let made = first();
    let mut damaged = read(&made);
    damaged.agent = secret(Data::from([("tls.crt", "garbage".to_owned())]));
    let mended = wanted(&damaged, NOW + 60).unwrap();
    assert_eq!(mended.controller, made.controller);
    assert_eq!(mended.agent["ca.crt"], made.agent["ca.crt"]);
    assert_ne!(mended.agent["tls.crt"], made.agent["tls.crt"]);
}

#[test]
fn an_authority_is_succeeded_in_three_steps() {
    let count = |wanted: &Wanted| wanted.agent["ca.crt"].matches("BEGIN CERTIFICATE").count();
    let old = first();
    let now = NOW + 7 * YEAR;
    let announced = wanted(&read(&old), now).unwrap();
    assert_eq!(count(&announced), 2);
    let now = now + SPREAD;
    let changed = wanted(&read(&announced), now).unwrap();
    assert_eq!(count(&changed), 2);
    assert_ne!(announced.agent["tls.crt"], changed.agent["tls.crt"]);
    assert_ne!(
        announced.controller["tls.crt"],
        changed.controller["tls.crt"]
    );
    let settled = wanted(&read(&changed), now + SPREAD).unwrap();
    assert_eq!(count(&settled), 1);
    assert_eq!(changed.agent["tls.crt"], settled.agent["tls.crt"]);
    assert!(!settled.agent["ca.crt"].contains(&old.agent["ca.crt"]));
}

#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tls/tls.key");
    replace(&path, "one").unwrap();
    replace(&path, "two").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::read_dir(dir.path().join("tls")).unwrap().count(), 1);
}

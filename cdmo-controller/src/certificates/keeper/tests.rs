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
        webhook: wanted.webhook.clone().map(webhook),
    }
}

fn webhook(data: Data) -> WebhookRead {
    WebhookRead {
        secret: secret(data),
        host: "cdmo-webhook.gpus.svc".into(),
    }
}

fn first() -> Wanted {
    let empty = Read {
        controller: Secret::default(),
        agent: Secret::default(),
        webhook: Some(webhook(Data::new())),
    };
    wanted(&empty, NOW).unwrap()
}

fn same(a: &Wanted, b: &Wanted) -> bool {
    a.controller == b.controller && a.agent == b.agent && a.webhook == b.webhook && a.own == b.own
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
fn a_webhook_gets_a_certificate_of_its_own_and_nothing_that_signs() {
    let made = first();
    let webhook = made.webhook.as_ref().unwrap();
    let keys: Vec<_> = webhook.keys().copied().collect();
    assert_eq!(keys, ["ca.crt", "tls.crt", "tls.key"]);
    assert_ne!(webhook["tls.key"], made.agent["tls.key"]);
    let authorities = held::authorities(&webhook["ca.crt"], "");
    let is_for =
        |name| held::leaf(&webhook["tls.crt"], &webhook["tls.key"], name, &authorities).is_some();
    assert!(is_for("cdmo-webhook.gpus.svc"));
    assert!(!is_for(mtls::SERVER_NAME) && !is_for(mtls::CLIENT_NAME));
}

#[test]
fn where_there_is_no_webhook_nothing_is_made_for_one() {
    let mut without = read(&first());
    without.webhook = None;
    assert_eq!(wanted(&without, NOW + 60).unwrap().webhook, None);
}

#[test]
fn a_webhook_that_moves_to_another_namespace_gets_another_certificate() {
    let made = first();
    let mut moved = read(&made);
    moved.webhook.as_mut().unwrap().host = "cdmo-webhook.other.svc".into();
    let again = wanted(&moved, NOW + 60).unwrap();
    assert_ne!(again.webhook, made.webhook);
    assert_eq!(again.agent, made.agent);
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

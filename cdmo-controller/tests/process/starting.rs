//! What cannot work ends at once, with one sentence and a code that says which kind it is.

use std::{net::TcpListener, path::Path, process::Command};

use tempfile::TempDir;

use crate::{certificates::Authority, cluster::kubeconfig};

struct Ended {
    code: i32,
    words: String,
}

fn start(arguments: &[String]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_cdmo-controller"))
        .args(arguments)
        .arg("--log-level=error")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.starts_with("cdmo-controller: "), "{words}");
    assert_eq!(words.lines().count(), 1, "one sentence: {words}");
    Ended {
        code: output.status.code().unwrap(),
        words,
    }
}

fn tls(dir: &Path, last_year: i32) -> Vec<String> {
    let files = Authority::new().issue(&dir.join("tls"), mtls::CLIENT_NAME, last_year);
    vec![
        format!("--tls-ca={}", files.ca.display()),
        format!("--tls-cert={}", files.cert.display()),
        format!("--tls-key={}", files.key.display()),
    ]
}

#[test]
fn certificates_that_are_missing_or_expired() {
    let dir = TempDir::new().unwrap();
    let ended = start(&["--tls-ca=/nonexistent/ca.crt".into()]);
    assert_eq!(ended.code, 66);
    assert!(
        ended.words.contains("/nonexistent/ca.crt"),
        "{}",
        ended.words
    );
    let ended = start(&tls(dir.path(), 2001));
    assert_eq!(ended.code, 66);
    assert!(ended.words.contains("expired"), "{}", ended.words);
}

#[test]
fn a_port_in_use() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut arguments = tls(dir.path(), 2100);
    arguments.push(format!("--http-listen={address}"));
    let ended = start(&arguments);
    assert_eq!(ended.code, 67);
    assert!(
        ended.words.contains(&address.to_string()),
        "{}",
        ended.words
    );
}

#[test]
fn a_cluster_that_cannot_be_found() {
    let dir = TempDir::new().unwrap();
    let mut arguments = tls(dir.path(), 2100);
    arguments.push("--http-listen=127.0.0.1:0".into());
    let ended = start(&arguments);
    assert_eq!(ended.code, 70);
    assert!(ended.words.contains("--kubeconfig"), "{}", ended.words);
    let path = kubeconfig(dir.path(), ([127, 0, 0, 1], 1).into());
    std::fs::write(&path, "{ this is no YAML").unwrap();
    arguments.push(format!("--kubeconfig={}", path.display()));
    let ended = start(&arguments);
    assert_eq!(ended.code, 70);
    assert!(
        ended.words.contains(path.to_str().unwrap()),
        "{}",
        ended.words
    );
}

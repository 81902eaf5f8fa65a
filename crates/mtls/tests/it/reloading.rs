//! Certificates that change under a running server.

use std::{fs, os::unix::fs::symlink, time::Duration};

use mtls::{CLIENT_NAME, Error, Reason, Reloading, SERVER_NAME, TlsFiles};
use tokio_util::sync::CancellationToken;

use crate::{
    certificates::{Authority, Pair, load, write},
    support::{Log, call, serve},
};

#[tokio::test]
async fn new_connections_use_the_new_certificates() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), &old.pem(), &old.issue(SERVER_NAME));
    let server = Reloading::load(files).unwrap();
    let (uri, _shutdown) = serve(&server).await;
    let old_client = load(&old, &old.issue(CLIENT_NAME)).unwrap();
    let new_client = load(&new, &new.issue(CLIENT_NAME)).unwrap();
    call(&old_client, &uri).await.unwrap();
    assert!(!server.reload().await.unwrap(), "nothing changed yet");

    write(dir.path(), &new.pem(), &new.issue(SERVER_NAME));
    assert!(server.reload().await.unwrap());
    call(&new_client, &uri).await.unwrap();
    assert_eq!(
        call(&old_client, &uri).await.unwrap_err().reason,
        Reason::PeerUnknownIssuer
    );
}

#[tokio::test]
async fn unusable_new_files_leave_the_old_certificates_in_force() {
    let ca = Authority::new("ours");
    let dir = tempfile::tempdir().unwrap();
    let server = Reloading::load(write(dir.path(), &ca.pem(), &ca.issue(SERVER_NAME))).unwrap();
    let (uri, _shutdown) = serve(&server).await;

    let mixed = Pair {
        cert: ca.issue(SERVER_NAME).cert,
        key: ca.issue(SERVER_NAME).key,
    };
    write(dir.path(), &ca.pem(), &mixed);
    assert!(matches!(
        server.reload().await,
        Err(Error::KeyMismatch { .. })
    ));
    call(&load(&ca, &ca.issue(CLIENT_NAME)).unwrap(), &uri)
        .await
        .unwrap();
}

/// As kubelet lays a Secret volume out: `tls.crt -> ..data/tls.crt`, `..data -> ..2026_1`.
struct SecretVolume {
    dir: tempfile::TempDir,
    version: usize,
}

impl SecretVolume {
    fn new(ca: &str, pair: &Pair) -> (Self, TlsFiles) {
        let mut volume = Self {
            dir: tempfile::tempdir().unwrap(),
            version: 0,
        };
        volume.publish(ca, pair);
        let root = volume.dir.path();
        for name in ["ca.crt", "tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), root.join(name)).unwrap();
        }
        let files = crate::certificates::files_in(root);
        (volume, files)
    }

    fn publish(&mut self, ca: &str, pair: &Pair) {
        self.version += 1;
        let root = self.dir.path();
        let name = format!("..2026_{}", self.version);
        write(&root.join(&name), ca, pair);
        symlink(&name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if self.version > 1 {
            fs::remove_dir_all(root.join(format!("..2026_{}", self.version - 1))).unwrap();
        }
    }
}

#[tokio::test]
async fn the_watch_sees_a_secret_volume_swap_its_symlink() {
    let log = Log::capture();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (mut volume, files) = SecretVolume::new(&old.pem(), &old.issue(SERVER_NAME));
    let server = Reloading::load(files).unwrap();
    let (uri, _shutdown) = serve(&server).await;
    let shutdown = CancellationToken::new();
    let watching = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.watch(Duration::from_millis(5), shutdown).await }
    });

    volume.publish(&new.pem(), &new.issue(SERVER_NAME));
    log.says("the certificates changed").await;
    call(&load(&new, &new.issue(CLIENT_NAME)).unwrap(), &uri)
        .await
        .unwrap();

    let expired = new.issue_expired(SERVER_NAME);
    volume.publish(&new.pem(), &expired);
    log.says("the old certificates stay in use").await;
    call(&load(&new, &new.issue(CLIENT_NAME)).unwrap(), &uri)
        .await
        .unwrap();

    shutdown.cancel();
    watching.await.unwrap();
    assert_eq!(
        log.text()
            .matches("the old certificates stay in use")
            .count(),
        1
    );
}

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::*;
use crate::journal::{Storage, format};

const SLICE: &str = "nvidia.com/mig-1g.5gb";
const ID: &str = "MIG-a";

/// A disk that can be full.
#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Storage for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        *self.bytes.lock().unwrap() = bytes.to_vec();
        Ok(())
    }

    fn size(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }
}

impl Disk {
    /// What the next start would read.
    fn recorded(&self) -> Recorded {
        let mut bytes = format::render(&Recorded::default());
        bytes.extend_from_slice(&self.bytes.lock().unwrap());
        format::read(&bytes).unwrap().recorded
    }
}

fn holders(disk: &Disk, pods: &[&str]) -> Holders {
    let pods = pods.iter().map(|name| cdmo_proto::agent::Pod {
        name: (*name).into(),
        uid: format!("uid-{name}"),
        ..Default::default()
    });
    let table = PodTable {
        revision: 1,
        pods: pods.collect(),
    };
    let (_, pods) = watch::channel(Some(Arc::new(table)));
    let (journal, _) = Journal::start(disk.clone(), Recorded::default()).unwrap();
    Holders::new(journal, pods, &Recorded::default())
}

fn holder(name: &str) -> Holder {
    Holder {
        namespace: String::new(),
        pod: name.into(),
        container: "main".into(),
    }
}

async fn grant(holders: &Holders) {
    holders.grant(SLICE, &[ID.to_owned()]).await.unwrap();
}

#[tokio::test]
async fn a_holder_that_could_not_be_written_is_written_when_it_is_seen_again() {
    let disk = Disk::default();
    let holders = holders(&disk, &["one"]);
    grant(&holders).await;
    disk.full.store(true, Ordering::Relaxed);
    assert!(holders.held_by(SLICE, ID, &holder("one")).await.is_err());
    disk.full.store(false, Ordering::Relaxed);
    holders.held_by(SLICE, ID, &holder("one")).await.unwrap();
    let known = &disk.recorded().holds[&(SLICE.to_owned(), ID.to_owned())];
    let uids: Vec<_> = known.iter().map(|pod| pod.uid.as_str()).collect();
    assert_eq!(uids, ["uid-one"]);
}

#[tokio::test]
async fn a_pod_that_gets_a_held_device_and_vanishes_unseen_leaves_somebody_unknown() {
    let disk = Disk::default();
    let holders = holders(&disk, &["one"]);
    grant(&holders).await;
    holders.held_by(SLICE, ID, &holder("one")).await.unwrap();
    assert_eq!(holders.of(SLICE, ID), ["uid-one"]);
    grant(&holders).await;
    assert!(holders.of(SLICE, ID).contains(&String::new()));
    let recorded = disk.recorded();
    let known = &recorded.holds[&(SLICE.to_owned(), ID.to_owned())];
    assert!(known.iter().any(PodIdentity::is_unseen), "{known:?}");
}

#[tokio::test]
async fn a_device_granted_twice_before_anybody_was_seen_has_somebody_unknown() {
    let disk = Disk::default();
    let holders = holders(&disk, &["two"]);
    grant(&holders).await;
    grant(&holders).await;
    holders.held_by(SLICE, ID, &holder("two")).await.unwrap();
    assert!(holders.of(SLICE, ID).contains(&String::new()));
    let (_, pods) = watch::channel(None);
    let recorded = disk.recorded();
    let (journal, _) = Journal::start(disk.clone(), Recorded::default()).unwrap();
    assert!(Holders::new(journal, pods, &recorded).unsure(SLICE, ID));
}

#[tokio::test]
async fn a_device_that_goes_from_pod_to_pod_does_not_gather_holders_for_ever() {
    let disk = Disk::default();
    let holders = holders(&disk, &[]);
    for number in 0..1000 {
        grant(&holders).await;
        let holder = holder(&format!("pod-{number}"));
        holders.held_by(SLICE, ID, &holder).await.unwrap();
    }
    let known = holders.of(SLICE, ID);
    assert!(known.len() <= 17, "{}", known.len());
    let recorded = disk.recorded();
    assert!(recorded.holds[&(SLICE.to_owned(), ID.to_owned())].len() <= 17);
}

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

fn table(pods: &[(&str, &str)]) -> PodTable {
    let pods = pods.iter().map(|(name, uid)| cdmo_proto::agent::Pod {
        name: (*name).into(),
        uid: (*uid).into(),
        ..Default::default()
    });
    PodTable {
        revision: 1,
        pods: pods.collect(),
    }
}

fn holders(disk: &Disk, pods: &[&str]) -> Holders {
    let uids: Vec<_> = pods.iter().map(|name| format!("uid-{name}")).collect();
    let pods: Vec<_> = pods
        .iter()
        .zip(&uids)
        .map(|(name, uid)| (*name, uid.as_str()))
        .collect();
    with_table(disk, Some(table(&pods)))
}

fn with_table(disk: &Disk, table: Option<PodTable>) -> Holders {
    let (_, pods) = watch::channel(table.map(Arc::new));
    let (journal, _) = Journal::start(disk.clone(), Recorded::default()).unwrap();
    Holders::new(journal, pods, &Recorded::default())
}

/// The same after a restart of the agent, without a controller.
fn restarted(disk: &Disk) -> Holders {
    let recorded = disk.recorded();
    let (_, pods) = watch::channel(None);
    let (journal, _) = Journal::start(disk.clone(), recorded.clone()).unwrap();
    Holders::new(journal, pods, &recorded)
}

/// podresources shows these pods with the device.
fn listing(pods: &[&str]) -> Listing {
    let shown = pods.iter().map(|name| device_plugin::Shown {
        holder: holder(name),
        resource: SLICE.into(),
        ids: vec![ID.into()],
    });
    Listing::new(shown.collect())
}

async fn learn(holders: &Holders, table: &PodTable, shown: &Listing) {
    holders.learn(table, &holders.unnamed(), shown).await;
}

async fn seen_with(holders: &Holders, name: &str) {
    holders.held_by(SLICE, ID, &holder(name)).await.unwrap();
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

#[tokio::test]
async fn a_new_pod_is_not_named_after_the_former_one_that_a_late_table_lists() {
    let disk = Disk::default();
    let late = table(&[("web", "web-1")]);
    let holders = with_table(&disk, Some(late.clone()));
    grant(&holders).await;
    seen_with(&holders, "web").await;
    grant(&holders).await;
    seen_with(&holders, "web").await;
    let shown = listing(&["web"]);
    holders.count(&late);
    learn(&holders, &late, &shown).await;
    let uids = |holders: &Holders| {
        let seen = holders.seen(SLICE, ID).into_iter();
        let named = seen.filter(|pod| !pod.is_unseen());
        named.map(|pod| pod.uid).collect::<Vec<_>>()
    };
    assert_eq!(uids(&holders), ["", "web-1"]);
    assert_eq!(holders.former(SLICE, ID).unwrap()["web-1"], 1);
    holders
        .settled(SLICE, ID, Some(&holder("web")))
        .await
        .unwrap();
    learn(&holders, &late, &shown).await;
    assert_eq!(holders.of(SLICE, ID), [""]);
    let newer = table(&[("web", "web-2")]);
    learn(&holders, &newer, &shown).await;
    assert_eq!(holders.of(SLICE, ID), ["web-2"]);
}

#[tokio::test]
async fn a_pod_that_has_its_device_again_is_named_again() {
    let disk = Disk::default();
    let now = table(&[("web", "web-1")]);
    let holders = with_table(&disk, Some(now.clone()));
    grant(&holders).await;
    seen_with(&holders, "web").await;
    grant(&holders).await;
    seen_with(&holders, "web").await;
    holders.count(&now);
    holders.has_it_again(SLICE, ID, "web-1");
    assert!(holders.former(SLICE, ID).unwrap().contains_key("web-1"));
    holders.count(&now);
    holders.has_it_again(SLICE, ID, "web-1");
    holders
        .settled(SLICE, ID, Some(&holder("web")))
        .await
        .unwrap();
    assert_eq!(holders.of(SLICE, ID), ["web-1"]);
}

#[tokio::test]
async fn a_holder_that_is_gone_is_not_named_after_a_later_pod() {
    let disk = Disk::default();
    let holders = with_table(&disk, None);
    grant(&holders).await;
    seen_with(&holders, "web").await;
    let later = table(&[("web", "web-2")]);
    learn(&holders, &later, &listing(&[])).await;
    assert_eq!(holders.of(SLICE, ID), [""]);
    assert!(holders.unnamed().is_empty());
    learn(&holders, &later, &listing(&["web"])).await;
    assert_eq!(holders.of(SLICE, ID), [""]);
}

#[tokio::test]
async fn a_holder_that_the_kubelet_still_shows_gets_its_uid() {
    let disk = Disk::default();
    let holders = with_table(&disk, None);
    grant(&holders).await;
    seen_with(&holders, "web").await;
    assert!(!holders.unnamed().is_empty());
    let listed = table(&[("web", "web-1")]);
    learn(&holders, &listed, &listing(&["web"])).await;
    assert_eq!(holders.of(SLICE, ID), ["web-1"]);
    assert!(holders.unnamed().is_empty());
}

#[tokio::test]
async fn after_a_settled_contest_only_the_new_pod_is_remembered_across_restarts() {
    let disk = Disk::default();
    let holders = holders(&disk, &["one", "two"]);
    grant(&holders).await;
    seen_with(&holders, "one").await;
    grant(&holders).await;
    seen_with(&holders, "two").await;
    assert!(restarted(&disk).unsure(SLICE, ID));
    holders
        .settled(SLICE, ID, Some(&holder("two")))
        .await
        .unwrap();
    assert_eq!(holders.of(SLICE, ID), ["uid-two"]);
    // Anything that waits for the disk, so that what came before is on it.
    seen_with(&holders, "three").await;
    let after = restarted(&disk);
    assert!(!after.unsure(SLICE, ID));
    assert_eq!(after.of(SLICE, ID), ["", "uid-two"]);
}

#[tokio::test]
async fn what_was_unsure_since_a_restart_is_sure_once_its_contest_is_settled() {
    let disk = Disk::default();
    let before = holders(&disk, &["one", "two"]);
    grant(&before).await;
    grant(&before).await;
    seen_with(&before, "one").await;
    seen_with(&before, "two").await;
    let after = restarted(&disk);
    assert!(after.unsure(SLICE, ID));
    after
        .settled(SLICE, ID, Some(&holder("two")))
        .await
        .unwrap();
    assert!(!after.unsure(SLICE, ID));
    assert_eq!(after.of(SLICE, ID), ["uid-two"]);
}

#[tokio::test]
async fn a_holder_that_came_after_podresources_was_asked_is_not_taken_for_gone() {
    let disk = Disk::default();
    let holders = with_table(&disk, None);
    grant(&holders).await;
    let before = holders.unnamed();
    seen_with(&holders, "web").await;
    let listed = table(&[("web", "web-1")]);
    holders.learn(&listed, &before, &listing(&[])).await;
    learn(&holders, &listed, &listing(&["web"])).await;
    assert_eq!(holders.of(SLICE, ID), ["web-1"]);
}

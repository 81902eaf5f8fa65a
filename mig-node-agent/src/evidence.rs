//! The proofs that a device is free which the kubelet cannot give.
//!
//! The device-plugin library looks at podresources itself (proof a). What is missing is here: the
//! pods of the node, as the controller tells them (b); processes of former holders (c); processes
//! on the device, as NVML tells them (d). What cannot be asked is a doubt.

pub mod arrivals;
pub mod cgroups;
mod holders;
pub mod pods;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use cdmo_proto::agent::PodTable;
use device_plugin::{Claim, Evidence, Hold, Holder, Listing, Plugins};
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::driver::Driver;
use crate::journal::PodIdentity;
use cgroups::Owner;
pub use holders::Holders;
use holders::{Former, LISTED_ON};

/// The pods of the node; none while no controller is connected.
pub type Pods = watch::Receiver<Option<Arc<PodTable>>>;

/// Where each device id is: GPU uuid, and GPU instance id unless it is the whole GPU.
pub type Whereabouts = HashMap<String, (String, Option<u32>)>;

/// Proofs b, c and d.
#[derive(Debug)]
pub struct Proofs {
    /// The node's pods.
    pub pods: Pods,
    /// Who was seen with which device.
    pub holders: Arc<Holders>,
    /// Where devices are.
    pub whereabouts: watch::Receiver<Arc<Whereabouts>>,
    /// For the processes on a device.
    pub driver: Driver,
    /// The host's `/proc`.
    pub proc_dir: PathBuf,
    /// The agent's own pod, which holds no device.
    pub own_pod: Option<String>,
    /// Devices of which the journal may have told more than it does, with the resource names that pods
    /// may have them under.
    pub doubted: HashMap<String, Vec<String>>,
}

impl Evidence for Proofs {
    fn still_held<'a>(
        &'a self,
        device: &'a Hold,
        shown: &'a Listing,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move { self.prove_free(device, shown).await.err() })
    }

    fn contested<'a>(
        &'a self,
        device: &'a Hold,
        claim: Claim<'a>,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move { self.former_are_gone(device, claim).await.err() })
    }
}

impl Proofs {
    /// Takes in a new table of pods.
    pub async fn learn(&self, table: &PodTable, kubelet: &Plugins) {
        self.holders.count(table);
        let mut unnamed = self.holders.unnamed();
        let mut shown = Arc::new(Listing::default());
        if !unnamed.is_empty() {
            match kubelet.list().await {
                Ok(listing) => shown = listing,
                Err(why) => {
                    tracing::warn!(why, "Holders have no UIDs; the next pod table tries again");
                    unnamed.clear();
                }
            }
        }
        self.holders.learn(table, &unnamed, &shown).await;
    }

    /// Proves that nobody uses a GPU that is not offered, not even a pod that another device
    /// plugin gave it to.
    ///
    /// # Errors
    /// The doubt, as half a sentence.
    pub async fn whole_gpu_is_free(&self, gpu: &str, kubelet: &Plugins) -> Result<(), String> {
        let shown = kubelet.list().await?;
        if let Some(held) = shown.iter().find(|s| s.ids.iter().any(|id| id == gpu)) {
            return Err(format!("it is held by {}", held.holder));
        }
        let device = Hold {
            resource: mig::GPU_RESOURCE.into(),
            id: gpu.into(),
            holders: Vec::new(),
        };
        self.prove_free(&device, &shown).await
    }

    async fn prove_free(&self, device: &Hold, shown: &Listing) -> Result<(), String> {
        let away = "no controller is connected, so the node's pods are not known";
        let table = self.pods.borrow().clone().ok_or(away)?;
        let others = self.doubted.get(&device.id).into_iter().flatten();
        for resource in std::iter::once(&device.resource).chain(others) {
            if let Some(doubt) = pods::unaccounted(&table.pods, resource, shown) {
                return Err(doubt);
            }
        }
        self.no_process_of_holders(device, &table).await?;
        self.no_process_on_device(&device.id).await
    }

    /// Proofs c and d for a device that a pod has that is to start with it.
    async fn former_are_gone(&self, device: &Hold, claim: Claim<'_>) -> Result<(), String> {
        let alive = self.pods_alive().await?;
        let table = self.pods.borrow().clone();
        let table = table.as_deref();
        let suspects = Suspects {
            seen: self.holders.seen(&device.resource, &device.id),
            former: self.holders.former(&device.resource, &device.id),
            since: self.holders.since(&device.resource, &device.id),
            unsure: claim.unseen || self.holders.unsure(&device.resource, &device.id),
            device,
            present: claim
                .present
                .map(|pod| (pod.namespace.as_str(), pod.pod.as_str())),
            shown: claim.shown,
            table,
            own: self.own_pod.as_deref(),
        };
        if let Some(uid) = suspects.among(&alive) {
            return Err(format!("processes of pod {uid} are still running"));
        }
        if table.is_none() && !suspects.all_known() {
            return Err("no controller is connected, so it is not known which pod that was".into());
        }
        let new = suspects.new_holder(&alive);
        if let Some(uid) = new.filter(|uid| suspects.is_former(uid)) {
            self.holders.has_it_again(&device.resource, &device.id, uid);
        }
        for process in self.processes(&device.id).await? {
            let not_there = match cgroups::pod_of(&self.proc_dir, process.pid) {
                Owner::Nobodys => true,
                Owner::Pod(uid) => Some(&uid) == new || (!process.sure && alive.contains(&uid)),
                Owner::Unknown => false,
            };
            if !not_there {
                return Err(format!("process {} uses it", process.pid));
            }
        }
        Ok(())
    }

    async fn pods_alive(&self) -> Result<BTreeSet<String>, String> {
        let proc_dir = self.proc_dir.clone();
        let scan =
            tokio::task::spawn_blocking(move || cgroups::pods_with_processes(&proc_dir)).await;
        match scan {
            Ok(Ok(alive)) => Ok(alive),
            Ok(Err(error)) => {
                let proc_dir = self.proc_dir.display();
                Err(format!(
                    "the processes in {proc_dir} cannot be read: {error}"
                ))
            }
            Err(_) => Err("the agent is ending".into()),
        }
    }

    async fn no_process_of_holders(&self, device: &Hold, table: &PodTable) -> Result<(), String> {
        let alive = self.pods_alive().await?;
        let known = self.holders.of(&device.resource, &device.id);
        let own = self.own_pod.as_deref();
        match process_of_holder(&alive, &known, &device.resource, table, own) {
            Some(uid) => Err(format!("processes of pod {uid} are still running")),
            None => Ok(()),
        }
    }

    async fn no_process_on_device(&self, id: &str) -> Result<(), String> {
        match self.processes(id).await?.first() {
            Some(process) => Err(format!("process {} uses it", process.pid)),
            None => Ok(()),
        }
    }

    /// Processes that use the device, and those that the driver cannot attribute: they could be
    /// anywhere on the GPU.
    async fn processes(&self, id: &str) -> Result<Vec<Found>, String> {
        let Some((gpu, instance)) = self.whereabouts.borrow().get(id).cloned() else {
            // It is gone from the hardware, and its processes with it.
            return Ok(Vec::new());
        };
        let look = self.driver.look("processes", move |hw| hw.processes(&gpu));
        let processes = look.await.map_err(|failure| failure.message)?;
        let found = processes.into_iter().filter_map(|process| {
            let sure = instance.is_none() || process.instance == instance;
            let pid = process.pid;
            (sure || process.instance.is_none()).then_some(Found { pid, sure })
        });
        Ok(found.collect())
    }
}

/// A process on a device.
#[derive(Debug)]
struct Found {
    pid: u32,
    /// The driver says so; else it says no more than that it is on that GPU.
    sure: bool,
}

/// A pod with live processes that had the device, or may have had it.
///
/// Where nobody was ever seen with it (a pod can be deleted by force before the kubelet shows it,
/// or hold it for an init container), pods that are gone from the API and terminal ones that asked
/// for the resource are suspects.
fn process_of_holder<'a>(
    alive: &'a BTreeSet<String>,
    known: &[String],
    resource: &str,
    table: &PodTable,
    own: Option<&str>,
) -> Option<&'a String> {
    if !known.is_empty() && known.iter().all(|uid| !uid.is_empty()) {
        return alive.iter().find(|uid| known.contains(uid));
    }
    alive.iter().find(|uid| {
        if own == Some(uid.as_str()) {
            return false;
        }
        match table.pods.iter().find(|pod| pod.uid == **uid) {
            Some(pod) => known.contains(uid) || (pod.terminal && pods::asks_for(pod, resource)),
            None => true,
        }
    })
}

/// Who may go on using a device that another pod has got.
struct Suspects<'a> {
    device: &'a Hold,
    /// Namespace and name of the pod that podresources shows with it.
    present: Option<(&'a str, &'a str)>,
    /// Everybody seen with it since the hold began.
    seen: BTreeSet<PodIdentity>,
    /// Those of them who were seen before it was granted anew; none if it was not, as far as known.
    former: Option<Former>,
    /// UIDs of those that podresources showed with it after it was granted anew.
    since: BTreeSet<String>,
    /// Somebody else may have it.
    unsure: bool,
    /// What podresources showed last.
    shown: &'a Listing,
    table: Option<&'a PodTable>,
    own: Option<&'a str>,
}

impl Suspects<'_> {
    /// UIDs that a holder was seen under before the device was granted anew, or after it if another pod
    /// has it now.
    fn uids(&self, holder: &Holder) -> impl Iterator<Item = &String> {
        let (namespace, name) = (holder.namespace.clone(), holder.pod.clone());
        let gone = self.present != Some((namespace.as_str(), name.as_str()));
        let same = self.seen.iter().filter(move |pod| {
            let in_time = self.former.is_none()
                || self.is_former(&pod.uid)
                || (gone && self.since.contains(&pod.uid));
            !pod.uid.is_empty() && in_time && pod.namespace == namespace && pod.name == name
        });
        same.map(|pod| &pod.uid)
    }

    fn is_former(&self, uid: &str) -> bool {
        let former = self.former.as_ref();
        former.is_some_and(|former| former.contains_key(uid))
    }

    /// Every former holder can be recognised by its UID, or is the new one: without a new grant there
    /// is none but that under its name.
    fn all_known(&self) -> bool {
        let former = &self.device.holders;
        let known = |holder: &Holder| {
            let name = Some((holder.namespace.as_str(), holder.pod.as_str()));
            (self.former.is_none() && name == self.present) || self.uids(holder).next().is_some()
        };
        !self.unsure && former.iter().all(known)
    }

    /// A pod with live processes that had the device before.
    ///
    /// The table may be older than what the kubelet knows, so that a pod is in it says nothing where
    /// the former holders are known. Where one is not, a pod that the table has as not terminal is no
    /// suspect if podresources shows all its devices: it is the one that was granted the device, or not the
    /// one whose device the kubelet freed.
    fn among<'a>(&self, alive: &'a BTreeSet<String>) -> Option<&'a String> {
        let new = self.new_holder(alive);
        let former = &self.device.holders;
        let known: BTreeSet<&String> = former.iter().flat_map(|h| self.uids(h)).collect();
        let all_known = self.all_known();
        alive.iter().find(|uid| {
            if new == Some(*uid) || self.own == Some(uid.as_str()) {
                return false;
            }
            if known.contains(uid) || all_known {
                return known.contains(uid);
            }
            self.table.is_some_and(
                |table| match table.pods.iter().find(|pod| pod.uid == **uid) {
                    Some(pod) => {
                        let resource = &self.device.resource;
                        pods::asks_for(pod, resource)
                            && (pod.terminal || pods::is_forgotten(pod, resource, self.shown))
                    }
                    None => true,
                },
            )
        })
    }

    /// The pod that podresources shows with the device. Where nothing tells which of several pods of
    /// one name that is, none of them is. A table that has a former pod under that name is late.
    fn new_holder<'a>(&self, alive: &'a BTreeSet<String>) -> Option<&'a String> {
        let (namespace, name) = self.present?;
        let listed = self.table.and_then(|table| {
            let mut pods = table.pods.iter();
            pods.find(|pod| pod.namespace == namespace && pod.name == name)
        });
        if let Some(pod) = listed {
            let uid = alive.get(&pod.uid)?;
            return (!self.is_former(uid) || self.was_granted_to_itself(uid, alive)).then_some(uid);
        }
        let is_it = |pod: &PodIdentity| pod.namespace == namespace && pod.name == name;
        let mut same = alive.iter().filter(|uid| {
            let mut seen = self.seen.iter();
            seen.any(|pod| is_it(pod) && pod.uid == **uid) && !self.is_former(uid)
        });
        let one = same.next();
        one.filter(|_| same.next().is_none() && self.table.is_none())
    }

    /// A kubelet that lost its books grants a running pod's device to the same pod anew. That it was so
    /// is believed once several tables have come that list the pod, and every pod with processes is in
    /// the last one: no namesake is left whom it does not list.
    fn was_granted_to_itself(&self, uid: &str, alive: &BTreeSet<String>) -> bool {
        let listed = self.former.as_ref().and_then(|former| former.get(uid));
        let in_table = |uid: &String| {
            let mut pods = self.table.iter().flat_map(|table| &table.pods);
            self.own == Some(uid.as_str()) || pods.any(|pod| pod.uid == *uid)
        };
        listed.is_some_and(|tables| *tables >= LISTED_ON) && alive.iter().all(in_table)
    }
}

#[cfg(test)]
mod tests;

//! The proofs that a device is free which the kubelet cannot give.
//!
//! The device-plugin library looks at podresources itself (proof a). What is missing is here: the
//! pods of the node, as the controller tells them (b); processes of former holders (c); processes
//! on the device, as NVML tells them (d). What cannot be asked is a doubt.

pub mod cgroups;
mod holders;
pub mod pods;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use cdmo_proto::agent::PodTable;
use device_plugin::{Evidence, Hold, Listing};
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::driver::Driver;
use crate::podresources::PodResources;
pub use holders::Holders;

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
    /// For GPUs that the device-plugin library does not know.
    pub pod_resources: PodResources,
}

impl Evidence for Proofs {
    fn still_held<'a>(
        &'a self,
        device: &'a Hold,
        shown: &'a Listing,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move { self.prove_free(device, shown).await.err() })
    }
}

impl Proofs {
    /// Proves that nobody uses a GPU that is not offered, not even a pod that another device
    /// plugin gave it to.
    ///
    /// # Errors
    /// The doubt, as half a sentence.
    pub async fn whole_gpu_is_free(&self, gpu: &str) -> Result<(), String> {
        let shown = self.pod_resources.list().await?;
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
        if let Some(doubt) = pods::unaccounted(&table.pods, &device.resource, shown) {
            return Err(doubt);
        }
        self.no_process_of_holders(device, &table).await?;
        self.no_process_on_device(&device.id).await
    }

    async fn no_process_of_holders(&self, device: &Hold, table: &PodTable) -> Result<(), String> {
        let proc_dir = self.proc_dir.clone();
        let scan =
            tokio::task::spawn_blocking(move || cgroups::pods_with_processes(&proc_dir)).await;
        let alive = match scan {
            Ok(Ok(alive)) => alive,
            Ok(Err(error)) => {
                let proc_dir = self.proc_dir.display();
                return Err(format!(
                    "the processes in {proc_dir} cannot be read: {error}"
                ));
            }
            Err(_) => return Err("the agent is ending".into()),
        };
        let known = self.holders.of(&device.resource, &device.id);
        let own = self.own_pod.as_deref();
        match process_of_holder(&alive, &known, &device.resource, table, own) {
            Some(uid) => Err(format!("processes of pod {uid} are still running")),
            None => Ok(()),
        }
    }

    async fn no_process_on_device(&self, id: &str) -> Result<(), String> {
        let Some((gpu, instance)) = self.whereabouts.borrow().get(id).cloned() else {
            // It is gone from the hardware, and its processes with it.
            return Ok(());
        };
        let look = self.driver.look("processes", move |hw| hw.processes(&gpu));
        let processes = look.await.map_err(|failure| failure.message)?;
        // A process that the driver cannot attribute could be anywhere on the GPU.
        let on_device = processes
            .iter()
            .find(|p| instance.is_none() || p.instance.is_none() || p.instance == instance);
        match on_device {
            Some(process) => Err(format!("process {} uses it", process.pid)),
            None => Ok(()),
        }
    }
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

#[cfg(test)]
mod tests;

//! Who was seen with which device since it was granted, by UID, so that processes of a pod that is
//! gone from every list can still be recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cdmo_proto::agent::PodTable;
use device_plugin::{Holder, Ledger, LedgerError};
use futures::future::BoxFuture;

use super::Pods;
use crate::journal::{Journal, PodIdentity, Record, Recorded, WriteError, grant, remember};

type Key = (String, String);

/// The journal of holds, with the holders' UIDs filled in.
#[derive(Debug)]
pub struct Holders {
    journal: Journal,
    pods: Pods,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    holders: BTreeMap<Key, BTreeSet<PodIdentity>>,
    /// Those of them that are not on disk.
    unwritten: BTreeSet<(Key, PodIdentity)>,
    /// Devices that the journal of an earlier life says somebody unseen may have.
    unsure: BTreeSet<Key>,
}

impl Holders {
    /// Starts from what the journal says.
    pub fn new(journal: Journal, pods: Pods, recorded: &Recorded) -> Self {
        Self {
            journal,
            pods,
            known: Mutex::new(Known {
                holders: recorded.holds.clone(),
                unwritten: BTreeSet::new(),
                unsure: recorded
                    .holds
                    .iter()
                    .filter(|(_, holders)| holders.iter().any(PodIdentity::is_unseen))
                    .map(|(key, _)| key.clone())
                    .collect(),
            }),
        }
    }

    /// UIDs of everybody seen with a device, one entry a holder; empty where it is not known.
    pub fn of(&self, resource: &str, id: &str) -> Vec<String> {
        let known = self.known();
        let Some(holders) = known.holders.get(&(resource.to_owned(), id.to_owned())) else {
            return Vec::new();
        };
        let named = |pod: &PodIdentity| {
            // A name without UID is settled once the same name was seen with one.
            !pod.uid.is_empty()
                || !holders.iter().any(|other| {
                    !other.uid.is_empty()
                        && (&other.namespace, &other.name) == (&pod.namespace, &pod.name)
                })
        };
        holders
            .iter()
            .filter(|pod| named(pod))
            .map(|pod| pod.uid.clone())
            .collect()
    }

    /// Everybody seen with a device since its hold began.
    pub fn seen(&self, resource: &str, id: &str) -> BTreeSet<PodIdentity> {
        let key = (resource.to_owned(), id.to_owned());
        self.known().holders.get(&key).cloned().unwrap_or_default()
    }

    /// Since before our start somebody may have the device who was never seen with it.
    pub fn unsure(&self, resource: &str, id: &str) -> bool {
        let key = (resource.to_owned(), id.to_owned());
        self.known().unsure.contains(&key)
    }

    /// A new pod table may name pods that were seen before it came.
    pub async fn learn(&self, table: &PodTable) {
        {
            let mut known = self.known();
            let Known {
                holders, unwritten, ..
            } = &mut *known;
            for (key, holders) in holders {
                let unnamed = holders.iter().filter(|holder| holder.uid.is_empty());
                let named = unnamed.filter_map(|holder| identify(holder, table));
                for pod in named.collect::<Vec<_>>() {
                    if remember(holders, &pod) {
                        unwritten.insert((key.clone(), pod));
                    }
                }
            }
        }
        if let Err(error) = self.write_holders().await {
            tracing::warn!(%error, "Holders are not on disk yet; the next pod table tries again");
        }
    }

    /// Writes down whom the disk does not know.
    async fn write_holders(&self) -> Result<(), WriteError> {
        let unwritten = self.known().unwritten.clone();
        if unwritten.is_empty() {
            return Ok(());
        }
        let records = unwritten.iter().cloned();
        let records = records.map(|((resource, id), pod)| Record::Holder { resource, id, pod });
        self.journal.write(records.collect()).await?;
        self.known()
            .unwritten
            .retain(|one| !unwritten.contains(one));
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Half a change is no holder too few, so a panic elsewhere does no harm.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, record: Record) -> Result<(), LedgerError> {
        Ok(self.journal.write(vec![record]).await?)
    }
}

/// The holder with the UID of the pod that now has its name.
fn identify(holder: &PodIdentity, table: &PodTable) -> Option<PodIdentity> {
    if holder.is_unseen() {
        return None;
    }
    let mut pods = table.pods.iter();
    let pod = pods.find(|pod| pod.namespace == holder.namespace && pod.name == holder.name)?;
    Some(PodIdentity {
        uid: pod.uid.clone(),
        ..holder.clone()
    })
}

impl Ledger for Holders {
    fn grant<'a>(
        &'a self,
        resource: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(async move {
            let resource = resource.to_owned();
            // Before the answer, and whether it is written or not: what is late may be on disk, too.
            for id in ids {
                let key = (resource.clone(), id.clone());
                grant(&mut self.known().holders, key);
            }
            let ids = ids.to_vec();
            self.write(Record::Grant { resource, ids }).await
        })
    }

    fn release<'a>(
        &'a self,
        resource: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(async move {
            let (resource, id) = (resource.to_owned(), id.to_owned());
            self.write(Record::Release {
                resource: resource.clone(),
                id: id.clone(),
            })
            .await?;
            let key = (resource, id);
            let mut known = self.known();
            known.holders.remove(&key);
            known.unsure.remove(&key);
            known.unwritten.retain(|(other, _)| *other != key);
            Ok(())
        })
    }

    fn held_by<'a>(
        &'a self,
        resource: &'a str,
        id: &'a str,
        holder: &'a Holder,
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(async move {
            let unnamed = PodIdentity {
                namespace: holder.namespace.clone(),
                name: holder.pod.clone(),
                container: holder.container.clone(),
                uid: String::new(),
            };
            let table = self.pods.borrow().clone();
            let named = table.and_then(|table| identify(&unnamed, &table));
            let pod = named.unwrap_or(unnamed);
            let key = (resource.to_owned(), id.to_owned());
            {
                // Known at once: podresources may never show it again. Written until it is on disk.
                let mut known = self.known();
                if remember(known.holders.entry(key.clone()).or_default(), &pod) {
                    known.unwritten.insert((key, pod));
                }
            }
            Ok(self.write_holders().await?)
        })
    }
}

#[cfg(test)]
mod tests;

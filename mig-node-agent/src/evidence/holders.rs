//! Who was seen with which device since it was granted, by UID, so that processes of a pod that is
//! gone from every list can still be recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cdmo_proto::agent::PodTable;
use device_plugin::{Holder, Ledger, LedgerError};
use futures::future::BoxFuture;

use super::Pods;
use crate::journal::{Journal, PodIdentity, Record, Recorded};

type Key = (String, String);

/// The journal of holds, with the holders' UIDs filled in.
#[derive(Debug)]
pub struct Holders {
    journal: Journal,
    pods: Pods,
    known: Mutex<BTreeMap<Key, BTreeSet<PodIdentity>>>,
}

impl Holders {
    /// Starts from what the journal says.
    pub fn new(journal: Journal, pods: Pods, recorded: &Recorded) -> Self {
        Self {
            journal,
            pods,
            known: Mutex::new(recorded.holds.clone()),
        }
    }

    /// UIDs of everybody seen with a device, one entry a holder; empty where it is not known.
    pub fn of(&self, resource: &str, id: &str) -> Vec<String> {
        let known = self.known();
        let Some(holders) = known.get(&(resource.to_owned(), id.to_owned())) else {
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

    /// A new pod table may name pods that were seen before it came.
    pub async fn learn(&self, table: &PodTable) {
        let mut records = Vec::new();
        for ((resource, id), holders) in self.known().iter_mut() {
            let unnamed: Vec<_> = holders
                .iter()
                .filter(|h| h.uid.is_empty())
                .cloned()
                .collect();
            for pod in unnamed.iter().filter_map(|holder| identify(holder, table)) {
                if holders.insert(pod.clone()) {
                    records.push(Record::Holder {
                        resource: resource.clone(),
                        id: id.clone(),
                        pod,
                    });
                }
            }
        }
        if !records.is_empty()
            && let Err(error) = self.journal.write(records).await
        {
            tracing::warn!(%error, "Holders are not on disk; they are known until the agent ends");
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Key, BTreeSet<PodIdentity>>> {
        // Every change is a single insertion or removal, so a panic leaves the map whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, record: Record) -> Result<(), LedgerError> {
        Ok(self.journal.write(vec![record]).await?)
    }
}

/// The holder with the UID of the pod that now has its name.
fn identify(holder: &PodIdentity, table: &PodTable) -> Option<PodIdentity> {
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
            self.write(Record::Grant {
                resource: resource.to_owned(),
                ids: ids.to_vec(),
            })
            .await
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
            self.known().remove(&(resource, id));
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
            let fresh = self.known().entry(key).or_default().insert(pod.clone());
            if fresh {
                self.write(Record::Holder {
                    resource: resource.to_owned(),
                    id: id.to_owned(),
                    pod,
                })
                .await?;
            }
            Ok(())
        })
    }
}

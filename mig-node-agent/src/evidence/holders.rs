//! Who was seen with which device since it was granted, by UID, so that processes of a pod that is
//! gone from every list can still be recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cdmo_proto::agent::PodTable;
use device_plugin::{Holder, Ledger, LedgerError, Listing};
use futures::future::BoxFuture;

use super::Pods;
use crate::journal::{Journal, PodIdentity, Record, Recorded, WriteError, grant, remember};

/// Resource name and device id.
pub(super) type Key = (String, String);

/// UIDs seen with a device before it was granted anew, each with the number of pod tables in a row that
/// have listed it since. A table that is late lists a former pod under the name of the new one.
pub(super) type Former = BTreeMap<String, u32>;

/// More UIDs than a late table could confuse; beyond that, only those of the last grant are kept.
const FORMER_KEPT: usize = 64;
/// So many tables that go on listing a former UID make it worth a doubt whether it is one.
pub(super) const LISTED_ON: u32 = 2;

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
    /// Of devices that were granted anew, in this life of ours, before the end of their hold.
    former: BTreeMap<Key, Former>,
    /// UIDs that podresources has shown with a device since its last grant, in this life of ours.
    since: BTreeMap<Key, BTreeSet<String>>,
}

impl Known {
    /// Before a device is given to somebody else, everybody seen with it is a former holder.
    fn granted(&mut self, key: Key) {
        self.since.remove(&key);
        if let Some(holders) = self.holders.get(&key) {
            let named = holders.iter().filter(|pod| !pod.uid.is_empty());
            let seen: Former = named.map(|pod| (pod.uid.clone(), 0)).collect();
            let former = self.former.entry(key.clone()).or_default();
            if former.len() + seen.len() > FORMER_KEPT {
                former.clear();
            }
            for listed in former.values_mut() {
                *listed = 0;
            }
            former.extend(seen);
            let unnamed = |(other, pod): &(Key, PodIdentity)| *other == key && pod.uid.is_empty();
            self.unwritten.retain(|one| !unnamed(one));
        }
        grant(&mut self.holders, key);
    }

    /// The holder with the UID of the pod that now has its name, unless that pod is a former one.
    fn identify(&self, key: &Key, holder: &PodIdentity, table: &PodTable) -> Option<PodIdentity> {
        let pod = identify(holder, table)?;
        (!self.is_former(key, &pod.uid)).then_some(pod)
    }

    fn is_former(&self, key: &Key, uid: &str) -> bool {
        let former = self.former.get(key);
        former.is_some_and(|former| former.contains_key(uid))
    }

    /// podresources shows this pod with it.
    fn shown(&mut self, key: &Key, pod: &PodIdentity) {
        if !pod.uid.is_empty() {
            let since = self.since.entry(key.clone()).or_default();
            since.insert(pod.uid.clone());
        }
    }

    /// Holders that were seen by name only.
    fn unnamed(&self) -> Vec<(Key, PodIdentity)> {
        let holders = self.holders.iter();
        let all = holders.flat_map(|(key, pods)| pods.iter().map(move |pod| (key, pods, pod)));
        let unnamed = all.filter(|(key, pods, pod)| {
            pod.uid.is_empty() && !pod.is_unseen() && !self.has_uid(key, pods, pod)
        });
        let unnamed = unnamed.map(|(key, _, pod)| (key.clone(), pod.clone()));
        unnamed.collect()
    }

    /// A name without UID is settled once the same name was seen with one.
    fn has_uid(&self, key: &Key, holders: &BTreeSet<PodIdentity>, pod: &PodIdentity) -> bool {
        holders.iter().any(|other| {
            !other.uid.is_empty()
                && (&other.namespace, &other.name) == (&pod.namespace, &pod.name)
                && !self.is_former(key, &other.uid)
        })
    }
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
                former: BTreeMap::new(),
                since: BTreeMap::new(),
            }),
        }
    }

    /// UIDs of everybody seen with a device, one entry a holder; empty where it is not known.
    pub fn of(&self, resource: &str, id: &str) -> Vec<String> {
        let key = (resource.to_owned(), id.to_owned());
        let known = self.known();
        let Some(holders) = known.holders.get(&key) else {
            return Vec::new();
        };
        let named = |pod: &&PodIdentity| !pod.uid.is_empty() || !known.has_uid(&key, holders, pod);
        let holders = holders.iter().filter(named);
        holders.map(|pod| pod.uid.clone()).collect()
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

    /// Who had a device before it was granted anew; none if it was not, since our start.
    pub(super) fn former(&self, resource: &str, id: &str) -> Option<Former> {
        let key = (resource.to_owned(), id.to_owned());
        self.known().former.get(&key).cloned()
    }

    /// UIDs that podresources has shown with a device since its last grant.
    pub(super) fn since(&self, resource: &str, id: &str) -> BTreeSet<String> {
        let key = (resource.to_owned(), id.to_owned());
        self.known().since.get(&key).cloned().unwrap_or_default()
    }

    /// A former holder turned out to be the present one. Without effect if a grant came between.
    pub(super) fn has_it_again(&self, resource: &str, id: &str, uid: &str) {
        let key = (resource.to_owned(), id.to_owned());
        if let Some(former) = self.known().former.get_mut(&key) {
            former.retain(|other, listed| other != uid || *listed < LISTED_ON);
        }
    }

    /// Holders that were seen by name only.
    pub(super) fn unnamed(&self) -> Vec<(Key, PodIdentity)> {
        self.known().unnamed()
    }

    /// Counts a new pod table's former pods.
    pub fn count(&self, table: &PodTable) {
        let live = table.pods.iter().filter(|pod| !pod.terminal);
        let live: BTreeSet<&str> = live.map(|pod| pod.uid.as_str()).collect();
        let mut known = self.known();
        for (uid, listed) in known.former.values_mut().flatten() {
            let again = live.contains(uid.as_str());
            *listed = if again { listed.saturating_add(1) } else { 0 };
        }
    }

    /// A pod table may name holders that had no UID before it came, if podresources, asked after that,
    /// still shows them with the device: any other pod of that name may be a namesake.
    pub(super) async fn learn(
        &self,
        table: &PodTable,
        unnamed: &[(Key, PodIdentity)],
        shown: &Listing,
    ) {
        self.name(table, unnamed, shown);
        if let Err(error) = self.write_holders().await {
            tracing::warn!(%error, "Holders are not on disk yet; the next pod table tries again");
        }
    }

    fn name(&self, table: &PodTable, unnamed: &[(Key, PodIdentity)], shown: &Listing) {
        let mut known = self.known();
        let still = known.unnamed().into_iter();
        for (key, pod) in still.filter(|one| unnamed.contains(one)) {
            let (resource, id) = key.clone();
            let is_it = |holder: &Holder| {
                holder.namespace == pod.namespace
                    && holder.pod == pod.name
                    && holder.container == pod.container
            };
            let still_has_it = shown.holders(&resource, &id).any(is_it);
            let named = known.identify(&key, &pod, table);
            let Some(holders) = known.holders.get_mut(&key) else {
                continue;
            };
            if still_has_it {
                if let Some(named) = named {
                    let new = remember(holders, &named);
                    known.shown(&key, &named);
                    if new {
                        known.unwritten.insert((key, named));
                    }
                }
                continue;
            }
            holders.remove(&pod);
            holders.insert(PodIdentity::unseen());
            known.unwritten.remove(&(key, pod.clone()));
            let unseen = Record::Holder {
                resource: resource.clone(),
                id: id.clone(),
                pod: PodIdentity::unseen(),
            };
            let pods = vec![pod];
            let gone = Record::Gone { resource, id, pods };
            if let Err(error) = self.journal.note(vec![unseen, gone]) {
                tracing::warn!(%error, "The journal names a holder that is gone; a restart asks again");
            }
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

/// The holder with the UID of the pod that the table has under its name.
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
                self.known().granted(key);
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
            known.former.remove(&key);
            known.since.remove(&key);
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
            let key = (resource.to_owned(), id.to_owned());
            {
                // Known at once: podresources may never show it again. Written until it is on disk.
                let mut known = self.known();
                let named = table.and_then(|table| known.identify(&key, &unnamed, &table));
                let pod = named.unwrap_or(unnamed);
                known.shown(&key, &pod);
                if remember(known.holders.entry(key.clone()).or_default(), &pod) {
                    known.unwritten.insert((key, pod));
                }
            }
            Ok(self.write_holders().await?)
        })
    }

    fn settled<'a>(
        &'a self,
        resource: &'a str,
        id: &'a str,
        present: Option<&'a Holder>,
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(async move {
            let key = (resource.to_owned(), id.to_owned());
            let mut known = self.known();
            let Known {
                holders,
                unwritten,
                unsure,
                former,
                since,
            } = &mut *known;
            let Some(holders) = holders.get_mut(&key) else {
                return Ok(());
            };
            let former = former.get(&key);
            let since = since.get(&key);
            let is_present = |pod: &PodIdentity| {
                present.is_some_and(|p| p.namespace == pod.namespace && p.pod == pod.name)
            };
            let is_gone = |pod: &&PodIdentity| {
                let stays = match &former {
                    Some(former) if former.contains_key(&pod.uid) => false,
                    // Shown with it at the same time as the present one, or before.
                    Some(_) if since.is_some_and(|since| since.contains(&pod.uid)) => {
                        present.is_none() || is_present(pod)
                    }
                    Some(_) => true,
                    None => is_present(pod),
                };
                pod.is_unseen() || !stays
            };
            let gone: Vec<PodIdentity> = holders.iter().filter(is_gone).cloned().collect();
            holders.retain(|pod| !gone.contains(pod));
            unwritten.retain(|(other, pod)| *other != key || !gone.contains(pod));
            unsure.remove(&key);
            if !gone.is_empty() {
                let (resource, id) = key;
                let pods = gone;
                self.journal
                    .note(vec![Record::Gone { resource, id, pods }])?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;

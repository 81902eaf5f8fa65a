//! Fencing epochs: a number above every one that any controller has used, written down before use.
//!
//! Agents obey the highest epoch that they have heard. The number is kept in an annotation of the
//! controller's Lease; agents say what they have obeyed, so that a deleted Lease or a reinstalled
//! chart locks nobody out.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{sync::Mutex, sync::watch, time::timeout};

use crate::{
    names::{CONTROLLER, EPOCH_ANNOTATION},
    session::Epochs,
};

/// Time for one call to the API server.
const CALL: Duration = Duration::from_secs(5);
/// Attempts while somebody else writes the Lease at the same time.
const ATTEMPTS: u32 = 5;

/// No epoch could be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error(
        "failed to write the epoch into Lease {namespace}/{CONTROLLER}: {source}; check the API \
         server and the controller's role"
    )]
    Api {
        /// Where the Lease is.
        namespace: String,
        /// What the client said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("failed to write the epoch into Lease {namespace}/{CONTROLLER}: no answer in {CALL:?}")]
    TimedOut {
        /// Where the Lease is.
        namespace: String,
    },
    /// Others kept changing the Lease.
    #[error("failed to write the epoch into Lease {namespace}/{CONTROLLER}: it keeps changing")]
    Contended {
        /// Where the Lease is.
        namespace: String,
    },
    /// Another controller acts now.
    #[error("{holder} took over with epoch {epoch}; only one controller may act")]
    Superseded {
        /// The other controller.
        holder: String,
        /// Its epoch.
        epoch: u64,
    },
}

impl Error {
    /// Bounded word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Api { .. } => "epoch_api",
            Self::TimedOut { .. } => "epoch_timed_out",
            Self::Contended { .. } => "epoch_contended",
            Self::Superseded { .. } => "superseded",
        }
    }
}

/// What the Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    epoch: u64,
    holder: String,
}

impl Record {
    fn of(lease: &Lease) -> Self {
        let annotation = lease
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(EPOCH_ANNOTATION));
        Self {
            // A garbled number counts as none: what agents report still keeps us above it.
            epoch: annotation.and_then(|text| text.parse().ok()).unwrap_or(0),
            holder: lease
                .spec
                .as_ref()
                .and_then(|spec| spec.holder_identity.clone())
                .unwrap_or_default(),
        }
    }
}

/// The epoch to take, given what the Lease says and the highest epoch seen elsewhere.
///
/// A controller that has an epoch already and finds a higher one of somebody else in the Lease has
/// been replaced; topping that one would only start a war.
fn choose(record: &Record, current: u64, me: &str, seen: u64) -> Result<u64, Error> {
    if current > 0 && record.epoch > current && record.holder != me {
        let (holder, epoch) = (record.holder.clone(), record.epoch);
        return Err(Error::Superseded { holder, epoch });
    }
    Ok(record.epoch.max(current).max(seen).saturating_add(1))
}

/// Epochs from a Lease.
#[derive(Debug)]
pub struct LeaseEpochs {
    api: Api<Lease>,
    namespace: String,
    me: String,
    current: AtomicU64,
    taking: Mutex<()>,
    superseded: watch::Sender<Option<String>>,
}

impl LeaseEpochs {
    /// Epochs for the controller called `me`, from the Lease in this namespace.
    pub fn new(client: Client, namespace: &str, me: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            me,
            current: AtomicU64::new(0),
            taking: Mutex::new(()),
            superseded: watch::Sender::new(None),
        }
    }

    /// Becomes `Some` with a sentence when another controller has taken over.
    pub fn superseded(&self) -> watch::Receiver<Option<String>> {
        self.superseded.subscribe()
    }

    /// An epoch above `seen` and above everything in the Lease.
    pub async fn take_above(&self, seen: u64) -> Result<u64, Error> {
        let _one_at_a_time = self.taking.lock().await;
        let current = self.current.load(Ordering::Acquire);
        if current > seen {
            return Ok(current);
        }
        for _ in 0..ATTEMPTS {
            let lease = self.call(self.api.get_opt(CONTROLLER)).await?;
            let record = lease.as_ref().map(Record::of).unwrap_or_default();
            let epoch = choose(&record, current, &self.me, seen).inspect_err(|error| {
                self.superseded.send_replace(Some(error.to_string()));
            })?;
            if self.write(lease, epoch).await? {
                self.current.store(epoch, Ordering::Release);
                tracing::info!(epoch, "took a fencing epoch");
                return Ok(epoch);
            }
        }
        Err(Error::Contended {
            namespace: self.namespace.clone(),
        })
    }

    /// Whether the write went through; false if the Lease had changed.
    async fn write(&self, lease: Option<Lease>, epoch: u64) -> Result<bool, Error> {
        let exists = lease.is_some();
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(CONTROLLER.to_owned()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        let annotations = lease.metadata.annotations.get_or_insert_with(BTreeMap::new);
        annotations.insert(EPOCH_ANNOTATION.to_owned(), epoch.to_string());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = Some(self.me.clone());
        spec.acquire_time = Some(MicroTime(Timestamp::now()));
        spec.renew_time.clone_from(&spec.acquire_time);
        let params = PostParams::default();
        let written = if exists {
            self.call(self.api.replace(CONTROLLER, &params, &lease))
                .await
        } else {
            self.call(self.api.create(&params, &lease)).await
        };
        match written {
            Ok(_) => Ok(true),
            Err(Error::Api { source, .. }) if is_conflict(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        let namespace = || self.namespace.clone();
        match timeout(CALL, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Error::Api {
                namespace: namespace(),
                source: Box::new(error),
            }),
            Err(_) => Err(Error::TimedOut {
                namespace: namespace(),
            }),
        }
    }
}

/// Changed or made by somebody else in between.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

impl Epochs for LeaseEpochs {
    fn current(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    fn above(&self, seen: u64) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.take_above(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64, holder: &str) -> Record {
        Record {
            epoch,
            holder: holder.into(),
        }
    }

    #[test]
    fn a_new_controller_goes_above_everything_it_can_see() {
        assert_eq!(choose(&Record::default(), 0, "me", 0).unwrap(), 1);
        assert_eq!(choose(&record(7, "old"), 0, "me", 0).unwrap(), 8);
        assert_eq!(choose(&record(7, "old"), 0, "me", 20).unwrap(), 21);
    }

    #[test]
    fn a_deleted_lease_locks_nobody_out() {
        assert_eq!(choose(&Record::default(), 8, "me", 8).unwrap(), 9);
    }

    #[test]
    fn a_replaced_controller_does_not_fight_back() {
        let error = choose(&record(9, "other"), 8, "me", 9).unwrap_err();
        assert!(error.to_string().contains("other took over with epoch 9"));
        assert_eq!(
            choose(&record(9, "me"), 8, "me", 9).unwrap(),
            10,
            "our own is no rival"
        );
    }

    #[test]
    fn a_garbled_annotation_counts_as_none() {
        let mut lease = Lease::default();
        lease.metadata.annotations = Some(BTreeMap::from([(
            EPOCH_ANNOTATION.to_owned(),
            "many".to_owned(),
        )]));
        assert_eq!(Record::of(&lease).epoch, 0);
    }
}

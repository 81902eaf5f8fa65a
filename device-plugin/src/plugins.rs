//! The handle through which the agent drives everything.

mod names;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::tokens::Ticket;
pub use self::tokens::{Fenced, Withdrawn};
use crate::device::{FenceRefusal, OfferRefusal, Progress, WithdrawRefusal};
use crate::directory::{self, Directory};
use crate::endpoint::task::Task;
use crate::looks;
use crate::shared::Shared;
use crate::socket::{self, SocketNames};
use crate::{
    Config, Device, EnsureError, Error, Evidence, Expected, Hold, Ledger, Listing, OfferError,
    PluginState, StillHeld, WithdrawError,
};

/// All device plugins of one node. Clones are the same thing.
#[derive(Clone)]
pub struct Plugins {
    shared: Arc<Shared>,
    directory: watch::Receiver<Directory>,
    names: Arc<SocketNames>,
}

impl Plugins {
    /// Starts without any endpoint but those of `adopted_holds`, which are the holds of the journal.
    /// An adopted device is listed as unhealthy until it is offered, and dropped once it is proven
    /// free. Must be called within a tokio runtime; everything ends when `shutdown` is cancelled.
    ///
    /// Nothing is registered before podresources answered List once.
    pub async fn start(
        config: Config,
        ledger: Arc<dyn Ledger>,
        evidence: Arc<dyn Evidence>,
        adopted_holds: Vec<Hold>,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let dir = config.plugin_dir.clone();
        let prefix = config.socket_prefix.clone();
        if !names::is_prefix(&prefix) {
            return Err(Error::SocketPrefix { prefix });
        }
        socket::remove_dead(&dir, &prefix, config.timing.close_timeout)
            .await
            .map_err(|source| Error::PluginDir {
                path: dir.clone(),
                source,
            })?;
        let names = Arc::new(SocketNames::new(&dir, &prefix));
        let rivals = config.yields_to.clone();
        let (recheck, patience) = (config.timing.directory_recheck, config.timing.close_timeout);
        let watched = directory::watch(dir, rivals, recheck, patience, shutdown.clone());
        let (directory, watch) = watched.await;

        let resources: Vec<_> = adopted_holds
            .iter()
            .map(|hold| hold.resource.clone())
            .collect();
        let shared = Arc::new(Shared::new(
            config,
            ledger,
            evidence,
            adopted_holds,
            shutdown.clone(),
        ));
        shared.tasks.spawn(watch);
        shared.set_rivals(&directory.borrow().rivals);
        let telling = tell_of_rivals(Arc::clone(&shared), directory.clone());
        shared
            .tasks
            .spawn(shutdown.clone().run_until_cancelled_owned(telling));
        let allocatable = looks::allocatable(Arc::clone(&shared), directory.clone());
        let holders = looks::holders(Arc::clone(&shared));
        shared
            .tasks
            .spawn(shutdown.clone().run_until_cancelled_owned(allocatable));
        shared
            .tasks
            .spawn(shutdown.run_until_cancelled_owned(holders));
        let plugins = Self {
            shared,
            directory,
            names,
        };
        for resource in resources {
            if let Err(error) = plugins.ensure(&resource) {
                tracing::error!(%error, "A journaled hold cannot be listed");
            }
        }
        Ok(plugins)
    }

    /// Serves the resource and registers it with the kubelet, at zero devices too, from now until
    /// shutdown. [`Plugins::state`] tells when the kubelet reads the list.
    pub fn ensure(&self, resource: &str) -> Result<(), EnsureError> {
        self.check(resource)?;
        self.serve(resource);
        Ok(())
    }

    /// Whether the resource can be served.
    fn check(&self, resource: &str) -> Result<(), EnsureError> {
        names::check_resource(resource)?;
        self.names.path(resource, 0)?;
        if self.shared.shutdown.is_cancelled() {
            return Err(EnsureError::Closed {
                resource: resource.to_owned(),
            });
        }
        Ok(())
    }

    fn serve(&self, resource: &str) {
        if let Some(inputs) = self.shared.add_endpoint(resource) {
            let (directory, names) = (self.directory.clone(), Arc::clone(&self.names));
            let task = Task::new(Arc::clone(&self.shared), resource, inputs, directory, names);
            self.shared.tasks.spawn(task.run());
            // Pods may have devices of that name from before.
            self.shared.list_wanted.notify_one();
        }
    }

    /// Lists the device as healthy and waits until the kubelet is known to give it out. Serves the
    /// resource if needed. Also for a device that an adopted hold names, and again for one that is
    /// offered already (its device nodes are renewed).
    ///
    /// Offers that are polled together reach the kubelet in one list.
    pub async fn offer(&self, resource: &str, device: Device) -> Result<(), OfferError> {
        let id = device.id.clone();
        if !names::is_device_id(&id) {
            return Err(OfferError::DeviceId { id });
        }
        self.check(resource)?;
        looks::read_checkpoint(&self.shared).await;
        let offered = self.shared.change(|table| table.offer(resource, device));
        let resource_name = resource.to_owned();
        offered.map_err(|refusal| match refusal {
            OfferRefusal::Elsewhere(other) => OfferError::Elsewhere {
                id: id.clone(),
                resource: resource_name.clone(),
                other,
            },
            OfferRefusal::Withdrawing => OfferError::Withdrawing {
                id: id.clone(),
                resource: resource_name.clone(),
            },
        })?;
        self.serve(resource);
        let after = self.shared.config.timing.offer_timeout;
        let progress = self.settled(after, || {
            self.shared
                .read(|table| table.offer_progress(resource, &id))
        });
        match progress.await {
            Progress::Settled => Ok(()),
            other => {
                let why = self.missing(&other);
                Err(OfferError::Unconfirmed {
                    id,
                    resource: resource_name,
                    after,
                    why,
                })
            }
        }
    }

    /// Steps 4 and 5 of Withdraw: tells the kubelet that the device is unhealthy and waits until it
    /// is known not to give it out any more. Refused while a pod holds it, and given up when a pod
    /// gets it meanwhile; then, as when this future is dropped, the device is offered again.
    pub async fn withdraw(&self, resource: &str, id: &str) -> Result<Withdrawn, WithdrawError> {
        looks::read_checkpoint(&self.shared).await;
        let begun = self.shared.change(|table| table.withdraw(resource, id));
        let (id, resource) = (id.to_owned(), resource.to_owned());
        let ticket = match begun {
            Ok(ticket) => Ticket::new(&self.shared, &resource, &id, ticket),
            Err(WithdrawRefusal::NotListed) => {
                return Err(WithdrawError::NotListed { id, resource });
            }
            Err(WithdrawRefusal::Held(holders)) => {
                // It may be free by now; then the next try succeeds.
                self.recheck();
                return Err(WithdrawError::Held {
                    id,
                    resource,
                    holders,
                });
            }
            Err(WithdrawRefusal::NotOffered(phase)) => {
                return Err(WithdrawError::NotOffered {
                    id,
                    resource,
                    phase,
                });
            }
        };
        let withdrawn = Withdrawn::new(ticket);
        let after = self.shared.config.timing.withdraw_timeout;
        let number = withdrawn.ticket().number;
        let progress = self.settled(after, || {
            self.shared
                .read(|table| table.withdraw_progress(&resource, &id, number))
        });
        match progress.await {
            Progress::Settled => Ok(withdrawn),
            Progress::Held(holders) => Err(WithdrawError::Held {
                id,
                resource,
                holders,
            }),
            other => {
                let why = self.missing(&other);
                Err(WithdrawError::Unconfirmed {
                    id,
                    resource,
                    after,
                    why,
                })
            }
        }
    }

    /// Steps 7 and 8 of Withdraw: refuses every grant from here on, atomically with the check that
    /// there is no hold, then asks for the four proofs. On any doubt, as when this future is
    /// dropped, the device is offered again.
    pub async fn fence(&self, withdrawn: Withdrawn) -> Result<Fenced, StillHeld> {
        let ticket = withdrawn.ticket();
        let (resource, id) = (ticket.resource.clone(), ticket.id.clone());
        let fenced = self
            .shared
            .change(|table| table.fence(&resource, &id, ticket.number));
        let device = match fenced {
            Ok(device) => device,
            Err(FenceRefusal::Held(holders)) => {
                return Err(StillHeld::Granted {
                    id,
                    resource,
                    holders,
                });
            }
            Err(FenceRefusal::Void) => return Err(StillHeld::Void { id, resource }),
        };
        if let Some(why) = self.proof(&device).await {
            return Err(StillHeld::Doubt { id, resource, why });
        }
        let number = ticket.number;
        if !self
            .shared
            .read(|table| table.fenced(&resource, &id, number))
        {
            return Err(StillHeld::Void { id, resource });
        }
        Ok(withdrawn.into_fenced())
    }

    /// Drops the device from the list. Only after its destruction was read back, or when it moves to
    /// another resource name.
    pub fn forget(&self, fenced: Fenced) {
        fenced.forget();
    }

    /// Offers a withdrawn or fenced device again, because of any doubt.
    pub fn reinstate(&self, device: impl Into<Withdrawn>) {
        drop(device.into());
    }

    /// The device is faulty: listed as unhealthy, not granted. Its holder keeps it.
    pub fn mark_unhealthy(&self, resource: &str, id: &str, reason: &str) {
        self.shared
            .change(|table| table.set_sick(resource, id, Some(reason.to_owned())));
    }

    /// The fault is gone.
    pub fn mark_healthy(&self, resource: &str, id: &str) {
        self.shared
            .change(|table| table.set_sick(resource, id, None));
    }

    /// The device vanished (a GPU reset): listed as unhealthy until no pod holds it, then dropped.
    pub fn lose(&self, resource: &str, id: &str) {
        self.shared.change(|table| table.lose(resource, id));
        self.recheck();
    }

    /// Ends every registration, for another plugin that is to serve the devices; or takes them up again.
    /// Kubelets from 1.25 mistake the end of an old registration for that of a new one, so it comes first:
    /// [`PluginState`] tells when.
    pub fn stand_down(&self, down: bool) {
        self.shared.stand_down(down);
    }

    /// Pods were bound to the node, and `gone` are the UIDs of those that left or have ended. Until the kubelet
    /// has asked for the devices of the new ones, at most for a moment each, it is not asked who has what. A
    /// pod that has its devices already by then may be among them.
    ///
    /// To be called before [`Plugins::recheck`].
    pub fn expect(&self, mut came: Vec<Expected>, gone: &[String]) {
        for pod in &mut came {
            pod.grants
                .retain(|(resource, _)| self.shared.serves(resource));
        }
        self.shared.pod_resources.quiet().expect(&came, gone);
    }

    /// Something about the node's pods changed, so a hold may have ended.
    pub fn recheck(&self) {
        self.shared.list_wanted.notify_one();
    }

    /// Who has which device, as the kubelet says when asked after this was called. It is not asked while
    /// it admits a pod, for that would make it forget whose devices it has just given out.
    ///
    /// # Errors
    /// Why the kubelet cannot be asked, as half a sentence.
    pub async fn list(&self) -> Result<Arc<Listing>, String> {
        let listed = self.shared.list().await;
        listed.map_err(|error| error.to_string())
    }

    /// The present state and every change of it.
    pub fn state(&self) -> watch::Receiver<Arc<PluginState>> {
        self.shared.state()
    }

    /// Ends when everything that was started has ended, after shutdown.
    pub async fn closed(&self) {
        self.shared.shutdown.cancelled().await;
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Waits until `look` is past waiting, or the time is over.
    async fn settled(&self, limit: Duration, look: impl Fn() -> Progress) -> Progress {
        let _waiting = self.shared.wait();
        let mut changes = self.shared.progress();
        let settled = async {
            let mut asked = false;
            loop {
                changes.mark_unchanged();
                let progress = look();
                if !matches!(progress, Progress::Unread | Progress::Unsettled) {
                    return progress;
                }
                if !std::mem::replace(&mut asked, true) {
                    // The list need not change for this, and then nothing else asks for a look.
                    self.shared.allocatable_wanted.notify_one();
                }
                if changes.changed().await.is_err() {
                    return progress;
                }
            }
        };
        let over = self.shared.shutdown.cancelled();
        tokio::select! {
            progress = settled => progress,
            () = tokio::time::sleep(limit) => look(),
            () = over => look(),
        }
    }

    /// Why the kubelet is not known to act on a list.
    fn missing(&self, progress: &Progress) -> String {
        match (progress, self.shared.pod_resources_problem()) {
            (Progress::Void | Progress::Held(_), _) => "it was taken back meanwhile".to_owned(),
            (Progress::Sick(why), _) => why.clone(),
            (_, Some(problem)) => problem,
            (Progress::Unread, None) => "the kubelet does not read our list".to_owned(),
            (_, None) => "its podresources do not show it yet".to_owned(),
        }
    }

    /// Why the fenced device is not proven to be free.
    async fn proof(&self, device: &Hold) -> Option<String> {
        let listing = match self.shared.list().await {
            Ok(listing) => listing,
            Err(error) => return Some(error.to_string()),
        };
        // Under whatever name: it is the device that must be free.
        if let Some(shown) = listing.iter().find(|shown| shown.ids.contains(&device.id)) {
            self.recheck();
            return Some(format!("podresources shows it with {}", shown.holder));
        }
        looks::doubt(&self.shared, device, &listing).await
    }
}

/// Shows in the state which other plugins there are.
async fn tell_of_rivals(shared: Arc<Shared>, mut directory: watch::Receiver<Directory>) {
    while directory.changed().await.is_ok() {
        let rivals = Arc::clone(&directory.borrow_and_update().rivals);
        shared.set_rivals(&rivals);
    }
}

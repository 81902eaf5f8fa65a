//! Doing what the node's state machine asks for: one task an action, each ending in an outcome.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use device_plugin::{Device, Fenced, Plugins, Withdrawn};
use nvml_mig::Activation;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::cdi::Cdi;
use crate::driver::{self, Driver, Hardware};
use crate::evidence::Proofs;
use crate::journal::{Change, Journal, Record};
use crate::metrics::Metrics;
use crate::node::{Action, Failure, OpId, Outcome, Remains};
use crate::specs::Nodes;

/// What tasks need. Clones are the same thing.
#[derive(Clone)]
pub struct Worker {
    /// The GPUs.
    pub driver: Driver,
    /// The kubelet.
    pub plugins: Plugins,
    /// Changes of hardware are written there first.
    pub journal: Journal,
    /// For GPUs that the kubelet never got from us.
    pub proofs: Arc<Proofs>,
    /// Device nodes.
    pub nodes: Arc<Nodes>,
    /// CDI spec files, if they are wanted.
    pub cdi: Option<Arc<Cdi>>,
    /// Device-file minors by GPU uuid.
    pub minors: Arc<HashMap<String, u32>>,
    /// What is measured.
    pub metrics: Metrics,
    /// Told of calls that take too long.
    pub late: mpsc::Sender<OpId>,
    /// Tokens of devices on their way out of the kubelet's hands.
    pub tokens: Arc<Mutex<HashMap<(String, String), Token>>>,
}

/// How far a device is on its way out.
#[derive(Debug)]
pub enum Token {
    /// Steps 4 and 5 are done.
    Withdrawn(Withdrawn),
    /// Steps 7 and 8 are done.
    Fenced(Fenced),
}

impl Worker {
    /// Does it. Actions that nothing waits for end in none.
    pub async fn perform(self, action: Action) -> Option<(OpId, Outcome)> {
        match action {
            Action::Read { op, gpu } => {
                let view = self.driver.look("read", move |hw| hw.view(&gpu)).await;
                Some((op, Outcome::Read(view)))
            }
            Action::Create {
                op,
                gpu,
                profile_id,
                profile,
                placement,
            } => {
                let change = Change::Create {
                    profile: profile.to_string(),
                    start: placement.start,
                };
                let call = {
                    let gpu = gpu.clone();
                    move |hw: &dyn Hardware| hw.create(&gpu, profile_id, placement)
                };
                let made = self.change(op, gpu, change, "create", call, refused).await;
                Some((op, Outcome::Made(made)))
            }
            Action::Complete { op, gpu, instance } => {
                let change = Change::Complete { instance };
                let call = {
                    let gpu = gpu.clone();
                    move |hw: &dyn Hardware| hw.complete(&gpu, instance)
                };
                let made = self
                    .change(op, gpu, change, "complete", call, refused)
                    .await;
                Some((op, Outcome::Made(made)))
            }
            Action::Destroy {
                op,
                gpu,
                instance,
                profile,
                start,
            } => {
                let change = Change::Destroy {
                    instance,
                    profile: profile.to_string(),
                    start,
                };
                let call = {
                    let gpu = gpu.clone();
                    move |hw: &dyn Hardware| hw.destroy(&gpu, instance, profile, start)
                };
                let untouched = |failure| (Remains::Whole, failure);
                let gone = self
                    .change(op, gpu, change, "destroy", call, untouched)
                    .await;
                Some((op, Outcome::Destroyed(gone)))
            }
            Action::TurnOn { op, gpu, from_off } => {
                let owned = Record::TurnedOn { gpu: gpu.clone() };
                let owned = Some(owned).filter(|_| from_off);
                let set = self.switch(op, gpu, true, owned).await;
                Some((op, Outcome::TurnedOn(set)))
            }
            Action::TurnOff { op, gpu } => {
                let disowned = Some(Record::TurnedOff { gpu: gpu.clone() });
                let set = self.switch(op, gpu, false, disowned).await;
                Some((op, Outcome::TurnedOff(set)))
            }
            Action::ProveFree { op, gpu } => {
                let free = self.proofs.whole_gpu_is_free(&gpu, &self.plugins).await;
                let free = free
                    .map_err(|doubt| Failure::new("held", format!("It may be in use: {doubt}.")));
                Some((op, Outcome::Free(free)))
            }
            other => self.with_kubelet(other).await,
        }
    }

    async fn switch(
        &self,
        op: OpId,
        gpu: String,
        on: bool,
        then: Option<Record>,
    ) -> Result<Activation, Failure> {
        let (change, operation) = if on {
            (Change::TurnOn, "turn_on")
        } else {
            (Change::TurnOff, "turn_off")
        };
        let call = {
            let gpu = gpu.clone();
            move |hw: &dyn Hardware| hw.switch(&gpu, on)
        };
        self.change_then(op, gpu, change, operation, call, refused, then)
            .await
    }

    /// What is between the agent and the kubelet.
    async fn with_kubelet(self, action: Action) -> Option<(OpId, Outcome)> {
        match action {
            Action::Ensure(resource) => {
                if let Err(error) = self.plugins.ensure(&resource) {
                    tracing::error!(%error, "A resource is not served");
                }
                None
            }
            Action::Offer {
                op,
                resource,
                id,
                gpu,
                instance,
            } => {
                let offered = self.offer(resource, id, gpu, instance).await;
                Some((op, Outcome::Offered(offered)))
            }
            Action::Withdraw { op, resource, id } => {
                let timer = self.metrics.kubelet("withdraw");
                let withdrawn = self.plugins.withdraw(&resource, &id).await;
                timer.observe_duration();
                let withdrawn = match withdrawn {
                    Ok(token) => {
                        self.keep(resource, id, Token::Withdrawn(token));
                        Ok(())
                    }
                    Err(error) => Err(Failure::new(error.category(), sentence(&error))),
                };
                Some((op, Outcome::Withdrawn(withdrawn)))
            }
            Action::Fence { op, resource, id } => {
                let timer = self.metrics.kubelet("fence");
                let fenced = self.fence(resource, id).await;
                timer.observe_duration();
                Some((op, Outcome::Fenced(fenced)))
            }
            Action::Reinstate { op, resource, id } => {
                match self.take(resource, id) {
                    Some(Token::Withdrawn(token)) => self.plugins.reinstate(token),
                    Some(Token::Fenced(token)) => self.plugins.reinstate(token),
                    None => {}
                }
                Some((op, Outcome::Reinstated))
            }
            Action::Forget { op, resource, id } => {
                if let Some(Token::Fenced(token)) = self.take(resource, id) {
                    self.plugins.forget(token);
                }
                Some((op, Outcome::Forgotten))
            }
            Action::Lose { op, resource, id } => {
                self.take(resource.clone(), id.clone());
                self.plugins.lose(&resource, &id);
                Some((op, Outcome::Forgotten))
            }
            Action::Health { resource, id, sick } => {
                match sick {
                    Some(why) => self.plugins.mark_unhealthy(&resource, &id, &why),
                    None => self.plugins.mark_healthy(&resource, &id),
                }
                None
            }
            Action::Undescribe { op, id } => {
                self.undescribe(id).await;
                Some((op, Outcome::Undescribed))
            }
            Action::StandDown(down) => {
                self.plugins.stand_down(down);
                None
            }
            Action::Note(record) => {
                self.note(record);
                None
            }
            _ => None,
        }
    }

    /// The runtime can look the device up before the kubelet hears of it.
    async fn offer(
        &self,
        resource: String,
        id: String,
        gpu: String,
        instance: Option<(u32, u32)>,
    ) -> Result<(), Failure> {
        let minor = self.minors.get(&gpu).copied().unwrap_or_default();
        let cdi = self.describe(id.clone(), minor, instance).await?;
        let device = Device {
            id,
            group: gpu,
            specs: self.nodes.specs(minor, instance),
            cdi,
        };
        let timer = self.metrics.kubelet("offer");
        let offered = self.plugins.offer(&resource, device).await;
        timer.observe_duration();
        offered.map_err(|error| Failure::new(error.category(), sentence(&error)))
    }

    async fn describe(
        &self,
        id: String,
        minor: u32,
        instance: Option<(u32, u32)>,
    ) -> Result<Option<String>, Failure> {
        let Some(cdi) = self.cdi.clone() else {
            return Ok(None);
        };
        let written = spawn_blocking(move || cdi.describe(&id, minor, instance)).await;
        let ended = |_| Failure::new("cdi", "Writing a CDI spec file was interrupted.");
        written.map_err(ended)?.map(Some)
    }

    /// A file too many names a device that nothing refers to; the next start tries again.
    async fn undescribe(&self, id: String) {
        let Some(cdi) = self.cdi.clone() else {
            return;
        };
        let removed = spawn_blocking(move || cdi.remove(&id).map_err(|error| (id, error))).await;
        if let Ok(Err((id, error))) = removed {
            tracing::warn!(id, %error, "A CDI spec file that nothing needs could not be removed");
        }
    }

    async fn fence(&self, resource: String, id: String) -> Result<(), Failure> {
        match self.take(resource.clone(), id.clone()) {
            Some(Token::Withdrawn(token)) => match self.plugins.fence(token).await {
                Ok(token) => {
                    self.keep(resource, id, Token::Fenced(token));
                    Ok(())
                }
                Err(error) => Err(Failure::new(error.category(), sentence(&error))),
            },
            other => {
                let message = format!("{resource} {id} was not withdrawn.");
                if let Some(token) = other {
                    self.keep(resource, id, token);
                }
                Err(Failure::new("void", message))
            }
        }
    }

    /// An NVML call that changes hardware: journaled before, and struck out after it returned.
    async fn change<T, E>(
        &self,
        op: OpId,
        gpu: String,
        change: Change,
        operation: &'static str,
        call: impl FnOnce(&dyn Hardware) -> Result<T, E> + Send + 'static,
        untouched: impl Fn(Failure) -> E,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + HalfDone + 'static,
    {
        self.change_then(op, gpu, change, operation, call, untouched, None)
            .await
    }

    /// The same, and what follows from a success is written down with its end: a crash loses both or neither.
    #[expect(clippy::too_many_arguments, reason = "one call and how it is told")]
    async fn change_then<T, E>(
        &self,
        op: OpId,
        gpu: String,
        change: Change,
        operation: &'static str,
        call: impl FnOnce(&dyn Hardware) -> Result<T, E> + Send + 'static,
        untouched: impl Fn(Failure) -> E,
        then: Option<Record>,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + HalfDone + 'static,
    {
        let begin = Record::Begin { op, gpu, change };
        if let Err(error) = self.journal.write(vec![begin]).await {
            return Err(untouched(Failure::new("journal", sentence(&error))));
        }
        let code = |result: &Result<T, E>| match result {
            Ok(_) => "success",
            Err(error) => error.category(),
        };
        let mut answer = match self.driver.ask(operation, call, code) {
            Ok(answer) => answer,
            Err(failure) => return Err(untouched(failure)),
        };
        let answer = if let Ok(answer) = timeout(self.driver.patience, &mut answer).await {
            answer
        } else {
            // The loop is gone only when the agent ends.
            let _ = self.late.send(op).await;
            answer.await
        };
        // Without an answer the driver was closed with the call still queued, or it died in it.
        let Ok(result) = answer else {
            return Err(untouched(driver::closed()));
        };
        let half_done = result.as_ref().err().is_some_and(HalfDone::half_done);
        if !half_done {
            // Waiting for the disk would only keep pods waiting.
            let then = then.filter(|_| result.is_ok());
            self.note_all(then.into_iter().chain([Record::End { op }]).collect());
        }
        result
    }

    fn note(&self, record: Record) {
        self.note_all(vec![record]);
    }

    fn note_all(&self, records: Vec<Record>) {
        if let Err(error) = self.journal.note(records) {
            tracing::warn!(%error, "A note for the next start is lost");
        }
    }

    fn keep(&self, resource: String, id: String, token: Token) {
        self.tokens().insert((resource, id), token);
    }

    fn take(&self, resource: String, id: String) -> Option<Token> {
        self.tokens().remove(&(resource, id))
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<(String, String), Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(failure: Failure) -> Failure {
    failure
}

/// Library errors are half sentences without a full stop.
fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    let rest = letters.as_str();
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{}{rest}{stop}", first.unwrap_or_default())
}

/// Whether a failed change left hardware between two states.
trait HalfDone {
    fn half_done(&self) -> bool;
    fn category(&self) -> &'static str;
}

impl HalfDone for Failure {
    fn half_done(&self) -> bool {
        // The word of nvml-mig for a creation that could not be undone.
        self.category == "remains"
    }

    fn category(&self) -> &'static str {
        self.category
    }
}

impl HalfDone for (Remains, Failure) {
    fn half_done(&self) -> bool {
        self.0 == Remains::Bare
    }

    fn category(&self) -> &'static str {
        self.1.category
    }
}

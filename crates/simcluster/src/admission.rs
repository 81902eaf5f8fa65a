//! The way of a write into the store when mutating webhooks may have a say: it is drafted, shown to
//! the webhooks that it concerns, and settled. Requests over HTTP and the embedded controllers come
//! this way, as in the real server; where there are no webhooks it is the store's own way.
//!
//! Only creations and updates are shown to webhooks.

mod answer;
mod client;
mod endpoint;
mod matching;
mod refusal;
mod review;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::debug;

use crate::conditions::{Conditions, Variables};
use crate::store::{
    Draft, Key, Kind, Patch, Status, Store, Subresource, WriteOptions, object, refill,
};

use answer::{Answer, Failure};
use client::Client;
use matching::Request;

/// How long all webhooks of one request may take together; as in the real server.
const REQUEST: Duration = Duration::from_mins(1);
/// How often a write is begun anew because the object changed while webhooks were asked.
const ATTEMPTS: usize = 5;
/// Without a `timeoutSeconds`.
const TIMEOUT_SECONDS: u64 = 10;

/// Writes as one caller, past the webhooks. Clones share connections.
#[derive(Debug, Clone)]
pub struct Admission {
    store: Store,
    client: Client,
    conditions: Conditions,
    user: Arc<Value>,
}

impl Admission {
    /// For requests of the administrator, as whom everybody comes over HTTP.
    pub fn new(store: Store) -> Self {
        let user = json!({
            "username": "kubernetes-admin",
            "groups": ["system:masters", "system:authenticated"],
        });
        Self {
            store,
            client: Client::default(),
            conditions: Conditions::default(),
            user: Arc::new(user),
        }
    }

    /// For the controller that has this service account in `kube-system`.
    pub fn controller(store: Store, account: &str) -> Self {
        let user = json!({
            "username": format!("system:serviceaccount:kube-system:{account}"),
            "groups": [
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ],
        });
        Self {
            user: Arc::new(user),
            ..Self::new(store)
        }
    }

    /// [`Store::create_with`]. What webhooks warn of is added to `warnings`, also when it fails.
    pub async fn create(
        &self,
        kind: Kind,
        namespace: &str,
        object: Value,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Value>, Status> {
        if !self.concerns(kind) {
            return self.store.create_with(kind, namespace, object, options);
        }
        let mut draft = self.store.draft_create(kind, namespace, object, options)?;
        self.mutate(&mut draft, warnings).await?;
        self.store.settle(draft)
    }

    /// [`Store::update_with`].
    pub async fn update(
        &self,
        key: &Key,
        object: Value,
        subresource: Subresource,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Value>, Status> {
        if !self.concerns(key.kind) {
            return self.store.update_with(key, object, subresource, options);
        }
        let draft = || {
            self.store
                .draft_update(key, object.clone(), subresource, options)
        };
        self.write(draft, warnings).await
    }

    /// [`Store::patch`].
    pub async fn patch(
        &self,
        key: &Key,
        patch: &Patch,
        subresource: Subresource,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Value>, Status> {
        if !self.concerns(key.kind) {
            return self.store.patch(key, patch, subresource, options);
        }
        let draft = || self.store.draft_patch(key, patch, subresource, options);
        self.write(draft, warnings).await
    }

    /// There are webhooks, and they may hear of this kind: never of their own configuration.
    fn concerns(&self, kind: Kind) -> bool {
        kind != Kind::MutatingWebhookConfiguration
            && self.store.has_any(Kind::MutatingWebhookConfiguration)
    }

    /// Drafts, asks and settles, again if the object changed meanwhile. A writer that insists on a
    /// version is refused by the next draft.
    async fn write(
        &self,
        draft: impl Fn() -> Result<Draft, Status>,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Value>, Status> {
        let mut attempt = 1;
        loop {
            let mut drafted = draft()?;
            self.mutate(&mut drafted, warnings).await?;
            match self.store.settle(drafted) {
                Err(status)
                    if matches!(status.reason, "Conflict" | "AlreadyExists")
                        && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn mutate(&self, draft: &mut Draft, warnings: &mut Vec<String>) -> Result<(), Status> {
        match timeout(REQUEST, self.ask_all(draft, warnings)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(refusal::out_of_time()),
        }
    }

    /// Asks every webhook, and those that want it a second time if a later one changed something.
    async fn ask_all(&self, draft: &mut Draft, warnings: &mut Vec<String>) -> Result<(), Status> {
        let hooks = self.hooks();
        let (mut asked, mut again) = (HashSet::new(), HashSet::new());
        for second in [false, true] {
            for (index, hook) in hooks.iter().enumerate() {
                if (second && !again.contains(&index)) || !self.is_concerned(hook, draft)? {
                    continue;
                }
                let answer = self.ask(hook, draft).await;
                let changed = self.take(hook, draft, answer, warnings)?;
                if changed {
                    again.extend(asked.drain());
                }
                if hook["reinvocationPolicy"] == "IfNeeded" {
                    asked.insert(index);
                }
            }
            if again.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// All webhooks, by the names of their configurations.
    fn hooks(&self) -> Vec<Value> {
        let (configurations, _) = self.store.list(Kind::MutatingWebhookConfiguration, None);
        configurations
            .iter()
            .flat_map(|configuration| object::array(configuration, "/webhooks"))
            .cloned()
            .collect()
    }

    /// Whether a webhook is to be asked: its rules and selectors say so, and its conditions hold. A
    /// condition that cannot be evaluated refuses the request, or leaves the webhook out if that one
    /// may fail.
    fn is_concerned(&self, hook: &Value, draft: &Draft) -> Result<bool, Status> {
        let namespace = &draft.key.namespace;
        let namespace = self.store.get(Kind::Namespace, "", namespace);
        if !matching::concerns(hook, &Request::of(draft), namespace.as_deref()) {
            return Ok(false);
        }
        if object::array(hook, "/matchConditions").is_empty() {
            return Ok(true);
        }
        let variables = Variables {
            object: &draft.object,
            old: draft.old.as_deref().unwrap_or(&Value::Null),
            request: &review::request(draft, &self.user),
        };
        match self.conditions.hold(hook, variables) {
            Ok(holds) => Ok(holds),
            Err(_) if may_fail(hook) => Ok(false),
            Err(why) => Err(Status::forbidden(draft.key.kind, &draft.key.name, why)),
        }
    }

    async fn ask(&self, hook: &Value, draft: &Draft) -> Result<Answer, Failure> {
        let name = object::text(hook, "/name");
        if draft.options.dry_run
            && !matches!(object::text(hook, "/sideEffects"), "None" | "NoneOnDryRun")
        {
            return Err(Failure::Refused(Status::bad_request(format!(
                "admission webhook {name:?} does not support dry run"
            ))));
        }
        let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(TIMEOUT_SECONDS);
        let review = review::of(hook, draft, &self.user);
        let calling = async {
            let endpoint = endpoint::of(&self.store, &hook["clientConfig"])?;
            self.client.post(&endpoint, seconds, &review).await
        };
        let url = || endpoint::url(&hook["clientConfig"], seconds);
        let sent = match timeout(Duration::from_secs(seconds), calling).await {
            Ok(sent) => sent,
            Err(_) => Err(client::CallError::OutOfTime),
        };
        let body = sent.map_err(|error| Failure::Call(error.tell(&url())))?;
        answer::read(name, &review, &body)
    }

    /// Takes an answer over. Returns whether the object changed.
    fn take(
        &self,
        hook: &Value,
        draft: &mut Draft,
        answer: Result<Answer, Failure>,
        warnings: &mut Vec<String>,
    ) -> Result<bool, Status> {
        let name = object::text(hook, "/name");
        let answer = match answer {
            Ok(answer) => answer,
            Err(Failure::Refused(status)) => return Err(status),
            Err(failure) if may_fail(hook) => {
                debug!(
                    webhook = name,
                    ?failure,
                    "failed to call a webhook, which may fail"
                );
                return Ok(false);
            }
            Err(failure) => {
                let two_steps = self.store.behaviour().tells_failed_calls();
                return Err(refusal::failed(name, &failure, two_steps));
            }
        };
        for warning in answer.warnings {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        if let Some(denial) = answer.denial {
            return Err(denial);
        }
        let Some(patch) = answer.patch else {
            return Ok(false);
        };
        let mut new = draft.object.clone();
        json_patch::patch(&mut new, &patch).map_err(refusal::internal)?;
        refill(
            self.store.behaviour(),
            draft.key.kind,
            draft.subresource,
            &mut new,
        )
        .map_err(refusal::internal)?;
        let changed = new != draft.object;
        draft.object = new;
        draft.touched |= changed;
        Ok(changed)
    }
}

fn may_fail(hook: &Value) -> bool {
    hook["failurePolicy"] == "Ignore"
}

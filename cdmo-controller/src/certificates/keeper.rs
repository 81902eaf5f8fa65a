//! Keeps the Secrets, the controller's own files and API servers' trust in the webhook as they should
//! be.
//!
//! Any number of controllers may do this at once. A Secret is only written over the version that was
//! read; whoever comes second reads again and finds nothing left to do.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream, stream::BoxStream};
use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use rcgen::ExtendedKeyUsagePurpose;
use tokio::{task::spawn_blocking, time::interval};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    due::{self, Leaves, Signer, due},
    held::{self, Authority, Leaf},
    issue,
    trust::Trust,
};

/// Attempts while somebody else writes the Secrets at the same time.
const ATTEMPTS: u32 = 5;
/// How often certificates are looked at without an event: they age silently.
const EVERY: Duration = Duration::from_hours(1);
/// Pause after a look that failed.
const RETRY: Duration = Duration::from_secs(30);

/// Where certificates are kept.
#[derive(Clone, Debug)]
pub struct Names {
    /// Namespace of all Secrets.
    pub namespace: String,
    /// The controller's own Secret.
    pub controller: String,
    /// The Secret that agents mount.
    pub agent: String,
    /// Of the webhook, if there is one.
    pub webhook: Option<WebhookNames>,
}

/// What belongs to the webhook.
#[derive(Clone, Debug)]
pub struct WebhookNames {
    /// The Secret that it mounts.
    pub secret: String,
    /// Its Service.
    pub service: String,
    /// Its `MutatingWebhookConfiguration`.
    pub configuration: String,
}

impl Names {
    /// The name by which API servers call the webhook, which its certificate must be for.
    fn webhook_host(&self) -> Option<String> {
        let webhook = self.webhook.as_ref()?;
        Some(format!("{}.{}.svc", webhook.service, self.namespace))
    }
}

/// Keeps certificates.
#[derive(Clone)]
pub struct Keeper {
    api: Api<Secret>,
    names: Names,
    files: mtls::TlsFiles,
    trust: Option<Trust>,
    /// Whether it was said that the webhook's Secret is missing. Clones share that.
    complained: Arc<AtomicBool>,
}

/// The Secrets as they were read.
struct Read {
    controller: Secret,
    agent: Secret,
    webhook: Option<WebhookRead>,
}

struct WebhookRead {
    secret: Secret,
    /// What its certificate must be for.
    host: String,
}

impl Keeper {
    /// A keeper that writes the controller's own certificate into these files.
    pub fn new(client: Client, names: Names, files: mtls::TlsFiles) -> Self {
        let webhook = names.webhook.as_ref();
        Self {
            trust: webhook.map(|webhook| Trust::new(client.clone(), &webhook.configuration)),
            api: Api::namespaced(client, &names.namespace),
            names,
            files,
            complained: Arc::default(),
        }
    }

    /// Makes what is due now, and writes the controller's own files. Returns the certificates of all
    /// authorities that are trusted.
    pub async fn settle(&self) -> Result<String, Error> {
        for _ in 0..ATTEMPTS {
            let read = Read {
                controller: self.read(&self.names.controller).await?,
                agent: self.read(&self.names.agent).await?,
                webhook: self.read_webhook().await?,
            };
            if let Some(own) = self.pass(read).await? {
                let bundle = own[0].clone();
                self.write_files(own).await?;
                return Ok(bundle);
            }
        }
        Err(Error::Contended {
            namespace: self.names.namespace.clone(),
        })
    }

    /// Settles again whenever a Secret or the webhook's configuration changes, and from time to time,
    /// until `shutdown`.
    pub async fn run(self, tls: mtls::Reloading, shutdown: CancellationToken) {
        let mut changes = pin!(stream::select_all(self.changes()));
        let mut ticks = interval(EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
                // A watch that breaks starts over; what was missed is seen with its next event.
                Some(()) = changes.next() => {}
            }
            let settled = tokio::select! {
                () = shutdown.cancelled() => return,
                settled = self.settle() => settled,
            };
            let bundle = match settled {
                Ok(bundle) => bundle,
                Err(error) => {
                    let category = error.category();
                    tracing::error!(category, "the certificates stay as they are: {error}");
                    ticks.reset_after(RETRY);
                    continue;
                }
            };
            if let Err(error) = tls.reload().await {
                let category = error.category();
                tracing::error!(category, "the old certificates stay in use: {error}");
            }
            if let Some(trust) = &self.trust
                && let Err(error) = trust.settle(&bundle).await
            {
                let category = error.category();
                tracing::error!(category, "API servers may not trust the webhook: {error}");
                ticks.reset_after(RETRY);
            }
        }
    }

    fn changes(&self) -> Vec<BoxStream<'static, ()>> {
        let webhook = self.names.webhook.as_ref().map(|webhook| &webhook.secret);
        let secrets = [&self.names.controller, &self.names.agent];
        let secrets = secrets.into_iter().chain(webhook).map(|name| {
            watcher::watch_object(self.api.clone(), name)
                .default_backoff()
                .map(drop)
                .boxed()
        });
        secrets
            .chain(self.trust.as_ref().map(Trust::changes))
            .collect()
    }

    /// One look at everything; the three texts of the controller's own files, or none if somebody
    /// else wrote at the same time.
    async fn pass(&self, read: Read) -> Result<Option<[String; 3]>, Error> {
        let now = Timestamp::now().as_second();
        let wanted = wanted(&read, now)?;
        let Read {
            controller,
            agent,
            webhook,
        } = read;
        let names = self.names.webhook.as_ref().map(|names| &names.secret);
        let webhook = names
            .zip(webhook)
            .zip(wanted.webhook)
            .map(|((name, read), data)| (name, read.secret, data));
        // First what everything else is derived from.
        for (name, mut secret, data) in [
            (&self.names.controller, controller, wanted.controller),
            (&self.names.agent, agent, wanted.agent),
        ]
        .into_iter()
        .chain(webhook)
        {
            if contains(&secret, &data) {
                continue;
            }
            let bytes = data.into_iter().map(|(key, text)| {
                let bytes = ByteString(text.into_bytes());
                (key.to_owned(), bytes)
            });
            secret.data.get_or_insert_default().extend(bytes);
            if !self.write(name, &secret).await? {
                return Ok(None);
            }
            tracing::info!(secret = name, "wrote new certificates");
        }
        Ok(Some(wanted.own))
    }

    /// Fractions alone depend on the webhook's Secret, so that controller and agents go on without it.
    async fn read_webhook(&self) -> Result<Option<WebhookRead>, Error> {
        let Some((names, host)) = self.names.webhook.as_ref().zip(self.names.webhook_host()) else {
            return Ok(None);
        };
        match self.read(&names.secret).await {
            Ok(secret) => {
                self.complained.store(false, Ordering::Relaxed);
                Ok(Some(WebhookRead { secret, host }))
            }
            Err(error @ Error::Missing { .. }) => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    let category = error.category();
                    tracing::error!(category, "no fraction of a GPU is served: {error}");
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn read(&self, name: &str) -> Result<Secret, Error> {
        match self.call("read", name, self.api.get_opt(name)).await? {
            Some(secret) => Ok(secret),
            None => Err(Error::Missing {
                namespace: self.names.namespace.clone(),
                name: name.to_owned(),
            }),
        }
    }

    /// Whether the write went through; false if the Secret had changed.
    async fn write(&self, name: &str, secret: &Secret) -> Result<bool, Error> {
        let params = PostParams::default();
        match self
            .call("write", name, self.api.replace(name, &params, secret))
            .await
        {
            Ok(_) => Ok(true),
            Err(Error::Api { source, .. }) if is_conflict(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn call<T>(
        &self,
        verb: &'static str,
        name: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        let namespace = &self.names.namespace;
        let what = format!("the Secret {namespace}/{name}, which holds certificates");
        super::call(verb, what, call).await
    }

    async fn write_files(&self, [ca, cert, key]: [String; 3]) -> Result<(), Error> {
        let files = self.files.clone();
        let written = spawn_blocking(move || {
            let all = [(files.ca, ca), (files.cert, cert), (files.key, key)];
            all.into_iter().try_for_each(|(path, text)| {
                replace(&path, &text).map_err(|source| Error::Files { path, source })
            })
        });
        // It fails only if the runtime is shutting down; nobody will use the files.
        written.await.unwrap_or(Ok(()))
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Readers find the old file or the new one, never half of one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&fresh, path)
}

type Data = BTreeMap<&'static str, String>;

/// What Secrets and files should say.
struct Wanted {
    controller: Data,
    agent: Data,
    webhook: Option<Data>,
    own: [String; 3],
}

/// What the Secrets should say, given what they say.
fn wanted(read: &Read, now: i64) -> Result<Wanted, rcgen::Error> {
    let authorities = held::authorities(
        &text(&read.controller, "ca.crt"),
        &text(&read.controller, "ca.key"),
    );
    let leaf = |secret: &Secret, name| {
        let (certificate, key) = (text(secret, "tls.crt"), text(secret, "tls.key"));
        held::leaf(&certificate, &key, name, &authorities)
    };
    let controller = leaf(&read.controller, mtls::CLIENT_NAME);
    let agent = leaf(&read.agent, mtls::SERVER_NAME);
    let host = read.webhook.as_ref().map(|webhook| webhook.host.as_str());
    let webhook = read
        .webhook
        .as_ref()
        .map(|webhook| leaf(&webhook.secret, &webhook.host));
    let facts: Vec<due::Authority> = authorities.iter().map(|a| a.facts.clone()).collect();
    let facts_of = |leaf: &Option<Leaf>| leaf.as_ref().map(|leaf| leaf.facts.clone());
    let webhook_facts = webhook.as_ref().map(facts_of);
    let leaves = Leaves {
        controller: controller.as_ref().map(|leaf| &leaf.facts),
        agent: agent.as_ref().map(|leaf| &leaf.facts),
        webhook: webhook_facts.as_ref().map(Option::as_ref),
    };
    let due = due(&facts, leaves, now);
    let mut trusted: Vec<Authority> = due
        .keep
        .iter()
        .map(|&index| authorities[index].clone())
        .collect();
    let fresh = due
        .new_authority
        .then(|| issue::authority(now))
        .transpose()?;
    trusted.extend(fresh.clone());
    let signer = match due.signer {
        Signer::Known(index) => authorities.get(index),
        Signer::New => fresh.as_ref(),
    };
    let signer = signer.ok_or(rcgen::Error::CouldNotParseKeyPair)?;
    let sign = |due: bool, old: Option<Leaf>, name: &str, purpose| match old {
        Some(leaf) if !due => Ok(leaf),
        _ => {
            let leaf = issue::leaf(signer, name, purpose, now)?;
            tracing::info!(name, signer = signer.facts.name, "made a certificate");
            Ok::<_, rcgen::Error>(leaf)
        }
    };
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let controller = sign(due.controller, controller, mtls::CLIENT_NAME, client)?;
    let agent = sign(due.agent, agent, mtls::SERVER_NAME, server.clone())?;
    let webhook = webhook
        .zip(host)
        .map(|(leaf, host)| sign(due.webhook, leaf, host, server))
        .transpose()?;
    let bundle = held::bundle(&trusted);
    let data = |leaf: &Leaf| {
        Data::from([
            ("ca.crt", bundle.clone()),
            ("tls.crt", leaf.certificate.clone()),
            ("tls.key", leaf.key.0.clone()),
        ])
    };
    let mut own = data(&controller);
    own.insert("ca.key", held::keys(&trusted));
    Ok(Wanted {
        own: [
            bundle.clone(),
            controller.certificate.clone(),
            controller.key.0.clone(),
        ],
        controller: own,
        agent: data(&agent),
        webhook: webhook.as_ref().map(data),
    })
}

fn text(secret: &Secret, key: &str) -> String {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    // Text that is none is as good as damaged.
    bytes
        .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
        .unwrap_or_default()
}

fn contains(secret: &Secret, data: &Data) -> bool {
    data.iter().all(|(key, value)| text(secret, key) == *value)
}

#[cfg(test)]
mod tests;

//! Waiting by watching: the objects of one kind, complete at every look, until something is so.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;

use anyhow::bail;
use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::LIMIT;

/// Objects by name.
pub(super) type Seen<K> = BTreeMap<String, K>;

/// Watches until the probe finds what it looks for. A watch that breaks is begun again.
///
/// # Errors
/// It takes too long, or the probe fails.
pub(super) async fn until<K, T>(
    api: Api<K>,
    config: Config,
    what: &str,
    mut probe: impl FnMut(&Seen<K>) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut trouble = String::new();
    let wait = async {
        let mut stream = pin!(watcher(api, config).default_backoff());
        let mut seen = Seen::new();
        let mut complete = false;
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => {
                    seen.clear();
                    complete = false;
                }
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    seen.insert(object.name_any(), object);
                }
                Ok(Event::Delete(object)) => {
                    seen.remove(&object.name_any());
                }
                Ok(Event::InitDone) => complete = true,
                Err(error) => {
                    trouble = format!("; the last watch broke: {error}");
                    continue;
                }
            }
            if complete && let Some(found) = probe(&seen)? {
                return Ok(found);
            }
        }
        bail!("the watch ended")
    };
    match tokio::time::timeout(LIMIT, wait).await {
        Ok(outcome) => {
            outcome.map_err(|error| error.context(format!("while waiting until {what}")))
        }
        Err(_) => bail!("waited {LIMIT:?} until {what}{trouble}"),
    }
}

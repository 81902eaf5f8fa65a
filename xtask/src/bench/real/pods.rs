//! What becomes of pods, and when, as a watch tells it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::logs;

/// Long after anything that still counts as working: without a status patch and with a scheduler that
/// backs off, a pod may wait for half a minute.
const LIMIT: Duration = Duration::from_mins(3);

/// One pod. Times are since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) bound: Option<Duration>,
    pub(super) running: Option<Duration>,
    /// Why, if it failed before anybody deleted it.
    failed: Option<String>,
    gone: bool,
}

/// All pods that were there since the watch began; clones are the same.
#[derive(Clone)]
pub(super) struct Pods {
    seen: watch::Receiver<HashMap<String, Seen>>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Pods {
    /// Follows a watch for as long as this or a clone lives.
    pub(super) fn follow(
        events: impl Stream<Item = watcher::Result<Event<Pod>>> + Send + 'static,
    ) -> Self {
        let (sender, seen) = watch::channel(HashMap::new());
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            // One that breaks is begun again by the stream itself.
            while let Some(event) = events.next().await {
                if let (Ok(event), Ok(now)) = (event, logs::now()) {
                    sender.send_modify(|seen| record(seen, &event, now));
                }
            }
        });
        Self {
            seen,
            _task: Arc::new(AbortOnDropHandle::new(task)),
        }
    }

    /// Waits until a pod runs.
    pub(super) async fn running(&mut self, name: &str) -> anyhow::Result<()> {
        let seen = self
            .until(name, "run", |seen| {
                seen.running.is_some() || seen.failed.is_some()
            })
            .await?;
        match seen.failed {
            Some(why) => bail!("pod {name} failed: {why}"),
            None => Ok(()),
        }
    }

    /// Waits until a pod is gone.
    pub(super) async fn gone(&mut self, name: &str) -> anyhow::Result<()> {
        self.until(name, "go", |seen| seen.gone).await.map(drop)
    }

    async fn until(
        &mut self,
        name: &str,
        what: &str,
        holds: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<Seen> {
        let waiting = self
            .seen
            .wait_for(|seen| seen.get(name).is_some_and(&holds));
        let seen = tokio::time::timeout(LIMIT, waiting)
            .await
            .with_context(|| format!("pod {name} does not {what} within {LIMIT:?}"))?
            .context("the watch of the pods ended")?;
        Ok(seen.get(name).cloned().unwrap_or_default())
    }

    /// What is known of a pod.
    pub(super) fn seen(&self, name: &str) -> Seen {
        self.seen.borrow().get(name).cloned().unwrap_or_default()
    }
}

fn record(all: &mut HashMap<String, Seen>, event: &Event<Pod>, now: Duration) {
    let (Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod)) = event else {
        return;
    };
    let seen = all.entry(pod.name_any()).or_default();
    seen.gone = matches!(event, Event::Delete(_));
    if pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.is_some())
    {
        seen.bound.get_or_insert(now);
    }
    let Some(status) = &pod.status else { return };
    match status.phase.as_deref() {
        Some("Running") => {
            seen.running.get_or_insert(now);
        }
        // One that is told to end may end badly.
        Some("Failed") if pod.metadata.deletion_timestamp.is_none() => {
            let said = [&status.reason, &status.message].map(|text| text.as_deref().unwrap_or(""));
            seen.failed.get_or_insert(said.join(": "));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(content: &Value) -> Pod {
        let mut object = json!({"metadata": {"name": "one"}});
        object
            .as_object_mut()
            .unwrap()
            .extend(content.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_first_time_counts() {
        let mut all = HashMap::new();
        let ms = Duration::from_millis;
        record(&mut all, &Event::Apply(pod(&json!({}))), ms(1));
        let bound = json!({"spec": {"nodeName": "n", "containers": []}});
        record(&mut all, &Event::Apply(pod(&bound)), ms(2));
        let running = json!({
            "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"},
        });
        record(&mut all, &Event::Apply(pod(&running)), ms(3));
        record(&mut all, &Event::Delete(pod(&running)), ms(4));
        let expected = Seen {
            bound: Some(ms(2)),
            running: Some(ms(3)),
            failed: None,
            gone: true,
        };
        assert_eq!(all.get("one"), Some(&expected));
    }

    #[tokio::test]
    async fn a_pod_that_the_kubelet_refused_has_failed() {
        let failed = json!({
            "status": {"phase": "Failed", "reason": "OutOfnvidia.com/gpu", "message": "no room"},
        });
        let events = futures::stream::iter([Ok(Event::Apply(pod(&failed)))]);
        let mut pods = Pods::follow(events.chain(futures::stream::pending()));
        let error = pods.running("one").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "pod one failed: OutOfnvidia.com/gpu: no room"
        );
    }
}

//! What stories do with pods, and what they wait for.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Event, Pod as Object};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::watcher::Config;
use kube::{Api, ResourceExt as _};

use super::{Ground, LIMIT, TICK, manifest, watch};
use crate::pods::Pod;

impl Ground {
    /// Creates a pod.
    pub async fn create(&self, pod: &Pod) -> anyhow::Result<Object> {
        let object: Object = serde_json::from_value(manifest::pod(pod, &self.image))?;
        let name = object.name_any();
        let pods: Api<Object> = self.api();
        let making = async {
            loop {
                let error = match pods.create(&PostParams::default(), &object).await {
                    Ok(made) => return Ok(made),
                    // Made by an attempt whose answer got lost.
                    Err(kube::Error::Api(status)) if status.is_already_exists() => {
                        return pods.get(&name).await.map_err(anyhow::Error::from);
                    }
                    Err(error) => error,
                };
                let passes = match &error {
                    // A namespace gets its account a moment after it was made.
                    kube::Error::Api(status) => status.message.contains("serviceaccount"),
                    _ => true,
                };
                if !passes {
                    return Err(error.into());
                }
                tokio::time::sleep(TICK).await;
            }
        };
        let made = tokio::time::timeout(LIMIT, making).await;
        made.with_context(|| format!("pod {name} could not be made within {LIMIT:?}"))?
            .with_context(|| format!("pod {name} was refused"))
    }

    /// The pod as it is.
    pub async fn pod(&self, name: &str) -> anyhow::Result<Object> {
        let pods: Api<Object> = self.api();
        let got = pods.get(name).await;
        got.with_context(|| format!("failed to read pod {name}"))
    }

    /// Waits until a pod satisfies a condition.
    ///
    /// # Errors
    /// It takes too long, or the pod fails.
    pub async fn pod_until(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&Object) -> bool,
    ) -> anyhow::Result<Object> {
        let config = Config::default().fields(&format!("metadata.name={name}"));
        let what = format!("pod {name} {what}");
        watch::until(self.api(), config, &what, |seen| {
            let Some(pod) = seen.get(name) else {
                return Ok(None);
            };
            if holds(pod) {
                return Ok(Some(pod.clone()));
            }
            match failure(pod) {
                Some(why) => bail!("pod {name} failed: {why}"),
                None => Ok(None),
            }
        })
        .await
    }

    /// Waits until a pod runs. One that has ended well did so, too: on a busy machine nobody may have seen it.
    pub async fn running(&self, name: &str) -> anyhow::Result<Object> {
        let ran = |pod: &Object| matches!(phase(pod), "Running" | "Succeeded");
        self.pod_until(name, "runs", ran).await
    }

    /// Waits until a pod has ended well.
    pub async fn succeeded(&self, name: &str) -> anyhow::Result<Object> {
        self.pod_until(name, "has ended", |pod| phase(pod) == "Succeeded")
            .await
    }

    /// Creates a pod and waits until it runs.
    pub async fn run(&self, pod: &Pod) -> anyhow::Result<Object> {
        let made = self.create(pod).await?;
        self.running(&made.name_any()).await
    }

    /// Deletes pods as `kubectl delete` does, and waits until they hold no device. Old kubelets
    /// need ten seconds more until they let go of the objects.
    pub async fn release(&self, names: &[&str]) -> anyhow::Result<()> {
        for name in names {
            self.delete(name).await?;
        }
        for name in names {
            self.holds(name, &[]).await?;
        }
        Ok(())
    }

    /// Deletes a pod and waits until it is gone.
    pub async fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.delete(name).await?;
        let config = Config::default().fields(&format!("metadata.name={name}"));
        let what = format!("pod {name} is gone");
        watch::until(self.api(), config, &what, |seen: &watch::Seen<Object>| {
            Ok(seen.is_empty().then_some(()))
        })
        .await
    }

    /// Fails if a pod of the story did: whoever replaces failed pods hides it.
    pub(super) async fn no_pod_failed(&self) -> anyhow::Result<()> {
        let pods: Api<Object> = self.api();
        for pod in pods.list(&ListParams::default()).await? {
            // A pod that is told to end may end badly.
            let told = pod.metadata.deletion_timestamp.is_some();
            if let Some(why) = failure(&pod).filter(|_| !told) {
                bail!("pod {} failed: {why}", pod.name_any());
            }
        }
        Ok(())
    }

    async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let pods: Api<Object> = self.api();
        pods.delete(name, &DeleteParams::default())
            .await
            .with_context(|| format!("pod {name} cannot be deleted"))?;
        Ok(())
    }

    /// Waits until so many of the pods with a label run, and returns them. Those that are on their
    /// way out do not count.
    pub async fn running_with(
        &self,
        label: &str,
        value: &str,
        count: usize,
    ) -> anyhow::Result<Vec<Object>> {
        let config = Config::default().labels(&format!("{label}={value}"));
        let what = format!("{count} pods with {label}={value} run");
        watch::until(self.api(), config, &what, |seen| {
            let here = seen
                .values()
                .filter(|pod: &&Object| pod.metadata.deletion_timestamp.is_none());
            let run: Vec<Object> = here
                .filter(|pod| phase(pod) == "Running")
                .cloned()
                .collect();
            Ok((run.len() == count).then_some(run))
        })
        .await
    }

    /// Waits until something is so that no watch of this tells.
    pub async fn until<T>(
        &self,
        what: &str,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let wait = async {
            loop {
                match probe().await {
                    Some(found) => return found,
                    None => tokio::time::sleep(TICK).await,
                }
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        waited.with_context(|| format!("waited {LIMIT:?} until {what}"))
    }

    /// Waits until there are so many pods with a label, and returns them.
    pub async fn pods_with(
        &self,
        label: &str,
        value: &str,
        count: usize,
    ) -> anyhow::Result<Vec<Object>> {
        let config = Config::default().labels(&format!("{label}={value}"));
        let what = format!("there are {count} pods with {label}={value}");
        watch::until(self.api(), config, &what, |seen: &watch::Seen<Object>| {
            let all: Vec<Object> = seen.values().cloned().collect();
            Ok((all.len() == count).then_some(all))
        })
        .await
    }

    /// Waits for an Event of that reason on a pod, and returns its sentence.
    pub async fn event(&self, pod: &str, reason: &str) -> anyhow::Result<String> {
        let what = format!("pod {pod} has an Event {reason}");
        watch::until(self.api(), Config::default(), &what, |seen| {
            let ours = seen.values().find(|event: &&Event| {
                event.involved_object.name.as_deref() == Some(pod)
                    && event.reason.as_deref() == Some(reason)
            });
            Ok(ours.map(|event| event.message.clone().unwrap_or_default()))
        })
        .await
    }
}

/// A pod's phase.
pub(super) fn phase(pod: &Object) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("")
}

fn failure(pod: &Object) -> Option<String> {
    if phase(pod) != "Failed" {
        return None;
    }
    let status = pod.status.as_ref()?;
    let said = [&status.reason, &status.message].map(|text| text.clone().unwrap_or_default());
    Some(said.join(" "))
}

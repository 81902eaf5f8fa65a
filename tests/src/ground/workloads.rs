//! Jobs and Deployments, and what becomes of them.

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher::Config;
use serde_json::json;

use super::{Ground, manifest, watch};
use crate::pods::Pod;

impl Ground {
    /// Makes a Job of that many such pods, so many at a time. Its pods have its name as label
    /// `app`.
    pub async fn create_job(
        &self,
        name: &str,
        pod: &Pod,
        pods: u32,
        at_a_time: u32,
    ) -> anyhow::Result<()> {
        let job = manifest::job(pod, &self.image, name, pods, at_a_time);
        let job: Job = serde_json::from_value(job)?;
        let jobs: Api<Job> = self.api();
        jobs.create(&PostParams::default(), &job)
            .await
            .with_context(|| format!("Job {name} was refused"))?;
        Ok(())
    }

    /// Waits until all pods of a Job have ended well.
    pub async fn job_done(&self, name: &str, pods: i32) -> anyhow::Result<()> {
        let config = Config::default().fields(&format!("metadata.name={name}"));
        let what = format!("Job {name} is done");
        watch::until(self.api(), config, &what, |seen| {
            let status = seen.get(name).and_then(|job: &Job| job.status.as_ref());
            if let Some(failed) = status.and_then(|status| status.failed) {
                anyhow::ensure!(failed == 0, "{failed} of its pods failed");
            }
            let done = status.and_then(|status| status.succeeded);
            Ok((done == Some(pods)).then_some(()))
        })
        .await
    }

    /// Makes a Deployment of that many such pods. They have its name as label `app`.
    pub async fn create_deployment(&self, name: &str, pod: &Pod, count: u32) -> anyhow::Result<()> {
        let set = manifest::replicas(pod, &self.image, name, count);
        let set: Deployment = serde_json::from_value(set)?;
        let sets: Api<Deployment> = self.api();
        sets.create(&PostParams::default(), &set)
            .await
            .with_context(|| format!("Deployment {name} was refused"))?;
        Ok(())
    }

    /// Changes how many pods a Deployment has.
    pub async fn scale(&self, name: &str, count: u32) -> anyhow::Result<()> {
        let sets: Api<Deployment> = self.api();
        let change = Patch::Merge(json!({ "spec": { "replicas": count } }));
        sets.patch(name, &PatchParams::default(), &change)
            .await
            .with_context(|| format!("Deployment {name} was not scaled"))?;
        Ok(())
    }
}

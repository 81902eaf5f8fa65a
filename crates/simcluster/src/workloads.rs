//! The controllers of Deployments, `ReplicaSets` and Jobs, as far as pods come and go by them.
//! `StatefulSets` and `CronJobs` are stored only.
//!
//! Each looks at one object at a time, reads what there is from the store, writes what is missing,
//! and is called again when anything of it changed: no state of their own but what is said here.

mod deployment;
mod driver;
mod job;
mod pods;
mod replica_set;
mod rollout;

use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// Runs the controllers until `shutdown`.
pub async fn run(store: Store, shutdown: CancellationToken) {
    let deployments = driver::drive(
        &store,
        deployment::Deployments::new(&store),
        shutdown.clone(),
    );
    let sets = driver::drive(
        &store,
        replica_set::ReplicaSets::new(&store),
        shutdown.clone(),
    );
    let jobs = driver::drive(&store, job::Jobs::new(&store), shutdown.clone());
    tokio::join!(deployments, sets, jobs);
}

#[cfg(test)]
mod tests;

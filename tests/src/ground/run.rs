//! Runs a story on the ground that there is, judges, and keeps everything if it went wrong.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;
use futures::future::join_all;
use simcluster::cluster::Behaviour;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Ground, Place, real};
use crate::scenario::{self, Outcome, Verdict};
use crate::spec::Spec;
use crate::system::System;

/// What a story cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The API.
    Api,
    /// Processes and kubelets within reach.
    Machine,
    /// An API server that can be restarted.
    ApiServer,
    /// The chart, installed with helm, and a node whose folders are within reach.
    Chart,
}

/// Set to `all` where a scenario that is left out is a mistake, as in our own checks.
const ALL: &str = "CDMO_SCENARIOS";

/// Real GPUs are shared by all stories.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// As which Kubernetes the embedded cluster is asked to behave: the oldest and the newest that differ
/// in what a story could notice.
const GENERATIONS: [Behaviour; 2] = [Behaviour::V1_20, Behaviour::V1_33];

/// Runs a story: on the cluster that `KUBECONFIG` names, else on two embedded ones at once, an old
/// Kubernetes and a new one, each with one node `a` that has two A100-40GB. A story that is
/// impossible there is left out, and standard error says so by the story's name.
///
/// # Errors
/// What went wrong, on which cluster, and the folder with everything that there is to see of it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "stories are written in place"
)]
pub fn api_scenario(needs: Needs, story: impl AsyncFn(&Ground) -> Outcome) -> Verdict {
    let kubeconfig = real::named();
    let place = match &kubeconfig {
        None => Cluster::Embedded,
        Some(path) if real::Real::of(path).ours => Cluster::OfThisMachine,
        Some(_) => Cluster::Elsewhere,
    };
    let obstacle = obstacle(place, needs);
    if let Some(obstacle) = obstacle {
        tell(&format!("left out, {obstacle}"));
        return if std::env::var_os(ALL).is_some_and(|wanted| wanted == "all") {
            Err(anyhow!("a scenario was left out, and {ALL} wants all of them: {obstacle}").into())
        } else {
            Ok(())
        };
    }
    let _alone = kubeconfig.is_some().then(|| ONE_AT_A_TIME.blocking_lock());
    // Only the first scenario of a process can set it.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    let outcomes = runtime.block_on(async {
        if let Some(path) = kubeconfig {
            let ground = async |_: &Path| Ground::real(path).await;
            return vec![on("the real cluster", ground, &story).await];
        }
        let all = GENERATIONS.map(async |behaviour| {
            let name = format!("an embedded {}", behaviour.kubelet_version());
            let ground = async |folder: &Path| {
                let spec = Spec::gpus("A100-40GB:2").behaviour(behaviour);
                Ground::embedded(System::start(&spec, folder).await?).await
            };
            on(&name, ground, &story).await
        });
        join_all(all).await
    });
    runtime.shutdown_background();
    Ok(together(outcomes)?)
}

/// Tells the story on one cluster, and keeps its folder if it went wrong.
async fn on(
    name: &str,
    ground: impl AsyncFnOnce(&Path) -> anyhow::Result<Ground>,
    story: &impl AsyncFn(&Ground) -> Outcome,
) -> Outcome {
    let folder = tempfile::Builder::new().prefix("cdmo-api-").tempdir()?;
    let outcome = async {
        let mut ground = ground(folder.path()).await?;
        let ended_before = kubelet_ends(&ground).len();
        let started = Instant::now();
        let told = AssertUnwindSafe(tell_story(&mut ground, story)).catch_unwind();
        let told = told.await;
        let took = started.elapsed().as_secs_f64();
        let outcome = told.unwrap_or_else(|panic| Err(anyhow!("{}", scenario::words(&*panic))));
        let word = if outcome.is_ok() { "well" } else { "badly" };
        tell(&format!("ended {word} on {name} after {took:.1} s"));
        // A cluster lives through it, so the story may have ended well all the same.
        for end in kubelet_ends(&ground).iter().skip(ended_before) {
            tell(&format!("THE KUBELET ENDED BY ITSELF: {end}"));
        }
        finish(ground, folder.path(), outcome).await
    };
    outcome.await.or_else(|error| {
        let kept = folder.keep();
        let kept = kept.display();
        Err(error).context(format!("on {name}; everything about it is in {kept}"))
    })
}

/// Embedded kubelets are watched by the system that they belong to.
fn kubelet_ends(ground: &Ground) -> Vec<String> {
    match &ground.place {
        Place::Embedded(_) => Vec::new(),
        Place::Real(real) => real.kubelet_ends(),
    }
}

/// Everything that went wrong, anywhere.
fn together(outcomes: Vec<Outcome>) -> Outcome {
    let bad: Vec<String> = outcomes
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    if bad.is_empty() {
        Ok(())
    } else {
        Err(anyhow!("{}", bad.join("\n")))
    }
}

/// Where the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    /// In this process.
    Embedded,
    /// Real, and its parts can be restarted from here.
    OfThisMachine,
    /// Real, and only its API is within reach.
    Elsewhere,
}

/// Why a story is impossible there, if it is.
fn obstacle(cluster: Cluster, needs: Needs) -> Option<&'static str> {
    match (cluster, needs) {
        (Cluster::Embedded, Needs::ApiServer) => {
            Some("real only: the embedded cluster is its API server")
        }
        (Cluster::Embedded, Needs::Chart) => {
            Some("real only: nothing is installed with helm in the embedded cluster")
        }
        (Cluster::Elsewhere, Needs::Machine) => Some(
            "embedded only: the cluster of KUBECONFIG is not this machine's, or this is not root",
        ),
        (Cluster::Elsewhere, Needs::ApiServer | Needs::Chart) => Some(
            "on this machine's cluster only: that of KUBECONFIG is another, or this is not root",
        ),
        _ => None,
    }
}

async fn tell_story(ground: &mut Ground, story: &impl AsyncFn(&Ground) -> Outcome) -> Outcome {
    ground.nothing_held().await?;
    ground.settled().await?;
    ground.settle_in().await?;
    story(ground).await?;
    ground.no_pod_failed().await?;
    ground.settled().await
}

async fn finish(mut ground: Ground, folder: &Path, outcome: Outcome) -> Outcome {
    if let Err(error) = &outcome {
        ground.dump(&folder.join("dump"), error).await?;
    }
    match &mut ground.place {
        Place::Embedded(system) => match system.take() {
            Some(system) => scenario::finish(*system, outcome).await,
            None => outcome,
        },
        Place::Real(_) => {
            let left = ground.leave().await;
            outcome.and(left)
        }
    }
}

/// A line that is seen whether or not tests are captured.
fn tell(line: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {line}\n", thread.name().unwrap_or("a story"));
    // Whoever closed standard error does not want to know.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_is_told_on_this_machines_cluster() {
        for needs in [Needs::Api, Needs::Machine, Needs::ApiServer, Needs::Chart] {
            assert_eq!(obstacle(Cluster::OfThisMachine, needs), None);
        }
    }

    #[test]
    fn what_went_wrong_on_one_cluster_is_not_hidden_by_the_other() {
        assert!(together(vec![Ok(()), Ok(())]).is_ok());
        let error = together(vec![Err(anyhow!("old")), Ok(())]).unwrap_err();
        assert_eq!(error.to_string(), "old");
        let error = together(vec![Err(anyhow!("old")), Err(anyhow!("new"))]).unwrap_err();
        assert_eq!(error.to_string(), "old\nnew");
    }

    #[test]
    fn what_needs_the_api_alone_is_told_everywhere() {
        for cluster in [
            Cluster::Embedded,
            Cluster::OfThisMachine,
            Cluster::Elsewhere,
        ] {
            assert_eq!(obstacle(cluster, Needs::Api), None);
        }
    }

    #[test]
    fn nobody_elses_kubelet_is_restarted() {
        for needs in [Needs::Machine, Needs::ApiServer, Needs::Chart] {
            assert!(obstacle(Cluster::Elsewhere, needs).is_some());
        }
    }
}

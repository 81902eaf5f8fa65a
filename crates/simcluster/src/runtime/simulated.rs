//! A container without a process: it starts after a moment and runs until its time is over or it is
//! stopped, as its pod's annotations say.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::duration::annotation;
use crate::store::object;

use super::{StopRequest, overdue, requested};

/// How long the container runs by itself; without it, until it is stopped, but for an init container
/// that others wait for: that ends at once.
const RUN_FOR: &str = "simcluster.cdmo/run-for";
/// With which code it then ends.
const EXIT_CODE: &str = "simcluster.cdmo/exit-code";
/// How long it takes to start.
const START_DELAY: &str = "simcluster.cdmo/start-delay";
/// How long it takes to end after SIGTERM.
const STOP_DELAY: &str = "simcluster.cdmo/stop-delay";
/// How long it lives on after SIGKILL, as a process in an uninterruptible call does.
const KILL_DELAY: &str = "simcluster.cdmo/kill-delay";

/// 128 and SIGTERM.
const TERMINATED: i32 = 143;
/// 128 and SIGKILL.
const KILLED: i32 = 137;

#[derive(Debug)]
pub(super) struct Simulated {
    start_delay: Duration,
    run_for: Option<Duration>,
    exit_code: i32,
    stop_delay: Duration,
    kill_delay: Duration,
}

impl Simulated {
    pub(super) fn new(pod: &Value, container: &str, start_delay: Duration) -> Self {
        let awaited = object::array(pod, "/spec/initContainers")
            .iter()
            .any(|init| {
                object::text(init, "/name") == container
                    && object::text(init, "/restartPolicy") != "Always"
            });
        let code = pod["metadata"]["annotations"][EXIT_CODE].as_str();
        Self {
            start_delay: annotation(pod, START_DELAY).unwrap_or(start_delay),
            run_for: annotation(pod, RUN_FOR).or(awaited.then_some(Duration::ZERO)),
            exit_code: code.and_then(|code| code.parse().ok()).unwrap_or(0),
            stop_delay: annotation(pod, STOP_DELAY).unwrap_or_default(),
            kill_delay: annotation(pod, KILL_DELAY).unwrap_or_default(),
        }
    }

    pub(super) async fn started(&self) {
        if !self.start_delay.is_zero() {
            tokio::time::sleep(self.start_delay).await;
        }
    }

    pub(super) async fn run(
        self,
        mut stop: watch::Receiver<StopRequest>,
        down: &CancellationToken,
    ) -> i32 {
        let its_time = async {
            match self.run_for {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = its_time => return self.exit_code,
            () = down.cancelled() => return KILLED,
            _ = requested(&mut stop) => {}
        }
        let code = tokio::select! {
            biased;
            () = tokio::time::sleep(self.stop_delay) => return TERMINATED,
            () = down.cancelled() => return KILLED,
            () = overdue(&mut stop) => KILLED,
        };
        tokio::select! {
            () = tokio::time::sleep(self.kill_delay) => {}
            () = down.cancelled() => {}
        }
        code
    }
}

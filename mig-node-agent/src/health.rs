//! What `/readyz` and `/livez` go by.

use std::sync::Arc;
use std::time::Duration;

use device_plugin::{PluginState, Registration};
use serving::{Condition, Readiness};
use tokio::sync::watch;
use tokio::time::{Instant, interval};

pub use serving::http::router_with_liveness as router;

/// How often the loop's pulse is taken.
const PULSE: Duration = Duration::from_secs(2);
/// A loop that did not go round for so long hangs.
const STILL: Duration = Duration::from_secs(30);

/// The agent's conditions.
#[derive(Debug)]
pub struct Conditions {
    kubelet: Condition,
    alive: Condition,
}

impl Conditions {
    /// Enters them: ready once the kubelet reads every list, alive while the loop goes round.
    pub fn new(readiness: &Readiness, liveness: &Readiness) -> Self {
        let conditions = Self {
            kubelet: readiness.condition("kubelet"),
            alive: liveness.condition("loop"),
        };
        conditions.alive.met();
        conditions
    }

    /// Keeps them up to date.
    pub async fn watch(
        self,
        mut plugins: watch::Receiver<Arc<PluginState>>,
        heartbeat: watch::Receiver<Instant>,
    ) {
        let mut pulse = interval(PULSE);
        self.kubelet(&plugins.borrow_and_update().clone());
        loop {
            tokio::select! {
                changed = plugins.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.kubelet(&plugins.borrow_and_update().clone());
                }
                _ = pulse.tick() => {
                    let still = heartbeat.borrow().elapsed();
                    if still < STILL {
                        self.alive.met();
                    } else {
                        self.alive.unmet(format!("the main loop has not moved for {still:?}"));
                    }
                }
            }
        }
    }

    fn kubelet(&self, state: &PluginState) {
        let waiting = state
            .resources
            .iter()
            .find(|(_, resource)| resource.registration != Registration::Registered);
        match waiting {
            None => self.kubelet.met(),
            Some((name, _)) => {
                self.kubelet
                    .unmet(format!("{name} is not registered with the kubelet"));
            }
        }
    }
}

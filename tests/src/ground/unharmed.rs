//! A pod that runs on its slice through whatever a story does, and the proof that neither was
//! touched.

use std::path::Path;

use anyhow::{Context as _, ensure};
use fake_nvml::control::Host;

use super::act::phase;
use super::{Device, Ground, Place};
use crate::pods::Pod;

/// Where agents of the chart keep the simulated hardware of a node, by the node's name.
const HARDWARE: &str = "/var/lib/fake-nvml";

/// A pod and what it holds.
pub struct Held {
    pod: String,
    uid: Option<String>,
    device: Device,
    /// Number of the instance that no other one ever gets.
    serial: u64,
}

impl Ground {
    /// Runs a pod with one device of that profile.
    pub async fn holder(&self, pod: &str, profile: &str) -> anyhow::Result<Held> {
        let object = self.run(&Pod::of(pod, profile)).await?;
        let devices = self.holds(pod, &[profile]).await?;
        let device = devices.first().cloned().context("it holds nothing")?;
        Ok(Held {
            pod: pod.to_owned(),
            uid: object.metadata.uid,
            serial: self
                .serial(&device)?
                .context("no hardware is within reach")?,
            device,
        })
    }

    /// The pod runs as before, and the driver still has its instance, not one like it.
    pub async fn unharmed(&self, held: &Held) -> anyhow::Result<()> {
        let name = &held.pod;
        let pod = self.pod(name).await?;
        ensure!(pod.metadata.uid == held.uid, "{name} is another pod");
        ensure!(phase(&pod) == "Running", "{name} is {}", phase(&pod));
        let status = pod.status.unwrap_or_default();
        let mut containers = status.container_statuses.iter().flatten();
        let went_on = containers.all(|container| container.restart_count == 0);
        ensure!(went_on, "a container of {name} was started again");
        let serial = self.serial(&held.device)?;
        ensure!(
            serial == Some(held.serial),
            "the instance of {name} was made anew"
        );
        Ok(())
    }

    /// After everything: unharmed, and known to be the pod's.
    pub async fn still_holds(&self, held: &Held) -> anyhow::Result<()> {
        self.unharmed(held).await?;
        let devices = self.holds(&held.pod, &[&held.device.profile]).await?;
        ensure!(devices == [held.device.clone()], "it holds {devices:?}");
        Ok(())
    }

    /// The number of a device's instance, which no other one ever gets; none where the hardware is out of
    /// reach.
    ///
    /// # Errors
    /// The driver has no such instance.
    pub fn serial(&self, device: &Device) -> anyhow::Result<Option<u64>> {
        let state = match &self.place {
            Place::Embedded(Some(system)) => system.driver(&device.node)?.state()?,
            Place::Embedded(None) => return Ok(None),
            Place::Real(_) => {
                let folder = Path::new(HARDWARE).join(&device.node);
                let config = folder.join("fake-nvml.toml");
                if !config.exists() {
                    return Ok(None);
                }
                let host = Host::open(&config);
                let host = host.with_context(|| format!("no hardware at {}", config.display()))?;
                host.state().context("the hardware cannot be read")?
            }
        };
        let mut gpus = state.gpus.into_iter();
        let gpu = gpus.find(|gpu| gpu.uuid == device.gpu);
        let instances = gpu.map(|gpu| gpu.instances).unwrap_or_default();
        let uuid = |id: &str| id == device.id;
        let found = instances
            .iter()
            .find(|instance| instance.compute.iter().any(|compute| uuid(&compute.uuid)));
        let found = found.with_context(|| format!("the driver has no instance {}", device.id))?;
        Ok(Some(found.serial))
    }
}

//! CDI spec files: what a container runtime reads to give a device to a container.
//!
//! One file a device, `<kind>_<device id>.json` in the runtime's directory for specs that change,
//! in the format of the Container Device Interface (tags.cncf.io/container-device-interface). It is
//! there before the kubelet hears of the device, and stays while anything can still hold it: a
//! container that is restarted is made anew from the name in the kubelet's cached answer. When each
//! is written and removed is decided by [`node`](crate::node); here is how.
//!
//! A device of ours is its device nodes. The driver's libraries and programs, and the hooks that make
//! a container find them, are the same for all devices of a node, and NVIDIA's toolkit knows them
//! best; they are taken over from the spec that it keeps on the node (see `driver.rs`).

mod document;
mod driver;
mod files;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::node::Failure;
use crate::specs::Nodes;

use driver::{DriverEdits, Found};

/// Vendor and class of our devices. NVIDIA's are `nvidia.com/gpu` and the like.
pub const KIND: &str = "cdmo.clear.ml/gpu";

/// The spec files of one node.
#[derive(Debug)]
pub struct Cdi {
    directory: PathBuf,
    nodes: Nodes,
    driver: Mutex<driver::Cache>,
}

impl Cdi {
    /// Files in `directory`. NVIDIA's specs are looked for there and below the host's root.
    pub fn new(directory: &Path, nodes: Nodes) -> Self {
        let below = ["etc/cdi", "var/run/cdi", "run/cdi"].map(|dir| nodes.host_root.join(dir));
        let places = std::iter::once(directory.to_owned()).chain(below).collect();
        Self {
            directory: directory.to_owned(),
            nodes,
            driver: Mutex::new(driver::Cache::new(places)),
        }
    }

    /// Ids of the devices that have a file, for example from an agent before this one. Leftovers of
    /// unfinished writes are removed.
    ///
    /// # Errors
    /// One sentence: the directory cannot be made or read.
    pub fn known(&self) -> Result<Vec<String>, String> {
        files::list(&self.directory, KIND).map_err(|error| {
            let directory = self.directory.display();
            format!(
                "CDI spec files cannot be kept in {directory} ({error}), so no device is offered; check cdi.dir of the chart (--cdi-dir)."
            )
        })
    }

    /// Writes the file of a device, whole and synced, unless it says the same already. Returns the
    /// device's fully qualified name.
    ///
    /// # Errors
    /// A failure of category `cdi`, for the administrator.
    pub fn describe(
        &self,
        id: &str,
        gpu_minor: u32,
        instance: Option<(u32, u32)>,
    ) -> Result<String, Failure> {
        let nodes = self
            .nodes
            .cdi(gpu_minor, instance)
            .map_err(|message| Failure::new("cdi", message))?;
        let driver = self.driver_edits()?;
        let document = document::document(KIND, id, &nodes, driver.as_ref());
        files::write(&self.directory, KIND, id, &document).map_err(|error| {
            let directory = self.directory.display();
            Failure::new(
                "cdi",
                format!("The CDI spec file of {id} cannot be written to {directory}: {error}."),
            )
        })?;
        Ok(format!("{KIND}={id}"))
    }

    /// Removes the file of a device. That there is none is as good.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, id: &str) -> std::io::Result<()> {
        files::remove(&self.directory, KIND, id)
    }

    /// None on a host without NVIDIA's kernel driver: there is nothing to take over for GPUs that
    /// are simulated.
    fn driver_edits(&self) -> Result<Option<DriverEdits>, Failure> {
        let found = self
            .driver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look();
        match found {
            Found::Edits(edits) => Ok(Some(edits)),
            Found::Nothing if !self.nodes.has_driver() => Ok(None),
            Found::Nothing => Err(Failure::new(
                "cdi",
                "No CDI spec of NVIDIA's toolkit with the driver's libraries is in /etc/cdi or /var/run/cdi of the node: \
                 turn CDI on in the GPU operator, or run `nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml` there, \
                 or set deviceListStrategy of the chart to volume-mounts.",
            )),
            Found::Unreadable(why) => Err(Failure::new("cdi", why)),
        }
    }
}

#[cfg(test)]
mod tests;

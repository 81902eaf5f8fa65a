//! Before the agent can run: the driver, the hardware, and whether the node was rebooted.

use std::path::Path;

use nvml_mig::EventWatch;
use tokio::sync::oneshot;

use crate::args::Args;
use crate::driver::{Driver, Hardware, Real, find_library};
use crate::exit::Error;
use crate::journal::{Journal, Record, Recorded};
use crate::metrics::Metrics;
use crate::node::Found;

/// Opens NVML on its thread. The receiver resolves when that thread has ended.
pub(super) async fn open_driver(
    args: &Args,
    metrics: Metrics,
) -> Result<(Driver, oneshot::Receiver<()>, Option<EventWatch>), Error> {
    let library = match (&args.nvml_library, &args.driver_root) {
        (Some(library), _) => Some(library.clone()),
        (None, Some(root)) => {
            Some(find_library(root).ok_or_else(|| Error::NoLibrary(root.clone()))?)
        }
        (None, None) => None,
    };
    let (watching, watch) = oneshot::channel();
    let open = move || {
        let real = Real::open(library.as_deref()).map_err(Error::Nvml)?;
        // Received below, as soon as this has ended.
        let _ = watching.send(real.watch());
        Ok::<_, Error>(real)
    };
    let (driver, ended) = Driver::start(open, metrics).await?;
    Ok((driver, ended, watch.await.ok().flatten()))
}

/// Everything NVML knows, once, and a sentence for what it cannot tell.
pub(super) async fn look(driver: &Driver) -> Result<(Vec<Found>, Option<String>), Error> {
    let all = driver.look("enumerate", |hardware: &dyn Hardware| {
        let mut problems = hardware.unreadable();
        let mut found = Vec::new();
        for info in hardware.gpus() {
            let (index, uuid) = (info.index, info.uuid.clone());
            let model = hardware.model(&uuid);
            match model.and_then(|model| Ok((model, hardware.view(&uuid)?))) {
                Ok((model, view)) => found.push(Found { info, model, view }),
                Err(failure) => problems.push(format!(
                    "GPU {index} is left out until the agent is started again: {}.",
                    failure.message
                )),
            }
        }
        Ok((
            found,
            Some(problems.join(" ")).filter(|text| !text.is_empty()),
        ))
    });
    all.await.map_err(|failure| Error::Gpus(failure.message))
}

/// After a reboot, what the journal says of hardware is void.
pub(super) async fn take_over_boot(journal: &Journal, recorded: &mut Recorded, boot_id: &str) {
    let boot = Record::Boot {
        id: boot_id.to_owned(),
    };
    // Without an id, what the journal says is as good as anything.
    if boot_id.is_empty() || recorded.boot.as_deref() == Some(boot_id) {
        return;
    }
    if recorded.boot.is_some() {
        tracing::info!("The node was rebooted; its instances are gone");
    }
    recorded.apply(&boot);
    if let Err(error) = journal.write(vec![boot]).await {
        tracing::error!(%error, "The journal cannot be written; no device can be granted");
    }
}

/// The kernel's boot id; empty where the host's `/proc` does not have it.
pub(super) fn boot_id(proc_dir: &Path) -> String {
    let path = proc_dir.join("sys/kernel/random/boot_id");
    match std::fs::read_to_string(&path) {
        Ok(id) => id.trim().to_owned(),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "No boot id; a reboot goes unnoticed in the journal");
            String::new()
        }
    }
}

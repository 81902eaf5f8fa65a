//! Errors that GPUs report of themselves.

use std::time::Duration;

use crate::{
    error::Error,
    nvml::Nvml,
    processes::NO_INSTANCE,
    raw::{Device, EventSet, RawEvent},
};

/// An XID: the driver's number for an error of a GPU or of a program on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xid {
    /// The GPU's uuid.
    pub gpu: String,
    /// The number, as in NVIDIA's list of XIDs.
    pub number: u64,
    /// GPU instance, if the error is confined to one.
    pub gi_id: Option<u32>,
    /// Compute instance, if the error is confined to one.
    pub ci_id: Option<u32>,
}

/// A queue of XIDs. It can move to a thread of its own, and keeps the library loaded.
pub struct EventWatch {
    set: EventSet,
    watched: Vec<(Device, String)>,
}

impl Nvml {
    /// Starts to collect the XIDs of all GPUs that report any. Earlier ones are lost; later ones
    /// queue until they are asked for.
    pub fn watch_events(&self) -> Result<EventWatch, Error> {
        let set =
            EventSet::new(self.library.clone()).map_err(|failure| failure.into_error(None))?;
        let mut watched = Vec::new();
        for gpu in &self.gpus {
            match set.add_xids(gpu.device) {
                Ok(true) => watched.push((gpu.device, gpu.uuid.clone())),
                Ok(false) => tracing::debug!(gpu = gpu.uuid, "the GPU does not report XIDs"),
                Err(failure) => return Err(failure.into_error(Some(&gpu.uuid))),
            }
        }
        Ok(EventWatch { set, watched })
    }
}

impl EventWatch {
    /// Whether any GPU reports XIDs; without one, waiting is pointless.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Waits for the next XID; none within the time. The time is cut to whole milliseconds and to
    /// 49 days, which is all that NVML can count.
    pub fn wait(&self, limit: Duration) -> Result<Option<Xid>, Error> {
        let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let event = self
            .set
            .wait(milliseconds)
            .map_err(|failure| failure.into_error(None))?;
        match event {
            Some(event) if event.is_xid => self.xid(event).map(Some),
            _ => Ok(None),
        }
    }

    fn xid(&self, event: RawEvent) -> Result<Xid, Error> {
        // By handle first: a GPU that fell off the bus cannot tell its name any more.
        let known = self
            .watched
            .iter()
            .find(|(device, _)| *device == event.device);
        let gpu = if let Some((_, uuid)) = known {
            uuid.clone()
        } else {
            let asked = self.set.library().uuid(event.device);
            asked.map_err(|failure| failure.into_error(None))?
        };
        let some = |id: u32| Some(id).filter(|id| *id != NO_INSTANCE);
        Ok(Xid {
            gpu,
            number: event.data,
            gi_id: some(event.gi_id),
            ci_id: some(event.ci_id),
        })
    }
}

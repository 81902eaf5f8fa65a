//! Watches the plugin directory: a kubelet that restarts deletes every socket there and makes its own
//! anew, and another plugin for the same devices shows by its socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::endpoint::SocketId;
use crate::socket;

/// The directory as last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// The kubelet's socket, if it is there.
    pub(crate) kubelet: Option<SocketId>,
    /// File names of the sockets on which plugins listen that we yield to.
    pub(crate) rivals: Arc<[String]>,
    /// Rises with every look.
    pub(crate) looks: u64,
}

/// Starts to look; every look is sent. `prefixes` begin the names of the sockets that we yield to.
pub(crate) async fn watch(
    dir: PathBuf,
    prefixes: Vec<String>,
    recheck: Duration,
    patience: Duration,
    shutdown: CancellationToken,
) -> (watch::Receiver<Directory>, impl Future<Output = ()>) {
    let mut events = match events(&dir) {
        Ok(events) => Some(events),
        Err(error) => {
            tracing::warn!(
                %error,
                "Failed to watch the kubelet's plugin directory; a kubelet restart is noticed later"
            );
            None
        }
    };
    let first = Directory {
        kubelet: socket::kubelet(&dir),
        rivals: socket::rivals(&dir, &prefixes, patience).await,
        looks: 0,
    };
    let (sender, receiver) = watch::channel(first);
    let run = async move {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(recheck) => {}
                () = next(&mut events) => {}
            }
            let rivals = socket::rivals(&dir, &prefixes, patience).await;
            sender.send_modify(|directory| {
                directory.kubelet = socket::kubelet(&dir);
                directory.rivals = rivals;
                directory.looks += 1;
            });
        }
    };
    (receiver, run)
}

fn events(dir: &Path) -> std::io::Result<EventStream<[u8; 1024]>> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM;
    inotify.watches().add(dir, mask)?;
    inotify.into_event_stream([0; 1024])
}

/// Ends at the next event; never without inotify.
async fn next(events: &mut Option<EventStream<[u8; 1024]>>) {
    match events {
        Some(stream) => {
            if !matches!(stream.next().await, Some(Ok(_))) {
                *events = None;
            }
        }
        None => std::future::pending().await,
    }
}

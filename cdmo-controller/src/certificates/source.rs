//! Where this process takes its certificates from: files of somebody else, or a [`Keeper`].

use std::time::Duration;

use kube::Client;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Error, Keeper, keeper::Names};
use crate::exit;

/// How often files of somebody else are looked at.
const EVERY: Duration = Duration::from_secs(30);
/// Attempts to reach the API server at the start, a second longer apart each time.
const ATTEMPTS: u32 = 6;

/// Certificates that are in use, and who renews them.
pub struct Source {
    tls: mtls::Reloading,
    keeper: Option<Keeper>,
}

impl Source {
    /// Reads the files, after making them if there is a client to do it with.
    pub async fn open(
        client: Option<Client>,
        names: Names,
        files: mtls::TlsFiles,
    ) -> Result<Self, exit::Error> {
        let keeper = client.map(|client| Keeper::new(client, names, files.clone()));
        if let Some(keeper) = &keeper {
            first(keeper).await?;
        }
        let tls = mtls::Reloading::load(files)?;
        Ok(Self { tls, keeper })
    }

    /// What is in use.
    pub fn tls(&self) -> &mtls::Reloading {
        &self.tls
    }

    /// Follows what changes, in a task, until `shutdown`.
    pub fn follow(self, tasks: &TaskTracker, shutdown: CancellationToken) {
        let Self { tls, keeper } = self;
        match keeper {
            Some(keeper) => tasks.spawn(keeper.run(tls, shutdown)),
            None => tasks.spawn(async move { tls.watch(EVERY, shutdown).await }),
        };
    }
}

/// The API server may come up after us; what it forbids it will go on forbidding.
async fn first(keeper: &Keeper) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        match keeper.settle().await {
            Ok(_) => return Ok(()),
            Err(error) if attempt == ATTEMPTS || error.is_final() => return Err(error),
            Err(error) => tracing::warn!(attempt, "{error}; trying again"),
        }
        sleep(Duration::from_secs(1) * attempt).await;
        attempt += 1;
    }
}

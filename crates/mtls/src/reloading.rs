//! The configuration of the moment, replaced when the files change.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};
use tokio::{task::spawn_blocking, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    configs::Configs,
    error::Error,
    files::{Contents, TlsFiles},
};

/// Certificates that follow their files. Clones share one state.
#[derive(Clone, Debug)]
pub struct Reloading {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    files: TlsFiles,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    contents: Contents,
    configs: Configs,
}

impl Reloading {
    /// Reads and checks the files. Blocks for as long as three small files take; meant for start.
    pub fn load(files: TlsFiles) -> Result<Self, Error> {
        let current = ArcSwap::from_pointee(Current::load(&files)?);
        Ok(Self {
            inner: Arc::new(Inner { files, current }),
        })
    }

    /// Looks at the files every `interval` until `shutdown`, and takes over what is new. Files that
    /// cannot be used are logged once and the old ones stay in force.
    ///
    /// The files are polled and compared by content: a Secret volume swaps a symlink, of which a
    /// watch on the file itself never hears.
    pub async fn watch(&self, interval: Duration, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut complained = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.reload().await {
                Ok(changed) => {
                    if changed {
                        let path = self.inner.files.cert.display();
                        tracing::info!("the certificates changed; new connections use {path}");
                    }
                    complained = None;
                }
                Err(error) => {
                    let sentence = error.to_string();
                    if complained.as_ref() != Some(&sentence) {
                        tracing::error!(
                            category = error.category(),
                            "the old certificates stay in use: {sentence}"
                        );
                        complained = Some(sentence);
                    }
                }
            }
        }
    }

    /// Reads the files again now. Returns whether they had changed.
    pub async fn reload(&self) -> Result<bool, Error> {
        let inner = self.inner.clone();
        match spawn_blocking(move || inner.reload()).await {
            Ok(result) => result,
            // The runtime is shutting down; nobody will use the answer.
            Err(_) => Ok(false),
        }
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.inner.current.load().configs.server.clone()
    }

    pub(crate) fn open(&self) -> Arc<ServerConfig> {
        self.inner.current.load().configs.open.clone()
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.inner.current.load().configs.client.clone()
    }
}

impl Inner {
    fn reload(&self) -> Result<bool, Error> {
        let contents = self.files.read()?;
        if self.current.load().contents == contents {
            return Ok(false);
        }
        self.current
            .store(Arc::new(Current::parse(&self.files, contents)?));
        Ok(true)
    }
}

impl Current {
    fn load(files: &TlsFiles) -> Result<Self, Error> {
        Self::parse(files, files.read()?)
    }

    fn parse(files: &TlsFiles, contents: Contents) -> Result<Self, Error> {
        let configs = Configs::build(files, files.parse(&contents)?)?;
        Ok(Self { contents, configs })
    }
}

//! The Python of this machine, used only to fetch and to run what is on PyPI.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use crate::program::said;

/// A python3 with a pip.
#[derive(Debug)]
pub(crate) struct Python {
    program: PathBuf,
    cache: PathBuf,
}

impl Python {
    /// The machine's own, or a virtual environment of it where it has no pip.
    pub(crate) async fn find(cache: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&cache)
            .with_context(|| format!("failed to make {}", cache.display()))?;
        if !works("python3", &["--version"]).await {
            bail!(
                "there is no python3 on this machine; install it (Debian: apt install python3-pip)"
            );
        }
        if works("python3", &["-m", "pip", "--version"]).await {
            return Ok(Self {
                program: PathBuf::from("python3"),
                cache,
            });
        }
        let environment = cache.join("venv");
        let program = environment.join("bin/python3");
        let path = environment.display().to_string();
        if !program.exists() && !works("python3", &["-m", "venv", &path]).await {
            bail!(
                "python3 has neither pip nor venv; install one (Debian: apt install python3-pip)"
            );
        }
        Ok(Self { program, cache })
    }

    /// To run scripts with.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Where fetched things are kept.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// Runs pip, a second time if the first failed: registries have bad moments.
    pub(crate) async fn pip(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let run = || {
            let mut command = Command::new(&self.program);
            command
                .args(["-m", "pip", "--quiet", "--disable-pip-version-check"])
                .args(arguments);
            said(command)
        };
        if run().await.is_err() {
            run().await.context("failed to fetch from PyPI")?;
        }
        Ok(())
    }
}

async fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments);
    said(command).await.is_ok()
}

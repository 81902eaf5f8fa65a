//! The client of the API server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::timeout::TimeoutLayer;

/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time until an answer begins. A watch answers at once and then streams; a page of a list is small.
const ANSWER: Duration = Duration::from_secs(15);
/// Time that a connection may be silent in the middle of an answer; a list that stalls would hang for
/// ever. Longer than the server keeps a quiet watch open (see [`crate::watches`]).
const SILENCE: Duration = Duration::from_mins(3);

/// The cluster's address or credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or understood.
    #[error("failed to use the kubeconfig {path}: {source}; check --kubeconfig", path = path.display(), source = first_line(source))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// There is no file, and this is no pod either.
    #[error(
        "failed to find the cluster: {source}; run as a pod with a service account, or name a file \
         with --kubeconfig"
    )]
    InCluster {
        /// What is missing.
        source: kube::config::InClusterError,
    },
    /// Certificates or tokens in it cannot be used.
    #[error("failed to make a client for {url}: {source}; check its certificates and credentials")]
    Client {
        /// The API server.
        url: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// A parser's message shows the place in the file over several lines; the first says what and where.
fn first_line(error: &kube::config::KubeconfigError) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A client for the cluster of this kubeconfig, or of this pod.
///
/// It never retries by itself: the library would, for minutes, and a write must not outlive the
/// reason for it.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, Error> {
    let mut config = match kubeconfig {
        Some(path) => {
            let wrap = |source| Error::Kubeconfig {
                path: path.to_owned(),
                source,
            };
            let file = Kubeconfig::read_from(path).map_err(wrap)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(wrap)?
        }
        None => Config::incluster().map_err(|source| Error::InCluster { source })?,
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let url = config.cluster_url.to_string();
    let builder = ClientBuilder::try_from(config).map_err(|source| Error::Client {
        url,
        source: Box::new(source),
    })?;
    Ok(builder.with_layer(&TimeoutLayer::new(ANSWER)).build())
}

/// Whether asking again would be answered the same way: the server understood, and refused for good.
pub fn is_refusal(error: &kube::Error) -> bool {
    // Too slow, and too many at once.
    const PASSING: [u16; 2] = [408, 429];
    matches!(error, kube::Error::Api(status)
        if (400..500).contains(&status.code) && !PASSING.contains(&status.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bad_kubeconfig_is_named_in_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let missing = connect(Some(&path)).await.err().unwrap().to_string();
        assert!(missing.contains(path.to_str().unwrap()) && missing.contains("--kubeconfig"));
        std::fs::write(&path, "clusters: {").unwrap();
        let garbled = connect(Some(&path)).await.err().unwrap().to_string();
        assert!(garbled.contains(path.to_str().unwrap()), "{garbled}");
    }
}

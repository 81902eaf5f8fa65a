//! The webhook as a process of its own: `cdmo-controller webhook`.
//!
//! It answers the API server's questions about new and changed objects, by the rules of the crate
//! `admission`, and knows nothing of the cluster: it has no token and calls nobody. So any number of
//! replicas can serve, also while the controller is away or being replaced. Its certificate is made
//! by the controller and comes as mounted files ([`crate::certificates`]).

mod connections;
mod desk;
mod metrics;
mod places;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Args, exit::Error};

pub use connections::{Connections, serve};
pub use desk::{Desk, MOST_BYTES};
pub use metrics::Metrics;

/// How often the certificate's files are looked at.
const EVERY: Duration = Duration::from_secs(30);
/// How often they are looked for while there are none that can be used.
const AT_FIRST: Duration = Duration::from_secs(1);
/// Everything has ended so long after the last request, or is left behind.
const GRACE: Duration = Duration::from_secs(10);

/// Handshakes of who connects. Anybody may, so there are more of them than between controller and agents,
/// and they have as long as API servers wait for an answer.
pub const HANDSHAKES: mtls::Limits = mtls::Limits {
    handshakes: 256,
    handshake_timeout: Duration::from_secs(3),
};

/// How the webhook serves, and what it does.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the API server reaches the webhook, with HTTPS.
    #[arg(
        long,
        env = "CDMO_WEBHOOK_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:7446"
    )]
    pub listen: SocketAddr,

    /// Do not serve the pod label clearml-injector/fraction: ClearML's fractional GPU injector does.
    #[arg(long, env = "CDMO_NO_LABEL")]
    pub no_label: bool,

    /// Do not serve the pod annotation gpu-fraction: somebody else does.
    #[arg(long, env = "CDMO_NO_ANNOTATION")]
    pub no_annotation: bool,

    /// The scheduling gate that new pods get that ask for slices [default: none]. Only for API servers
    /// that know gates, and only the one that the controller removes again.
    #[arg(long, env = "CDMO_SCHEDULING_GATE", value_name = "NAME")]
    pub scheduling_gate: Option<String>,

    /// How long requests are still taken after the process was told to end, in seconds: so long it
    /// takes until API servers know that it is no longer there.
    #[arg(
        long,
        env = "CDMO_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 5
    )]
    pub drain_seconds: u64,
}

impl Options {
    /// What it does with objects; nothing with those in this namespace.
    pub fn admission(&self, own_namespace: String) -> admission::Options {
        admission::Options {
            own_namespace,
            label: !self.no_label,
            annotation: !self.no_annotation,
            gate: self.scheduling_gate.clone(),
        }
    }
}

/// Runs the webhook until `shutdown`.
pub async fn run(args: Args, options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let https = serving::bind(options.listen, "admission reviews", "--listen").await?;
    let http = serving::bind(args.http_listen, "probes and metrics", "--http-listen").await?;
    let registry = serving::http::registry();
    let metrics = Metrics::new(&registry)?;
    let readiness = serving::Readiness::new();
    let certificate = readiness.condition("certificate");
    let tasks = TaskTracker::new();
    let end = CancellationToken::new();
    let router = serving::http::router(registry, readiness);
    tasks.spawn(serving::serve(http, router, end.clone()));

    let loaded = certificate_of(args.tls.files(), &certificate);
    if let Some(tls) = shutdown.run_until_cancelled(loaded).await {
        certificate.met();
        let watched = tls.clone();
        let stop = end.clone();
        tasks.spawn(async move { watched.watch(EVERY, stop).await });
        let accepted = tls.accept_anybody(TcpListenerStream::new(https), HANDSHAKES, end.clone());
        let desk = Arc::new(Desk::new(options.admission(args.namespace), metrics));
        tasks.spawn(serve(accepted, desk, Connections::default(), end.clone()));
        tracing::info!(listen = %options.listen, "the webhook serves");
        shutdown.cancelled().await;
        certificate.unmet("the process was told to end");
        sleep(Duration::from_secs(options.drain_seconds)).await;
    }
    end.cancel();
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("some requests did not end in {GRACE:?} and are left behind");
    }
    Ok(())
}

/// Waits until there are files that can be used: the controller may still be making them.
async fn certificate_of(files: mtls::TlsFiles, condition: &serving::Condition) -> mtls::Reloading {
    let mut complained = String::new();
    loop {
        match mtls::Reloading::load(files.clone()) {
            Ok(tls) => return tls,
            Err(error) => {
                let sentence = error.to_string();
                if sentence != complained {
                    tracing::warn!(category = error.category(), "not ready yet: {sentence}");
                    condition.unmet(sentence.clone());
                    complained = sentence;
                }
            }
        }
        sleep(AT_FIRST).await;
    }
}

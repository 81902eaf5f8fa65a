//! From connections to requests: HTTP/1.1, as API servers speak it with webhooks, with a bound on how
//! many connections there are and on how long one may say nothing.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::desk::Desk;

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// How many there may be; further ones wait in the listener's backlog.
    pub most: usize,
    /// Time from the end of the handshake to the end of the first request's headers.
    pub first: Duration,
    /// Time from one answer to the end of the next request's headers. API servers keep a connection
    /// for 90 seconds, and should be those who close it: they would lose a request that is on its way.
    pub idle: Duration,
    /// Bytes of a request's headers.
    pub headers: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            most: 512,
            first: Duration::from_secs(10),
            idle: Duration::from_mins(2),
            headers: 32 * 1024,
        }
    }
}

/// Serves until `shutdown`; then lets requests under way end, and returns when they have.
pub async fn serve<IO>(
    mut accepted: impl Stream<Item = io::Result<IO>> + Unpin,
    desk: Arc<Desk>,
    limits: Connections,
    shutdown: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(limits.most));
    let tasks = TaskTracker::new();
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, accepted.next().await)
        };
        let (permit, stream) = tokio::select! {
            () = shutdown.cancelled() => break,
            (permit, next) = next => match next {
                Some(Ok(stream)) => (permit, stream),
                Some(Err(_)) => continue,
                None => break,
            },
        };
        let (desk, shutdown) = (desk.clone(), shutdown.clone());
        tasks.spawn(async move {
            let _permit = permit;
            converse(stream, desk, limits, shutdown).await;
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// One connection to its end.
async fn converse<IO>(stream: IO, desk: Arc<Desk>, limits: Connections, shutdown: CancellationToken)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.reply(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.headers)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut first = pin!(sleep_until(Instant::now() + limits.first));
    let (mut waiting, mut ending) = (true, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            () = first.as_mut(), if waiting => {
                waiting = false;
                if !asked.load(Ordering::Relaxed) {
                    tracing::debug!("a client said nothing and was dropped");
                    return;
                }
            }
            () = shutdown.cancelled(), if !ending => {
                ending = true;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

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
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    desk::Desk,
    places::{Place, Places},
};

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// How many there may be; for a further one that goes that has waited longest for a request.
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

/// Time for what is left of an answer when the connection's place was given away.
const LAST: Duration = Duration::from_secs(1);

/// Serves until `shutdown`; then lets requests under way end, and returns when they have.
pub async fn serve<IO>(
    mut accepted: impl Stream<Item = io::Result<IO>> + Unpin,
    desk: Arc<Desk>,
    limits: Connections,
    shutdown: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Places::new(limits.most);
    let tasks = TaskTracker::new();
    loop {
        let next = async {
            let stream = accepted.next().await?;
            // Who did not come has no place to be taken from anybody.
            let place = match &stream {
                Ok(_) => Some(places.take().await?),
                Err(_) => None,
            };
            Some(stream.ok().zip(place))
        };
        let (stream, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => match next {
                Some(Some(next)) => next,
                Some(None) => continue,
                None => break,
            },
        };
        tasks.spawn(converse(
            stream,
            desk.clone(),
            limits,
            place,
            shutdown.clone(),
        ));
    }
    tasks.close();
    tasks.wait().await;
}

/// One connection to its end.
async fn converse<IO>(
    stream: IO,
    desk: Arc<Desk>,
    limits: Connections,
    place: Place,
    shutdown: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        place.is_busy();
        let (desk, place) = (&desk, &place);
        async move {
            let response = desk.reply(request).await;
            place.is_idle();
            Ok::<_, Infallible>(response)
        }
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
            () = place.given_away() => {
                tracing::debug!("an idle connection was closed for another one");
                if asked.load(Ordering::Relaxed) {
                    connection.as_mut().graceful_shutdown();
                    let _ = timeout(LAST, connection).await;
                }
                return;
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

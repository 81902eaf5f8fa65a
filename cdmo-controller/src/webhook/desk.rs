//! From a request to an answer: what is no review is turned away in one sentence, and everything else
//! goes through `admission::answer`.
//!
//! Bodies in memory are bounded by their bytes, and large ones are looked at one at a time and off the
//! runtime's threads, so that the small ones of everybody else do not wait for them.

use std::{sync::Arc, time::Duration};

use admission::Answer;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::metrics::{Metrics, Outcome};

/// Where reviews are taken.
const PATH: &str = "/mutate";
/// Longest body. API servers send an object and what it was before, and etcd takes 1.5 MiB of each
/// (its default; 3 MiB are found in practice).
pub const MOST_BYTES: usize = 8 * 1024 * 1024;
/// What is read of a longer one before it is refused: who is still sending does not listen.
const MOST_DROPPED: usize = 4 * MOST_BYTES;
/// Bytes of all bodies at once.
const MOST_HELD: usize = 4 * MOST_BYTES;
/// From here on a body is large.
const LARGE: usize = 128 * 1024;
/// Time for a body to come.
const READING: Duration = Duration::from_secs(10);
/// Time that a request may wait for room: longer, and the API server no longer waits for the answer.
const WAITING: Duration = Duration::from_secs(5);
/// Room is counted in so many bytes.
const UNIT: usize = 1024;

/// Answers requests.
#[derive(Debug)]
pub struct Desk {
    options: Arc<admission::Options>,
    metrics: Metrics,
    room: Arc<Semaphore>,
    one_large: Arc<Semaphore>,
}

/// Why there is no answer: a code and a sentence.
struct Refusal {
    code: StatusCode,
    outcome: Outcome,
    text: String,
}

impl Refusal {
    fn malformed(code: StatusCode, text: impl Into<String>) -> Self {
        Self {
            code,
            outcome: Outcome::Malformed,
            text: text.into(),
        }
    }

    fn busy() -> Self {
        Self {
            code: StatusCode::SERVICE_UNAVAILABLE,
            outcome: Outcome::Busy,
            text: "the webhook has too much to do: try again".to_owned(),
        }
    }

    fn too_long() -> Self {
        let text = format!(
            "the request body is longer than {} MiB, the most that the webhook reads",
            MOST_BYTES / 1024 / 1024
        );
        Self::malformed(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    fn too_slow() -> Self {
        let text = format!("the request body did not come within {READING:?}");
        Self::malformed(StatusCode::REQUEST_TIMEOUT, text)
    }
}

impl Desk {
    /// A desk that answers by these options.
    pub fn new(options: admission::Options, metrics: Metrics) -> Self {
        Self {
            options: Arc::new(options),
            metrics,
            room: Arc::new(Semaphore::new(MOST_HELD / UNIT)),
            one_large: Arc::new(Semaphore::new(1)),
        }
    }

    /// The answer to a request, whatever it is.
    pub async fn reply<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        let began = Instant::now();
        let (outcome, response) = match self.answer(request).await {
            Ok(Answer { body, decision }) => (Outcome::of(&decision), response(body)),
            Err(refusal) => {
                tracing::debug!(code = refusal.code.as_u16(), "{}", refusal.text);
                (refusal.outcome, refused(&refusal))
            }
        };
        self.metrics.answered(outcome, began.elapsed());
        response
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        must_be_a_review(&request)?;
        let body = request.into_body();
        // Who does not say how long it is may send the longest.
        let announced = body.size_hint().exact().map(usize::try_from);
        let length = match announced {
            Some(Ok(length)) if length <= MOST_BYTES => length,
            Some(_) => {
                drop_rest(body).await;
                return Err(Refusal::too_long());
            }
            None => MOST_BYTES,
        };
        // Until the answer is made.
        let _room = self.make_room(length).await?;
        let body = read(body, length).await?;
        if body.len() < LARGE {
            return judge(&body, &self.options);
        }
        let Ok(Ok(one)) = timeout(WAITING, self.one_large.clone().acquire_owned()).await else {
            return Err(Refusal::busy());
        };
        let options = self.options.clone();
        let judged = spawn_blocking(move || {
            let _one = one;
            judge(&body, &options)
        });
        // It fails only while the runtime ends.
        judged.await.unwrap_or_else(|_| Err(Refusal::busy()))
    }

    async fn make_room(&self, length: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(length.div_ceil(UNIT)).map_err(|_| Refusal::too_long())?;
        match timeout(WAITING, self.room.clone().acquire_many_owned(units)).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(Refusal::busy()),
        }
    }
}

fn must_be_a_review<B>(request: &Request<B>) -> Result<(), Refusal> {
    if request.uri().path() != PATH {
        let text = format!("there is nothing here: the webhook takes reviews at {PATH}");
        return Err(Refusal::malformed(StatusCode::NOT_FOUND, text));
    }
    if request.method() != Method::POST {
        let text = format!(
            "the webhook takes reviews by POST, not by {}",
            request.method()
        );
        return Err(Refusal::malformed(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let kind = request.headers().get(CONTENT_TYPE);
    let is_json = kind
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| {
            let media_type = kind.split(';').next().unwrap_or_default().trim();
            media_type.eq_ignore_ascii_case("application/json")
        });
    if !is_json {
        let text = "the Content-Type of a review must be application/json";
        return Err(Refusal::malformed(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(())
}

/// The whole body, if it is no longer than `most`.
async fn read<B>(mut body: B, most: usize) -> Result<Vec<u8>, Refusal>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let text = format!("the request body broke off: {error}");
                Refusal::malformed(StatusCode::BAD_REQUEST, text)
            })?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > most {
                    return Ok(false);
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(true)
    };
    match timeout(READING, reading).await {
        Ok(Ok(true)) => Ok(bytes),
        Ok(Ok(false)) => {
            drop_rest(body).await;
            Err(Refusal::too_long())
        }
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(Refusal::too_slow()),
    }
}

/// Reads on for a while and keeps nothing.
async fn drop_rest<B>(mut body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut dropped = 0;
    let dropping = async {
        while let Some(Ok(frame)) = body.frame().await {
            dropped += frame.data_ref().map_or(0, Bytes::len);
            if dropped > MOST_DROPPED {
                return;
            }
        }
    };
    // Late or not, then it is refused.
    let _ = timeout(READING, dropping).await;
}

fn judge(body: &[u8], options: &admission::Options) -> Result<Answer, Refusal> {
    admission::answer(body, options)
        .map_err(|error| Refusal::malformed(StatusCode::BAD_REQUEST, error.to_string()))
}

fn response(body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    let text = format!("{}\n", refusal.text);
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = refusal.code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    if refusal.code == StatusCode::METHOD_NOT_ALLOWED {
        let post = HeaderValue::from_static("POST");
        response.headers_mut().insert(ALLOW, post);
    }
    response
}

#[cfg(test)]
mod tests;

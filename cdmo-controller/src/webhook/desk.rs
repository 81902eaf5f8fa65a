//! From a request to an answer: what is no review is turned away in one sentence, and everything else
//! goes through `admission::answer`.
//!
//! Memory is bounded: that of bodies as their bytes come, and that of reviews by what they weigh, which
//! is told from their bytes before they are parsed. Small ones need no room, so that they never wait for
//! large ones, which are looked at off the runtime's threads.

use std::{sync::Arc, time::Duration};

use admission::Answer;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE},
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
/// So much of each body needs no room: most have less. Connections bound how often that is (16 MiB).
const FREE_BYTES: usize = 32 * 1024;
/// Bytes of all bodies at once, beyond those.
const MOST_HELD: usize = 3 * MOST_BYTES;
/// Heaviest review. Answering takes at most twice of it: measured, 0.8 for 2.9 MiB of small objects and
/// lists (`{"":0},`, 275 MB if it were let in), 1.6 for a list of resources that is most of the object,
/// 1.95 for one of fractions. Two at once take 160 MiB then, and bodies and connections beside them less
/// than 80; the chart gives the container 256 MiB. What API servers send stays far below: ten thousand
/// containers weigh 28 MiB, an object of 3 MB of text and what it was before 12 MiB.
const MOST_WEIGHT: usize = 40 * 1024 * 1024;
/// All reviews at once, without the light ones.
const MOST_ANSWERED: usize = 2 * MOST_WEIGHT;
/// Up to here a review is light: answered at once where its bytes came, by no more than the runtime's
/// threads.
const LIGHT: usize = 512 * 1024;
/// Time for a body to come: as long as API servers wait for an answer by the chart's default.
const READING: Duration = Duration::from_secs(3);
/// Time that a request may wait for room: longer, and the API server does not wait for the answer.
const WAITING: Duration = Duration::from_secs(1);
/// Room is counted in so many bytes.
const UNIT: usize = 1024;

/// Answers requests.
#[derive(Debug)]
pub struct Desk {
    options: Arc<admission::Options>,
    metrics: Metrics,
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

/// A body, and the room that its bytes have.
struct Held {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
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

    fn too_heavy() -> Self {
        let text = format!(
            "the request body has so many objects and lists that it would take more than {} MiB, the most that the \
             webhook has for a review",
            MOST_WEIGHT / 1024 / 1024
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
            bodies: Arc::new(Semaphore::new(MOST_HELD / UNIT)),
            answers: Arc::new(Semaphore::new(MOST_ANSWERED / UNIT)),
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
        if body.size_hint().lower() > MOST_BYTES as u64 {
            return Err(Refusal::too_long());
        }
        let reading = timeout(READING, self.read(body)).await;
        let held = reading.unwrap_or_else(|_| Err(Refusal::too_slow()))?;
        let weight = admission::weight(&held.bytes);
        if weight > MOST_WEIGHT {
            return Err(Refusal::too_heavy());
        }
        if weight <= LIGHT {
            return judge(&held.bytes, &self.options);
        }
        let room = make_room(&self.answers, weight.div_ceil(UNIT)).await?;
        let options = self.options.clone();
        let judged = spawn_blocking(move || {
            // Until the answer is made, and nothing else is left.
            let _room = (room, held.room);
            judge(&held.bytes, &options)
        });
        // It fails only while the runtime ends.
        judged.await.unwrap_or_else(|_| Err(Refusal::busy()))
    }

    /// The whole body. Its bytes get room as they come, so what never comes takes none.
    async fn read<B>(&self, mut body: B) -> Result<Held, Refusal>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        let mut bytes = Vec::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let text = format!("the request body broke off: {error}");
                Refusal::malformed(StatusCode::BAD_REQUEST, text)
            })?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            let length = bytes.len() + data.len();
            if length > MOST_BYTES {
                return Err(Refusal::too_long());
            }
            let needed = length.saturating_sub(FREE_BYTES).div_ceil(UNIT);
            let has = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            if needed > has {
                let more = make_room(&self.bodies, needed - has).await?;
                match &mut room {
                    Some(room) => room.merge(more),
                    None => room = Some(more),
                }
            }
            bytes.extend_from_slice(data);
        }
        Ok(Held { bytes, room })
    }
}

async fn make_room(room: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let units = u32::try_from(units).map_err(|_| Refusal::too_long())?;
    match timeout(WAITING, room.clone().acquire_many_owned(units)).await {
        Ok(Ok(room)) => Ok(room),
        _ => Err(Refusal::busy()),
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
    if refusal.outcome == Outcome::Malformed {
        // API servers send reviews; who sends something else need not keep a place.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    if refusal.code == StatusCode::METHOD_NOT_ALLOWED {
        let post = HeaderValue::from_static("POST");
        response.headers_mut().insert(ALLOW, post);
    }
    response
}

#[cfg(test)]
mod tests;

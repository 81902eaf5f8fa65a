//! Watches: what exists (if asked for), then what changes, as lines of JSON.
//!
//! Everything that waits when a stream is polled goes out as one chunk, so that a burst of
//! changes costs few writes.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};
use tokio_util::sync::CancellationToken;

use super::accept::Form;
use super::face::Face;
use super::list::{Filter, version_number};
use super::params::Params;
use super::path::Target;
use super::{Server, respond, table};
use crate::store::{self, Cause, Change, Event, Gone, Kind, Status, Store, object};

/// Changes put into one chunk at most.
const CHUNK: usize = 256;
/// What a watch lasts if its client does not say, as in the real server (30 to 60 minutes).
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(45);

pub(super) fn answer(
    server: &Server,
    target: &Target,
    params: &Params,
    form: Form,
) -> Result<Response, Status> {
    let filter = Filter::new(target, params)?;
    let asked = version_number(&params.version)?;
    check_options(params)?;
    let encoder = Encoder {
        kind: target.kind,
        face: target.face,
        form,
        include: table::Include::parse(&params.include_object),
        store: server.store.clone(),
    };
    let from_now = params.initial_events.is_none() && asked == 0;
    let mut pending = String::new();
    let watch = if from_now || params.initial_events == Some(true) {
        let (items, watch) = server.store.list_and_watch(target.kind);
        for item in items.iter().filter(|item| filter.matches(item)) {
            encoder.line(&mut pending, Change::Added.as_str(), item);
        }
        if params.initial_events == Some(true) && params.bookmarks {
            encoder.bookmark(&mut pending, watch.position(), true);
        }
        Ok(watch)
    } else {
        let from = if asked == 0 {
            server.store.version()
        } else {
            asked
        };
        server.store.watch(target.kind, from)
    };
    let watch = match watch {
        Ok(watch) => Some(watch),
        Err(gone) => {
            expire(&mut pending, gone);
            None
        }
    };
    let timeout = params.timeout_seconds.filter(|seconds| *seconds > 0);
    let mut bookmarks = tokio::time::interval_at(
        Instant::now() + server.config.bookmark_every,
        server.config.bookmark_every,
    );
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = Stream {
        encoder,
        filter,
        watch,
        pending,
        bookmarks: params.bookmarks.then_some(bookmarks),
        deadline: Box::pin(tokio::time::sleep(
            timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        )),
        drops: server.config.faults.watch_drops(),
        shutdown: server.shutdown.clone(),
    };
    let body = Body::from_stream(stream::unfold(stream, Stream::step));
    Ok(respond::bytes(StatusCode::OK, "application/json", body))
}

fn check_options(params: &Params) -> Result<(), Status> {
    let refuse = |cause: &Cause| Err(Status::invalid_options("ListOptions.meta.k8s.io", cause));
    match params.initial_events {
        None if !params.version_match.is_empty() => refuse(&Cause::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        Some(_) if params.version_match != "NotOlderThan" => refuse(&Cause::forbidden(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        _ => Ok(()),
    }
}

struct Stream {
    encoder: Encoder,
    filter: Filter,
    /// None once the stream is over.
    watch: Option<store::Watch>,
    pending: String,
    bookmarks: Option<Interval>,
    deadline: Pin<Box<Sleep>>,
    drops: Receiver<u64>,
    shutdown: CancellationToken,
}

type Chunk = io::Result<Bytes>;

impl Stream {
    /// The next chunk, and the stream after it.
    async fn step(mut self) -> Option<(Chunk, Self)> {
        loop {
            if !self.pending.is_empty() {
                let chunk = Bytes::from(std::mem::take(&mut self.pending));
                return Some((Ok(chunk), self));
            }
            let watch = self.watch.as_mut()?;
            let bookmark = async {
                match &mut self.bookmarks {
                    Some(interval) => drop(interval.tick().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                _ = self.drops.changed() => {
                    self.watch = None;
                    let error = io::Error::from(io::ErrorKind::ConnectionReset);
                    return Some((Err(error), self));
                }
                event = watch.next() => match event {
                    Ok(event) => {
                        self.write(&event);
                        self.drain();
                    }
                    Err(gone) => self.end(gone),
                },
                () = bookmark => self.bookmark(),
                () = &mut self.deadline => {
                    self.bookmark();
                    self.watch = None;
                }
            }
        }
    }

    fn write(&mut self, event: &Event) {
        let before = event
            .previous
            .as_deref()
            .is_some_and(|object| self.filter.matches(object));
        let after = event.change != Change::Deleted && self.filter.matches(&event.object);
        match (before, after) {
            (false, false) => {}
            (true, true) => self
                .encoder
                .event(&mut self.pending, Change::Modified, event),
            (false, true) => self.encoder.event(&mut self.pending, Change::Added, event),
            // It may still exist, but for this watch it is gone.
            (true, false) => self
                .encoder
                .event(&mut self.pending, Change::Deleted, event),
        }
    }

    /// Writes what else has happened; true if that is all.
    fn drain(&mut self) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        match watch.take(CHUNK) {
            Ok(events) => {
                for event in &events {
                    self.write(event);
                }
                events.len() < CHUNK
            }
            Err(gone) => {
                self.end(gone);
                false
            }
        }
    }

    fn end(&mut self, gone: Gone) {
        expire(&mut self.pending, gone);
        self.watch = None;
    }

    fn bookmark(&mut self) {
        if self.bookmarks.is_none() {
            return;
        }
        // Read before draining: every change up to here is then in this chunk or an earlier one.
        let version = self.encoder.store.version();
        if self.drain()
            && let Some(watch) = &self.watch
        {
            self.encoder
                .bookmark(&mut self.pending, version.max(watch.position()), false);
        }
    }
}

fn expire(out: &mut String, gone: Gone) {
    line(out, "ERROR", &Status::from(gone).to_value().to_string());
}

fn line(out: &mut String, kind: &str, object: &str) {
    out.push_str("{\"type\":\"");
    out.push_str(kind);
    out.push_str("\",\"object\":");
    out.push_str(object);
    out.push_str("}\n");
}

/// Writes objects in the form that the client wants.
struct Encoder {
    kind: Kind,
    face: Face,
    form: Form,
    include: table::Include,
    store: Store,
}

impl Encoder {
    fn event(&self, out: &mut String, change: Change, event: &Event) {
        if self.form == Form::Whole && self.face == Face::Core {
            line(out, change.as_str(), event.json());
        } else {
            self.line(out, change.as_str(), &event.object);
        }
    }

    fn line(&self, out: &mut String, kind: &str, object: &Value) {
        let text = match self.form {
            Form::Whole => self.face.show(object).to_string(),
            Form::Metadata => respond::metadata(object).to_string(),
            Form::Table => {
                let rows = [table::row(
                    self.kind,
                    object,
                    self.include,
                    self.store.now(),
                )];
                let version = object::text(object, "/metadata/resourceVersion");
                let list = json!({ "resourceVersion": version });
                table::table(self.kind, &list, &rows, true).to_string()
            }
        };
        line(out, kind, &text);
    }

    fn bookmark(&self, out: &mut String, version: u64, initial: bool) {
        let mut metadata = json!({ "resourceVersion": version.to_string() });
        if initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = match self.form {
            Form::Table => table::table(self.kind, &metadata, &[], false),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            }),
            Form::Whole => json!({
                "kind": self.kind.info().kind,
                "apiVersion": self.face.api_version(self.kind),
                "metadata": metadata,
            }),
        };
        line(out, "BOOKMARK", &object.to_string());
    }
}

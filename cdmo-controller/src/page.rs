//! The pages that tell what the controller knows: [`status_report::PATH`] on its HTTP server, and
//! [`status_report::WHAT_IF_PATH`].
//!
//! Reports are made in the loop, for nobody else may look at the world; they are turned into text
//! here, one at a time, so that many readers cost the loop no more than one. It is as public as the
//! metrics: it names nodes and pods, and carries no secrets. From outside the cluster it is read
//! through the API server's proxy, by whom RBAC allows it.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use status_report::{Report, WhatIf};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::timeout,
};

use crate::world::{Supposed, read_supposed};

/// Readers that may wait for the loop.
const MOST_ASKS: usize = 4;
/// How long a report may take, the wait for other readers included.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a reader who wants to hear of changes waits at most. Shorter than what proxies and load
/// balancers leave a silent connection.
pub const LONGEST_WAIT: Duration = Duration::from_secs(25);

/// Somebody wants to know something. The answer is nothing while the controller does not know the
/// cluster yet.
#[derive(Debug)]
pub enum Ask {
    /// How things are.
    Status {
        /// Only of these nodes; of all, if none.
        nodes: Option<Vec<String>>,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<Report>>,
    },
    /// What would become of pods.
    WhatIf {
        /// The pods.
        pods: Vec<Supposed>,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<WhatIf>>,
    },
}

/// What the loop needs of the pages.
#[derive(Debug)]
pub struct Desk {
    /// Who wants a report.
    pub asks: mpsc::Receiver<Ask>,
    /// The world's revision, after each turn.
    pub revision: watch::Sender<u64>,
}

/// The page, and what stands behind it.
pub fn open() -> (Router, Desk) {
    let (sender, asks) = mpsc::channel(MOST_ASKS);
    let (revision, revisions) = watch::channel(0);
    let counter = Counter {
        asks: sender,
        revisions,
        one: Arc::new(Semaphore::new(1)),
    };
    let router = Router::new()
        .route(status_report::PATH, get(status))
        .route(status_report::WHAT_IF_PATH, get(what_if))
        .with_state(counter);
    (router, Desk { asks, revision })
}

#[derive(Clone)]
struct Counter {
    asks: mpsc::Sender<Ask>,
    revisions: watch::Receiver<u64>,
    one: Arc<Semaphore>,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    nodes: Option<String>,
    after: Option<u64>,
}

async fn status(State(counter): State<Counter>, Query(wanted): Query<Wanted>) -> Response {
    if let Some(after) = wanted.after {
        let mut revisions = counter.revisions.clone();
        let changed = revisions.wait_for(|revision| *revision != after);
        // Whoever waits in vain gets the same report again, and knows that we live.
        let _ = timeout(LONGEST_WAIT, changed).await;
    }
    let nodes = wanted
        .nodes
        .map(|list| list.split(',').map(str::to_owned).collect());
    counter.ask(|answer| Ask::Status { nodes, answer }).await
}

#[derive(Debug, Deserialize)]
struct Question {
    pods: String,
}

async fn what_if(State(counter): State<Counter>, Query(question): Query<Question>) -> Response {
    match read_supposed(&question.pods) {
        Ok(pods) => counter.ask(|answer| Ask::WhatIf { pods, answer }).await,
        Err(sentence) => (StatusCode::BAD_REQUEST, sentence).into_response(),
    }
}

impl Counter {
    /// Puts a question to the loop, and its answer into words.
    async fn ask<T: Serialize>(
        &self,
        question: impl FnOnce(oneshot::Sender<Option<T>>) -> Ask,
    ) -> Response {
        match timeout(PATIENCE, self.text(question)).await {
            Ok(response) => response,
            Err(_) => unavailable("the controller is too busy to answer; try again"),
        }
    }

    async fn text<T: Serialize>(
        &self,
        question: impl FnOnce(oneshot::Sender<Option<T>>) -> Ask,
    ) -> Response {
        let Ok(_permit) = self.one.acquire().await else {
            return unavailable("the controller is ending");
        };
        let (sender, answer) = oneshot::channel();
        if self.asks.send(question(sender)).await.is_err() {
            return unavailable("the controller is ending");
        }
        let answer = match answer.await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                return unavailable("pods, nodes and agents are not all listed yet");
            }
            Err(_) => return unavailable("the controller is ending"),
        };
        match serde_json::to_vec(&answer) {
            Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
            Err(error) => {
                let text = format!("failed to write the answer: {error}\n");
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        }
    }
}

fn unavailable(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

#[cfg(test)]
mod tests;

//! How many connections there may be, and whose place is given away when somebody else comes: that of
//! the one that has waited longest for a request, and first of those who never sent any.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::locking::lock;

/// All places; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    permits: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
    one_more_waits: Arc<Notify>,
}

/// Connections that wait for a request, in the order in which they go.
#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    connections: BTreeMap<Turn, CancellationToken>,
}

/// Whether there was a request before, and since when: a later one has a higher number.
type Turn = (bool, u64);

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    turn: Mutex<Option<Turn>>,
    given_away: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most)),
            waiting: Arc::default(),
            one_more_waits: Arc::default(),
        }
    }

    /// A place for a connection that waits for its first request; somebody else's if there is no other.
    /// Waits where all have requests under way. `None` never comes while the places are there.
    pub(super) async fn take(&self) -> Option<Place> {
        let permit = loop {
            if let Ok(permit) = self.permits.clone().try_acquire_owned() {
                break permit;
            }
            let first = lock(&self.waiting).connections.pop_first();
            if let Some((_, given_away)) = first {
                given_away.cancel();
                break self.permits.clone().acquire_owned().await.ok()?;
            }
            tokio::select! {
                permit = self.permits.clone().acquire_owned() => break permit.ok()?,
                () = self.one_more_waits.notified() => {}
            }
        };
        let place = Place {
            places: self.clone(),
            turn: Mutex::default(),
            given_away: CancellationToken::new(),
            _permit: permit,
        };
        place.waits(false);
        Some(place)
    }
}

impl Place {
    /// A request has come.
    pub(super) fn is_busy(&self) {
        if let Some(turn) = lock(&self.turn).take() {
            lock(&self.places.waiting).connections.remove(&turn);
        }
    }

    /// A request was answered.
    pub(super) fn is_idle(&self) {
        self.waits(true);
    }

    /// The place is somebody else's.
    pub(super) async fn given_away(&self) {
        self.given_away.cancelled().await;
    }

    fn waits(&self, asked: bool) {
        let mut waiting = lock(&self.places.waiting);
        waiting.last += 1;
        let turn = (asked, waiting.last);
        waiting.connections.insert(turn, self.given_away.clone());
        drop(waiting);
        *lock(&self.turn) = Some(turn);
        self.places.one_more_waits.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_busy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(places: &Places) -> Place {
        places.take().await.unwrap()
    }

    /// Takes a place that is another's, who then goes.
    async fn take_from(places: &Places, other: Place) -> Place {
        let taken = tokio::spawn({
            let places = places.clone();
            async move { take(&places).await }
        });
        let gone = tokio::time::timeout(std::time::Duration::from_secs(1), other.given_away());
        gone.await.expect("another one had to go");
        drop(other);
        taken.await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_place_of_who_never_asked_goes_first_and_then_that_of_who_is_idle_longest() {
        let places = Places::new(3);
        let (one, two, silent) = (
            take(&places).await,
            take(&places).await,
            take(&places).await,
        );
        for place in [&one, &two, &one] {
            place.is_busy();
            place.is_idle();
        }
        take_from(&places, silent).await.is_busy();
        let busy = take(&places).await;
        busy.is_busy();
        let new = take_from(&places, two).await;
        new.is_busy();
        let _last = take_from(&places, one).await;
    }

    #[tokio::test]
    async fn a_place_with_a_request_under_way_is_given_away_only_after_the_answer() {
        let places = Places::new(1);
        let one = take(&places).await;
        one.is_busy();
        let mut next = Box::pin(places.take());
        assert!(futures::poll!(&mut next).is_pending());
        assert!(!one.given_away.is_cancelled());
        one.is_idle();
        assert!(futures::poll!(&mut next).is_pending());
        assert!(one.given_away.is_cancelled());
        drop(one);
        assert!(next.await.is_some());
    }
}

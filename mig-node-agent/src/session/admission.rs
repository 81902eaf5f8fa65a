//! Who is in charge: one place, given to the newest session of the highest epoch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The one place.
#[derive(Debug)]
pub(super) struct Admission {
    state: Arc<Mutex<State>>,
    /// Held while an epoch is being written, so that epochs are written in order.
    entrance: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct State {
    /// Highest epoch on disk.
    epoch: u64,
    last: u64,
    incumbent: CancellationToken,
}

/// The place, taken. Dropping it leaves it to the next.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: u64,
    /// The epoch must be written, and [`Place::written`] called, before anything is obeyed.
    pub(super) is_new_epoch: bool,
    epoch: u64,
    lost: CancellationToken,
    state: Arc<Mutex<State>>,
    entering: Mutex<Option<tokio::sync::OwnedMutexGuard<()>>>,
}

impl Admission {
    pub(super) fn new(epoch: u64) -> Self {
        let state = State {
            epoch,
            last: 0,
            incumbent: CancellationToken::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            entrance: Arc::default(),
        }
    }

    /// Highest epoch on disk.
    pub(super) fn epoch(&self) -> u64 {
        lock(&self.state).epoch
    }

    /// Takes the place from whoever has it.
    ///
    /// # Errors
    /// The epoch that is obeyed, if it is higher.
    pub(super) async fn take(&self, epoch: u64) -> Result<Place, u64> {
        let entering = self.entrance.clone().lock_owned().await;
        let mut state = lock(&self.state);
        if epoch < state.epoch {
            return Err(state.epoch);
        }
        state.last += 1;
        state.incumbent.cancel();
        state.incumbent = CancellationToken::new();
        Ok(Place {
            id: state.last,
            is_new_epoch: epoch > state.epoch,
            epoch,
            lost: state.incumbent.clone(),
            state: self.state.clone(),
            entering: Mutex::new((epoch > state.epoch).then_some(entering)),
        })
    }
}

impl Place {
    /// The epoch is on disk.
    pub(super) fn written(&self) {
        let mut state = lock(&self.state);
        state.epoch = state.epoch.max(self.epoch);
        drop(lock(&self.entering).take());
    }

    /// Resolves when another session took the place.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changes are single assignments, so a panic elsewhere leaves the state whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lower_epoch_is_refused_and_the_incumbent_stays() {
        let admission = Admission::new(0);
        let five = admission.take(5).await.unwrap();
        five.written();
        assert_eq!(admission.take(4).await.unwrap_err(), 5);
        assert!(!five.lost.is_cancelled());
    }

    #[tokio::test]
    async fn the_same_epoch_takes_over() {
        let admission = Admission::new(7);
        let first = admission.take(7).await.unwrap();
        assert!(!first.is_new_epoch);
        let second = admission.take(7).await.unwrap();
        assert!(first.lost.is_cancelled());
        assert!(!second.lost.is_cancelled());
        assert!(second.id > first.id);
    }

    #[tokio::test]
    async fn an_epoch_that_could_not_be_written_binds_nobody() {
        let admission = Admission::new(3);
        drop(admission.take(9).await.unwrap());
        assert_eq!(admission.epoch(), 3);
        admission.take(4).await.unwrap();
    }
}

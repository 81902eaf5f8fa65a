//! Mutexes under which nothing is done that could be left half done.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock, also after a panic of whoever had it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Locks that survive a panic.
//!
//! A mutex is poisoned when a thread panics while it holds it. Each value behind a mutex here is
//! whole after every single statement, so the other threads go on; the panic itself is reported
//! where it happened.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, whether or not a thread has panicked while it held it.
pub fn lock_unpoisoned<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

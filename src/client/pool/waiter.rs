//! [`Waiter`]: a caller in the queue, and where it is handed what it waits for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::connection::Connection;
use crate::transport::Deadline;

/// What a caller in the queue is handed.
#[derive(Debug)]
pub(super) enum Given {
    Connection(Box<Connection>),
    /// The right to open one.
    Slot,
    /// The pool is closed.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) since: Instant,
    given: Mutex<Option<Given>>,
    changed: Condvar,
}

impl Waiter {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, given: Mutex::new(None), changed: Condvar::new() }
    }

    /// Hands something over, once: with the pool's lock held, so that who finds itself gone from the queue finds it here.
    pub(super) fn give(&self, given: Given) {
        *lock(&self.given) = Some(given);
    }

    /// After [`Waiter::give`], without the pool's lock: otherwise it would wake only to wait for that.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(super) fn take(&self) -> Option<Given> {
        lock(&self.given).take()
    }

    /// Waits for something to be given; `None` at the deadline.
    pub(super) fn wait(&self, deadline: Deadline) -> Option<Given> {
        let mut given = lock(&self.given);
        while given.is_none() {
            given = match deadline.left() {
                None => self.changed.wait(given).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return None,
                Some(left) => {
                    self.changed.wait_timeout(given, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        given.take()
    }
}

/// Nothing that can panic runs under the pool's locks: what they guard is whole, whatever became of a thread.
#[inline]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

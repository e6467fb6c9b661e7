//! [`Turns`]: one direction of a stream, which its clones use one after the other.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::patience::Patience;
use crate::sync::Counter;
use crate::wait::Deadline;

/// Who waits with a deadline looks at least this often: the counter of waiters orders nothing, so a notification may
/// be missed.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A lock with a deadline. Taken and left without a system call while nobody else wants it.
#[derive(Debug)]
pub(super) struct Turns<T> {
    half: Mutex<T>,
    /// Threads that wait with a deadline.
    waiting: Counter,
    gate: Mutex<()>,
    left: Condvar,
}

/// The direction, until it is dropped.
pub(super) struct Turn<'a, T> {
    half: MutexGuard<'a, T>,
    // Behind the guard: it is dropped, and notifies, after the lock is free.
    _notify: Notify<'a>,
}

struct Notify<'a> {
    waiting: &'a Counter,
    gate: &'a Mutex<()>,
    left: &'a Condvar,
}

impl<T> Turns<T> {
    pub(super) fn new(half: T) -> Self {
        Self { half: Mutex::new(half), waiting: Counter::new(0), gate: Mutex::new(()), left: Condvar::new() }
    }

    /// The direction if nobody has it.
    #[inline]
    pub(super) fn try_enter(&self) -> Option<Turn<'_, T>> {
        match self.half.try_lock() {
            Ok(half) => Some(self.turn(half)),
            Err(TryLockError::Poisoned(poisoned)) => Some(self.turn(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The direction, however long it takes.
    pub(super) fn enter(&self) -> Turn<'_, T> {
        self.turn(self.half.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The direction, if it can be had before the patience ends.
    #[inline]
    pub(super) fn enter_within(&self, patience: &mut Patience<'_>) -> Option<Turn<'_, T>> {
        match self.try_enter() {
            None => self.enter_slowly(patience.deadline()?),
            turn => turn,
        }
    }

    #[cold]
    fn enter_slowly(&self, deadline: Deadline) -> Option<Turn<'_, T>> {
        if deadline == Deadline::NEVER {
            return Some(self.enter());
        }
        self.waiting.add(1);
        let mut gate = lock(&self.gate);
        let entered = loop {
            let entered = self.try_enter();
            if entered.is_some() || deadline.has_passed() {
                break entered;
            }
            let slice = deadline.left().unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
            gate = self.left.wait_timeout(gate, slice).unwrap_or_else(PoisonError::into_inner).0;
        };
        self.waiting.subtract(1);
        entered
    }

    #[inline]
    fn turn<'a>(&'a self, half: MutexGuard<'a, T>) -> Turn<'a, T> {
        Turn { half, _notify: Notify { waiting: &self.waiting, gate: &self.gate, left: &self.left } }
    }
}

/// No invariant hangs on a panic in another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Notify<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.waiting.get() > 0 {
            drop(lock(self.gate));
            self.left.notify_one();
        }
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.half
    }
}

impl<T> DerefMut for Turn<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.half
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::transport::bytes::patience::Settings;

    #[test]
    fn a_turn_is_waited_for_as_long_as_the_settings_allow() {
        let turns = Turns::new(0);
        let settings = |timeout, nonblocking| {
            Mutex::new(Settings { read_timeout: timeout, write_timeout: None, nonblocking })
        };
        let (short, long) = (Some(Duration::from_millis(10)), Some(Duration::from_secs(30)));
        let held = turns.enter();
        for settings in [settings(None, true), settings(short, false), settings(short, true)] {
            assert!(turns.enter_within(&mut Patience::to_read(&settings)).is_none());
        }
        thread::scope(|scope| {
            for timeout in [None, long] {
                let (done, waits) = channel();
                let turns = &turns;
                scope.spawn(move || {
                    let settings = settings(timeout, false);
                    done.send(()).unwrap();
                    *turns.enter_within(&mut Patience::to_read(&settings)).unwrap() += 1;
                });
                waits.recv().unwrap();
            }
            thread::sleep(Duration::from_millis(20));
            drop(held);
        });
        assert_eq!(*turns.enter(), 2);
    }
}

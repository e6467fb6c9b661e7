//! What keeps a pool in order, and [`Maintainer`], the thread that sees to it if it is asked for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::book::Why;
use super::clock;
use super::connection::Care;
use super::shared::{Right, Shared};
use super::waiter::lock;
use crate::error::Error;
use crate::transport::Deadline;

#[derive(Debug, Default)]
struct Stop {
    wanted: Mutex<bool>,
    changed: Condvar,
}

/// Maintains a pool at its interval. Ends when it is dropped, after the one connection at the most that it has in hand.
#[derive(Debug)]
pub(super) struct Maintainer {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    /// Everything that keeps a pool in order, as far as `goes_on`.
    pub(super) fn maintain(&self, mut goes_on: impl FnMut() -> bool) -> Result<(), Error> {
        self.sweep(usize::MAX);
        self.check_idle(&mut goes_on);
        self.refill(self.settings.check_timeout, goes_on)
    }

    /// Closes up to `limit` connections that are too old or that nobody has needed for long.
    #[cold]
    pub(super) fn sweep(&self, limit: usize) {
        let now_ns = clock::now_ns();
        let idle_before_ns = now_ns.saturating_sub(clock::ns_or_never(self.settings.idle_timeout));
        let idle_before_ns = if self.settings.idle_timeout.is_some() { idle_before_ns } else { 0 };
        let expired = {
            let mut book = lock(&self.book);
            let expired = book.take_expired(now_ns, idle_before_ns, self.settings.min, limit);
            // More of them than the limit: the next caller goes on.
            if expired.len() < limit {
                book.next_sweep_ns = now_ns.saturating_add(self.maintenance_interval_ns);
            }
            expired
        };
        drop(expired);
    }

    /// Opens connections until there are `min`, or one more where callers wait and there may be more.
    pub(super) fn refill(&self, within: Duration, mut goes_on: impl FnMut() -> bool) -> Result<(), Error> {
        while goes_on() {
            let right = {
                let mut book = lock(&self.book);
                let is_short = book.slots() < self.settings.min || book.waiting() > 0;
                if book.is_closed || !is_short || !book.reserve(self.settings.max) {
                    return Ok(());
                }
                Right::of(self)
            };
            let connection = right.open(Deadline::after(within))?;
            let waiter = {
                let mut book = lock(&self.book);
                if book.is_closed {
                    drop(book);
                    self.remove(connection, Why::Shut);
                    return Ok(());
                }
                book.give_back(connection)
            };
            waiter.inspect(|waiter| waiter.wake());
        }
        Ok(())
    }

    /// Asks each idle connection for a sign of life that has given none for the check interval.
    pub(super) fn check_idle(&self, mut goes_on: impl FnMut() -> bool) {
        let Some(interval) = self.settings.check_interval else { return };
        let before_ns = clock::now_ns().saturating_sub(clock::ns(interval));
        while goes_on() {
            let unchecked = lock(&self.book).take_unchecked(before_ns);
            let Some(mut connection) = unchecked else { return };
            let checked = self.check(&mut connection, Care::Ping, Deadline::NEVER);
            let mut book = lock(&self.book);
            let (waiter, closed) = match (checked, book.is_closed) {
                (Ok(()), false) => (book.checked(connection), None),
                (Ok(()), true) => (book.check_failed(Why::Shut), Some(connection)),
                (Err(why), _) => (book.check_failed(why), Some(connection)),
            };
            drop(book);
            drop(closed);
            waiter.inspect(|waiter| waiter.wake());
        }
    }
}

impl Maintainer {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, Error> {
        let stop = Arc::new(Stop::default());
        let thread = thread::Builder::new().name("ringwire-pool".to_owned()).spawn({
            let (shared, stop) = (Arc::clone(shared), Arc::clone(&stop));
            move || run(&shared, &stop)
        });
        let thread =
            thread.map_err(|error| Error::system("starting the pool's maintenance thread", error))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Maintainer {
    fn drop(&mut self) {
        *lock(&self.stop.wanted) = true;
        self.stop.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panics only where the program's own `connect` does, and not even then.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, stop: &Stop) {
    let goes_on = || !*lock(&stop.wanted);
    while wait(shared, stop) {
        match catch_unwind(AssertUnwindSafe(|| shared.maintain(goes_on))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("the pool to {} lacks connections: {error}", shared.settings.name),
            Err(_) => log::error!("connecting the pool to {} panicked", shared.settings.name),
        }
    }
}

/// Until the next round; says whether there is one.
fn wait(shared: &Shared, stop: &Stop) -> bool {
    let interval = shared.settings.maintenance_interval;
    let began = Instant::now();
    let mut wanted = lock(&stop.wanted);
    while !*wanted {
        let left = interval.saturating_sub(began.elapsed());
        if left.is_zero() {
            return true;
        }
        wanted = stop.changed.wait_timeout(wanted, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    false
}

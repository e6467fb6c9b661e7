//! [`Maintainer`]: the thread of a pool that asked for one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::shared::Shared;
use super::waiter::lock;
use crate::error::Error;

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

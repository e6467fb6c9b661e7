//! [`MaxInFlight`]: so many requests at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::server::{Context, Failure, Flow, Middleware};
use crate::transport::Counter;

const DEFAULT_HINT: Duration = Duration::from_millis(10);

/// Refuses what comes on top of enough unanswered requests:
/// [`Status::ResourceExhausted`](crate::wire::Status::ResourceExhausted).
///
/// A request is in flight from here until its handler has returned or, if that took a
/// [`DeferredReply`](crate::DeferredReply), until that is used or dropped; a panic ends it too, the end of the connection
/// does not end what another thread still works on. Requests that lie in the ring are not in flight: the connection's
/// thread takes them one by one.
///
/// ```
/// use ringwire::server::shed::MaxInFlight;
/// use std::sync::Arc;
/// use std::time::Duration;
/// let limit = MaxInFlight::new().per_server(100).per_connection(8).retry_after(Duration::from_millis(50));
/// let limit = Arc::new(limit);
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("flight.sock");
/// let server = ringwire::Server::builder(path).middleware(Arc::clone(&limit)).build()?;
/// assert_eq!((limit.in_flight(), limit.refused()), (0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "it limits nothing until a server has it"]
pub struct MaxInFlight {
    per_server: u64,
    per_connection: u64,
    hint: Duration,
    in_flight: Arc<Counter>,
    refused: Counter,
}

impl MaxInFlight {
    /// No limit so far.
    pub fn new() -> Self {
        Self {
            per_server: u64::MAX,
            per_connection: u64::MAX,
            hint: DEFAULT_HINT,
            in_flight: Arc::default(),
            refused: Counter::new(0),
        }
    }

    /// At most so many of all connections together.
    pub fn per_server(mut self, requests: usize) -> Self {
        self.per_server = u64::try_from(requests).unwrap_or(u64::MAX);
        self
    }

    /// At most so many of one connection: all but one are deferred, since its thread runs one handler at a time. Deferred
    /// notifications, for which nobody waits, count for the server alone.
    pub fn per_connection(mut self, requests: usize) -> Self {
        self.per_connection = u64::try_from(requests).unwrap_or(u64::MAX);
        self
    }

    /// The hint in refusals; 10 ms by default.
    pub fn retry_after(mut self, hint: Duration) -> Self {
        self.hint = hint;
        self
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.get()
    }

    /// Requests refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    #[cold]
    fn refuse(&self, whose: &'static str, limit: u64) -> Failure {
        self.refused.add(1);
        Failure::resource_exhausted(format!("{limit} requests of the {whose} are in flight, the limit"))
            .retry_after(self.hint)
    }
}

impl Default for MaxInFlight {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for MaxInFlight {
    fn before(&self, context: &Context<'_>) -> Result<Flow, Failure> {
        if context.peer.deferred.get() >= self.per_connection {
            return Err(self.refuse("connection", self.per_connection));
        }
        if !self.in_flight.add_below(self.per_server) {
            return Err(self.refuse("server", self.per_server));
        }
        context.held.add(Arc::clone(&self.in_flight));
        Ok(Flow::Continue)
    }
}

/// The places that a request occupies: in its [`Context`], or in the deferred reply that answers it.
#[derive(Debug, Default)]
pub(in crate::server) struct Held(Mutex<Option<Place>>);

impl Held {
    /// Moves them elsewhere.
    pub(in crate::server) fn take(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).take()))
    }

    /// Takes over a place that is counted in `of`.
    fn add(&self, of: Arc<Counter>) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = first.take().map(Box::new);
        *first = Some(Place { of, _next: next });
    }
}

/// One place, and that in the next limit, if there are several.
#[derive(Debug)]
struct Place {
    of: Arc<Counter>,
    _next: Option<Box<Place>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.subtract(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_once_wherever_they_end() {
        let (one, other) = (Arc::new(Counter::new(1)), Arc::new(Counter::new(1)));
        let here = Held::default();
        here.add(Arc::clone(&one));
        here.add(Arc::clone(&other));
        let there = here.take();
        drop(here);
        assert_eq!((one.get(), other.get()), (1, 1));
        drop(there);
        assert_eq!((one.get(), other.get()), (0, 0));
    }
}

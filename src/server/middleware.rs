//! [`Middleware`]: what a server does around every handler.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::Failure;
use super::context::Context;
use crate::transport::Counter;
use crate::wire::Status;

/// Something around the handlers of a server: looks at each request before, at its outcome after.
///
/// Several are asked in the order in which they were added, and told of the outcome in the reverse order: each that was
/// asked is told, also of a request that another one answered. They run on the connection's thread, inside the same
/// protection against panics as the handler. Requests that never reach a handler (expired, cancelled, of unknown type)
/// reach no middleware either.
///
/// ```
/// use ringwire::server::{Context, Failure, Flow, Middleware, Server};
/// /// Lets only one user in.
/// struct Only(u32);
/// impl Middleware for Only {
///     fn before(&self, context: &Context<'_>) -> Result<Flow, Failure> {
///         match context.connection().peer().uid {
///             uid if uid == self.0 => Ok(Flow::Continue),
///             uid => Err(Failure::permission_denied(format!("user {uid} may not call this server"))),
///         }
///     }
/// }
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("only.sock");
/// let server = Server::builder(path).middleware(Only(1000)).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Middleware: Send + Sync + 'static {
    /// Before the handler: go on, answer in its place, or fail.
    ///
    /// # Errors
    /// What the client is to get instead of an answer.
    fn before(&self, context: &Context<'_>) -> Result<Flow, Failure> {
        let _ = context;
        Ok(Flow::Continue)
    }

    /// After the handler, or whatever took its place. The client may have its answer already.
    fn after(&self, context: &Context<'_>, outcome: &Outcome) {
        let _ = (context, outcome);
    }
}

/// How a request goes on behind a [`Middleware`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// To the next one, in the end to the handler.
    Continue,
    /// It is answered with this.
    Answer(Vec<u8>),
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What the handler came to: [`Status::Ok`] for an answer, also for one that is left to a
    /// [`DeferredReply`](super::DeferredReply).
    pub status: Status,
    /// From before the first middleware until the handler returned.
    pub elapsed: Duration,
}

/// Writes a line for each request to the log: successes at debug level, failures at info.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logging;

impl Middleware for Logging {
    fn after(&self, context: &Context<'_>, outcome: &Outcome) {
        let level = if outcome.status == Status::Ok { log::Level::Debug } else { log::Level::Info };
        log::log!(
            level,
            "connection {}, {}: type {}, request {}: {:?} in {:?}",
            context.connection().id(),
            context.connection().peer(),
            context.message_type(),
            context.correlation(),
            outcome.status,
            outcome.elapsed
        );
    }
}

/// Counts requests and their time by message type, without a lock.
///
/// Keep an [`Arc`](std::sync::Arc) of it to read the [`Timing::report`].
///
/// ```
/// use ringwire::server::{Server, Timing};
/// use std::sync::Arc;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("timed.sock");
/// let timing = Arc::new(Timing::default());
/// let server = Server::builder(path).middleware(Arc::clone(&timing)).build()?;
/// for (message_type, total) in timing.report() {
///     println!("type {message_type}: {} requests, {} ns in all", total.count, total.total_ns);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Timing {
    /// Those seen first have a place of their own, found without a lock.
    places: [OnceLock<(u16, Cell)>; PLACES],
    rest: Mutex<BTreeMap<u16, TypeTiming>>,
}

/// Message types that [`Timing`] counts without a lock.
const PLACES: usize = 128;

#[derive(Debug, Default)]
struct Cell {
    count: Counter,
    failures: Counter,
    total_ns: Counter,
    longest_ns: Counter,
}

/// What [`Timing`] knows of one message type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypeTiming {
    /// Requests.
    pub count: u64,
    /// Those that were answered with a status.
    pub failures: u64,
    /// Time in handlers and middleware, in nanoseconds.
    pub total_ns: u64,
    /// The longest of them, in nanoseconds.
    pub longest_ns: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { places: [const { OnceLock::new() }; PLACES], rest: Mutex::default() }
    }
}

impl Timing {
    /// The totals so far, by message type.
    #[must_use]
    pub fn report(&self) -> Vec<(u16, TypeTiming)> {
        let mut report = self.rest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (message_type, cell) in self.places.iter().filter_map(OnceLock::get) {
            let timing = TypeTiming {
                count: cell.count.get(),
                failures: cell.failures.get(),
                total_ns: cell.total_ns.get(),
                longest_ns: cell.longest_ns.get(),
            };
            report.insert(*message_type, timing);
        }
        report.into_iter().collect()
    }

    fn cell(&self, message_type: u16) -> Option<&Cell> {
        let first = usize::from(message_type) % PLACES;
        let places = self.places[first..].iter().chain(&self.places[..first]);
        for place in places {
            let (owner, cell) = place.get_or_init(|| (message_type, Cell::default()));
            if *owner == message_type {
                return Some(cell);
            }
        }
        None
    }
}

impl Middleware for Timing {
    fn after(&self, context: &Context<'_>, outcome: &Outcome) {
        let ns = u64::try_from(outcome.elapsed.as_nanos()).unwrap_or(u64::MAX);
        let failed = u64::from(outcome.status != Status::Ok);
        if let Some(cell) = self.cell(context.message_type()) {
            cell.count.add(1);
            cell.failures.add(failed);
            cell.total_ns.add(ns);
            cell.longest_ns.raise_to(ns);
            return;
        }
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let timing = rest.entry(context.message_type()).or_default();
        timing.count += 1;
        timing.failures += failed;
        timing.total_ns = timing.total_ns.saturating_add(ns);
        timing.longest_ns = timing.longest_ns.max(ns);
    }
}

impl<M: Middleware + ?Sized> Middleware for std::sync::Arc<M> {
    fn before(&self, context: &Context<'_>) -> Result<Flow, Failure> {
        (**self).before(context)
    }

    fn after(&self, context: &Context<'_>, outcome: &Outcome) {
        (**self).after(context, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_share_a_place_are_told_apart() {
        let timing = Timing::default();
        for message_type in [1u16, 129, 257, 1] {
            timing.cell(message_type).unwrap().count.add(1);
        }
        let counts: Vec<_> = timing.report().into_iter().map(|(key, of)| (key, of.count)).collect();
        assert_eq!(counts, [(1, 2), (129, 1), (257, 1)]);
        for message_type in 0..200 {
            timing.cell(message_type);
        }
        assert!(timing.cell(60_000).is_none(), "no place left: counted under the lock");
    }
}

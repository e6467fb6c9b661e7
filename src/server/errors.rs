//! The one place where a server decides what an error means.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use super::Failure;
use super::context::ConnectionInfo;
use crate::transport::Counter;
use crate::wire::Status;

/// Where an error of a server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// A handler, or a middleware, returned a failure.
    Handler,
    /// A handler, or a middleware, panicked.
    Panic,
    /// A request that reached no handler: cancelled, expired, malformed, of unknown type, too large, beyond a limit.
    Request,
    /// The client broke the protocol, or what was on its way to it got lost.
    Connection,
    /// Clients cannot be accepted any more.
    Accept,
}

const CLASSES: usize = 5;

/// An error, as it comes to [`ErrorPolicy::handle_error`].
#[derive(Debug)]
#[non_exhaustive]
pub struct ErrorEvent<'a> {
    /// Where it comes from.
    pub class: ErrorClass,
    /// What happened, and the status that the client gets unless the policy says otherwise.
    pub failure: &'a Failure,
    /// On which connection.
    pub connection: Option<&'a ConnectionInfo>,
    /// The type of the request that it concerns.
    pub message_type: Option<u16>,
}

/// What a server does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Answers this status, with the failure's words; the connection goes on. Where nothing waits for an answer, nothing
    /// is done.
    Answer(Status),
    /// Closes the connection.
    CloseConnection,
    /// Stops the server, as [`ServerHandle::stop`](super::ServerHandle::stop) does; [`Server::serve`](super::Server::serve) returns the error.
    StopServer,
}

/// Decides what an error means: see [`ServerBuilder::error_policy`](super::ServerBuilder::error_policy).
///
/// Also a closure. It is called on the connection's thread, for each error once; the server has counted and logged it
/// before.
///
/// ```
/// use ringwire::server::{Action, ErrorClass, ErrorEvent, Server};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("strict.sock");
/// let server = Server::builder(path)
///     .error_policy(|error: &ErrorEvent<'_>| match error.class {
///         ErrorClass::Panic => Action::CloseConnection, // its state may be half changed
///         _ => Action::Answer(error.failure.status()),
///     })
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ErrorPolicy: Send + Sync + 'static {
    /// What to do about `error`.
    fn handle_error(&self, error: &ErrorEvent<'_>) -> Action;
}

impl<F: Fn(&ErrorEvent<'_>) -> Action + Send + Sync + 'static> ErrorPolicy for F {
    fn handle_error(&self, error: &ErrorEvent<'_>) -> Action {
        self(error)
    }
}

/// What servers do unless told otherwise: requests are answered with the failure, a broken connection is closed, and a
/// server that can accept nobody stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultErrorPolicy;

impl ErrorPolicy for DefaultErrorPolicy {
    fn handle_error(&self, error: &ErrorEvent<'_>) -> Action {
        match error.class {
            ErrorClass::Handler | ErrorClass::Panic | ErrorClass::Request => {
                Action::Answer(error.failure.status())
            }
            ErrorClass::Connection => Action::CloseConnection,
            ErrorClass::Accept => Action::StopServer,
        }
    }
}

/// Counts, logs and judges the errors of a server.
pub(super) struct Errors {
    policy: Box<dyn ErrorPolicy>,
    counts: [Counter; CLASSES],
    /// What has been in the log as a warning.
    seen: Mutex<BTreeSet<(ErrorClass, Option<u16>)>>,
}

impl Errors {
    pub(super) fn new(policy: Box<dyn ErrorPolicy>) -> Self {
        Self { policy, counts: Default::default(), seen: Mutex::default() }
    }

    /// The one place.
    #[cold]
    #[inline(never)]
    pub(super) fn handle_error(&self, error: &ErrorEvent<'_>) -> Action {
        self.counts[error.class as usize].add(1);
        self.log(error);
        let judged = catch_unwind(AssertUnwindSafe(|| self.policy.handle_error(error)));
        judged.unwrap_or_else(|panic| {
            log::error!("the error policy panicked, the default one decides: {}", panic_message(&*panic));
            DefaultErrorPolicy.handle_error(error)
        })
    }

    pub(super) fn count(&self, class: ErrorClass) -> u64 {
        self.counts[class as usize].get()
    }

    /// A panic or a broken connection is a warning, but the tenth one of the same handler only repeats it.
    fn log(&self, error: &ErrorEvent<'_>) {
        let is_grave = !matches!(error.class, ErrorClass::Handler | ErrorClass::Request);
        let is_new = is_grave && {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert((error.class, error.message_type))
        };
        let level = if is_new { log::Level::Warn } else { log::Level::Debug };
        if !log::log_enabled!(level) {
            return;
        }
        let what = error.message_type.map_or_else(String::new, |of| format!(", type {of}"));
        match error.connection {
            Some(connection) => {
                log::log!(level, "connection {}{what}: {}", connection.id(), error.failure);
            }
            None => log::log!(level, "server{what}: {}", error.failure),
        }
    }
}

impl fmt::Debug for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errors").field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// What a panic said.
#[cold]
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

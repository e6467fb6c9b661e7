//! [`Link`]: the connection of the moment, and how it comes back.

use std::fmt;
use std::thread;
use std::time::Duration;

use crate::client::backoff::Delays;
use crate::client::builder::ClientBuilder;
use crate::client::connection::Client;
use crate::client::intake::{Awaited, Closed};
use crate::error::{Error, ErrorKind};
use crate::transport::Deadline;

/// While somebody waits for a connection, it is tried this often.
const TRY_EVERY_NS: u64 = 20_000_000;
/// A connection that is used is looked at this often before a request is put into it.
const LOOK_EVERY_NS: u64 = 5_000_000;
/// A connection that has lived this long was a good one, also if nobody asked anything.
const PROVEN_AFTER_NS: u64 = 1_000_000_000;

/// What a [`ReconnectingClient`](super::ReconnectingClient) is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// There is no connection, and nobody needs one.
    Disconnected,
    /// The first connection is being made.
    Connecting,
    /// There is one, as far as is known.
    Connected,
    /// Another one is being made.
    Reconnecting,
    /// Given up: until [`connect`](super::ReconnectingClient::connect) is called.
    Failed,
}

/// What [`on_state_change`](super::ReconnectingBuilder::on_state_change) is told.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StateChange<'a> {
    /// The state before.
    pub from: ConnectionState,
    /// The state now.
    pub to: ConnectionState,
    /// Of the connection that has been made, or of the last one.
    pub generation: u64,
    /// Attempts that have failed in a row.
    pub failed_attempts: u32,
    /// Why there is no connection, where there is none.
    pub cause: Option<&'a str>,
}

pub(super) type OnChange = Box<dyn FnMut(&StateChange<'_>) + Send>;

/// Why there is no connection.
#[derive(Debug)]
struct Cause {
    kind: ErrorKind,
    message: String,
}

impl Cause {
    fn of(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.to_string() }
    }

    /// Nothing changes by itself: the server is another one, or will not have this client.
    fn is_permanent(&self) -> bool {
        use ErrorKind::{InvalidInput, PathTooLong, PermissionDenied, VersionMismatch};
        matches!(self.kind, VersionMismatch | PermissionDenied | PathTooLong | InvalidInput)
    }
}

pub(super) struct Link {
    pub(super) builder: ClientBuilder,
    pub(super) delays: Delays,
    pub(super) max_attempts: Option<u32>,
    pub(super) on_change: Option<OnChange>,
    /// The connection, or what the last one has left.
    pub(super) client: Option<Client>,
    state: ConnectionState,
    /// Connections made so far.
    generation: u64,
    /// When the next attempt is due that counts.
    due_ns: u64,
    /// When the next attempt may be made by who waits.
    soonest_ns: u64,
    looked_ns: u64,
    connected_ns: u64,
    /// The present connection has been good for something.
    is_proven: bool,
    cause: Option<Cause>,
}

impl Link {
    pub(super) fn new(builder: ClientBuilder, delays: Delays, max_attempts: Option<u32>) -> Self {
        Self {
            builder,
            delays,
            max_attempts,
            on_change: None,
            client: None,
            state: ConnectionState::Disconnected,
            generation: 0,
            due_ns: 0,
            soonest_ns: 0,
            looked_ns: 0,
            connected_ns: 0,
            is_proven: false,
            cause: None,
        }
    }

    #[inline]
    pub(super) fn state(&self) -> ConnectionState {
        self.state
    }

    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The last generation whose connection has been lost; 0 if none has.
    pub(super) fn lost_generation(&self) -> u64 {
        self.generation - u64::from(self.state == ConnectionState::Connected)
    }

    pub(super) fn failed_attempts(&self) -> u32 {
        self.delays.failed()
    }

    /// The present connection, or the last one.
    #[inline(always)]
    pub(super) fn live(&mut self) -> Result<&mut Client, Error> {
        self.client.as_mut().ok_or_else(|| Error::from(ErrorKind::ConnectionLost).executed(false))
    }

    /// Whether there is a connection that a request can be put into, as far as is known.
    #[inline]
    pub(super) fn is_alive(&mut self) -> bool {
        if self.state != ConnectionState::Connected {
            return false;
        }
        let Some(client) = &mut self.client else { return false };
        let now_ns = Deadline::now_ns();
        if now_ns.saturating_sub(self.looked_ns) >= LOOK_EVERY_NS {
            self.looked_ns = now_ns;
            // A server that is gone is better found now than by a request that nobody will answer.
            let _ = client.poll_for(Awaited::Nothing);
        }
        client.state.closed.is_none() || self.lose_closed()
    }

    #[cold]
    fn lose_closed(&mut self) -> bool {
        let error = self.client.as_ref().map(|client| client.state.closing_error());
        self.lose(&error.unwrap_or_else(|| ErrorKind::PeerClosed.into()));
        false
    }

    /// The server has answered.
    #[inline]
    pub(super) fn answered(&mut self) {
        self.is_proven = true;
    }

    /// The connection is of no use any more.
    #[cold]
    pub(super) fn lose(&mut self, error: &Error) {
        if self.state != ConnectionState::Connected {
            return;
        }
        log::debug!("connection {} lost: {error}", self.generation);
        self.cause = Some(Cause::of(error));
        let now_ns = Deadline::now_ns();
        if self.is_proven || now_ns.saturating_sub(self.connected_ns) >= PROVEN_AFTER_NS {
            self.delays.reset();
            self.due_ns = 0;
        } else if self.has_counted(now_ns) {
            return self.enter(ConnectionState::Failed);
        }
        self.enter(ConnectionState::Disconnected);
    }

    /// What an error of the present connection means; `is_over` if it is the connection's end.
    #[cold]
    pub(super) fn failed(&mut self, error: Error, is_over: bool, may_have_executed: bool) -> Error {
        if !is_over {
            return error.executed(may_have_executed);
        }
        self.lose(&error);
        lost(self.generation, error, may_have_executed)
    }

    /// Whether the present connection has ended, and not by a goodbye: behind that answers still come.
    pub(super) fn has_ended(&self) -> bool {
        self.client.as_ref().is_some_and(has_ended)
    }

    /// Makes a connection; waits for it until `deadline` if `is_patient`. Says what the last one has left.
    #[cold]
    pub(super) fn connect(&mut self, deadline: Deadline, is_patient: bool) -> Result<Option<Client>, Error> {
        loop {
            let now_ns = Deadline::now_ns();
            let is_due = now_ns >= self.due_ns || is_patient;
            if self.state == ConnectionState::Failed || deadline.as_ns() <= now_ns || !is_due {
                return Err(self.not_connected(deadline));
            }
            if now_ns >= self.soonest_ns {
                match self.attempt(now_ns, deadline) {
                    Ok(client) => return Ok(self.connected(client)),
                    Err(error) => self.missed(&error, now_ns),
                }
            } else if !is_patient {
                return Err(self.not_connected(deadline));
            } else {
                let wake_ns = self.soonest_ns.min(deadline.as_ns());
                thread::sleep(Duration::from_nanos(wake_ns - now_ns));
            }
        }
    }

    fn attempt(&mut self, now_ns: u64, deadline: Deadline) -> Result<Client, Error> {
        self.soonest_ns = now_ns + TRY_EVERY_NS;
        if self.state == ConnectionState::Disconnected {
            self.enter(match self.generation {
                0 => ConnectionState::Connecting,
                _ => ConnectionState::Reconnecting,
            });
        }
        let left = deadline.left().unwrap_or(Duration::MAX);
        let builder = self.builder.clone();
        let timeout = builder.timeout.min(left);
        builder.wait_for_server(false).timeout(timeout).connect()
    }

    fn connected(&mut self, client: Client) -> Option<Client> {
        self.generation += 1;
        self.connected_ns = Deadline::now_ns();
        self.looked_ns = self.connected_ns;
        self.is_proven = false;
        self.cause = None;
        let former = self.client.replace(client);
        self.enter(ConnectionState::Connected);
        former
    }

    /// An attempt has failed that began at `now_ns`.
    fn missed(&mut self, error: &Error, now_ns: u64) {
        let cause = Cause::of(error);
        let is_permanent = cause.is_permanent();
        self.cause = Some(cause);
        if self.has_counted(now_ns) || is_permanent {
            self.enter(ConnectionState::Failed);
        }
    }

    /// Counts a failure if its time had come; says whether it was the last.
    fn has_counted(&mut self, now_ns: u64) -> bool {
        if now_ns < self.due_ns {
            return false;
        }
        let delay = self.delays.next().unwrap_or_default();
        self.due_ns = Deadline::after(delay).as_ns();
        self.max_attempts.is_some_and(|most| self.delays.failed() >= most)
    }

    /// Begins again where it was given up.
    pub(super) fn revive(&mut self) {
        if self.state == ConnectionState::Failed {
            self.delays.reset();
            (self.due_ns, self.soonest_ns) = (0, 0);
            self.enter(ConnectionState::Disconnected);
        }
    }

    /// Closes the connection for good.
    pub(super) fn close(&mut self) {
        self.client = None;
        self.cause = None;
        self.enter(ConnectionState::Disconnected);
    }

    fn enter(&mut self, to: ConnectionState) {
        let from = std::mem::replace(&mut self.state, to);
        if let (true, Some(tell)) = (from != to, &mut self.on_change) {
            let (generation, failed_attempts) = (self.generation, self.delays.failed());
            let cause = self.cause.as_ref().map(|cause| cause.message.as_str());
            tell(&StateChange { from, to, generation, failed_attempts, cause });
        }
    }

    /// Why a request could not be made at all.
    fn not_connected(&self, deadline: Deadline) -> Error {
        let (kind, why) = match &self.cause {
            Some(cause) if cause.is_permanent() => (cause.kind, cause.message.as_str()),
            Some(cause) => (ErrorKind::ConnectionLost, cause.message.as_str()),
            None => (ErrorKind::ConnectionLost, "no attempt has been made"),
        };
        let failed = self.delays.failed();
        let error = if self.state == ConnectionState::Failed {
            Error::new(kind, format!("given up after {failed} attempts, until connect() is called: {why}"))
        } else if deadline.has_passed() {
            Error::new(ErrorKind::TimedOut, format!("no connection before the deadline: {why}"))
        } else {
            Error::new(ErrorKind::ConnectionLost, format!("no connection, and no attempt is due yet: {why}"))
        };
        error.executed(false)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, generation) = (self.state, self.generation);
        f.debug_struct("Link")
            .field("state", &state)
            .field("generation", &generation)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// See [`Link::has_ended`].
pub(super) fn has_ended(client: &Client) -> bool {
    matches!(client.state.closed, Some(Closed::Ended(_) | Closed::EventsFull))
}

/// The request went down with its connection.
#[cold]
pub(super) fn lost(generation: u64, error: Error, may_have_executed: bool) -> Error {
    let what = if may_have_executed { "may have been executed" } else { "was not executed" };
    let message = format!("connection {generation} was lost; the request {what}");
    Error::with_source(ErrorKind::ConnectionLost, message, error).executed(may_have_executed)
}

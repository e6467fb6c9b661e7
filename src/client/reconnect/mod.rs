//! A client that connects again by itself, and says what became of every request.
//!
//! ```
//! # use std::time::Duration;
//! # use ringwire::Server;
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("engine.sock");
//! # let start = || -> Result<_, ringwire::Error> {
//! #     let server = Server::builder(&path).build()?;
//! #     let handle = server.handle();
//! #     let thread = std::thread::spawn(move || server.serve());
//! #     Ok(move || { handle.shutdown(Duration::from_secs(1)); thread.join().unwrap() })
//! # };
//! # let stop = start()?;
//! use ringwire::client::ECHO;
//! use ringwire::{Client, ErrorKind};
//!
//! let mut client =
//!     Client::builder(&path).call_timeout(Some(Duration::from_secs(5))).reconnecting().build();
//! assert_eq!(client.call(ECHO, b"hello")?.to_vec(), b"hello"); // the first use connects
//! # stop()?;
//! # let stop = start()?;
//!
//! // The server was restarted meanwhile. A request that may be executed twice is sent again if need be ...
//! assert_eq!(client.call_idempotent(ECHO, b"again")?.to_vec(), b"again");
//!
//! // ... any other is not, and its caller is told what it must know.
//! match client.call(ECHO, b"once") {
//!     Ok(reply) => println!("{} bytes on connection {}", reply.len(), 2),
//!     Err(error) if error.kind() == ErrorKind::ConnectionLost => match error.may_have_executed() {
//!         Some(false) => println!("not executed: call again"),
//!         _ => println!("executed or not: look first"),
//!     },
//!     Err(error) => return Err(error.into()),
//! }
//! # drop(client);
//! # stop()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it comes back
//!
//! No thread does it: whoever needs the connection does. The first attempt is made at once. Further ones *count* when their
//! time has come by the [`Backoff`](super::Backoff); behind [`max_attempts`](ReconnectingBuilder::max_attempts) of them the
//! client has [`Failed`](ConnectionState::Failed), and so it has at once where no attempt can help (another protocol version,
//! no permission). While a caller waits, it looks for the server every 20 ms whatever the delay, so that a server that is
//! back is used at once. A connection that is lost before it was good for anything counts as a failed attempt.
//! [`ReconnectingClient::connect`] begins anew. A program with an event loop of its own calls
//! [`ReconnectingClient::maintain`].
//!
//! | state | what calls do | left by |
//! |---|---|---|
//! | [`Disconnected`](ConnectionState::Disconnected) | connect | the next attempt |
//! | [`Connecting`](ConnectionState::Connecting), [`Reconnecting`](ConnectionState::Reconnecting) | wait for a connection, within their deadline | a connection; the last attempt that counts |
//! | [`Connected`](ConnectionState::Connected) | go out | the end of the connection, or the server's goodbye, once somebody notices |
//! | [`Failed`](ConnectionState::Failed) | fail at once | [`connect`](ReconnectingClient::connect) |
//!
//! # What becomes of a request
//!
//! Each request that was accepted ends with its own answer or with an error, whatever becomes of its connection.
//! [`Error::may_have_executed`](crate::Error::may_have_executed) says the rest:
//!
//! | the connection is lost ... | a call gets | may have been executed | an idempotent call |
//! |---|---|---|---|
//! | before the request is sent: there is none, the server has said goodbye, it died while there was no room | nothing: it is sent on the next one | | the same |
//! | ... and none comes before the deadline | `TimedOut` | no | the same |
//! | ... and the client gives up, or has given up | `ConnectionLost`; `VersionMismatch`, `PermissionDenied` where that is why | no | the same |
//! | when a long request is sent in part | `ConnectionLost` | yes: a handler may read it piece by piece | is sent again |
//! | while it waits for the answer | `ConnectionLost` | yes | is sent again, within the deadline |
//! | ... after the server's goodbye, and the server answers it | that answer | (answered) | the answer; sent again if it is `Unavailable` |
//! | not at all: the deadline passes while it waits | `TimedOut` | yes | the same |
//! | amid a streamed response | the items so far, then `ConnectionLost` | yes | (streams are not repeated) |
//! | before [`submit`](ReconnectingClient::submit) has sent it | as a call | | (tickets are not sent again) |
//! | between submit and collect, by the server's goodbye | that answer; `ConnectionLost` if the server ends without it, or the next connection is lost too | (answered); yes | |
//! | between submit and collect, and the answer had arrived | the answer, also when there is a new connection already (of the last one only: two connections later it is `ConnectionLost`) | (answered) | |
//! | between submit and collect, and it had not | `ConnectionLost`, whatever the new connection brings | yes | |
//! | after [`notify`](ReconnectingClient::notify) has sent it | nothing: nobody answers it | | |
//!
//! An idempotent call whose first attempt may have been executed says so in its error too, whatever happened to the last one.
//!
//! Answers never cross: each connection has memory of its own, and a ticket names its connection by a
//! [`generation`](ReconnectingClient::generation), which no other connection has.

mod builder;
mod calls;
mod events;
mod link;
mod request;
mod streams;
mod tickets;

use std::time::Duration;

pub use builder::ReconnectingBuilder;
pub use events::Events;
pub use link::{ConnectionState, StateChange};
pub use request::Call;
pub use streams::Streaming;
pub use tickets::Ticket;

use self::link::Link;
use self::tickets::{Leftovers, Permits};
use super::breaker::{CircuitBreaker, Permit};
use super::server_info::ServerInfo;
use crate::error::Error;
use crate::transport::Deadline;

/// A client that connects again by itself: see the [module](self).
///
/// Made by [`ClientBuilder::reconnecting`](super::ClientBuilder::reconnecting). One thread uses it; it starts none.
#[derive(Debug)]
pub struct ReconnectingClient {
    link: Link,
    left: Leftovers,
    permits: Permits,
    breaker: Option<CircuitBreaker>,
    call_timeout: Option<Duration>,
    /// The last generation whose end the reader of events has been told.
    told_events: u64,
}

impl ReconnectingClient {
    fn new(link: Link, breaker: Option<CircuitBreaker>, call_timeout: Option<Duration>) -> Self {
        let (left, permits) = (Leftovers::new(), Permits::default());
        Self { link, left, permits, breaker, call_timeout, told_events: 0 }
    }

    /// What it is at. That a connection has ended is noticed when it is used.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.link.state()
    }

    /// Connections made so far: the number of the present one, or of the last; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.link.generation()
    }

    /// Attempts that have failed in a row.
    #[must_use]
    pub fn failed_attempts(&self) -> u32 {
        self.link.failed_attempts()
    }

    /// Who was on the other side of the present connection, or of the last; `None` before the first.
    #[must_use]
    pub fn server(&self) -> Option<&ServerInfo> {
        self.link.client.as_ref().map(|client| client.server())
    }

    /// The breaker that it asks, if it was given one.
    #[must_use]
    pub fn breaker(&self) -> Option<&CircuitBreaker> {
        self.breaker.as_ref()
    }

    /// The deadline of calls that are given none, counted from each call, the wait for a connection included.
    pub fn set_call_timeout(&mut self, timeout: Option<Duration>) {
        self.call_timeout = timeout;
    }

    /// Sees to it that there is a connection, also where the client had given up; waits for it at most for `timeout`.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut), or as a call of a client that has given up.
    pub fn connect(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.link.revive();
        self.connected(Deadline::after_option(timeout))
    }

    /// For who does not want to wait: notices a connection that has ended, and makes an attempt to connect if one is due by
    /// the backoff. Takes as long as that attempt: with a server that accepts and says nothing, the
    /// [connect timeout](super::ClientBuilder::timeout).
    pub fn maintain(&mut self) -> ConnectionState {
        // Told by the state.
        let _ = self.connected_or_not(Deadline::NEVER, false);
        self.state()
    }

    /// Closes the connection: the server receives what was sent, then sees the end. Dropping the client does the same, but
    /// tells nobody.
    pub fn close(mut self) {
        self.link.close();
    }

    fn default_deadline(&self) -> Deadline {
        Deadline::after_option(self.call_timeout)
    }

    /// Asks the breaker.
    #[inline]
    fn admit(&self) -> Result<Option<Permit>, Error> {
        self.breaker.as_ref().map(CircuitBreaker::admit).transpose()
    }

    #[inline]
    fn connected(&mut self, deadline: Deadline) -> Result<(), Error> {
        self.connected_or_not(deadline, true)
    }

    /// Sees to it that there is a connection, as far as is known.
    #[inline]
    fn connected_or_not(&mut self, deadline: Deadline, is_patient: bool) -> Result<(), Error> {
        if self.link.is_alive() {
            return Ok(());
        }
        let generation = self.link.generation();
        if let Some(former) = self.link.connect(deadline, is_patient)? {
            self.left.take_over(former, generation, &mut self.permits);
        }
        Ok(())
    }
}

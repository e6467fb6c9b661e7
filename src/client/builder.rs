//! [`ClientBuilder`]: how a client connects, and what it does by default.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::authenticate::Token;
use super::connection::Client;
use super::intake::State;
use super::queue::{EventPolicy, Queue};
use super::reconnect::ReconnectingBuilder;
use crate::error::{Error, ErrorKind};
use crate::transport::{Connector, DEFAULT_MAX_MESSAGE_BYTES, Deadline, PeerPolicy, Stream, WaitStrategy};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_EVENTS_CAPACITY: usize = 1_024;
/// Between two attempts to reach a server that is not there yet.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// How a client connects, and what it does by default. Made by [`Client::builder`].
///
/// ```no_run
/// use std::time::Duration;
/// use ringwire::{Client, EventPolicy};
///
/// let client = Client::builder("/run/user/1000/engine.sock")
///     .wait_for_server(true)
///     .timeout(Duration::from_secs(10))
///     .call_timeout(Some(Duration::from_secs(1)))
///     .event_policy(EventPolicy::DropOldest)
///     .connect()?;
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    connector: Connector,
    pub(super) timeout: Duration,
    wait_for_server: bool,
    pub(super) call_timeout: Option<Duration>,
    max_message_bytes: usize,
    events_capacity: usize,
    event_policy: EventPolicy,
    token: Option<Token>,
}

impl ClientBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            connector: Stream::builder(path),
            timeout: DEFAULT_TIMEOUT,
            wait_for_server: false,
            call_timeout: None,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            events_capacity: DEFAULT_EVENTS_CAPACITY,
            event_policy: EventPolicy::default(),
            token: None,
        }
    }

    /// How long connecting may take in all; 5 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether to go on trying, until the timeout, where no server listens yet; not by default.
    pub fn wait_for_server(mut self, wait: bool) -> Self {
        self.wait_for_server = wait;
        self
    }

    /// The deadline of calls that are given none, counted from each call; none by default: then only the end of the
    /// connection ends a call. Not for [streams](Client::call_streaming), whose length nobody knows.
    pub fn call_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Wishes for the size of both rings in bytes. The server rounds up to a power of two, and has a limit of its own.
    pub fn ring_bytes(mut self, ring_bytes: u32) -> Self {
        self.connector = self.connector.ring_bytes(ring_bytes);
        self
    }

    /// Three limits in bytes, 10 MiB each by default: the longest message that is put together whole; all replies that
    /// wait to be collected; all events that wait to be taken.
    pub fn max_message_bytes(mut self, max_message_bytes: usize) -> Self {
        self.max_message_bytes = max_message_bytes;
        self.connector = self.connector.max_message_bytes(max_message_bytes);
        self
    }

    /// What the client does while it waits; [`WaitStrategy::SpinThenPark`] by default.
    pub fn strategy(mut self, strategy: WaitStrategy) -> Self {
        self.connector = self.connector.wait_strategy(strategy);
        self
    }

    /// How many events wait at most while the program waits for something else; 1,024 by default.
    pub fn events_capacity(mut self, events: usize) -> Self {
        self.events_capacity = events;
        self
    }

    /// What happens to an event beyond that; [`EventPolicy::Wait`] by default.
    pub fn event_policy(mut self, policy: EventPolicy) -> Self {
        self.event_policy = policy;
        self
    }

    /// Sends `token` to the server as soon as the connection is made: see [`Client::authenticate`].
    pub fn token(mut self, token: impl Into<Vec<u8>>) -> Self {
        self.token = Some(Token(token.into()));
        self
    }

    /// Asks for the latency class: the server's thread for this connection shares `core`, with a real-time priority. The
    /// calling thread should be bound to the same core with the same priority, and wait as its
    /// [`LatencyGuard`](crate::transport::LatencyGuard::wait_strategy) says: see
    /// [`enter_latency_class`](crate::transport::enter_latency_class). Without that [`strategy`](Self::strategy), called
    /// after this, the client parks at once.
    pub fn latency_class(mut self, core: u32) -> Self {
        self.connector = self.connector.latency_class(core);
        self
    }

    /// Which servers to talk to; those of the same user and of root by default.
    pub fn trust(mut self, policy: PeerPolicy) -> Self {
        self.connector = self.connector.connect_to(policy);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Connector::connect`]. With [`wait_for_server`](Self::wait_for_server), those of a server that is not there yet
    /// only once the timeout has passed. With a [`token`](Self::token), those of [`Client::authenticate`].
    pub fn connect(self) -> Result<Client, Error> {
        let started = Instant::now();
        let stream = loop {
            let left = self.timeout.saturating_sub(started.elapsed());
            match self.connector.clone().timeout(left).connect() {
                Err(error) if self.wait_for_server && is_not_there(&error) && left > RETRY_AFTER => {
                    thread::sleep(RETRY_AFTER);
                }
                connected => break connected?,
            }
        };
        let mut client = self.client_over(stream);
        if let Some(Token(token)) = &self.token {
            let left = self.timeout.saturating_sub(started.elapsed());
            client.authenticate_until(token, Deadline::after(left))?;
        }
        Ok(client)
    }

    /// A client that connects again by itself: see [`reconnect`](super::reconnect).
    pub fn reconnecting(self) -> ReconnectingBuilder {
        ReconnectingBuilder::new(self)
    }

    pub(super) fn path(&self) -> &Path {
        self.connector.path()
    }

    /// As [`ClientBuilder::connect`], by `deadline` at the latest.
    pub(super) fn connect_by(&self, deadline: Deadline) -> Result<Client, Error> {
        let timeout = deadline.left().map_or(self.timeout, |left| left.min(self.timeout));
        self.clone().timeout(timeout).connect()
    }

    /// A client over a connection that is there: one end of [`Stream::pair`], say. What the builder says of connecting
    /// does not apply to it.
    pub fn over(self, stream: Stream) -> Client {
        self.client_over(stream)
    }

    fn client_over(&self, stream: Stream) -> Client {
        let events = Queue::new(self.events_capacity, self.max_message_bytes, self.event_policy);
        Client::new(stream, State::new(events, self.max_message_bytes), self.call_timeout)
    }
}

/// No server yet, or one that is about to go, or to come.
fn is_not_there(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::PeerClosed)
}

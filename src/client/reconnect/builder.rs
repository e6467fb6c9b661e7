//! [`ReconnectingBuilder`]: how a client comes back.

use std::fmt;
use std::time::Duration;

use super::ReconnectingClient;
use super::link::{Link, OnChange, StateChange};
use crate::client::backoff::Backoff;
use crate::client::breaker::CircuitBreaker;
use crate::client::builder::ClientBuilder;
use crate::error::Error;

const DEFAULT_JITTER: f64 = 0.5;
const DEFAULT_MAX_ATTEMPTS: u32 = 10;

/// How a client comes back. Made by [`ClientBuilder::reconnecting`].
///
/// ```no_run
/// use std::time::Duration;
/// use ringwire::Client;
/// use ringwire::client::{Backoff, CircuitBreaker};
///
/// let client = Client::builder("/run/user/1000/engine.sock")
///     .call_timeout(Some(Duration::from_secs(2)))
///     .reconnecting()
///     .backoff(Backoff::Fixed(Duration::from_millis(250)))
///     .max_attempts(None)
///     .breaker(CircuitBreaker::new())
///     .on_state_change(|change| println!("{:?} -> {:?} {:?}", change.from, change.to, change.cause))
///     .build();
/// ```
#[must_use]
pub struct ReconnectingBuilder {
    client: ClientBuilder,
    backoff: Backoff,
    jitter: f64,
    seed: Option<u64>,
    max_attempts: Option<u32>,
    on_change: Option<OnChange>,
    breaker: Option<CircuitBreaker>,
}

impl ReconnectingBuilder {
    pub(in crate::client) fn new(client: ClientBuilder) -> Self {
        Self {
            client,
            backoff: Backoff::default(),
            jitter: DEFAULT_JITTER,
            seed: None,
            max_attempts: Some(DEFAULT_MAX_ATTEMPTS),
            on_change: None,
            breaker: None,
        }
    }

    /// The time between two attempts that count; [exponential](Backoff::default) by default.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// By how much of itself each delay is shortened at random, at most: 0 to 1, 0.5 by default. See [`Backoff::delays`].
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// The same delays each time, by the same seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Behind so many failures in a row the client gives up: [`Failed`](super::ConnectionState::Failed); 10 by default
    /// (about 20 s with the default delays), `None` for never. An idempotent call is not sent more often either.
    pub fn max_attempts(mut self, attempts: Option<u32>) -> Self {
        self.max_attempts = attempts.map(|attempts| attempts.max(1));
        self
    }

    /// Is told each change of state, in order, in the thread that uses the client.
    pub fn on_state_change(mut self, tell: impl FnMut(&StateChange<'_>) + Send + 'static) -> Self {
        self.on_change = Some(Box::new(tell));
        self
    }

    /// Is asked before each request, and told how it ended; none by default. Give the same one to all clients of a server.
    pub fn breaker(mut self, breaker: CircuitBreaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// The client, which connects when it is first used.
    #[must_use]
    pub fn build(self) -> ReconnectingClient {
        let delays = self.backoff.delays(self.jitter, self.seed);
        let call_timeout = self.client.call_timeout;
        let mut link = Link::new(self.client, delays, self.max_attempts);
        link.on_change = self.on_change;
        ReconnectingClient::new(link, self.breaker, call_timeout)
    }

    /// The client, connected; waits for the server as long as it takes, at most for `timeout`.
    ///
    /// # Errors
    /// As [`ReconnectingClient::connect`].
    pub fn connect(self, timeout: Option<Duration>) -> Result<ReconnectingClient, Error> {
        let mut client = self.build();
        client.connect(timeout)?;
        Ok(client)
    }
}

impl fmt::Debug for ReconnectingBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectingBuilder")
            .field("client", &self.client)
            .field("backoff", &self.backoff)
            .field("max_attempts", &self.max_attempts)
            .finish_non_exhaustive()
    }
}

//! [`ClientPoolBuilder`]: everything that can be chosen of a pool.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::ClientPool;
use super::shared::{Connect, Settings, Shared};
use crate::client::builder::ClientBuilder;
use crate::client::connection::Client;
use crate::error::{Error, ErrorKind};
use crate::transport::Deadline;

/// How a [`ClientPool`] keeps its connections. Made by [`ClientPool::builder`] and [`ClientBuilder::pooled`].
///
/// ```no_run
/// use std::time::Duration;
/// use ringwire::Client;
///
/// let pool = Client::builder("/run/user/1000/engine.sock")
///     .call_timeout(Some(Duration::from_secs(1)))
///     .pooled()
///     .min_connections(4)
///     .max_connections(64)
///     .maintenance_thread(true)
///     .build()?;
/// # Ok::<(), ringwire::Error>(())
/// ```
#[must_use]
pub struct ClientPoolBuilder {
    settings: Settings,
    connect: Box<Connect>,
    has_thread: bool,
    warm_up: bool,
}

impl ClientBuilder {
    /// A pool of connections that are all made like this.
    pub fn pooled(self) -> ClientPoolBuilder {
        let name = self.path().display().to_string();
        ClientPoolBuilder::new(name, Box::new(move |deadline| self.connect_by(deadline)))
    }
}

impl ClientPool {
    /// Chooses how a pool of connections to the server at `path` is kept.
    pub fn builder(path: impl AsRef<Path>) -> ClientPoolBuilder {
        Client::builder(path).pooled()
    }

    /// As [`ClientPool::builder`], for connections that `connect` opens, by the deadline that it is given if it can. It runs
    /// on the threads of callers, several at a time.
    pub fn over(
        connect: impl Fn(Deadline) -> Result<Client, Error> + Send + Sync + 'static,
    ) -> ClientPoolBuilder {
        ClientPoolBuilder::new("its server".to_owned(), Box::new(connect))
    }
}

impl ClientPoolBuilder {
    fn new(name: String, connect: Box<Connect>) -> Self {
        let settings = Settings {
            name,
            min: 10,
            max: 1_000,
            max_waiting: 10_000,
            acquire_timeout: Some(Duration::from_secs(5)),
            idle_timeout: Some(Duration::from_secs(60)),
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            check_after: Duration::from_secs(1),
            check_interval: Some(Duration::from_secs(30)),
            check_timeout: Duration::from_secs(1),
            maintenance_interval: Duration::from_secs(1),
        };
        Self { settings, connect, has_thread: false, warm_up: true }
    }

    /// How many connections are opened at the start, and never closed for being idle; 10 by default.
    pub fn min_connections(mut self, min: usize) -> Self {
        self.settings.min = min;
        self
    }

    /// How many connections there are at the most; 1,000 by default. Beyond it callers wait. A server whose limit is lower
    /// sets the limit: who is refused waits for a connection that others have.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.settings.max = max;
        self
    }

    /// How many callers may wait at once (10,000 by default); further ones get [`ErrorKind::ResourceExhausted`] at once.
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.settings.max_waiting = max_waiting;
        self
    }

    /// How long [`ClientPool::acquire`] waits; 5 s by default, `None` for as long as it takes.
    pub fn acquire_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.acquire_timeout = timeout;
        self
    }

    /// Connections beyond the minimum are closed when nobody has needed them for so long; 60 s by default.
    ///
    /// The connection that was given back last is lent first, so those that the load does not need stay idle: the pool
    /// shrinks to what was needed at once during this time.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Connections older than this are closed, when they are idle or come back; 30 min by default. Each has up to a tenth
    /// less, by its number, so that they are not all opened anew at once.
    pub fn max_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.settings.max_lifetime = lifetime;
        self
    }

    /// A connection that was idle for longer than this is asked for a sign of life before it is lent (a
    /// [ping](Client::ping)), and replaced if there is none; 1 s by default. [`Duration::MAX`]: never.
    ///
    /// In any case one that was idle for more than 20 ms, or while another one broke, is looked at (a system call).
    pub fn check_after(mut self, idle: Duration) -> Self {
        self.settings.check_after = idle;
        self
    }

    /// How often [`ClientPool::maintain`] asks an idle connection for a sign of life; 30 s by default.
    pub fn check_interval(mut self, interval: Option<Duration>) -> Self {
        self.settings.check_interval = interval;
        self
    }

    /// How long a connection has for its sign of life, and maintenance for opening one; 1 s by default.
    pub fn check_timeout(mut self, timeout: Duration) -> Self {
        self.settings.check_timeout = timeout;
        self
    }

    /// How often the maintenance thread, and without one the callers, look for connections to close; 1 s by default.
    pub fn maintenance_interval(mut self, interval: Duration) -> Self {
        self.settings.maintenance_interval = interval;
        self
    }

    /// Whether the pool has a thread of its own that [maintains](ClientPool::maintain) it; not by default.
    pub fn maintenance_thread(mut self, wanted: bool) -> Self {
        self.has_thread = wanted;
        self
    }

    /// Whether [`build`](Self::build) opens the minimum of connections, and fails if it cannot; it does by default. Otherwise
    /// they are opened as callers need them, or by the first maintenance.
    pub fn warm_up(mut self, wanted: bool) -> Self {
        self.warm_up = wanted;
        self
    }

    /// Makes the pool, and opens the minimum of connections.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a maximum of 0 or below the minimum, and for a time of zero where there has to be one;
    /// else as [`ClientBuilder::connect`].
    pub fn build(self) -> Result<ClientPool, Error> {
        self.check()?;
        let shared = Shared::new(self.settings, self.connect);
        if self.warm_up {
            shared.refill(Duration::MAX, || true)?;
        }
        ClientPool::new(shared, self.has_thread)
    }

    fn check(&self) -> Result<(), Error> {
        let Settings { min, max, .. } = self.settings;
        let wrong = if max == 0 || max < min {
            format!(
                "a maximum of {max} connections, and a minimum of {min}: expected 1 or more, and no less than that"
            )
        } else if self.settings.maintenance_interval.is_zero() {
            "a maintenance interval of zero: expected a time above that".to_owned()
        } else if self.settings.check_interval.is_some_and(|interval| interval.is_zero()) {
            "a check interval of zero: expected a time above that, or None".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidInput, wrong))
    }
}

impl fmt::Debug for ClientPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPoolBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

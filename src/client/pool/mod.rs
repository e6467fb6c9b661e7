//! A pool of connections: many threads share a few [clients](crate::Client), each of which one thread uses at a time.
//!
//! [`ClientPool::acquire`] lends a connection, dropping the [`PooledClient`] gives it back. The pool opens connections as
//! callers need them, up to a maximum; then callers wait, in the order in which they asked.
//!
//! # What it promises
//! - **First come, first served.** A connection that comes back goes to who has waited longest, and nobody passes the queue.
//!   Who gives up at his deadline loses nothing for the others: what was handed to him in that moment he takes, or passes on.
//! - **What is lent works**, as far as can be known: nothing is under way on it, and it is not too old. One that was idle for
//!   a while has shown a sign of life. When one connection breaks, all others are looked at before they are lent again; a
//!   broken one is replaced.
//! - **No thread, unless [asked for](ClientPoolBuilder::maintenance_thread).** Without one, callers close what is too old, a
//!   few at a time, when they give back; the rest happens when [`ClientPool::maintain`] is called. The thread ends with the
//!   pool.
//! - **Bounded**: connections, callers in the queue, and the time of each step.
//! - To acquire and give back while connections are idle takes two uncontended locks, no allocation and no system call.
//!
//! # Which to lend
//! The connection that was given back last is lent first: its memory is warm, its server's thread may still be awake, and
//! those that are not needed stay idle until the [idle timeout](ClientPoolBuilder::idle_timeout) closes them. So the size
//! follows the load.
//!
//! # Deadlocks
//! A thread that holds a connection and asks for another may wait for a thread that does the same, until a deadline ends it.

mod book;
mod builder;
mod clock;
mod connection;
mod maintenance;
mod metrics;
mod pooled;
mod shared;
mod waiter;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use builder::ClientPoolBuilder;
pub use metrics::{ClientPoolMetrics, ClosedConnections, WaitTimes};
pub use pooled::PooledClient;

use crate::error::Error;
use crate::transport::Deadline;
use maintenance::Maintainer;
use shared::Shared;
use waiter::lock;

/// A pool of connections to one server; see the [module](self). Clones share it; it is closed with the last of them.
///
/// ```
/// # use ringwire::client::ECHO;
/// # use ringwire::{Client, ClientPool, Server};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("s.sock");
/// # let server = Server::builder(&path).build()?;
/// # let handle = server.handle();
/// # let serving = std::thread::spawn(move || server.serve());
/// let pool = ClientPool::builder(&path).min_connections(2).max_connections(8).build()?;
/// std::thread::scope(|scope| {
///     for _ in 0..32 {
///         scope.spawn(|| -> Result<(), ringwire::Error> {
///             let mut client = pool.acquire()?;
///             let reply = client.call(ECHO, b"hello")?;
///             assert_eq!(reply.to_vec(), b"hello");
///             Ok(())
///         });
///     }
/// });
/// let metrics = pool.metrics();
/// assert!(metrics.size <= 8 && metrics.acquired == 32 && metrics.in_use == 0);
/// # drop(pool);
/// # assert!(handle.shutdown(std::time::Duration::from_secs(5)));
/// # serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientPool {
    owner: Arc<Owner>,
}

/// What ends with the last handle, while loans may go on.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    maintainer: Mutex<Option<Maintainer>>,
}

impl ClientPool {
    fn new(shared: Shared, has_thread: bool) -> Result<Self, Error> {
        let shared = Arc::new(shared);
        let maintainer = if has_thread { Some(Maintainer::start(&shared)?) } else { None };
        Ok(Self { owner: Arc::new(Owner { shared, maintainer: Mutex::new(maintainer) }) })
    }

    /// Borrows a connection, waiting for it at most for the [acquire timeout](ClientPoolBuilder::acquire_timeout).
    ///
    /// # Errors
    /// - [`ErrorKind::TimedOut`]: all are in use, and none came back in time; the message has the figures.
    /// - [`ErrorKind::ResourceExhausted`]: as many callers wait as [may](ClientPoolBuilder::max_waiting).
    /// - [`ErrorKind::Stopped`]: the pool has been [closed](ClientPool::close).
    /// - Else as [`ClientBuilder::connect`](crate::ClientBuilder::connect), where one has to be opened.
    ///
    /// [`ErrorKind::TimedOut`]: crate::ErrorKind::TimedOut
    /// [`ErrorKind::ResourceExhausted`]: crate::ErrorKind::ResourceExhausted
    /// [`ErrorKind::Stopped`]: crate::ErrorKind::Stopped
    #[inline]
    pub fn acquire(&self) -> Result<PooledClient, Error> {
        match self.try_acquire() {
            Some(client) => Ok(client),
            None => self.acquire_slowly(Deadline::after_option(self.owner.shared.settings.acquire_timeout)),
        }
    }

    /// As [`ClientPool::acquire`], waiting at most for `timeout`.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn acquire_within(&self, timeout: Duration) -> Result<PooledClient, Error> {
        match self.try_acquire() {
            Some(client) => Ok(client),
            None => self.acquire_slowly(Deadline::after(timeout)),
        }
    }

    /// As [`ClientPool::acquire`], with the point in time: that of the request which it is for, say. An idle connection is
    /// lent even after it.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn acquire_by(&self, deadline: Deadline) -> Result<PooledClient, Error> {
        match self.try_acquire() {
            Some(client) => Ok(client),
            None => self.acquire_slowly(deadline),
        }
    }

    /// A connection that is idle, and can be lent as it is: without waiting, opening, or asking for a sign of life.
    #[inline]
    pub fn try_acquire(&self) -> Option<PooledClient> {
        let shared = &self.owner.shared;
        shared.acquire_ready().map(|connection| PooledClient::new(shared, connection))
    }

    fn acquire_slowly(&self, deadline: Deadline) -> Result<PooledClient, Error> {
        let shared = &self.owner.shared;
        shared.acquire_slowly(deadline).map(|connection| PooledClient::new(shared, connection))
    }

    /// Puts the pool in order, for who has no [thread](ClientPoolBuilder::maintenance_thread) for it: closes connections that
    /// are too old or have been idle for too long, asks those for a sign of life that have given none for the
    /// [interval](ClientPoolBuilder::check_interval), and opens others up to the minimum.
    ///
    /// Takes as long as that takes: a ping at a time, each within the check timeout. Callers go on meanwhile.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`](crate::ClientBuilder::connect), for the first connection that could not be opened;
    /// everything else is done then.
    pub fn maintain(&self) -> Result<(), Error> {
        self.owner.shared.maintain(|| true)
    }

    /// The figures of this moment.
    #[must_use]
    pub fn metrics(&self) -> ClientPoolMetrics {
        lock(&self.owner.shared.book).metrics()
    }

    /// Closes the pool: idle connections now, lent ones when they come back. Callers that wait, and later ones, get
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped). Dropping the last handle does the same.
    ///
    /// Waits for the maintenance thread, if there is one: for the one connection at the most that it has in hand.
    pub fn close(&self) {
        self.owner.close();
    }
}

impl Owner {
    fn close(&self) {
        self.shared.close();
        let maintainer = lock(&self.maintainer).take();
        drop(maintainer);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics = lock(&self.book).metrics();
        f.debug_struct("Pool").field("settings", &self.settings).field("metrics", &metrics).finish()
    }
}

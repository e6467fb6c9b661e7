//! [`ServerHandle`] and [`ConnectionHandle`]: what other threads do with a server while it serves.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use super::context::{ConnectionInfo, Request};
use super::core::Core;
use super::items::{Items, StreamingRequest};
use super::peer::{Peer, QueuedEvent, Wanted};
use super::registry::Handler;
use super::reply::{Replied, Reply};
use super::stats::{ConnectionSummary, ServerStats};
use crate::buffer::PoolStats;
use crate::error::Error;
use crate::transport::Deadline;

/// A server, for other threads than the one that serves. Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle {
    core: Arc<Core>,
}

impl ServerHandle {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }

    /// Where the server listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.core.settings.path
    }

    /// Stops the server, and waits until it has ended: accepts nobody any more, says goodbye to each client, answers what
    /// they have asked, and closes. What is not over after `timeout` is cut off. Says whether nothing had to be.
    ///
    /// A handler cannot wait for its own end: there use [`ServerHandle::stop`].
    #[must_use = "whether everything was answered in time"]
    pub fn shutdown(&self, timeout: Duration) -> bool {
        let deadline = Deadline::after(timeout);
        self.core.begin_stop(deadline, None);
        self.core.wait_until_ended(deadline)
    }

    /// Begins what [`ServerHandle::shutdown`] does, within the server's own drain timeout, and does not wait.
    pub fn stop(&self) {
        self.core.begin_stop(Deadline::after(self.core.settings.drain_timeout), None);
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionSummary> {
        self.core.summaries()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.core.stats()
    }

    /// The buffers that requests in fragments are put together in.
    #[must_use]
    pub fn pool_stats(&self) -> PoolStats {
        self.core.pool.stats()
    }

    /// Sends every client an event, and says for how many it could be queued. Its bytes are kept once.
    ///
    /// Where queues are full and the policy is to wait, it waits for all of them together. Clients that still owe the
    /// server's [token](super::shed::SharedToken) are left out.
    pub fn broadcast(&self, event_type: u16, payload: &[u8]) -> usize {
        self.core.broadcast(&QueuedEvent { message_type: event_type, payload: Arc::from(payload) })
    }

    /// The connection with this number, if it is open.
    #[must_use]
    pub fn connection(&self, id: u64) -> Option<ConnectionHandle> {
        self.core.peer(id).map(|peer| ConnectionHandle { peer })
    }

    /// Adds a handler while the server serves. Requests that are sent after this returns find it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the type has a handler already, or is one of the library's own (from 0xFFF0 on).
    pub fn add_handler<F>(&self, message_type: u16, handler: F) -> Result<(), Error>
    where
        F: Fn(&Request<'_>, Reply<'_>) -> Result<Replied, Failure> + Send + Sync + 'static,
    {
        self.core.registry.add(message_type, Handler::Plain(Arc::new(handler)))
    }

    /// Adds a streaming handler while the server serves.
    ///
    /// # Errors
    /// As [`ServerHandle::add_handler`].
    pub fn add_streaming_handler<F>(&self, message_type: u16, handler: F) -> Result<(), Error>
    where
        F: Fn(StreamingRequest<'_>, &mut Items<'_>) -> Result<(), Failure> + Send + Sync + 'static,
    {
        self.core.registry.add(message_type, Handler::Streaming(Arc::new(handler)))
    }

    /// Removes a handler; says whether there was one. Requests that it is working on are finished; later ones get
    /// [`Status::Unimplemented`](crate::wire::Status::Unimplemented). What it owns is dropped when every connection has
    /// taken its next request, or ended.
    pub fn remove_handler(&self, message_type: u16) -> bool {
        self.core.registry.remove(message_type)
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// One connection of a server, for any thread. It keeps nothing open: the connection may have ended.
#[derive(Clone)]
pub struct ConnectionHandle {
    peer: Arc<Peer>,
}

impl ConnectionHandle {
    /// Who it is.
    #[must_use]
    pub fn info(&self) -> &ConnectionInfo {
        &self.peer.info
    }

    /// Its counters.
    #[must_use]
    pub fn summary(&self) -> ConnectionSummary {
        ConnectionSummary::of(&self.peer)
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.peer.is_open()
    }

    /// Sends the client an event: queues it, and wakes the connection's thread. With a full queue, the server's policy
    /// decides.
    ///
    /// # Errors
    /// [`ErrorKind::PeerClosed`](crate::ErrorKind::PeerClosed) if the connection has ended,
    /// [`ErrorKind::ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if the client does not keep up.
    pub fn send_event(&self, event_type: u16, payload: &[u8]) -> Result<(), Error> {
        self.peer.push_event(QueuedEvent { message_type: event_type, payload: Arc::from(payload) })
    }

    /// Closes the connection once the handler under way, if there is one, has returned. Its answer is still sent, if there
    /// is room for it. Does not wait for any of that.
    pub fn disconnect(&self) {
        self.peer.want(Wanted::Disconnect);
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionHandle").field("info", &self.peer.info).finish_non_exhaustive()
    }
}

//! What a server counts.

use std::fmt;
use std::time::Duration;

use super::context::ConnectionInfo;
use super::peer::Peer;
use crate::transport::{Counter, Credentials};

/// A server's counters at one moment. As text, one `name value` a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Milliseconds since the server was built.
    pub uptime_ms: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Clients that found no thread to serve them.
    pub refused: u64,
    /// Requests taken so far, notifications among them.
    pub requests: u64,
    /// Those that were answered with a status instead of a response.
    pub failures: u64,
    /// Requests whose answer a [`DeferredReply`](super::DeferredReply) owes.
    pub deferred: u64,
    /// Events put into clients' rings.
    pub events_sent: u64,
    /// Events left out because a client did not keep up.
    pub events_dropped: u64,
    /// Failures of handlers and middleware.
    pub handler_errors: u64,
    /// Panics of handlers and middleware.
    pub panics: u64,
    /// Requests that reached no handler: cancelled, expired, malformed, of unknown type, too large, beyond a limit.
    pub request_errors: u64,
    /// Connections that were closed for what their client did, or for what got lost on its way to it.
    pub connection_errors: u64,
    /// Errors in accepting.
    pub accept_errors: u64,
}

impl fmt::Display for ServerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [
            ("uptime_ms", self.uptime_ms),
            ("connections", self.connections),
            ("accepted", self.accepted),
            ("refused", self.refused),
            ("requests", self.requests),
            ("failures", self.failures),
            ("deferred", self.deferred),
            ("events_sent", self.events_sent),
            ("events_dropped", self.events_dropped),
            ("handler_errors", self.handler_errors),
            ("panics", self.panics),
            ("request_errors", self.request_errors),
            ("connection_errors", self.connection_errors),
            ("accept_errors", self.accept_errors),
        ] {
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}

/// One connection at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionSummary {
    /// Its number.
    pub id: u64,
    /// The client.
    pub peer: Credentials,
    /// How long it has been open.
    pub age: Duration,
    /// The core of the latency class, if it is of that.
    pub latency_core: Option<u32>,
    /// Requests taken so far, notifications among them.
    pub requests: u64,
    /// Those that were answered with a status.
    pub failures: u64,
    /// Requests that a [`DeferredReply`](super::DeferredReply) has yet to answer.
    pub deferred: u64,
    /// Events put into the client's ring.
    pub events_sent: u64,
    /// Events left out because the client did not keep up.
    pub events_dropped: u64,
}

impl ConnectionSummary {
    pub(super) fn of(peer: &Peer) -> Self {
        let info: &ConnectionInfo = &peer.info;
        Self {
            id: info.id(),
            peer: info.peer(),
            age: peer.age(),
            latency_core: info.latency_core(),
            requests: peer.requests.get(),
            failures: peer.failures.get(),
            deferred: peer.deferred.count(),
            events_sent: peer.events_sent.get(),
            events_dropped: peer.events_dropped.get(),
        }
    }
}

/// What ended connections have counted.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    requests: Counter,
    failures: Counter,
    events_sent: Counter,
    events_dropped: Counter,
}

impl Totals {
    /// Takes over what an ended connection has counted.
    pub(super) fn absorb(&self, peer: &Peer) {
        self.requests.add(peer.requests.get());
        self.failures.add(peer.failures.get());
        self.events_sent.add(peer.events_sent.get());
        self.events_dropped.add(peer.events_dropped.get());
    }

    /// Those of all connections, `living` and ended.
    pub(super) fn with<'a>(&self, living: impl Iterator<Item = &'a Peer>) -> ServerStats {
        let mut stats = ServerStats {
            accepted: self.accepted.get(),
            refused: self.refused.get(),
            requests: self.requests.get(),
            failures: self.failures.get(),
            events_sent: self.events_sent.get(),
            events_dropped: self.events_dropped.get(),
            ..ServerStats::default()
        };
        for peer in living {
            stats.connections += 1;
            stats.requests += peer.requests.get();
            stats.failures += peer.failures.get();
            stats.deferred += peer.deferred.count();
            stats.events_sent += peer.events_sent.get();
            stats.events_dropped += peer.events_dropped.get();
        }
        stats
    }
}

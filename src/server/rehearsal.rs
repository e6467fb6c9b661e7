//! What a thread that keeps its core does between two polls: it answers itself, so that the way of an answer is fresh.

use std::sync::Arc;
use std::time::Instant;

use super::connection::turns;
use super::context::ConnectionInfo;
use super::core::Core;
use super::metadata::Metadata;
use super::peer::Peer;
use crate::error::Error;
use crate::transport::{Stream, WaitStrategy};
use crate::wire::call::ECHO;
use crate::wire::{Header, Kind};

/// The smallest ring: it is to stay in the caches.
const RING_BYTES: u32 = 4096;
/// The two ways of a copy.
const SIZES: [usize; 2] = [64, 1024];

/// A connection of the server with itself, which no handle sees and no counter of the server counts.
pub(super) struct Rehearsal {
    core: Arc<Core>,
    peer: Arc<Peer>,
    client: Stream,
    server: Stream,
    request: Vec<u8>,
    number: u64,
}

impl Rehearsal {
    pub(super) fn new(core: &Arc<Core>) -> Result<Self, Error> {
        let (client, mut server) = Stream::pair_with(RING_BYTES, WaitStrategy::ParkAtOnce)?;
        let info = ConnectionInfo {
            id: 0,
            peer: server.peer(),
            since: Instant::now(),
            latency_core: None,
            metadata: Metadata::default(),
        };
        let link = server.halves().1.interrupter();
        let peer = Arc::new(Peer::new(info, link, Arc::clone(&core.queues)));
        let request = vec![0; SIZES[1]];
        Ok(Self { core: Arc::clone(core), peer, client, server, request, number: 0 })
    }

    /// One request and its answer. Where a program's own code would see it, in a middleware, it is only a ping.
    pub(super) fn run(&mut self) {
        self.number += 1;
        let kind = if self.core.middleware.is_empty() { Kind::Request } else { Kind::Ping };
        let size = SIZES[(self.number % 2) as usize];
        let sent = self.client.try_send(Header::new(kind, ECHO, self.number), &self.request[..size]);
        // Nothing of it can fail but by a mistake in this crate, and then nothing waits: there is only less to gain.
        if sent.is_ok() && turns(&self.core, &self.peer, &mut self.server)() {
            let _ = self.client.try_receive().map(|answer| answer.is_some());
        }
    }
}

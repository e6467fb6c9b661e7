//! What a handler knows of the request that it answers.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Failure;
use super::metadata::Metadata;
use super::peer::Peer;
use super::shed::Held;
use crate::transport::{Cancellation, Credentials, Deadline, Payload};
use crate::wire::{Header, Kind, PackedHeader};

/// A connection as handlers and the server's owner see it.
#[derive(Debug)]
pub struct ConnectionInfo {
    pub(super) id: u64,
    pub(super) peer: Credentials,
    pub(super) since: Instant,
    pub(super) latency_core: Option<u32>,
    pub(super) metadata: Metadata,
}

impl ConnectionInfo {
    /// The connection's number: counted from 1, never used again by this server.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client's process, user and group, as the kernel vouches for them.
    #[must_use]
    pub fn peer(&self) -> Credentials {
        self.peer
    }

    /// When it was accepted.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The core that it shares with its client, if it is of the latency class.
    #[must_use]
    pub fn latency_core(&self) -> Option<u32> {
        self.latency_core
    }

    /// What the program keeps with it.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// The circumstances of one request.
pub struct Context<'a> {
    pub(super) peer: &'a Arc<Peer>,
    pub(super) cancellation: Cancellation<'a>,
    pub(super) deadline: Deadline,
    /// The request's.
    pub(super) header: PackedHeader,
    pub(super) is_one_way: bool,
    /// What the request occupies until it is answered.
    pub(super) held: Held,
}

impl Context<'_> {
    /// Where the request came from.
    #[must_use]
    pub fn connection(&self) -> &ConnectionInfo {
        &self.peer.info
    }

    /// The request's type.
    #[inline]
    #[must_use]
    pub fn message_type(&self) -> u16 {
        self.header.header().message_type
    }

    /// The request's number among those of its connection; 0 where nobody waits for an answer.
    #[inline]
    #[must_use]
    pub fn correlation(&self) -> u64 {
        self.header.header().correlation
    }

    /// The header of an answer of this kind.
    #[inline(always)]
    pub(super) fn answer(&self, kind: Kind) -> Header {
        let asked = self.header.header();
        Header::new(kind, asked.message_type, asked.correlation)
    }

    /// Whether nobody waits for an answer: what the handler replies is left out.
    #[must_use]
    pub fn is_one_way(&self) -> bool {
        self.is_one_way
    }

    /// Until when the caller waits; [`Deadline::NEVER`] if it did not say.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// How long the caller still waits: zero once that is over, `None` for ever.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.left()
    }

    /// Whether the caller has given the request up. One load: a busy handler may ask in its innermost loop.
    #[inline]
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        !self.is_one_way && self.cancellation.is_cancelled()
    }

    /// Whether to go on: for a long handler's `?`, now and then. Asks for the time if the request has a deadline.
    ///
    /// # Errors
    /// [`Status::Cancelled`](crate::wire::Status::Cancelled),
    /// [`Status::DeadlineExceeded`](crate::wire::Status::DeadlineExceeded).
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_cancelled() {
            return Err(Failure::cancelled("the caller gave the request up"));
        }
        if self.deadline.has_passed() {
            return Err(Failure::deadline_exceeded("the caller's deadline passed in the handler"));
        }
        Ok(())
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("connection", &self.peer.info.id)
            .field("message_type", &self.message_type())
            .field("correlation", &self.correlation())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A request, with its circumstances: a [`Context`] with a payload.
#[derive(Debug)]
pub struct Request<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) payload: Payload<'a>,
}

impl<'a> Request<'a> {
    /// What was asked. In the ring, so copied out and never borrowed; messages of more than one record are in a buffer of
    /// the server's pool.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> Payload<'_> {
        self.payload.again()
    }

    /// The circumstances.
    #[inline]
    #[must_use]
    pub fn context(&self) -> &Context<'a> {
        self.context
    }
}

impl<'a> Deref for Request<'a> {
    type Target = Context<'a>;

    #[inline]
    fn deref(&self) -> &Context<'a> {
        self.context
    }
}

//! [`DeferredReply`]: an answer that comes later, from any thread.

use std::fmt;
use std::sync::Arc;

use super::Failure;
use super::context::Context;
use super::peer::{Peer, QueuedAnswer};
use super::shed::Held;
use crate::error::{Error, ErrorKind};
use crate::transport::{Deadline, SharedCancellation};
use crate::wire::call::{MAX_STATUS_BYTES, StatusPayload};
use crate::wire::{Header, Kind, Status};

/// The right to answer a request later: see [`Reply::detach`](super::Reply::detach).
///
/// It goes through the connection's queue and wakes its thread. If it is dropped without an answer, the caller gets
/// [`Status::Internal`].
///
/// ```
/// # use ringwire::server::{Failure, Replied, Reply, Request};
/// fn handler(request: &Request<'_>, reply: Reply<'_>) -> Result<Replied, Failure> {
///     let question = request.payload().to_vec();
///     let (replied, later) = reply.detach();
///     std::thread::spawn(move || later.send(question));
///     Ok(replied)
/// }
/// ```
#[must_use = "dropped, it answers `internal`"]
pub struct DeferredReply {
    peer: Arc<Peer>,
    /// `None`: nobody waits for an answer.
    header: Option<Header>,
    cancellation: Option<SharedCancellation>,
    deadline: Deadline,
    items: u64,
    is_over: bool,
    /// What the request occupies until it is answered.
    held: Held,
}

impl DeferredReply {
    pub(super) fn new(peer: Arc<Peer>, header: Header, context: &Context<'_>) -> Self {
        let header = (!context.is_one_way).then_some(header);
        if header.is_some() {
            peer.deferred.add(1);
        }
        Self {
            cancellation: header.map(|_| context.cancellation.to_shared()),
            header,
            deadline: context.deadline,
            peer,
            items: 0,
            is_over: false,
            held: context.held.take(),
        }
    }

    /// Answers. Behind items, `payload` is the last one.
    ///
    /// Never waits: the answer is sent by the connection's thread.
    ///
    /// # Errors
    /// [`ErrorKind::PeerClosed`] if the connection has ended.
    pub fn send(mut self, payload: impl Into<Vec<u8>>) -> Result<(), Error> {
        if self.items > 0 {
            self.item(payload)?;
            return self.finish();
        }
        self.end_with(Kind::Response, payload.into())
    }

    /// Answers with a status and some words.
    ///
    /// # Errors
    /// [`ErrorKind::PeerClosed`] if the connection has ended.
    pub fn fail(self, status: Status, message: impl Into<String>) -> Result<(), Error> {
        self.fail_with(Failure::new(status, message.into()))
    }

    /// Answers with a failure.
    ///
    /// # Errors
    /// [`ErrorKind::PeerClosed`] if the connection has ended.
    pub fn fail_with(mut self, failure: impl Into<Failure>) -> Result<(), Error> {
        let failure = failure.into();
        let kind = if self.items > 0 { Kind::StreamEnd } else { Kind::Error };
        if self.header.is_some() {
            self.peer.failures.add(1);
        }
        self.end_with(kind, encode(&failure))
    }

    /// Sends an item of a streamed answer. Waits while 64 items are on their way to the client's ring.
    ///
    /// # Errors
    /// [`ErrorKind::PeerClosed`] if the connection has ended, [`ErrorKind::Cancelled`] if the caller has given the request
    /// up, [`ErrorKind::TimedOut`] once its deadline has passed; [`ErrorKind::ResourceExhausted`] instead of a wait where
    /// the calling thread is the connection's own, which would wait for itself.
    pub fn item(&mut self, payload: impl Into<Vec<u8>>) -> Result<(), Error> {
        let Some(header) = self.header else { return Ok(()) };
        let (cancellation, deadline) = (&self.cancellation, self.deadline);
        let give_up = || {
            if cancellation.as_ref().is_some_and(SharedCancellation::is_cancelled) {
                return Err(ErrorKind::Cancelled.into());
            }
            if deadline.has_passed() { Err(ErrorKind::TimedOut.into()) } else { Ok(deadline) }
        };
        give_up()?;
        let header = Header::new(Kind::StreamItem, header.message_type, header.correlation);
        self.peer.push_item(QueuedAnswer { header, payload: payload.into() }, give_up)?;
        self.items += 1;
        Ok(())
    }

    /// Ends a streamed answer in good order.
    ///
    /// # Errors
    /// [`ErrorKind::PeerClosed`] if the connection has ended.
    pub fn finish(mut self) -> Result<(), Error> {
        self.end_with(Kind::StreamEnd, encode_ok())
    }

    /// Whether the caller has given the request up. It still has to be answered, with whatever.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.as_ref().is_some_and(SharedCancellation::is_cancelled)
    }

    /// Until when the caller waits.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The number of the connection that the request came from.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.peer.info.id
    }

    fn end_with(&mut self, kind: Kind, payload: Vec<u8>) -> Result<(), Error> {
        self.is_over = true;
        // First: who sees the answer finds the room for the next request.
        drop(self.held.take());
        let Some(header) = self.header else { return Ok(()) };
        let header = Header::new(kind, header.message_type, header.correlation);
        self.peer.push_last_answer(QueuedAnswer { header, payload })
    }
}

impl Drop for DeferredReply {
    fn drop(&mut self) {
        if !self.is_over {
            let kind = if self.items > 0 { Kind::StreamEnd } else { Kind::Error };
            let failure = Failure::internal("the server dropped the request without an answer");
            if self.header.is_some() && self.peer.is_open() {
                self.peer.failures.add(1);
                log::warn!("connection {}: a deferred reply was dropped unanswered", self.peer.info.id);
            }
            let _ = self.end_with(kind, encode(&failure));
        }
    }
}

impl fmt::Debug for DeferredReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredReply")
            .field("connection", &self.peer.info.id)
            .field("header", &self.header)
            .field("items", &self.items)
            .finish_non_exhaustive()
    }
}

/// A failure as it travels.
pub(super) fn encode(failure: &Failure) -> Vec<u8> {
    let mut buffer = [0; MAX_STATUS_BYTES];
    let bytes = StatusPayload::encode(failure.status(), failure.retry_hint(), failure.message(), &mut buffer);
    buffer[..bytes].to_vec()
}

fn encode_ok() -> Vec<u8> {
    let mut buffer = [0; MAX_STATUS_BYTES];
    let bytes = StatusPayload::encode(Status::Ok, None, "", &mut buffer);
    buffer[..bytes].to_vec()
}

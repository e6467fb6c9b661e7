//! [`DeferredReply`]: an answer that comes later, from any thread.

use std::fmt;
use std::sync::Arc;

use super::Failure;
use super::context::Context;
use super::peer::{Peer, QueuedAnswer};
use super::shed::Held;
use crate::error::{Error, ErrorKind};
use crate::transport::{Deadline, SharedCancellation};
use crate::wire::call::StatusPayload;
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
            peer.deferred.begin();
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

    /// Answers. Behind items, `payload` is the last one, and waits as [`DeferredReply::item`] does.
    ///
    /// Else never waits: the answer is sent by the connection's thread.
    ///
    /// # Errors
    /// [`ErrorKind::PeerClosed`] if the connection has ended; behind items, as [`DeferredReply::item`].
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

    /// Sends an item of a streamed answer. Waits while 64 items are on their way to the client's ring, at most for the
    /// server's [`send_timeout`](super::ServerBuilder::send_timeout), 30 s if it has none: a client that does not read must
    /// not hold a thread for ever that answers others too. Such a thread better uses [`DeferredReply::try_item`].
    ///
    /// # Errors
    /// [`ErrorKind::PeerClosed`] if the connection has ended, [`ErrorKind::Cancelled`] if the caller has given the request
    /// up, [`ErrorKind::TimedOut`] once its deadline has passed; [`ErrorKind::ResourceExhausted`] if the client did not keep
    /// up for all that time, and instead of a wait where the calling thread is the connection's own, which would wait for
    /// itself.
    pub fn item(&mut self, payload: impl Into<Vec<u8>>) -> Result<(), Error> {
        let Some(header) = self.header else { return Ok(()) };
        self.check_wanted()?;
        let answer = QueuedAnswer { header: item_of(header), payload: payload.into() };
        self.peer.push_item(answer, || self.check_wanted())?;
        self.items += 1;
        Ok(())
    }

    /// As [`DeferredReply::item`], without a wait. `payload` is copied only if there is room for it.
    ///
    /// ```
    /// # use ringwire::server::DeferredReply;
    /// # use ringwire::{Error, ErrorKind};
    /// /// Goes on with each of several streams as far as its client keeps up; who does not is asked again later.
    /// fn turn(streams: &mut Vec<DeferredReply>, item: &[u8]) {
    ///     streams.retain_mut(|stream| match stream.try_item(item) {
    ///         Ok(()) => true,
    ///         Err(error) => error.kind() == ErrorKind::Full,
    ///     });
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Full`] while 64 items are on their way to the client's ring; else as [`DeferredReply::item`].
    pub fn try_item(&mut self, payload: &[u8]) -> Result<(), Error> {
        let Some(header) = self.header else { return Ok(()) };
        self.check_wanted()?;
        self.peer.try_take_credit()?;
        self.peer.put_item(QueuedAnswer { header: item_of(header), payload: payload.to_vec() })?;
        self.items += 1;
        Ok(())
    }

    /// Until when the caller waits, if it still does.
    fn check_wanted(&self) -> Result<Deadline, Error> {
        if self.is_cancelled() {
            return Err(ErrorKind::Cancelled.into());
        }
        if self.deadline.has_passed() { Err(ErrorKind::TimedOut.into()) } else { Ok(self.deadline) }
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

fn item_of(header: Header) -> Header {
    Header::new(Kind::StreamItem, header.message_type, header.correlation)
}

/// A failure as it travels.
pub(super) fn encode(failure: &Failure) -> Vec<u8> {
    StatusPayload::encode(failure.status(), failure.retry_hint(), failure.message())
}

fn encode_ok() -> Vec<u8> {
    StatusPayload::encode(Status::Ok, None, "")
}

//! [`Reply`]: the one answer of a request, given at once or later.

use std::fmt;
use std::sync::Arc;

use super::Failure;
use super::context::Context;
use super::deferred::DeferredReply;
use crate::error::{Error, ErrorKind};
use crate::transport::{Payload, Sender, Slot};
use crate::wire::{Header, Kind, PackedHeader, Status};

/// A payload of no more goes from one ring to the other through a buffer on the stack.
const SMALL_BYTES: usize = 64;
/// A larger one than a record holds: so many bytes at a time.
const FRAGMENT_BYTES: usize = 16 << 10;

/// How far the answer to a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing that the client takes for an answer.
    None,
    /// Answered, or nobody waits for an answer.
    Answered,
    /// A [`DeferredReply`] is responsible.
    Deferred,
    /// Something was on its way when the connection broke, in this way.
    Broken(ErrorKind),
}

/// What a request's answer needs besides the sender.
#[derive(Debug)]
pub(super) struct Turn {
    header: PackedHeader,
    pub(super) progress: Progress,
    /// Items have been sent: the answer ends with the stream.
    pub(super) is_stream: bool,
}

impl Turn {
    #[inline(always)]
    pub(super) fn new(context: &Context<'_>) -> Self {
        Self { header: context.answer(Kind::Response).packed(), progress: Progress::None, is_stream: false }
    }

    /// The answer's.
    #[inline(always)]
    pub(super) fn header(&self) -> Header {
        self.header.header()
    }
}

/// Proof that a request was answered, or will be: only a [`Reply`] makes one.
#[derive(Debug)]
#[must_use = "the handler's result says that it has answered"]
pub struct Replied(());

/// The right to answer a request, once.
///
/// Each way to answer consumes it and gives [`Replied`], which the handler returns. A handler that returns an error
/// instead answers with that [`Failure`].
pub struct Reply<'a> {
    pub(super) sender: &'a mut Sender,
    pub(super) turn: &'a mut Turn,
    pub(super) context: &'a Context<'a>,
}

impl Reply<'_> {
    /// Answers with `payload`, waiting for room in the ring as long as the client lives. What does not fit one record
    /// travels in fragments.
    ///
    /// # Errors
    /// [`Status::MessageTooLarge`] beyond the client's limit; [`Status::Unavailable`] if the connection has ended.
    #[inline]
    pub fn send(self, payload: &[u8]) -> Result<Replied, Failure> {
        if self.context.is_one_way {
            return Ok(self.answered());
        }
        match self.sender.send(self.turn.header(), payload) {
            Ok(()) => Ok(self.answered()),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Answers with a received payload, moved from ring to ring.
    ///
    /// # Errors
    /// As [`Reply::send`].
    #[inline]
    pub fn send_payload(self, payload: Payload<'_>) -> Result<Replied, Failure> {
        if self.context.is_one_way {
            return Ok(self.answered());
        }
        match forward(self.sender, self.turn.header(), &payload) {
            Ok(()) => Ok(self.answered()),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Answers with what `write` puts into a record of at most `payload_bytes`, in place.
    ///
    /// # Errors
    /// [`Status::MessageTooLarge`] beyond half the ring less 16 bytes; else as [`Reply::send`].
    #[inline]
    pub fn send_with(
        self,
        payload_bytes: usize,
        write: impl FnOnce(&mut Slot<'_>),
    ) -> Result<Replied, Failure> {
        if self.context.is_one_way {
            return Ok(self.answered());
        }
        match self.sender.reserve(self.turn.header(), payload_bytes) {
            Ok(mut slot) => {
                write(&mut slot);
                slot.commit();
                Ok(self.answered())
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Answers with a status: as returning a [`Failure`] does.
    ///
    /// # Errors
    /// Always: the handler's result, to be returned.
    #[cold]
    pub fn fail(self, status: Status, message: impl Into<String>) -> Result<Replied, Failure> {
        Err(Failure::new(status, message.into()))
    }

    /// Sends the client an event before the answer, waiting for room like the answer itself.
    ///
    /// # Errors
    /// As [`Reply::send`].
    pub fn emit(&mut self, event_type: u16, payload: &[u8]) -> Result<(), Failure> {
        let sent = emit(self.sender, event_type, payload);
        sent.map_err(|error| broken(self.turn, error))?;
        self.context.peer.events_sent.add(1);
        Ok(())
    }

    /// Leaves the answer to somebody else, on whatever thread and however late. The connection goes on meanwhile.
    pub fn detach(self) -> (Replied, DeferredReply) {
        let deferred = DeferredReply::new(Arc::clone(self.context.peer), self.turn.header(), self.context);
        self.turn.progress = Progress::Deferred;
        (Replied(()), deferred)
    }

    /// The request's circumstances.
    #[must_use]
    pub fn context(&self) -> &Context<'_> {
        self.context
    }

    #[inline(always)]
    fn answered(self) -> Replied {
        self.turn.progress = Progress::Answered;
        Replied(())
    }

    #[cold]
    #[inline(never)]
    fn broken(self, error: Error) -> Failure {
        broken(self.turn, error)
    }
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("to", &self.context).finish_non_exhaustive()
    }
}

/// What a failed send means for the request: a message that is too large can still be answered with that.
#[cold]
#[inline(never)]
pub(super) fn broken(turn: &mut Turn, error: Error) -> Failure {
    if error.kind() != ErrorKind::MessageTooLarge {
        turn.progress = Progress::Broken(error.kind());
    }
    error.into()
}

pub(super) fn emit(sender: &mut Sender, event_type: u16, payload: &[u8]) -> Result<(), Error> {
    sender.send(Header::new(Kind::Event, event_type, 0), payload)
}

/// Sends on a received payload without putting it together anywhere.
#[inline(always)]
pub(super) fn forward(sender: &mut Sender, header: Header, payload: &Payload<'_>) -> Result<(), Error> {
    if payload.len() <= SMALL_BYTES {
        let mut bytes = [0; SMALL_BYTES];
        let count = payload.copy_to(&mut bytes);
        return sender.send(header, &bytes[..count]);
    }
    // A payload of its own: the caller's stays in registers.
    forward_large(sender, header, payload.again())
}

#[inline(never)]
fn forward_large(sender: &mut Sender, header: Header, payload: Payload<'_>) -> Result<(), Error> {
    if payload.len() > sender.max_record_bytes() {
        return forward_in_fragments(sender, header, &payload);
    }
    let mut slot = sender.reserve(header, payload.len())?;
    slot.write_payload(&payload);
    slot.commit();
    Ok(())
}

/// The client's sending ring may be the larger one.
#[cold]
#[inline(never)]
fn forward_in_fragments(sender: &mut Sender, header: Header, payload: &Payload<'_>) -> Result<(), Error> {
    let mut bytes = vec![0; FRAGMENT_BYTES];
    let (mut writer, mut at) = (sender.write_message(header), 0);
    while at < payload.len() {
        let count = payload.copy_from(at, &mut bytes);
        writer.write_piece(&bytes[..count])?;
        at += count;
    }
    writer.finish()
}

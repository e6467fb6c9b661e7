//! Streamed answers: [`StreamingRequest`] in, [`Items`] out.

use std::io;
use std::ops::Deref;

use super::Failure;
use super::context::Context;
use super::reply::{Turn, broken, emit};
use crate::transport::{MessageReader, Payload, Sender, Slot};
use crate::wire::{Header, Kind};

/// The items of one streamed answer, on their way to the client.
///
/// They share the ring with everything else that the client gets; while it is full, a send waits for the client. The end
/// of the stream is sent when the handler returns.
#[derive(Debug)]
pub struct Items<'a> {
    sender: &'a mut Sender,
    turn: &'a mut Turn,
    context: &'a Context<'a>,
    header: Header,
    sent: u64,
}

impl<'a> Items<'a> {
    pub(super) fn new(sender: &'a mut Sender, turn: &'a mut Turn, context: &'a Context<'a>) -> Self {
        let header = context.answer(Kind::StreamItem);
        Self { sender, turn, context, header, sent: 0 }
    }

    /// Sends an item, waiting for room in the ring.
    ///
    /// # Errors
    /// [`Status::Cancelled`](crate::wire::Status::Cancelled) once the client has given the stream up,
    /// [`Status::Unavailable`](crate::wire::Status::Unavailable) if the connection has ended,
    /// [`Status::MessageTooLarge`](crate::wire::Status::MessageTooLarge) beyond the client's limit. Return it with `?`.
    #[inline]
    pub fn send(&mut self, item: &[u8]) -> Result<(), Failure> {
        if self.is_unwanted()? {
            return Ok(());
        }
        match self.sender.send(self.header, item) {
            Ok(()) => self.sent(),
            Err(error) => Err(broken(self.turn, error)),
        }
    }

    /// Sends what `write` puts into a record of at most `item_bytes`, in place.
    ///
    /// # Errors
    /// As [`Items::send`]; the limit is that of a record.
    pub fn send_with(&mut self, item_bytes: usize, write: impl FnOnce(&mut Slot<'_>)) -> Result<(), Failure> {
        if self.is_unwanted()? {
            return Ok(());
        }
        match self.sender.reserve(self.header, item_bytes) {
            Ok(mut slot) => {
                write(&mut slot);
                slot.commit();
                self.sent()
            }
            Err(error) => Err(broken(self.turn, error)),
        }
    }

    /// Sends the client an event between the items.
    ///
    /// # Errors
    /// As [`Items::send`].
    pub fn emit(&mut self, event_type: u16, payload: &[u8]) -> Result<(), Failure> {
        emit(self.sender, event_type, payload).map_err(|error| broken(self.turn, error))?;
        self.context.peer.events_sent.add(1);
        Ok(())
    }

    /// Items sent so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.sent
    }

    #[inline(always)]
    fn is_unwanted(&self) -> Result<bool, Failure> {
        if self.context.is_cancelled() {
            return Err(Failure::cancelled("the client gave the stream up"));
        }
        Ok(self.context.is_one_way)
    }

    #[inline(always)]
    fn sent(&mut self) -> Result<(), Failure> {
        self.sent += 1;
        self.turn.is_stream = true;
        Ok(())
    }
}

/// A request that is answered with a stream, of any length: read it with [`io::Read`], or take it whole where it is.
///
/// A read waits for the client; if the request has a deadline, reading what comes in fragments fails with
/// [`TimedOut`](crate::ErrorKind::TimedOut) once it has passed, which `?` makes `deadline exceeded` of.
#[derive(Debug)]
pub struct StreamingRequest<'a> {
    context: &'a Context<'a>,
    source: Source<'a>,
}

#[derive(Debug)]
pub(super) enum Source<'a> {
    Whole(Payload<'a>),
    Pieces(MessageReader<'a>),
}

impl<'a> StreamingRequest<'a> {
    pub(super) fn new(context: &'a Context<'a>, source: Source<'a>) -> Self {
        Self { context, source }
    }

    /// The payload, if it came in one record. What does not is read piece by piece.
    #[must_use]
    pub fn payload(&self) -> Option<Payload<'_>> {
        match &self.source {
            Source::Whole(payload) => Some(payload.again()),
            Source::Pieces(_) => None,
        }
    }

    /// Reads all that is left, if it is no more than `limit_bytes`.
    ///
    /// # Errors
    /// [`Status::MessageTooLarge`](crate::wire::Status::MessageTooLarge) beyond the limit; else as reading.
    pub fn read_all(&mut self, limit_bytes: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX);
        io::Read::read_to_end(&mut io::Read::take(&mut *self, limit.saturating_add(1)), &mut bytes)?;
        if bytes.len() > limit_bytes {
            let message = format!("request of more than {limit_bytes} bytes, the handler's limit");
            return Err(Failure::message_too_large(message));
        }
        Ok(bytes)
    }

    /// The circumstances.
    #[must_use]
    pub fn context(&self) -> &Context<'a> {
        self.context
    }
}

impl io::Read for StreamingRequest<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::Whole(payload) => payload.read(target),
            Source::Pieces(reader) => reader.read(target),
        }
    }
}

impl<'a> Deref for StreamingRequest<'a> {
    type Target = Context<'a>;

    fn deref(&self) -> &Context<'a> {
        self.context
    }
}

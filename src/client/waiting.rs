//! Waiting for an answer: what else arrives meanwhile goes where it belongs.

use super::connection::Client;
use super::intake::{Awaited, Full, State, Step, parse_status};
use super::reply::Reply;
use super::tickets::Fault;
use crate::error::{Error, ErrorKind};
use crate::transport::{Deadline, Found, Meanwhile, Payload, Place, Receiver};
use crate::wire::call::StatusPayload;
use crate::wire::{Header, Kind, Status};

/// Where what a caller waits for is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrived {
    InRing(Found),
    Stored,
    /// As an item of a stream, where a response was expected.
    Streamed,
}

/// What a sender that waits for room does meanwhile.
pub(super) struct Intake<'a> {
    pub(super) receiver: &'a mut Receiver,
    pub(super) state: &'a mut State,
    /// Whose request is being sent.
    pub(super) slot: Option<usize>,
}

impl Meanwhile for Intake<'_> {
    fn take_in(&mut self) -> Result<(), Error> {
        let awaited = self.slot.map_or(Awaited::Nothing, Awaited::Sending);
        let taken = self.state.take_in(self.receiver, awaited);
        self.receiver.publish_consumed();
        match taken {
            // Its answer is there before its end: the rest of it is of no use.
            Ok(_) if self.slot.is_some_and(|slot| self.state.tickets.is_ready(slot)) => {
                Err(ErrorKind::Abandoned.into())
            }
            // Whoever waits for room waits for a peer that may wait for this.
            Ok(Taken::Blocked(full)) => Err(self.state.blocked(full)),
            // Found again by who waits for an answer; the peer may still read.
            Err(error) if error.kind() != ErrorKind::PeerClosed => Err(error),
            _ => Ok(()),
        }
    }
}

/// How a look at what has arrived ended.
enum Taken {
    All,
    Awaited(usize, Arrived),
    Blocked(Full),
}

impl State {
    /// Takes in what is there, without waiting, up to what is awaited.
    fn take_in(&mut self, receiver: &mut Receiver, awaited: Awaited) -> Result<Taken, Error> {
        // What is there now, and not what a busy peer writes meanwhile.
        let lap = receiver.a_lap_ahead();
        while !receiver.is_beyond(lap) {
            let Some(found) = receiver.poll_or_end()? else { break };
            match self.route(receiver, found, awaited)? {
                Step::Taken if awaited == Awaited::Event && !self.events.is_empty() => {
                    return Ok(Taken::Awaited(0, Arrived::Stored));
                }
                Step::Taken => {}
                Step::InRing(slot) => return Ok(Taken::Awaited(slot, Arrived::InRing(found))),
                Step::Stored(slot) => return Ok(Taken::Awaited(slot, Arrived::Stored)),
                Step::Streamed(slot) => return Ok(Taken::Awaited(slot, Arrived::Streamed)),
                Step::Blocked(full) => return Ok(Taken::Blocked(full)),
            }
        }
        Ok(Taken::All)
    }
}

impl Client {
    /// Waits for what comes next for `slot`, `expected` as the rule.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] by the request's deadline; as [`Client::call`] for the end of the connection;
    /// [`ErrorKind::ResourceExhausted`] where what is in front of it has no place.
    #[inline(always)]
    pub(super) fn await_slot(&mut self, slot: usize, expected: Header) -> Result<Arrived, Error> {
        let deadline = self.state.tickets.entry(slot).deadline;
        if self.state.tickets.is_ready(slot) {
            return Ok(Arrived::Stored);
        }
        if self.owes_an_end() {
            self.end_abandoned(deadline)?;
            if self.state.tickets.is_ready(slot) {
                return Ok(Arrived::Stored);
            }
        }
        let (sender, receiver) = self.stream.halves();
        let found = match receiver.next_record(deadline, || sender.trim_idle()) {
            Ok(found) if found.is(expected) => return Ok(Arrived::InRing(found)),
            Ok(found) => found,
            Err(error) => return Err(self.ended(error)),
        };
        self.await_slowly(found, Awaited::Slot(slot), deadline).map(|(_, arrived)| arrived)
    }

    /// `expected` itself, in the ring, where nothing is unusual: `None` in every other case, which [`Client::await_slot`]
    /// sees to.
    #[inline(always)]
    pub(super) fn await_plainly(&mut self, slot: usize, expected: Header) -> Option<Place> {
        let deadline = self.state.tickets.entry(slot).deadline;
        if self.state.tickets.is_ready(slot) || self.owes_an_end() {
            return None;
        }
        let (sender, receiver) = self.stream.halves();
        receiver.await_record(expected, deadline, || sender.trim_idle())
    }

    /// Waits for the answer to a request, `expected` as the rule, and hands it out; gives the request up where that fails.
    #[inline(always)]
    pub(super) fn await_reply(&mut self, slot: usize, expected: Header) -> Result<Reply<'_>, Error> {
        match self.await_plainly(slot, expected) {
            Some(place) => Ok(self.take_plain_reply(slot, place)),
            None => self.await_reply_slowly(slot, expected),
        }
    }

    #[cold]
    #[inline(never)]
    fn await_reply_slowly(&mut self, slot: usize, expected: Header) -> Result<Reply<'_>, Error> {
        let arrived = self.await_or_abandon(slot, expected)?;
        self.take_reply(slot, arrived)
    }

    /// Hands out the response that lies at `place`; the slot is free then.
    #[inline(always)]
    pub(super) fn take_plain_reply(&mut self, slot: usize, place: Place) -> Reply<'_> {
        self.state.tickets.finish(slot);
        let (_, receiver) = self.stream.halves();
        Reply::in_ring(receiver, place)
    }

    #[inline(always)]
    fn owes_an_end(&mut self) -> bool {
        self.stream.halves().0.owes_an_end()
    }

    /// Before a wait: the server may wait for the rest of a request whose sending failed half-way.
    pub(super) fn end_abandoned(&mut self, deadline: Deadline) -> Result<(), Error> {
        let (sender, receiver) = self.stream.halves();
        if !sender.owes_an_end() {
            return Ok(());
        }
        let mut intake = Intake { receiver, state: &mut self.state, slot: None };
        sender.end_abandoned(deadline, &mut intake).map_err(|error| self.ended(error))
    }

    /// Goes on waiting behind `found`, which is not as expected.
    #[cold]
    #[inline(never)]
    pub(super) fn await_slowly(
        &mut self,
        mut found: Found,
        awaited: Awaited,
        deadline: Deadline,
    ) -> Result<(usize, Arrived), Error> {
        let (sender, receiver) = self.stream.halves();
        let mut lap = receiver.a_lap_ahead();
        loop {
            match self.state.route(receiver, found, awaited) {
                Ok(Step::Taken) => {}
                Ok(Step::InRing(slot)) => return Ok((slot, Arrived::InRing(found))),
                Ok(Step::Stored(slot)) => return Ok((slot, Arrived::Stored)),
                Ok(Step::Streamed(slot)) => return Ok((slot, Arrived::Streamed)),
                Ok(Step::Blocked(full)) => {
                    receiver.publish_consumed();
                    return Err(self.state.blocked(full));
                }
                Err(error) => return Err(self.ended(error)),
            }
            if awaited == Awaited::Event && !self.state.events.is_empty() {
                return Ok((0, Arrived::Stored));
            }
            if receiver.is_beyond(lap) {
                // A peer that sends without end must not hold back the deadline.
                if let Err(error) = receiver.check_deadline(deadline) {
                    return Err(self.ended(error));
                }
                lap = receiver.a_lap_ahead();
            }
            found = match receiver.next_record(deadline, || sender.trim_idle()) {
                Ok(found) => found,
                Err(error) => return Err(self.ended(error)),
            };
        }
    }

    /// As [`Client::await_slowly`], for what is there already.
    pub(super) fn poll_for(&mut self, awaited: Awaited) -> Result<Option<(usize, Arrived)>, Error> {
        let (_, receiver) = self.stream.halves();
        match self.state.take_in(receiver, awaited) {
            Ok(Taken::All) => Ok(None),
            Ok(Taken::Awaited(slot, arrived)) => Ok(Some((slot, arrived))),
            Ok(Taken::Blocked(full)) => {
                receiver.publish_consumed();
                Err(self.state.blocked(full))
            }
            Err(error) => Err(self.ended(error)),
        }
    }

    /// As [`Client::await_slot`]; the request is given up where that fails.
    #[inline(always)]
    pub(super) fn await_or_abandon(&mut self, slot: usize, expected: Header) -> Result<Arrived, Error> {
        match self.await_slot(slot, expected) {
            Ok(arrived) => Ok(arrived),
            Err(error) => Err(self.abandon(slot, error)),
        }
    }

    #[cold]
    pub(super) fn abandon(&mut self, slot: usize, error: Error) -> Error {
        self.tell_cancelled(slot);
        self.state.abandon(slot);
        error
    }

    /// Hands out a final answer; the slot is free then.
    #[inline(always)]
    pub(super) fn take_reply(&mut self, slot: usize, arrived: Arrived) -> Result<Reply<'_>, Error> {
        match arrived {
            Arrived::InRing(found) if found.header().kind != Kind::Error => {
                Ok(self.take_plain_reply(slot, found.place()))
            }
            Arrived::InRing(found) => Err(self.take_error(slot, found)),
            Arrived::Stored => self.take_stored(slot),
            Arrived::Streamed => {
                let message_type = self.state.tickets.entry(slot).message_type;
                Err(self.abandon(slot, streamed(message_type)))
            }
        }
    }

    #[cold]
    pub(super) fn take_error(&mut self, slot: usize, found: Found) -> Error {
        self.state.finish(slot);
        let deadline = self.state.tickets.entry(slot).deadline;
        let (_, receiver) = self.stream.halves();
        let error = status_error(parse_status(&receiver.record_payload(&found)), deadline);
        receiver.release_record(found);
        error
    }

    #[cold]
    fn take_stored(&mut self, slot: usize) -> Result<Reply<'_>, Error> {
        let entry = self.state.tickets.entry(slot);
        let (kind, message_type) = (entry.kind, entry.message_type);
        match entry.fault {
            Some(Fault::TooLarge) => {
                self.state.finish(slot);
                Err(too_large(self.state.max_message_bytes))
            }
            Some(Fault::Streamed) => {
                self.state.finish(slot);
                Err(streamed(message_type))
            }
            None if kind == Kind::Error => {
                let error = status_error(parse_status(&Payload::private(&entry.bytes)), entry.deadline);
                self.state.finish(slot);
                Err(error)
            }
            None => {
                self.state.tickets.finish(slot);
                Ok(Reply::in_buffer(self.state.take_bytes(slot)))
            }
        }
    }
}

/// The error for a status that answers a request with this deadline.
pub(super) fn status_error(said: StatusPayload, deadline: Deadline) -> Error {
    if said.status == Status::DeadlineExceeded && deadline.has_passed() {
        // The server has seen it first: to the caller it is the same.
        return Error::new(ErrorKind::TimedOut, said.message);
    }
    Error::answered(said.status, said.message, said.retry_after)
}

#[cold]
pub(super) fn too_large(limit: usize) -> Error {
    let message =
        format!("the answer is longer than the limit of {limit} bytes for messages put together whole");
    Error::new(ErrorKind::MessageTooLarge, message)
}

#[cold]
fn streamed(message_type: u16) -> Error {
    let message = format!("type {message_type} answers with a stream: use call_streaming");
    Error::new(ErrorKind::InvalidInput, message)
}

//! [`Client`]: one connection to a server, and what every kind of call needs of it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::builder::ClientBuilder;
use super::intake::{Awaited, Closed, Full, State, Step, parse_status};
use super::reply::Reply;
use super::server_info::ServerInfo;
use super::tickets::{Expected, Fault, Ticket};
use crate::error::{Error, ErrorKind};
use crate::transport::{Deadline, Found, Meanwhile, Payload, Receiver, Stream, Unsent};
use crate::wire::{Header, Kind, call};

/// A connection to a server: calls, pipelined and streamed ones, and events.
///
/// One thread uses it; it starts none of its own. See the [module](crate::client) for what happens to a request.
///
/// ```no_run
/// use ringwire::Client;
/// use ringwire::client::ECHO;
///
/// let mut client = Client::connect("/run/user/1000/engine.sock")?;
/// let reply = client.call(ECHO, b"hello")?;
/// assert_eq!(reply.to_vec(), b"hello");
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Debug)]
pub struct Client {
    pub(super) stream: Stream,
    pub(super) state: State,
    pub(super) call_timeout: Option<Duration>,
    server: ServerInfo,
    /// For what is put together before it is sent, or taken apart behind its receipt.
    #[cfg(feature = "protocol")]
    pub(super) scratch: Vec<u8>,
}

/// Where what a caller waits for is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrived {
    InRing(Found),
    Stored,
    /// As an item of a stream, where a response was expected.
    Streamed,
}

/// What a sender that waits for room does meanwhile.
struct Intake<'a> {
    receiver: &'a mut Receiver,
    state: &'a mut State,
}

impl Meanwhile for Intake<'_> {
    fn take_in(&mut self) -> Result<(), Error> {
        let taken = self.state.take_in(self.receiver, Awaited::Nothing);
        self.receiver.publish_consumed();
        match taken {
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
    /// Connects to the server at `path` with the defaults.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).connect()
    }

    /// Chooses how to connect to the server at `path`.
    pub fn builder(path: impl AsRef<Path>) -> ClientBuilder {
        ClientBuilder::new(path.as_ref())
    }

    pub(super) fn new(stream: Stream, state: State, call_timeout: Option<Duration>) -> Self {
        let server = ServerInfo::of(&stream);
        Self {
            stream,
            state,
            call_timeout,
            server,
            #[cfg(feature = "protocol")]
            scratch: Vec::new(),
        }
    }

    /// Who is on the other side, and what was agreed on.
    #[must_use]
    pub fn server(&self) -> &ServerInfo {
        &self.server
    }

    /// The deadline of calls that are given none, counted from each call; none by default.
    pub fn set_call_timeout(&mut self, timeout: Option<Duration>) {
        self.call_timeout = timeout;
    }

    /// The longest request that travels in one record, and the longest that [`Client::call_with`] writes, in bytes.
    ///
    /// 8 less with a deadline, which travels in front of it.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        self.stream.max_record_bytes()
    }

    /// Requests whose answer has not arrived: at most 64, also counting those that were given up.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.tickets.unanswered() as usize
    }

    /// Sends a message that nobody answers.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] by the [call timeout](ClientBuilder::call_timeout) while it waits for room; else as
    /// [`Client::call`], except for what a server answers.
    #[inline]
    pub fn notify(&mut self, message_type: u16, message: &[u8]) -> Result<(), Error> {
        self.notify_until(message_type, message, self.default_deadline())
    }

    #[inline]
    pub(super) fn notify_until(
        &mut self,
        message_type: u16,
        message: &[u8],
        deadline: Deadline,
    ) -> Result<(), Error> {
        self.check_open()?;
        let header = with_deadline(Header::new(Kind::Event, message_type, 0), deadline);
        self.send(header, message, deadline).map_err(|unsent| self.ended(unsent.error))
    }

    /// How long the connection's thread on the other side takes to answer; no handler is asked.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn ping(&mut self) -> Result<Duration, Error> {
        let deadline = self.default_deadline();
        let started = Instant::now();
        let (slot, correlation) = self.next_slot()?;
        let header = Header::new(Kind::Ping, 0, correlation);
        self.send(header, &[], deadline).map_err(|unsent| self.not_sent(slot, unsent))?;
        self.state.tickets.begin(slot, 0, Expected::Pong, deadline);
        let arrived = self.await_or_abandon(slot, Header::new(Kind::Pong, 0, correlation))?;
        self.take_reply(slot, arrived)?;
        Ok(started.elapsed())
    }

    /// Asks the server to stop working on a request. Its answer still comes, and is still to be collected: a status
    /// [`Cancelled`](crate::wire::Status::Cancelled), or the response if the server was quicker or does not look.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the ticket has been collected or given up.
    pub fn cancel(&mut self, ticket: &Ticket) -> Result<(), Error> {
        let slot = self.find(*ticket)?;
        if !self.state.tickets.is_ready(slot) {
            self.stream.cancel(ticket.correlation);
        }
        Ok(())
    }

    /// Cancels a request and gives up its answer, which is left out when it comes.
    ///
    /// # Errors
    /// As [`Client::cancel`].
    pub fn give_up(&mut self, ticket: Ticket) -> Result<(), Error> {
        self.cancel(&ticket)?;
        self.state.abandon(call::slot_of(ticket.correlation));
        Ok(())
    }

    /// Closes the connection: the server receives what was sent, then sees the end. Dropping the client does the same.
    pub fn close(self) {}

    #[inline(always)]
    pub(super) fn default_deadline(&self) -> Deadline {
        match self.call_timeout {
            None => Deadline::NEVER,
            Some(timeout) => Deadline::after(timeout),
        }
    }

    #[inline(always)]
    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.state.closed.is_some() { Err(self.state.closing_error()) } else { Ok(()) }
    }

    /// The slot and the correlation for a request that is about to be sent.
    #[inline(always)]
    pub(super) fn next_slot(&self) -> Result<(usize, u64), Error> {
        self.check_open()?;
        self.state.tickets.next().ok_or_else(all_taken)
    }

    #[inline(always)]
    pub(super) fn send(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<(), Unsent> {
        let (sender, receiver) = self.stream.halves();
        receiver.expect_answer();
        sender.send_taking_in(header, payload, deadline, &mut Intake { receiver, state: &mut self.state })
    }

    /// Sends a request; says its slot.
    #[inline(always)]
    pub(super) fn send_request(
        &mut self,
        message_type: u16,
        request: &[u8],
        expected: Expected,
        deadline: Deadline,
    ) -> Result<(usize, u64), Error> {
        let (slot, correlation) = self.next_slot()?;
        let header = with_deadline(Header::new(Kind::Request, message_type, correlation), deadline);
        if let Err(unsent) = self.send(header, request, deadline) {
            return Err(self.not_sent(slot, unsent));
        }
        self.state.tickets.begin(slot, message_type, expected, deadline);
        Ok((slot, correlation))
    }

    #[cold]
    fn not_sent(&mut self, slot: usize, unsent: Unsent) -> Error {
        if unsent.begun {
            self.state.tickets.withdraw(slot);
        }
        self.ended(unsent.error)
    }

    /// Remembers an error that is the end of the connection.
    #[cold]
    pub(super) fn ended(&mut self, error: Error) -> Error {
        let kind = error.kind();
        if matches!(self.state.closed, Some(Closed::EventsFull)) {
            let (sender, receiver) = self.stream.halves();
            sender.end();
            receiver.end();
        } else if matches!(kind, ErrorKind::PeerClosed | ErrorKind::PeerDied | ErrorKind::CorruptPeer) {
            self.state.closed = Some(Closed::Ended(kind));
        }
        error
    }

    /// An error if nothing will come any more.
    #[inline]
    pub(super) fn check_receiving(&self) -> Result<(), Error> {
        match self.state.closed {
            Some(Closed::EventsFull) => Err(self.state.closing_error()),
            _ => Ok(()),
        }
    }

    /// Sends a request that `write` writes in place.
    #[inline(always)]
    pub(super) fn send_request_with(
        &mut self,
        message_type: u16,
        request_bytes: usize,
        write: impl FnOnce(&mut crate::transport::Slot<'_>),
        deadline: Deadline,
    ) -> Result<(usize, u64), Error> {
        let (slot, correlation) = self.next_slot()?;
        let header = with_deadline(Header::new(Kind::Request, message_type, correlation), deadline);
        let bytes = request_bytes + if header.is_extended() { size_of::<u64>() } else { 0 };
        let (sender, receiver) = self.stream.halves();
        receiver.expect_answer();
        let mut intake = Intake { receiver, state: &mut self.state };
        match sender.reserve_taking_in(header, bytes, deadline, &mut intake) {
            Ok(mut record) => {
                write(&mut record);
                record.commit();
            }
            Err(error) => return Err(self.ended(error)),
        }
        self.state.tickets.begin(slot, message_type, Expected::Response, deadline);
        Ok((slot, correlation))
    }

    /// Waits for what comes next for `slot`, `expected` as the rule.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] by the request's deadline; as [`Client::call`] for the end of the connection;
    /// [`ErrorKind::ResourceExhausted`] where what is in front of it has no place.
    #[inline(always)]
    pub(super) fn await_slot(&mut self, slot: usize, expected: Header) -> Result<Arrived, Error> {
        let deadline = self.state.tickets.entry(slot).deadline;
        let (sender, receiver) = self.stream.halves();
        let found = match receiver.next_record(deadline, || sender.trim_idle()) {
            Ok(found) if found.header() == expected => return Ok(Arrived::InRing(found)),
            Ok(found) => found,
            Err(error) => return Err(self.ended(error)),
        };
        self.await_slowly(found, Awaited::Slot(slot), deadline).map(|(_, arrived)| arrived)
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

    /// Takes in what is there, and looks whether the peer is: one system call.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        self.poll_for(Awaited::Nothing)?;
        let (_, receiver) = self.stream.halves();
        receiver.check_peer().map_err(|error| self.ended(error))
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
        self.stream.cancel(self.state.tickets.entry(slot).correlation);
        self.state.abandon(slot);
        error
    }

    /// Hands out a final answer; the slot is free then.
    #[inline(always)]
    pub(super) fn take_reply(&mut self, slot: usize, arrived: Arrived) -> Result<Reply<'_>, Error> {
        match arrived {
            Arrived::InRing(found) if found.header().kind != Kind::Error => {
                self.state.tickets.finish(slot);
                let (_, receiver) = self.stream.halves();
                Ok(Reply::in_ring(receiver.into_message(found)))
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
        let (_, receiver) = self.stream.halves();
        let error = status_error(&receiver.record_payload(&found));
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
                let error = status_error(&Payload::private(&entry.bytes));
                self.state.finish(slot);
                Err(error)
            }
            None => {
                self.state.tickets.finish(slot);
                Ok(Reply::in_buffer(self.state.take_bytes(slot)))
            }
        }
    }

    #[inline]
    pub(super) fn find(&self, ticket: Ticket) -> Result<usize, Error> {
        self.state.tickets.find(ticket).ok_or_else(unknown_ticket)
    }
}

/// A deadline travels with the request, in front of its payload.
#[inline(always)]
pub(super) fn with_deadline(header: Header, deadline: Deadline) -> Header {
    if deadline == Deadline::NEVER { header } else { header.extended() }
}

pub(super) fn status_error(payload: &Payload<'_>) -> Error {
    let said = parse_status(payload);
    Error::answered(said.status, said.message, said.retry_after)
}

#[cold]
fn all_taken() -> Error {
    let slots = call::SLOTS;
    Error::new(
        ErrorKind::ResourceExhausted,
        format!("{slots} requests wait for their answers: collect some first"),
    )
}

#[cold]
fn unknown_ticket() -> Error {
    Error::new(ErrorKind::InvalidInput, "this ticket has been collected, given up, or has timed out")
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

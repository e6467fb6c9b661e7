//! [`Client`]: one connection to a server, and what every kind of call needs of it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::builder::ClientBuilder;
use super::intake::{Awaited, Closed, State};
use super::server_info::ServerInfo;
use super::tickets::{Expected, Ticket};
use super::waiting::Intake;
use crate::error::{Error, ErrorKind};
use crate::transport::{Deadline, Slot, Stream, Unsent};
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
        self.send(header, message, deadline, None).map_err(|unsent| self.ended(unsent.error))
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
        self.state.tickets.begin(slot, 0, Expected::Pong, deadline);
        if let Err(unsent) = self.send(header, &[], deadline, Some(slot)) {
            self.not_sent(slot, unsent)?;
        }
        self.await_reply(slot, Header::new(Kind::Pong, 0, correlation))?;
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
            self.tell_cancelled(slot);
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
    pub(super) fn next_slot(&mut self) -> Result<(usize, u64), Error> {
        self.check_open()?;
        match self.state.tickets.next() {
            Some((slot, _)) if self.state.tickets.is_marked_cancelled(slot) => Ok(self.take_back(slot)),
            Some(next) => Ok(next),
            None => self.free_slot(),
        }
    }

    /// The slot's last request was cancelled: its word would mean another one, 2^26 requests later.
    #[cold]
    fn take_back(&mut self, slot: usize) -> (usize, u64) {
        self.stream.take_back_cancel(slot);
        self.state.tickets.forget_cancelled(slot);
        (slot, self.state.tickets.correlation_in(slot))
    }

    /// Tells the server that the request in `slot` is no longer wanted.
    pub(super) fn tell_cancelled(&mut self, slot: usize) {
        self.stream.cancel(self.state.tickets.entry(slot).correlation);
        self.state.tickets.note_cancelled(slot);
    }

    /// Answers that nobody waits for may have come, and have yet to be taken in.
    #[cold]
    fn free_slot(&mut self) -> Result<(usize, u64), Error> {
        let looked = self.poll_for(Awaited::Nothing);
        match self.state.tickets.next() {
            Some((slot, _)) => Ok(self.take_back(slot)),
            None => Err(looked.err().unwrap_or_else(all_taken)),
        }
    }

    #[inline(always)]
    fn send(
        &mut self,
        header: Header,
        payload: &[u8],
        deadline: Deadline,
        slot: Option<usize>,
    ) -> Result<(), Unsent> {
        let (sender, receiver) = self.stream.halves();
        receiver.expect_answer();
        let mut intake = Intake { receiver, state: &mut self.state, slot };
        sender.send_taking_in(header, payload, deadline, &mut intake)
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
        // Its answer may come before its end.
        self.state.tickets.begin(slot, message_type, expected, deadline);
        if let Err(unsent) = self.send(header, request, deadline, Some(slot)) {
            self.not_sent(slot, unsent)?;
        }
        Ok((slot, correlation))
    }

    /// An error, unless the answer is there all the same.
    #[cold]
    pub(super) fn not_sent(&mut self, slot: usize, unsent: Unsent) -> Result<(), Error> {
        if self.state.tickets.is_ready(slot) {
            return Ok(());
        }
        self.state.unsend(slot, unsent.begun);
        Err(self.ended(unsent.error))
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
        write: impl FnOnce(&mut Slot<'_>),
        deadline: Deadline,
    ) -> Result<(usize, u64), Error> {
        let (slot, correlation) = self.next_slot()?;
        let header = with_deadline(Header::new(Kind::Request, message_type, correlation), deadline);
        let bytes = request_bytes + header.extension_bytes();
        let (sender, receiver) = self.stream.halves();
        receiver.expect_answer();
        let mut intake = Intake { receiver, state: &mut self.state, slot: None };
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

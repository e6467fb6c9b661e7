//! [`Stream`]: both halves of a connection, for one thread.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::connect::Connector;
use super::connection::Connection;
use super::credentials::Credentials;
use super::interrupt::{self, Cancellations, Received};
use super::message::{Message, MessageReader, MessageWriter};
use super::options::{Backpressure, DEFAULT_RING_BYTES, Negotiated, Options};
use super::receiver::Receiver;
use super::sender::{Batch, Sender, Slot};
use crate::error::{Error, ErrorKind};
use crate::shm::{Direction, Layout, Segment};
use crate::wait::{Deadline, WaitStrategy};
use crate::wire::Header;

/// A connection that carries messages both ways, in order.
///
/// A message is a [`Header`] and a payload of any length. One thread uses both directions, or
/// [`split`](Stream::split) gives each to a thread of its own. While a send waits for room, what arrives is set aside (up
/// to the message limit) and received afterwards, so two sides that send at once do not wait for each other.
///
/// Dropping the stream closes it: the peer receives what was sent, then sees [`ErrorKind::PeerClosed`].
///
/// # Fork, exec, stop
///
/// - A process that becomes another program, or starts one, hands nothing on: every descriptor is close-on-exec.
/// - A child forked *without* exec has a copy of the value, but not the rings. It may drop a stream, or its halves, which
///   leaves its parent's connection as it is; any other use, such as a send, a receive or the drop of a [`Message`] or
///   [`Batch`], touches memory that is not there (SIGSEGV) or that the child has mapped there since. Until it drops its
///   copy, or ends, its parent's death is not seen by the peer. A daemon connects and binds after its last fork.
/// - Nobody is declared dead for being stopped or held by a debugger. Time goes on meanwhile (deadlines are
///   `CLOCK_MONOTONIC`, which stands still only while the whole machine sleeps): a call that comes back after its
///   deadline takes what is there, and times out only if nothing is.
/// - Signal handlers neither end a wait nor put off its deadline, with or without `SA_RESTART`.
///
/// ```
/// use ringwire::{Header, Kind, Stream};
/// let (mut editor, mut engine) = Stream::pair()?;
/// editor.send(Header::new(Kind::Request, 1, 42), b"fn main() {")?;
/// let request = engine.receive()?;
/// assert_eq!(request.header().correlation, 42);
/// assert_eq!(request.payload().to_vec(), b"fn main() {");
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Debug)]
pub struct Stream {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
}

impl Stream {
    /// Connects to the server at `path` with the defaults.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).connect()
    }

    /// Chooses how to connect to the server at `path`.
    pub fn builder(path: impl AsRef<Path>) -> Connector {
        Connector::new(path.as_ref())
    }

    /// Two connected streams in this process.
    ///
    /// # Errors
    /// [`ErrorKind::ResourceExhausted`]: no descriptors, or no memory.
    pub fn pair() -> Result<(Self, Self), Error> {
        Self::pair_with(DEFAULT_RING_BYTES, WaitStrategy::default())
    }

    /// Two connected streams in this process, with rings of `ring_bytes` (a power of two from 4 KiB to 1 GiB).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for another size, [`ErrorKind::ResourceExhausted`].
    pub fn pair_with(ring_bytes: u32, strategy: WaitStrategy) -> Result<(Self, Self), Error> {
        let layout = Layout::new(ring_bytes, ring_bytes)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))?;
        let options = Options { strategy, ..Options::default() };
        let no_memory =
            |error| Error::with_source(ErrorKind::ResourceExhausted, "no shared memory for a pair", error);
        let (client, server) = UnixStream::pair().map_err(|error| Error::system("socketpair", error))?;
        let (segment, descriptor) = Segment::create(layout, options.segment).map_err(no_memory)?;
        let other_segment = Segment::open(&descriptor, layout, options.segment).map_err(no_memory)?;
        let end = |socket: UnixStream, segment, sends| -> Result<Self, Error> {
            let peer = Credentials::of_peer(&socket).map_err(|errno| Error::system("SO_PEERCRED", errno))?;
            let negotiated = Negotiated::without_handshake(layout, options.max_message_bytes as u64);
            let connection = Connection::new(OwnedFd::from(socket), segment, peer, negotiated, None);
            Ok(Self::assemble(connection, sends, options))
        };
        Ok((end(client, segment, Direction::ToServer)?, end(server, other_segment, Direction::ToClient)?))
    }

    pub(super) fn assemble(connection: Connection, sends: Direction, options: Options) -> Self {
        let connection = Arc::new(connection);
        let peer_max = connection.negotiated().peer_max_message_bytes;
        let mut receiver = Receiver::new(Arc::clone(&connection), sends.opposite(), &options);
        receiver.sees_sends(true);
        Self { sender: Sender::new(connection, sends, &options, peer_max), receiver }
    }

    /// Sends a message: see [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`]; also [`ErrorKind::ResourceExhausted`] when both rings are full and as much as the message
    /// limit has been set aside meanwhile.
    #[inline(always)]
    pub fn send(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        self.receiver.expect_answer();
        self.sender.send_while(header, payload, &mut Some(&mut self.receiver))
    }

    /// Sends a message, waiting for room until `deadline` at the most: see [`Sender::send_until`].
    ///
    /// # Errors
    /// As [`Stream::send`].
    #[inline]
    pub fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<(), Error> {
        self.receiver.expect_answer();
        self.sender.send_until_while(header, payload, deadline, &mut Some(&mut self.receiver))
    }

    /// Sends a message without waiting: see [`Sender::try_send`].
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    pub fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        self.receiver.expect_answer();
        // Only what travels in fragments waits, and may wait for a peer that does the same.
        let mut receiver = (payload.len() > self.max_record_bytes()).then_some(&mut self.receiver);
        self.sender.try_send_while(header, payload, &mut receiver)
    }

    /// Claims room for a record to be written in place: see [`Sender::reserve`].
    ///
    /// # Errors
    /// As [`Sender::reserve`].
    #[inline]
    pub fn reserve(&mut self, header: Header, payload_bytes: usize) -> Result<Slot<'_>, Error> {
        self.receiver.expect_answer();
        self.sender.reserve_while(header, payload_bytes, &mut Some(&mut self.receiver))
    }

    /// As [`Stream::reserve`], waiting for room until `deadline` at the most.
    ///
    /// # Errors
    /// As [`Sender::reserve`].
    #[inline]
    pub fn reserve_until(
        &mut self,
        header: Header,
        payload_bytes: usize,
        deadline: Deadline,
    ) -> Result<Slot<'_>, Error> {
        self.receiver.expect_answer();
        let (deadline, other) = (Some(deadline), &mut Some(&mut self.receiver));
        self.sender.reserve_somehow(header, payload_bytes, Backpressure::Wait, deadline, other)
    }

    /// Begins a batch of messages that are published together.
    pub fn batch(&mut self) -> Batch<'_> {
        self.receiver.expect_answer();
        self.sender.batch_while(&mut self.receiver)
    }

    /// Begins a message of any length that is written piece by piece: see [`Sender::write_message`].
    pub fn write_message(&mut self, header: Header) -> MessageWriter<'_> {
        self.receiver.expect_answer();
        MessageWriter::new(&mut self.sender, Some(&mut self.receiver), header)
    }

    /// Waits for a message of one record: see [`Receiver::receive`].
    ///
    /// # Errors
    /// As [`Receiver::receive`].
    #[inline(always)]
    pub fn receive(&mut self) -> Result<Message<'_>, Error> {
        self.end_abandoned()?;
        self.receiver.receive_idling(|| self.sender.trim_idle())
    }

    #[inline(always)]
    fn end_abandoned(&mut self) -> Result<(), Error> {
        if self.sender.owes_an_end() {
            let deadline = Deadline::after_option(self.receiver.timeout());
            self.sender.end_abandoned(deadline, &mut Some(&mut self.receiver))?;
        }
        Ok(())
    }

    /// The next message if it is there already: see [`Receiver::try_receive`].
    ///
    /// # Errors
    /// As [`Receiver::try_receive`].
    #[inline]
    pub fn try_receive(&mut self) -> Result<Option<Message<'_>>, Error> {
        self.receiver.try_receive()
    }

    /// Waits for a message of any form, put whole into `buffer`: see [`Receiver::receive_into`].
    ///
    /// # Errors
    /// As [`Receiver::receive_into`].
    pub fn receive_into(&mut self, buffer: &mut Vec<u8>) -> Result<Header, Error> {
        self.end_abandoned()?;
        self.receiver.receive_into_idling(buffer, || self.sender.trim_idle())
    }

    /// Waits for a message of any length, to be read piece by piece: see [`Receiver::read_message`].
    ///
    /// # Errors
    /// As [`Receiver::read_message`].
    pub fn read_message(&mut self) -> Result<MessageReader<'_>, Error> {
        self.end_abandoned()?;
        self.receiver.read_message_idling(|| self.sender.trim_idle())
    }

    /// Waits for a message of any form, at most until `deadline`, or for an interruption: see [`Receiver::receive_any`].
    ///
    /// # Errors
    /// As [`Receiver::receive_any`].
    #[inline]
    pub fn receive_any(&mut self, deadline: Deadline) -> Result<Received<'_>, Error> {
        if self.sender.owes_an_end() {
            self.sender.end_abandoned(deadline, &mut Some(&mut self.receiver))?;
        }
        self.receiver.receive_any_idling(deadline, || self.sender.trim_idle())
    }

    /// Both directions at once, for one thread: what is received can be answered while it is in the ring.
    ///
    /// A send through this sender takes nothing in while it waits for room.
    pub fn halves(&mut self) -> (&mut Sender, &mut Receiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// The client gives up the request `correlation`: the server's [`Cancellation`](super::Cancellation) of it says so, busy or
    /// not.
    pub fn cancel(&self, correlation: u64) {
        interrupt::cancel(self.sender.kernel().connection().segment(), correlation);
    }

    /// Takes back what was said by [`Stream::cancel`] of a request in `slot` (see [`slot_of`](crate::wire::call::slot_of)):
    /// before the slot is used again, once its answer has come.
    pub fn take_back_cancel(&self, slot: usize) {
        interrupt::take_back_cancel(self.sender.kernel().connection().segment(), slot);
    }

    /// For the server: what the client gives up.
    #[must_use]
    pub fn cancellations(&self) -> Cancellations {
        Cancellations::new(self.sender.kernel().connection().segment())
    }

    /// What the handshake has settled.
    #[must_use]
    pub fn negotiated(&self) -> Negotiated {
        self.sender.kernel().connection().negotiated()
    }

    /// Gives each direction to a thread of its own. The connection ends when both halves are dropped.
    #[must_use]
    pub fn split(mut self) -> (Sender, Receiver) {
        self.receiver.sees_sends(false);
        (self.sender, self.receiver)
    }

    /// Who is on the other side.
    #[must_use]
    pub fn peer(&self) -> Credentials {
        self.sender.peer()
    }

    /// The longest payload of one record that this side sends, in bytes; longer messages travel in fragments.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        self.sender.max_record_bytes()
    }

    /// What to do when the ring is full; [`Backpressure::Wait`] by default.
    pub fn set_backpressure(&mut self, backpressure: Backpressure) {
        self.sender.set_backpressure(backpressure);
    }

    /// How long a send may wait for room; for ever by default.
    pub fn set_send_timeout(&mut self, timeout: Option<Duration>) {
        self.sender.set_timeout(timeout);
    }

    /// How long a receive may wait; for ever by default.
    pub fn set_receive_timeout(&mut self, timeout: Option<Duration>) {
        self.receiver.set_timeout(timeout);
    }

    /// What both halves do while they wait.
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.sender.set_wait_strategy(strategy);
        self.receiver.set_wait_strategy(strategy);
    }

    /// Messages left out so far under [`Backpressure::Drop`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sender.dropped()
    }

    /// Closes the connection: the peer receives what was sent, then sees the end.
    pub fn close(self) {}
}

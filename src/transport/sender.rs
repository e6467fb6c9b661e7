//! [`Sender`]: the sending half of a connection.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, RingKernel};
use super::credentials::Credentials;
use super::message::MessageWriter;
use super::options::{Backpressure, Options};
use super::receiver::Receiver;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::ring::{self, HEADER_BYTES, Producer, Tuning};
use crate::shm::Direction;
use crate::sync::Native;
use crate::wait::{Deadline, Spinner, WaitStrategy};
use crate::wire::{Features, Flags, Header};

/// A record that is written in place: see [`ring::Slot`].
pub type Slot<'a> = ring::Slot<'a, Native, RingKernel>;

/// What a sender does while it waits for room: takes in what arrives, or the two sides could wait for each other.
pub(crate) trait Meanwhile {
    fn take_in(&mut self) -> Result<(), Error>;
}

/// Another thread has the receiving half.
impl Meanwhile for () {
    fn take_in(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Meanwhile for Option<&mut Receiver> {
    fn take_in(&mut self) -> Result<(), Error> {
        self.as_mut().map_or(Ok(()), |receiver| receiver.take_in())
    }
}

/// The sending half of a [`Stream`](crate::Stream), for a thread of its own.
///
/// Dropping it closes this direction: the peer receives what was sent, then sees the end.
#[derive(Debug)]
pub struct Sender {
    pub(super) producer: Producer<Native, RingKernel>,
    pub(super) spinner: Spinner,
    backpressure: Backpressure,
    pub(super) timeout: Option<Duration>,
    pub(super) peer_max_message_bytes: u64,
    /// A message that was given up half-way, and whose end the peer has yet to be told.
    pub(super) abandoned: Option<Header>,
    pub(super) dropped: u64,
    /// The peer reads what a first fragment says of the message's length.
    says_size: bool,
}

impl Sender {
    pub(super) fn new(
        connection: Arc<Connection>,
        direction: Direction,
        options: &Options,
        peer_max: u64,
    ) -> Self {
        let area = connection.segment().area(direction);
        let says_size = connection.negotiated().features.contains(Features::SIZE_CLASS);
        let tuning = Tuning::for_ring(connection.segment().layout().ring_bytes(direction));
        Self {
            producer: Producer::new(area, RingKernel::new(connection, direction), tuning),
            spinner: Spinner::new(options.strategy),
            backpressure: Backpressure::default(),
            timeout: None,
            peer_max_message_bytes: peer_max,
            abandoned: None,
            dropped: 0,
            says_size,
        }
    }

    /// Sends a message and wakes the peer if it sleeps.
    ///
    /// What does not fit one record ([`Sender::max_record_bytes`]) travels in fragments. When the ring is full, the
    /// [`Backpressure`] decides; a message in fragments is never left half sent without the peer being told.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::TimedOut`] by choice, [`ErrorKind::MessageTooLarge`] beyond the peer's limit,
    /// [`ErrorKind::PeerClosed`], [`ErrorKind::PeerDied`], [`ErrorKind::CorruptPeer`].
    #[inline(always)]
    pub fn send(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        self.send_while(header, payload, &mut ())
    }

    #[inline(always)]
    pub(super) fn send_while(
        &mut self,
        header: Header,
        payload: &[u8],
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        let header = header.whole();
        if self.abandoned.is_none() && self.producer.push(&header, payload).is_ok() {
            return Ok(());
        }
        self.send_slowly(header, payload, other, self.backpressure)
    }

    /// Like [`Sender::send`] under [`Backpressure::Wait`], but waits for room until `deadline` at the most.
    ///
    /// # Errors
    /// As [`Sender::send`].
    #[inline]
    pub fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<(), Error> {
        self.send_until_while(header, payload, deadline, &mut ())
    }

    #[inline]
    pub(super) fn send_until_while(
        &mut self,
        header: Header,
        payload: &[u8],
        deadline: Deadline,
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        let header = header.whole();
        if self.push(&header, payload) {
            return Ok(());
        }
        self.send_somehow(header, payload, other, Backpressure::Wait, Some(deadline))
    }

    /// Like [`Sender::send`], but never waits.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] without room for the message, or for its first fragment (further ones do wait); else as
    /// [`Sender::send`].
    pub fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        self.try_send_while(header, payload, &mut ())
    }

    #[inline]
    pub(super) fn try_send_while(
        &mut self,
        header: Header,
        payload: &[u8],
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        let header = header.whole();
        if self.abandoned.is_none() && self.producer.push(&header, payload).is_ok() {
            return Ok(());
        }
        self.send_slowly(header, payload, other, Backpressure::Fail)
    }

    /// Claims room for a record of at most `payload_bytes`, to be written in place.
    ///
    /// # Errors
    /// [`ErrorKind::MessageTooLarge`] beyond [`Sender::max_record_bytes`]; [`ErrorKind::Full`] also where the backpressure
    /// is [`Backpressure::Drop`]; else as [`Sender::send`].
    #[inline]
    pub fn reserve(&mut self, header: Header, payload_bytes: usize) -> Result<Slot<'_>, Error> {
        self.reserve_while(header, payload_bytes, &mut ())
    }

    /// Like [`Sender::reserve`] under [`Backpressure::Wait`], but waits for room until `deadline` at the most.
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
        self.reserve_somehow(header, payload_bytes, Backpressure::Wait, Some(deadline), &mut ())
    }

    #[inline]
    pub(super) fn reserve_while(
        &mut self,
        header: Header,
        payload_bytes: usize,
        other: &mut impl Meanwhile,
    ) -> Result<Slot<'_>, Error> {
        self.reserve_somehow(header, payload_bytes, self.backpressure, None, other)
    }

    #[inline(always)]
    pub(super) fn reserve_somehow(
        &mut self,
        header: Header,
        payload_bytes: usize,
        backpressure: Backpressure,
        mut deadline: Option<Deadline>,
        other: &mut impl Meanwhile,
    ) -> Result<Slot<'_>, Error> {
        if self.abandoned.is_some() || self.producer.claim(payload_bytes).is_err() {
            self.make_ready(payload_bytes, backpressure, &mut deadline, other)?;
        }
        Ok(self.producer.reserve_claimed(header.whole(), payload_bytes))
    }

    /// Begins a batch: its messages are published together.
    pub fn batch(&mut self) -> Batch<'_> {
        Batch { sender: self, receiver: None }
    }

    pub(super) fn batch_while<'a>(&'a mut self, receiver: &'a mut Receiver) -> Batch<'a> {
        Batch { sender: self, receiver: Some(receiver) }
    }

    /// Begins a message of any length that is written piece by piece, and never is whole in memory.
    pub fn write_message(&mut self, header: Header) -> MessageWriter<'_> {
        MessageWriter::new(self, None, header)
    }

    /// The longest payload of one record in bytes; longer messages travel in fragments.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        self.producer.max_payload_bytes() as usize
    }

    /// What to do when the ring is full; [`Backpressure::Wait`] by default.
    pub fn set_backpressure(&mut self, backpressure: Backpressure) {
        self.backpressure = backpressure;
    }

    /// How long a send may wait for room; for ever by default.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// What this half does while it waits.
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.spinner = Spinner::new(strategy);
    }

    /// Messages left out so far under [`Backpressure::Drop`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Who is on the other side.
    #[must_use]
    pub fn peer(&self) -> Credentials {
        self.producer.kernel().connection().peer()
    }

    /// Ends this direction: the peer receives what was sent, then sees the end.
    pub fn close(self) {}

    pub(crate) fn trim_idle(&mut self) {
        self.producer.trim_idle();
    }

    pub(super) fn trim_between_turns(&mut self) {
        self.producer.trim_between_turns();
    }

    /// What the first fragment of a message of `bytes` (without its extension) says besides.
    pub(super) fn size_flags(&self, bytes: usize) -> Flags {
        if self.says_size { Flags::of_size(bytes) } else { Flags::NONE }
    }

    pub(super) fn fragment_bytes(&self) -> usize {
        (self.producer.max_payload_bytes() as usize + 2 * HEADER_BYTES as usize) / 2 - HEADER_BYTES as usize
    }

    pub(super) fn kernel(&self) -> &RingKernel {
        self.producer.kernel()
    }

    pub(super) fn wait_strategy(&self) -> WaitStrategy {
        self.spinner.strategy()
    }

    /// Sends one record if nothing is in its way; says whether it did.
    #[inline(always)]
    pub(super) fn push(&mut self, header: &Header, payload: &[u8]) -> bool {
        self.abandoned.is_none() && self.producer.push(header, payload).is_ok()
    }

    /// As [`Sender::push`], as part of a batch: [`Sender::flush`] publishes it, or whatever is sent next.
    #[inline(always)]
    pub(super) fn append(&mut self, header: &Header, payload: &[u8]) -> bool {
        self.abandoned.is_none() && self.producer.append(header, payload).is_ok()
    }

    /// Publishes what was appended.
    #[inline(always)]
    pub(crate) fn flush(&mut self) {
        self.producer.flush();
    }

    /// Whether the peer still reads: [`ErrorKind::PeerClosed`] if not.
    #[inline]
    pub(super) fn check_reader(&mut self) -> Result<(), Error> {
        self.producer.is_drained().map(drop).map_err(|error| self.error(error))
    }

    /// Ends this direction: as dropping it does.
    pub(crate) fn end(&mut self) {
        self.producer.close();
    }

    /// Whether nothing is in the way of a record of `bytes`.
    #[inline(always)]
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        self.abandoned.is_none() && self.producer.claim(bytes).is_ok()
    }

    #[inline(always)]
    pub(super) fn reserve_claimed(&mut self, header: Header, bytes: usize) -> Slot<'_> {
        self.producer.reserve_claimed(header, bytes)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.producer.kernel().connection().is_ours() {
            self.producer.close();
        }
    }
}

/// Messages that are published together: one wake-up, one fence.
///
/// Published by [`Batch::finish`] or on drop; earlier if the ring gets full, so a batch is an economy, not a transaction.
#[derive(Debug)]
#[must_use = "a batch publishes when it is dropped"]
pub struct Batch<'a> {
    sender: &'a mut Sender,
    receiver: Option<&'a mut Receiver>,
}

impl Batch<'_> {
    /// Adds a message.
    ///
    /// # Errors
    /// As [`Sender::send`]. A message in fragments is published at once.
    #[inline]
    pub fn send(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        let sender = &mut *self.sender;
        let header = header.whole();
        if sender.abandoned.is_none() && sender.producer.append(&header, payload).is_ok() {
            return Ok(());
        }
        sender.send_slowly(header, payload, &mut self.receiver, sender.backpressure)
    }

    /// Publishes.
    pub fn finish(self) {}
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.sender.producer.flush();
    }
}

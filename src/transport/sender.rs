//! [`Sender`]: the sending half of a connection.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, RingKernel};
use super::credentials::Credentials;
use super::message::MessageWriter;
use super::options::{Backpressure, Options};
use super::receiver::Receiver;
use crate::error::{Error, ErrorKind};
use crate::ring::{self, HEADER_BYTES, Producer, RingError, Tuning};
use crate::shm::Direction;
use crate::sync::{Kernel, Native};
use crate::wait::{Deadline, Spinner, WaitError, WaitStrategy};
use crate::wire::{Flags, Header};

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
    producer: Producer<Native, RingKernel>,
    spinner: Spinner,
    backpressure: Backpressure,
    timeout: Option<Duration>,
    peer_max_message_bytes: u64,
    /// A message that was given up half-way, and whose end the peer has yet to be told.
    abandoned: Option<Header>,
    dropped: u64,
}

impl Sender {
    pub(super) fn new(
        connection: Arc<Connection>,
        direction: Direction,
        options: &Options,
        peer_max: u64,
    ) -> Self {
        let area = connection.segment().area(direction);
        let tuning = Tuning::for_ring(connection.segment().layout().ring_bytes(direction));
        Self {
            producer: Producer::new(area, RingKernel::new(connection, direction), tuning),
            spinner: Spinner::new(options.strategy),
            backpressure: Backpressure::default(),
            timeout: None,
            peer_max_message_bytes: peer_max,
            abandoned: None,
            dropped: 0,
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
        let reserved = self.producer.reserve(header.whole(), payload_bytes);
        // make_ready() has just made the room.
        reserved.map_err(|_| ErrorKind::Full.into())
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

    #[cold]
    fn send_slowly(
        &mut self,
        header: Header,
        payload: &[u8],
        other: &mut impl Meanwhile,
        backpressure: Backpressure,
    ) -> Result<(), Error> {
        self.send_somehow(header, payload, other, backpressure, None)
    }

    /// Sends a message of any size, at most until `deadline` (`None`: the timeout's, set when the first wait begins).
    #[cold]
    fn send_somehow(
        &mut self,
        header: Header,
        payload: &[u8],
        other: &mut impl Meanwhile,
        backpressure: Backpressure,
        mut deadline: Option<Deadline>,
    ) -> Result<(), Error> {
        let sent = if payload.len() <= self.max_record_bytes() {
            self.send_record(header, payload, backpressure, &mut deadline, other)
        } else {
            self.send_fragments(header, payload, backpressure, &mut deadline, other)
        };
        match sent {
            Err(error) if error.kind() == ErrorKind::Full && backpressure == Backpressure::Drop => {
                self.dropped += 1;
                Ok(())
            }
            other => other,
        }
    }

    /// Sends one record, waiting as `backpressure` says, at most until `deadline` (set when the first wait begins).
    pub(super) fn send_record(
        &mut self,
        header: Header,
        payload: &[u8],
        backpressure: Backpressure,
        deadline: &mut Option<Deadline>,
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        self.make_ready(payload.len(), backpressure, deadline, other)?;
        self.producer.push(&header, payload).map_err(|error| self.error(error))
    }

    /// Whether the peer takes a message of `bytes` in fragments.
    pub(super) fn check_length(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.peer_max_message_bytes;
        if bytes as u64 > limit {
            let message =
                format!("message of {bytes} bytes, the peer takes {limit} (write_message has no limit)");
            return Err(Error::new(ErrorKind::MessageTooLarge, message));
        }
        Ok(())
    }

    /// Whether nothing is in the way of a record of `bytes`.
    #[inline(always)]
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        self.abandoned.is_none() && self.producer.claim(bytes).is_ok()
    }

    #[inline(always)]
    pub(super) fn reserve_with_flags(&mut self, header: Header, bytes: usize) -> Result<Slot<'_>, RingError> {
        self.producer.reserve(header, bytes)
    }

    fn send_fragments(
        &mut self,
        header: Header,
        payload: &[u8],
        mut backpressure: Backpressure,
        deadline: &mut Option<Deadline>,
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        self.check_length(payload.len())?;
        let mut rest = payload;
        let mut place = header.flags();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(self.fragment_bytes()));
            let flags = if behind.is_empty() { place } else { place.with(Flags::MORE) };
            let sent = self.send_record(header.with_flags(flags), piece, backpressure, deadline, other);
            if let Err(error) = sent {
                if place.contains(Flags::CONTINUED) {
                    self.abandon(header);
                }
                return Err(error);
            }
            (rest, place, backpressure) = (behind, Flags::CONTINUED, Backpressure::Wait);
        }
        Ok(())
    }

    /// Tells the peer that the message under way has been given up: now, or before the next one.
    pub(super) fn abandon(&mut self, header: Header) {
        let end = header.with_flags(Flags::CONTINUED.with(Flags::ABANDONED));
        if self.producer.push(&end, &[]).is_err() {
            self.abandoned = Some(header);
        }
    }

    /// Sees to it that a record of `payload_bytes` fits.
    #[cold]
    pub(super) fn make_ready(
        &mut self,
        payload_bytes: usize,
        backpressure: Backpressure,
        deadline: &mut Option<Deadline>,
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        self.tell_abandoned(backpressure, deadline, other)?;
        self.wait_until_fits(payload_bytes, backpressure, deadline, other)
    }

    fn tell_abandoned(
        &mut self,
        backpressure: Backpressure,
        deadline: &mut Option<Deadline>,
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        if let Some(header) = self.abandoned {
            self.wait_until_fits(0, backpressure, deadline, other)?;
            self.abandoned = None;
            self.abandon(header);
        }
        Ok(())
    }

    /// Whether the peer has yet to be told that a message was given up: it waits for the rest.
    #[inline(always)]
    pub(crate) fn owes_an_end(&self) -> bool {
        self.abandoned.is_some()
    }

    /// Before a wait for the peer, who may wait for the rest of a message that was given up: tells it, once there is room.
    #[cold]
    pub(crate) fn end_abandoned(
        &mut self,
        deadline: Deadline,
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        self.tell_abandoned(Backpressure::Wait, &mut Some(deadline), other)
    }

    fn wait_until_fits(
        &mut self,
        payload_bytes: usize,
        backpressure: Backpressure,
        deadline: &mut Option<Deadline>,
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        loop {
            match self.producer.claim(payload_bytes) {
                Ok(()) => return Ok(()),
                Err(RingError::Full) => {}
                Err(error) => return Err(self.error(error)),
            }
            // Before a wait, and before an answer: everything consumed is published, so that the peer's room is not ours
            // to hold.
            other.take_in()?;
            if backpressure != Backpressure::Wait {
                return Err(self.full());
            }
            // Also where room seems to come and go: a peer that plays with `head` must not hold back the deadline.
            if deadline.is_some_and(Deadline::has_passed) {
                return Err(self.error(WaitError::TimedOut.into()));
            }
            let deadline = *deadline.get_or_insert_with(|| Deadline::after_option(self.timeout));
            let waited = self.producer.wait_for_room(&mut self.spinner, deadline);
            waited.map_err(|error| self.error(error))?;
        }
    }

    /// `Full`, unless nobody will ever make room.
    fn full(&self) -> Error {
        let gone = self.producer.kernel().peer_is_gone();
        self.error(if gone { WaitError::PeerDied.into() } else { RingError::Full })
    }

    #[cold]
    fn error(&self, error: RingError) -> Error {
        self.producer.kernel().connection().error(error)
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

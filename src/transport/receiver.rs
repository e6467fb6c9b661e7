//! [`Receiver`]: the receiving half of a connection.

use std::sync::Arc;
use std::time::Duration;

use super::Payload;
use super::connection::{Connection, RingKernel};
use super::credentials::Credentials;
use super::interrupt::{Interrupter, Received};
use super::message::{Message, MessageReader};
use super::options::Options;
use super::stash::Stash;
use crate::error::{Error, ErrorKind};
use crate::ring::{Consumer, Place, Record, RingError, Tuning};
use crate::shm::Direction;
use crate::sync::{Kernel, Native};
use crate::wait::{Deadline, Spinner, WaitError};
use crate::wire::Header;

/// A record that is there to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// [Elsewhere](Place::ELSEWHERE): at the front of the stash.
    record: Record,
}

impl Found {
    /// What it says of itself, its place among fragments included.
    #[inline(always)]
    pub(crate) fn header(&self) -> Header {
        self.record.header()
    }

    /// Whether that is `expected`.
    #[inline(always)]
    pub(crate) fn is(&self, expected: Header) -> bool {
        self.record.packed_header() == expected.packed()
    }

    /// Where it is.
    #[inline(always)]
    pub(crate) fn place(&self) -> Place {
        self.record.place()
    }

    /// Whether it is a message of its own.
    #[inline(always)]
    pub(crate) fn is_whole(&self) -> bool {
        self.record.packed_header().is_whole()
    }
}

/// The receiving half of a [`Stream`](crate::Stream), for a thread of its own.
///
/// Dropping it tells the peer that nothing more will be read.
#[derive(Debug)]
pub struct Receiver {
    pub(super) consumer: Consumer<Native, RingKernel>,
    pub(super) spinner: Spinner,
    pub(super) timeout: Option<Duration>,
    pub(super) max_message_bytes: usize,
    pub(super) ring_bytes: u32,
    pub(super) stash: Stash,
    /// The message that a receive into a buffer was in the middle of when its time was up.
    pub(super) partial: Option<Header>,
    /// The message whose further fragments nobody wants.
    pub(super) skipping: Option<Header>,
    corrupt: bool,
    /// None of the four above, and not armed: the next record begins a message, and is in the ring.
    pub(super) plain: bool,
    /// When a receive that does not wait last looked at the lifeline.
    pub(super) looked_ns: u64,
}

impl Receiver {
    pub(super) fn new(connection: Arc<Connection>, direction: Direction, options: &Options) -> Self {
        let area = connection.segment().area(direction);
        let ring_bytes = connection.segment().layout().ring_bytes(direction);
        Self {
            consumer: Consumer::new(
                area,
                RingKernel::new(connection, direction),
                Tuning::for_ring(ring_bytes),
            ),
            spinner: Spinner::new(options.strategy),
            timeout: None,
            max_message_bytes: options.max_message_bytes,
            ring_bytes,
            stash: Stash::new(options.max_message_bytes.saturating_add(1 << 16)),
            partial: None,
            skipping: None,
            corrupt: false,
            plain: true,
            looked_ns: 0,
        }
    }

    /// Waits for a message of one record. It stays in the ring until the [`Message`] is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]; [`ErrorKind::PeerClosed`] and [`ErrorKind::PeerDied`] once everything sent before has been
    /// received; [`ErrorKind::CorruptPeer`]; [`ErrorKind::MessageTooLarge`] for a message in fragments, which stays where
    /// it is: take it with [`Receiver::receive_into`] or [`Receiver::read_message`].
    #[inline]
    pub fn receive(&mut self) -> Result<Message<'_>, Error> {
        self.receive_idling(|| ())
    }

    #[inline(always)]
    pub(super) fn receive_idling(&mut self, mut before_idling: impl FnMut()) -> Result<Message<'_>, Error> {
        if let Some(found) = self.poll_plainly() {
            return Ok(Message::new(self, found));
        }
        let mut deadline = None;
        if self.plain {
            self.wait(&mut deadline, &mut before_idling)?;
            if let Some(found) = self.poll_plainly() {
                return Ok(Message::new(self, found));
            }
        }
        self.receive_slowly(deadline, before_idling)
    }

    /// A whole message that is there already, where nothing is unusual.
    #[inline(always)]
    pub(crate) fn poll_plainly(&mut self) -> Option<Found> {
        if !self.plain {
            return None;
        }
        let mut commit = self.consumer.poll()?;
        if commit.is_padding() {
            commit = self.consumer.skip_padding(commit)?;
        }
        // What is not plain is found again by who asks more closely.
        let record = self.consumer.check_plainly(commit)?;
        if !record.packed_header().is_whole() {
            return None;
        }
        self.consumer.expect_payload(&record);
        Some(Found { record })
    }

    #[cold]
    fn receive_slowly(
        &mut self,
        mut deadline: Option<Deadline>,
        before_idling: impl FnMut(),
    ) -> Result<Message<'_>, Error> {
        let found = self.next_start(&mut deadline, before_idling)?;
        if !found.is_whole() {
            return Err(Self::in_fragments());
        }
        Ok(Message::new(self, found))
    }

    pub(super) fn set_plain(&mut self) {
        let armed = self.consumer.is_armed();
        self.plain = self.stash.is_empty() && !self.is_amid_message() && !self.corrupt && !armed;
    }

    /// Waits for a message of any form, at most until `deadline`, or for an [`Interrupter`].
    ///
    /// # Errors
    /// As [`Receiver::receive`], except [`ErrorKind::MessageTooLarge`].
    #[inline]
    pub fn receive_any(&mut self, deadline: Deadline) -> Result<Received<'_>, Error> {
        self.receive_any_idling(deadline, || ())
    }

    #[inline(always)]
    pub(crate) fn receive_any_idling(
        &mut self,
        deadline: Deadline,
        mut before_idling: impl FnMut(),
    ) -> Result<Received<'_>, Error> {
        if let Some(found) = self.poll_plainly() {
            return Ok(Received::Whole(Message::new(self, found)));
        }
        self.receive_any_slowly(deadline, &mut before_idling)
    }

    /// A whole message in the ring, where nothing is unusual, after one wait at the most. `None` in every other case, also
    /// where the wait has failed: [`Receiver::receive_any`] says why.
    #[inline(always)]
    pub(crate) fn await_plainly(
        &mut self,
        deadline: Deadline,
        before_idling: impl FnOnce(),
    ) -> Option<Found> {
        if let Some(found) = self.poll_plainly() {
            return Some(found);
        }
        // An interruption would end the wait at once.
        if !self.plain || self.consumer.kernel().is_interrupted() {
            return None;
        }
        self.wait(&mut Some(deadline), before_idling).ok()?;
        self.poll_plainly()
    }

    #[inline(never)]
    fn receive_any_slowly(
        &mut self,
        deadline: Deadline,
        before_idling: &mut dyn FnMut(),
    ) -> Result<Received<'_>, Error> {
        loop {
            if let Some(found) = self.poll_plainly() {
                return Ok(Received::Whole(Message::new(self, found)));
            }
            if self.consumer.kernel().take_interruption() {
                return Ok(Received::Interrupted);
            }
            if let Some(found) = self.poll_start()? {
                return Ok(if found.is_whole() {
                    Received::Whole(Message::new(self, found))
                } else {
                    Received::Pieces(MessageReader::new(self, found))
                });
            }
            self.wait(&mut Some(deadline), &mut *before_idling)?;
        }
    }

    /// For other threads of this process: ends a [`Receiver::receive_any`]. (Other receives go on waiting.)
    pub fn interrupter(&mut self) -> Interrupter {
        self.consumer.kernel_mut().allow_interrupts();
        Interrupter(self.consumer.interrupter())
    }

    /// The next message if it is there already.
    ///
    /// # Errors
    /// As [`Receiver::receive`], except [`ErrorKind::TimedOut`]. A peer's death is seen by the first call behind an
    /// [`arm`](Receiver::arm), else within 5 ms.
    #[inline]
    pub fn try_receive(&mut self) -> Result<Option<Message<'_>>, Error> {
        let found = match self.poll_start()? {
            None => self.find_nothing()?,
            found => found,
        };
        match found {
            None => Ok(None),
            Some(found) if found.is_whole() => Ok(Some(Message::new(self, found))),
            Some(_) => Err(Self::in_fragments()),
        }
    }

    /// Tells the peer what has been consumed, if it does not know yet.
    ///
    /// Happens by itself, but lazily (at the latest with the next receive, or an eighth of the ring later): call it before
    /// doing something else for long while the peer may wait for room.
    pub fn publish_consumed(&mut self) {
        self.consumer.publish_consumed();
    }

    /// How long a receive may wait in all; for ever by default.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Who is on the other side.
    #[must_use]
    pub fn peer(&self) -> Credentials {
        self.consumer.kernel().connection().peer()
    }

    /// Tells the peer that nothing more will be read.
    pub fn close(self) {}

    pub(super) fn kernel(&self) -> &RingKernel {
        self.consumer.kernel()
    }

    /// The next record, whatever it is, if it is there already.
    #[inline(always)]
    pub(super) fn poll_record(&mut self) -> Result<Option<Found>, Error> {
        match self.poll_plainly() {
            None => self.poll(),
            found => Ok(found),
        }
    }

    /// For who does not wait: whether there is nothing, and never will be.
    pub(crate) fn check_peer(&mut self) -> Result<(), Error> {
        if self.consumer.kernel().peer_is_gone() && self.consumer.poll().is_none() {
            return Err(self.fail(WaitError::PeerDied.into()));
        }
        Ok(())
    }

    /// Publishes what has been consumed if that is all there is: a caller may not come back for long.
    #[inline(always)]
    pub(super) fn publish_if_drained(&mut self) {
        if self.consumer.poll().is_none() {
            self.consumer.publish_consumed();
        }
    }

    /// Tells the peer that nothing more will be read: as dropping it does. What is there can still be received.
    pub(crate) fn end(&mut self) {
        self.consumer.close();
    }

    #[inline]
    pub(super) fn poll(&mut self) -> Result<Option<Found>, Error> {
        if self.consumer.is_armed() {
            self.disarm();
        }
        if !self.stash.is_empty() {
            return Ok(self.stash.front().map(|(header, _)| Found { record: Record::elsewhere(*header) }));
        }
        match self.consumer.peek() {
            Ok(Some(record)) if !self.corrupt => Ok(Some(Found { record })),
            Ok(None) => Ok(None),
            Ok(Some(_)) => Err(self.fail(RingError::Closed)),
            Err(error) => Err(self.fail(error)),
        }
    }

    #[inline(always)]
    pub(super) fn payload(&self, found: &Found) -> Payload<'_> {
        self.payload_at(found.place())
    }

    /// As [`Receiver::record_payload`].
    #[inline(always)]
    pub(crate) fn payload_at(&self, place: Place) -> Payload<'_> {
        if place.is_elsewhere() {
            return Payload::private(self.stash.front().map_or(&[], |(_, payload)| payload));
        }
        self.consumer.payload_at(place)
    }

    #[inline(always)]
    pub(super) fn release(&mut self, found: Found) {
        self.release_at(found.place());
    }

    /// As [`Receiver::release`].
    #[inline(always)]
    pub(crate) fn release_at(&mut self, place: Place) {
        if place.is_elsewhere() {
            return self.release_stashed();
        }
        self.consumer.release_at(place);
    }

    #[cold]
    fn release_stashed(&mut self) {
        self.stash.pop();
        self.set_plain();
    }

    /// While this side waits for room: sets aside what arrives, so that the peer gets room to go on.
    pub(super) fn take_in(&mut self) -> Result<(), Error> {
        loop {
            match self.consumer.peek() {
                Ok(Some(record)) if !self.corrupt => {
                    if !self.stash.has_room(record.payload_bytes() as usize) {
                        self.consumer.publish_consumed();
                        return Err(self.both_full());
                    }
                    let payload = self.consumer.payload(&record).to_vec();
                    self.consumer.release(record);
                    self.stash.push(record.header(), payload);
                    self.plain = false;
                }
                // The end is found again by the next receive.
                Ok(_) | Err(RingError::Closed) => break,
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.consumer.publish_consumed();
        Ok(())
    }

    #[cold]
    fn both_full(&self) -> Error {
        let limit = self.stash.limit_bytes();
        let message = format!(
            "both rings are full, and {limit} bytes of received messages are set aside; receive before sending more"
        );
        Error::new(ErrorKind::ResourceExhausted, message)
    }

    #[cold]
    pub(super) fn fail(&mut self, error: RingError) -> Error {
        if matches!(error, RingError::Corrupt(_)) {
            self.corrupt = true;
            self.plain = false;
            self.consumer.close();
        }
        self.consumer.kernel().connection().error(error)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.consumer.kernel().connection().is_ours() {
            self.consumer.close();
        }
    }
}

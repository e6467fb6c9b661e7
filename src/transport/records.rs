//! For the client: records one by one, as they come. It puts messages in fragments together itself, each where it belongs,
//! and so waits for none of them in particular.

use super::message::Message;
use super::options::Backpressure;
use super::receiver::{Found, Receiver};
use super::sender::{Meanwhile, Sender, Slot};
use super::{Deadline, Payload};
use crate::error::{Error, ErrorKind};
use crate::ring::{Place, Violation};
use crate::wire::{Flags, Header};

impl Found {
    /// Whether it is all of its message, or the last that comes of it.
    pub(crate) fn is_last(&self) -> bool {
        !self.header().flags().contains(Flags::MORE)
    }

    /// Whether the message that it belongs to has been given up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.header().flags().contains(Flags::ABANDONED)
    }
}

impl Receiver {
    /// Waits for the next record, whatever message it is of; it stays until [`Receiver::release_record`].
    #[inline(always)]
    pub(crate) fn next_record(
        &mut self,
        deadline: Deadline,
        mut before_idling: impl FnMut(),
    ) -> Result<Found, Error> {
        if let Some(found) = self.poll_plainly() {
            return Ok(found);
        }
        if self.plain {
            self.wait_until(deadline, &mut before_idling)?;
            if let Some(found) = self.poll_plainly() {
                return Ok(found);
            }
        }
        self.next_record_slowly(deadline, before_idling)
    }

    /// The record that says `expected` of itself, if that comes next, in the ring, after one wait at the most. `None` in every
    /// other case, also where the wait has failed: [`Receiver::next_record`] says why.
    #[inline(always)]
    pub(crate) fn await_record(
        &mut self,
        expected: Header,
        deadline: Deadline,
        before_idling: impl FnOnce(),
    ) -> Option<Place> {
        let found = match self.poll_plainly() {
            Some(found) => found,
            None if self.plain => {
                self.wait_until(deadline, before_idling).ok()?;
                self.poll_plainly()?
            }
            None => return None,
        };
        found.is(expected).then_some(found.place())
    }

    #[cold]
    fn next_record_slowly(
        &mut self,
        deadline: Deadline,
        mut before_idling: impl FnMut(),
    ) -> Result<Found, Error> {
        loop {
            if let Some(found) = self.poll_any_record()? {
                return Ok(found);
            }
            self.wait_until(deadline, &mut before_idling)?;
        }
    }

    /// The next record if it is there already: see [`Receiver::next_record`].
    #[inline]
    pub(crate) fn poll_any_record(&mut self) -> Result<Option<Found>, Error> {
        match self.poll_record()? {
            Some(found) if !found.is_whole() || self.partial.is_some() => self.check_place(found).map(Some),
            found => Ok(found),
        }
    }

    /// As [`Receiver::poll_any_record`], for who does not wait: also whether nothing will ever be there.
    pub(crate) fn poll_or_end(&mut self) -> Result<Option<Found>, Error> {
        match self.poll_any_record()? {
            None if self.has_looked()? => self.poll_any_record(),
            found => Ok(found),
        }
    }

    #[cold]
    fn check_place(&mut self, found: Found) -> Result<Found, Error> {
        match self.partial {
            Some(of) => self.check_fragment(&found, of)?,
            None if found.header().flags().contains(Flags::CONTINUED) => {
                return Err(self.out_of_order(&found, "the start of a message"));
            }
            None => {}
        }
        Ok(found)
    }

    #[inline(always)]
    pub(crate) fn record_payload(&self, found: &Found) -> Payload<'_> {
        self.payload(found)
    }

    /// Lets go of what [`Receiver::next_record`] found.
    #[inline(always)]
    pub(crate) fn release_record(&mut self, found: Found) {
        if !found.is_whole() {
            self.partial = (!found.is_last()).then(|| found.header().whole());
            self.set_plain();
        }
        self.release(found);
    }

    /// Hands out a whole message that [`Receiver::next_record`] found.
    #[inline(always)]
    pub(crate) fn hand_out(&mut self, found: Found) -> Message<'_> {
        Message::new(self, found)
    }

    /// Whether everything has been consumed that could be there when `lap` was [`Receiver::a_lap_ahead`].
    pub(crate) fn is_beyond(&self, lap: u64) -> bool {
        self.consumer.position() >= lap
    }

    /// Whether a wait may go on, by the clock.
    pub(crate) fn check_deadline(&mut self, deadline: Deadline) -> Result<(), Error> {
        if deadline.has_passed() { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// The peer sent what nothing asked for: ends the connection.
    #[cold]
    pub(crate) fn refuse(&mut self, found: Header, expected: &'static str) -> Error {
        self.fail(Violation::Unexpected { found, expected }.into())
    }
}

/// A message that was not sent, or not to its end.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) error: Error,
    /// The peer has seen its beginning.
    pub(crate) begun: bool,
}

impl From<Error> for Unsent {
    fn from(error: Error) -> Self {
        Self { error, begun: false }
    }
}

impl Sender {
    /// Sends a message, waiting for room at most until `deadline`, whatever the backpressure.
    #[inline(always)]
    pub(crate) fn send_taking_in(
        &mut self,
        header: Header,
        payload: &[u8],
        deadline: Deadline,
        other: &mut impl Meanwhile,
    ) -> Result<(), Unsent> {
        if !header.is_extended() && self.push(&header, payload) {
            return Ok(());
        }
        self.send_taking_in_slowly(header, payload, deadline, other)
    }

    /// As [`Sender::send_taking_in`], but a record that fits is published by [`Sender::flush`], or with whatever is sent
    /// next.
    #[inline(always)]
    pub(crate) fn append_taking_in(
        &mut self,
        header: Header,
        payload: &[u8],
        deadline: Deadline,
        other: &mut impl Meanwhile,
    ) -> Result<(), Unsent> {
        if !header.is_extended() && self.append(&header, payload) {
            return Ok(());
        }
        let bytes = payload.len() + size_of::<u64>();
        if header.is_extended() && bytes <= self.max_record_bytes() {
            let mut slot = self.reserve_taking_in(header, bytes, deadline, other)?;
            slot.write(payload);
            slot.append();
            return Ok(());
        }
        self.send_taking_in_slowly(header, payload, deadline, other)
    }

    /// As [`Sender::send_taking_in`]; the message begins with its deadline if `header` says so.
    #[inline(never)]
    fn send_taking_in_slowly(
        &mut self,
        header: Header,
        payload: &[u8],
        deadline: Deadline,
        other: &mut impl Meanwhile,
    ) -> Result<(), Unsent> {
        let prefix = header.extension_bytes();
        if prefix + payload.len() <= self.max_record_bytes() {
            self.put_record(header, prefix + payload.len(), payload, deadline, other)?;
            return Ok(());
        }
        self.check_length(prefix + payload.len())?;
        let (mut rest, mut flags) = (payload, header.flags().with(self.size_flags(payload.len())));
        while !rest.is_empty() {
            let continues = flags.contains(Flags::CONTINUED);
            let prefix = if continues { 0 } else { prefix };
            let (piece, behind) = rest.split_at(rest.len().min(self.fragment_bytes() - prefix));
            let place = if behind.is_empty() { flags } else { flags.with(Flags::MORE) };
            let bytes = prefix + piece.len();
            if let Err(error) = self.put_record(header.with_flags(place), bytes, piece, deadline, other) {
                if continues {
                    self.abandon(header.with_flags(Flags::NONE));
                }
                return Err(Unsent { error, begun: continues });
            }
            (rest, flags) = (behind, Flags::CONTINUED);
        }
        Ok(())
    }

    /// One record of `bytes`: the deadline if `header` says so, then `payload`.
    fn put_record(
        &mut self,
        header: Header,
        bytes: usize,
        payload: &[u8],
        deadline: Deadline,
        other: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        let mut slot = self.reserve_taking_in(header, bytes, deadline, other)?;
        slot.write(payload);
        slot.commit();
        Ok(())
    }

    /// Claims room for a record of `bytes`, waiting for it at most until `deadline`. If `header` says that the message
    /// begins with its deadline, that is written already, and not the caller's to see.
    #[inline(always)]
    pub(crate) fn reserve_taking_in(
        &mut self,
        header: Header,
        bytes: usize,
        deadline: Deadline,
        other: &mut impl Meanwhile,
    ) -> Result<Slot<'_>, Error> {
        if !self.has_room(bytes) {
            self.make_ready(bytes, Backpressure::Wait, &mut Some(deadline), other)?;
        }
        let mut slot = self.reserve_claimed(header, bytes);
        if header.is_extended() {
            slot.put_prefix(&deadline.as_ns().to_ne_bytes());
        }
        Ok(slot)
    }
}

//! How a message is sent that does not go straight into the ring: in fragments, after a wait for room, or given up half-way.

use super::options::Backpressure;
use super::sender::{Meanwhile, Sender};
use crate::error::{Error, ErrorKind};
use crate::ring::RingError;
use crate::sync::Kernel;
use crate::wait::{Deadline, WaitError};
use crate::wire::{Flags, Header};

impl Sender {
    #[cold]
    pub(super) fn send_slowly(
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
    pub(super) fn send_somehow(
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
        let size = self.size_flags(payload.len().saturating_sub(header.extension_bytes()));
        let mut place = header.flags().with(size);
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
    pub(super) fn error(&self, error: RingError) -> Error {
        self.producer.kernel().connection().error(error)
    }
}

//! Messages that travel in several records: put together, read piece by piece, or left out.

use super::message::MessageReader;
use super::receiver::{Found, Receiver};
use crate::error::{Error, ErrorKind};
use crate::ring::Violation;
use crate::wait::Deadline;
use crate::wire::{Flags, Header};

impl Receiver {
    /// Waits for a message of any form and puts its payload into `buffer`, whose former content is lost.
    ///
    /// When the time is up in the middle of a message in fragments, what has come is in `buffer`: call again with it to go
    /// on.
    ///
    /// # Errors
    /// [`ErrorKind::MessageTooLarge`] beyond the limit (10 MiB unless chosen otherwise): the message is lost, the next one
    /// can be received. Else as [`Receiver::receive`].
    pub fn receive_into(&mut self, buffer: &mut Vec<u8>) -> Result<Header, Error> {
        self.receive_into_idling(buffer, || ())
    }

    pub(super) fn receive_into_idling(
        &mut self,
        buffer: &mut Vec<u8>,
        mut before_idling: impl FnMut(),
    ) -> Result<Header, Error> {
        if self.partial.is_none() {
            buffer.clear();
        }
        let (mut deadline, lap) = (None, self.a_lap_ahead());
        loop {
            let found = match self.partial {
                None => self.next_start(&mut deadline, &mut before_idling)?,
                Some(of) => self.next_fragment(of, &mut deadline, &mut before_idling)?,
            };
            let flags = found.header().flags();
            if flags.contains(Flags::ABANDONED) {
                buffer.clear();
                self.partial = None;
                self.set_plain();
                self.release(found);
                self.check_patience(lap, &mut deadline)?;
                continue;
            }
            let payload = self.payload(&found);
            let bytes = buffer.len().saturating_add(payload.len());
            if bytes > self.max_message_bytes {
                return Err(self.refuse_large_message(found, bytes));
            }
            payload.append_to(buffer);
            self.release(found);
            // The first record alone says whether the message is extended.
            let whole = self.partial.unwrap_or(found.header().whole());
            if !flags.contains(Flags::MORE) {
                self.partial = None;
                self.set_plain();
                return Ok(whole);
            }
            self.partial = Some(whole);
            self.set_plain();
            self.check_patience(lap, &mut deadline)?;
        }
    }

    /// Waits for a message of any form and length, to be read piece by piece.
    ///
    /// # Errors
    /// As [`Receiver::receive`], except [`ErrorKind::MessageTooLarge`].
    pub fn read_message(&mut self) -> Result<MessageReader<'_>, Error> {
        self.read_message_idling(|| ())
    }

    pub(super) fn read_message_idling(
        &mut self,
        before_idling: impl FnMut(),
    ) -> Result<MessageReader<'_>, Error> {
        let found = self.next_start(&mut None, before_idling)?;
        Ok(MessageReader::new(self, found))
    }

    pub(super) fn in_fragments() -> Error {
        Error::new(
            ErrorKind::MessageTooLarge,
            "the message travels in fragments; take it with receive_into or read_message",
        )
    }

    fn refuse_large_message(&mut self, found: Found, bytes: usize) -> Error {
        self.partial = None;
        self.set_plain();
        self.skip_rest_after(found);
        let limit = self.max_message_bytes;
        let message =
            format!("message of {bytes} bytes or more, the limit is {limit} (read_message has none)");
        Error::new(ErrorKind::MessageTooLarge, message)
    }

    /// Lets go of `found`, and of the fragments that follow it when they come.
    pub(super) fn skip_rest_after(&mut self, found: Found) {
        if found.header().flags().contains(Flags::MORE) {
            self.skipping = Some(found.header().whole());
            self.set_plain();
        }
        self.release(found);
    }

    /// Lets go of the fragments of the message under way when they come.
    pub(super) fn skip_rest_of(&mut self, header: Header) {
        self.skipping = Some(header);
        self.set_plain();
    }

    /// Waits for the first record of a message, at most until `deadline` (set when the first wait begins).
    #[inline]
    pub(super) fn next_start(
        &mut self,
        deadline: &mut Option<Deadline>,
        mut before_idling: impl FnMut(),
    ) -> Result<Found, Error> {
        loop {
            if let Some(found) = self.poll_start()? {
                return Ok(found);
            }
            // Not for this receive, but left raised it would end every wait.
            let _ = self.kernel().take_interruption();
            self.wait(deadline, &mut before_idling)?;
        }
    }

    /// Waits for the next record of the message that began with `of`, at most until `deadline` as in `next_start`.
    pub(super) fn next_fragment(
        &mut self,
        of: Header,
        deadline: &mut Option<Deadline>,
        mut before_idling: impl FnMut(),
    ) -> Result<Found, Error> {
        loop {
            if let Some(found) = self.poll()? {
                self.check_fragment(&found, of)?;
                return Ok(found);
            }
            let _ = self.kernel().take_interruption();
            self.wait(deadline, &mut before_idling)?;
        }
    }

    /// Where the reader is once everything that can be in the ring now has been consumed.
    pub(crate) fn a_lap_ahead(&self) -> u64 {
        self.consumer.position() + u64::from(self.ring_bytes)
    }

    /// Wherever something came that does not end the call: a peer that goes on like that beyond what was there when the
    /// call began must not hold back the deadline. (It need not even be quick: a ring full of fragments, whose words the
    /// reader never zeroes, comes round again by itself.)
    #[cold]
    pub(super) fn check_patience(&mut self, lap: u64, deadline: &mut Option<Deadline>) -> Result<(), Error> {
        if self.consumer.position() < lap { Ok(()) } else { self.check_time(deadline) }
    }

    /// The first record of a message, if it is there.
    #[inline]
    pub(super) fn poll_start(&mut self) -> Result<Option<Found>, Error> {
        let found = self.poll()?;
        match found {
            Some(found) if !found.is_whole() || self.is_amid_message() => self.poll_unusual_start(found),
            _ => Ok(found),
        }
    }

    pub(super) fn is_amid_message(&self) -> bool {
        self.skipping.is_some() || self.partial.is_some()
    }

    #[cold]
    fn poll_unusual_start(&mut self, mut found: Found) -> Result<Option<Found>, Error> {
        if self.partial.is_some() {
            let message = "a message is half received: call receive_into again with the same buffer";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        // What is there now, and not what a busy peer writes meanwhile.
        let lap = self.a_lap_ahead();
        while let Some(of) = self.skipping {
            self.check_fragment(&found, of)?;
            if !found.header().flags().contains(Flags::MORE) {
                self.skipping = None;
                self.set_plain();
            }
            self.release(found);
            match self.poll()? {
                Some(next) if self.consumer.position() < lap => found = next,
                _ => return Ok(None),
            }
        }
        if found.header().flags().contains(Flags::CONTINUED) {
            return Err(self.out_of_order(&found, "the start of a message"));
        }
        Ok(Some(found))
    }

    pub(super) fn check_fragment(&mut self, found: &Found, of: Header) -> Result<(), Error> {
        if !found.header().flags().contains(Flags::CONTINUED) {
            return Err(self.out_of_order(found, "the next fragment"));
        }
        if found.header().with_flags(of.flags()) != of {
            return Err(self.out_of_order(found, "a fragment of the same message"));
        }
        Ok(())
    }

    pub(super) fn out_of_order(&mut self, found: &Found, expected: &'static str) -> Error {
        self.fail(Violation::Fragment { found: found.header(), expected }.into())
    }
}

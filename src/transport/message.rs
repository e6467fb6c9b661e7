//! Messages as they are received and written: whole records, and pieces of any length.

use std::io;

use super::Payload;
use super::options::Backpressure;
use super::receiver::{Found, Receiver};
use super::sender::Sender;
use crate::error::{Error, ErrorKind};
use crate::wait::Deadline;
use crate::wire::{Flags, Header};

/// A received message of one record. Its room in the ring is given back when it is dropped.
#[derive(Debug)]
pub struct Message<'a> {
    receiver: &'a mut Receiver,
    found: Found,
}

impl<'a> Message<'a> {
    #[inline(always)]
    pub(super) fn new(receiver: &'a mut Receiver, found: Found) -> Self {
        Self { receiver, found }
    }

    /// Kind, type and correlation.
    #[inline]
    #[must_use]
    pub fn header(&self) -> Header {
        self.found.header()
    }

    /// The payload, still in the ring.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> Payload<'_> {
        self.receiver.payload(&self.found)
    }
}

impl Drop for Message<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.receiver.release(self.found);
    }
}

/// Reads a message of any length piece by piece, from the ring.
///
/// As an [`io::Read`] it ends with the message. What is not read when it is dropped is left out.
#[derive(Debug)]
pub struct MessageReader<'a> {
    receiver: &'a mut Receiver,
    header: Header,
    /// The record that is being read, and how much of it has been.
    current: Option<(Found, usize)>,
    /// The flags of the last record say that more follow.
    more: bool,
    /// Those of the first record.
    flags: Flags,
    /// When reading ends in any case, in place of the receiver's timeout.
    until: Option<Deadline>,
}

impl<'a> MessageReader<'a> {
    pub(super) fn new(receiver: &'a mut Receiver, found: Found) -> Self {
        let (header, flags) = (found.header().whole(), found.header().flags());
        Self { receiver, header, current: Some((found, 0)), more: true, flags, until: None }
    }

    /// Kind, type and correlation.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// How many bytes the message has at most, if its sender knew: a power of two from 4 KiB to 64 MiB. Nothing holds the
    /// sender to it, so it may choose a buffer, and no more.
    #[must_use]
    pub fn at_most_bytes(&self) -> Option<usize> {
        self.flags.at_most_bytes()
    }

    /// Ends reading at `until`, whatever comes and however often: further fragments fail with [`ErrorKind::TimedOut`] then,
    /// and with [`ErrorKind::PeerDied`] once this side's waits have been ended.
    pub(crate) fn read_until(&mut self, until: Deadline) {
        self.until = (until != Deadline::NEVER).then_some(until);
    }

    /// The next piece, still in the ring; `None` at the end of the message. May be empty.
    ///
    /// A piece that was partly read as [`io::Read`] is left behind.
    ///
    /// # Errors
    /// [`ErrorKind::Abandoned`] if the sender gave the message up; else as [`Receiver::receive`].
    pub fn next_piece(&mut self) -> Result<Option<Payload<'_>>, Error> {
        let fresh = matches!(self.current, Some((_, 0)));
        if !fresh && !self.advance(&mut { self.until })? {
            return Ok(None);
        }
        Ok(self.current.as_mut().map(|(found, read)| {
            *read = usize::MAX;
            self.receiver.payload(found)
        }))
    }

    /// Goes on to the next record; says whether there is one.
    fn advance(&mut self, deadline: &mut Option<Deadline>) -> Result<bool, Error> {
        self.leave_current();
        if !self.more {
            return Ok(false);
        }
        // Here and not only where it waits: a trickle of fragments must not renew it.
        if let Some(until) = self.until {
            if until.has_passed() {
                return Err(ErrorKind::TimedOut.into());
            }
            if self.receiver.kernel().is_cut_off() {
                return Err(ErrorKind::PeerDied.into());
            }
        }
        let found = self.receiver.next_fragment(self.header, deadline, || ())?;
        if found.header().flags().contains(Flags::ABANDONED) {
            self.more = false;
            self.receiver.release(found);
            return Err(ErrorKind::Abandoned.into());
        }
        self.current = Some((found, 0));
        Ok(true)
    }

    fn leave_current(&mut self) {
        if let Some((found, _)) = self.current.take() {
            self.more = found.header().flags().contains(Flags::MORE);
            self.receiver.release(found);
        }
    }
}

impl io::Read for MessageReader<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() {
            return Ok(0);
        }
        let (mut deadline, lap) = (self.until, self.receiver.a_lap_ahead());
        loop {
            if let Some((found, read)) = &mut self.current {
                let payload = self.receiver.payload(found);
                let (count, is_empty) = (payload.copy_from(*read, target), payload.is_empty());
                if count > 0 {
                    *read += count;
                    return Ok(count);
                }
                if is_empty {
                    self.receiver.check_patience(lap, &mut deadline)?;
                }
            }
            if !self.advance(&mut deadline)? {
                return Ok(0);
            }
        }
    }
}

impl Drop for MessageReader<'_> {
    fn drop(&mut self) {
        match self.current.take() {
            Some((found, _)) => self.receiver.skip_rest_after(found),
            None if self.more => self.receiver.skip_rest_of(self.header),
            None => {}
        }
    }
}

/// Writes a message of any length piece by piece, into the ring.
///
/// Each write is published at once (put small ones through an [`io::BufWriter`]). [`MessageWriter::finish`] ends the message; if it is
/// dropped before that, the peer is told that the message was given up.
#[derive(Debug)]
#[must_use = "a message that is not finished is abandoned"]
pub struct MessageWriter<'a> {
    sender: &'a mut Sender,
    receiver: Option<&'a mut Receiver>,
    header: Header,
    started: bool,
    finished: bool,
}

impl<'a> MessageWriter<'a> {
    pub(super) fn new(sender: &'a mut Sender, receiver: Option<&'a mut Receiver>, header: Header) -> Self {
        Self { sender, receiver, header: header.whole(), started: false, finished: false }
    }

    /// Appends `bytes` to the message, waiting for room (whatever the backpressure, at most for the send timeout
    /// in all).
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn write_piece(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // One deadline for all of it, or a peer that makes room now and then would hold back the caller.
        let (mut rest, mut deadline) = (bytes, None);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(self.sender.fragment_bytes()));
            self.send(piece, Flags::MORE, &mut deadline)?;
            rest = behind;
        }
        Ok(())
    }

    /// Ends the message.
    ///
    /// # Errors
    /// As [`Sender::send`]; the message is abandoned then.
    pub fn finish(mut self) -> Result<(), Error> {
        self.send(&[], Flags::NONE, &mut None)?;
        self.finished = true;
        Ok(())
    }

    fn send(&mut self, piece: &[u8], flags: Flags, deadline: &mut Option<Deadline>) -> Result<(), Error> {
        let place = if self.started { Flags::CONTINUED } else { self.header.flags() };
        let header = self.header.with_flags(flags.with(place));
        self.sender.send_record(header, piece, Backpressure::Wait, deadline, &mut self.receiver)?;
        self.started = true;
        Ok(())
    }
}

impl io::Write for MessageWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.sender.fragment_bytes());
        self.write_piece(&bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for MessageWriter<'_> {
    fn drop(&mut self) {
        if self.started && !self.finished {
            self.sender.abandon(self.header);
        }
    }
}

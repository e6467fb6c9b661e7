//! Where the next record goes: the producer claims room for it, with padding or a restart in front of it if need be.

use super::{HEADER_BYTES, PADDING, Producer, RingError, TRAILING_BYTES, Violation, align8};
use crate::sync::failpoint::{Failpoint, failpoint};
use crate::sync::{Area, Kernel, Platform, RecordArea, Word, weak};

impl<P: Platform, K: Kernel<P::Word>> Producer<P, K> {
    pub(super) fn has_room(&self, bytes: u32) -> bool {
        self.tail + u64::from(bytes) <= self.end_of_room()
    }

    /// Sees to it that a record of `payload_bytes` fits at `tail`, with padding in front of it if need be: until the next
    /// append or reservation of no more than that succeeds.
    ///
    /// # Errors
    /// As [`Producer::push`].
    #[inline]
    pub fn claim(&mut self, payload_bytes: usize) -> Result<(), RingError> {
        if payload_bytes > self.max_payload_bytes() as usize {
            return Err(RingError::TooLarge { limit: self.max_payload_bytes() });
        }
        self.claim_checked(payload_bytes)
    }

    /// As [`Producer::claim`], for a length that some object has: the sum below cannot overflow. What is too long ends
    /// behind `free_until`.
    #[inline(always)]
    pub(super) fn claim_checked(&mut self, payload_bytes: usize) -> Result<(), RingError> {
        if self.end_of(payload_bytes) <= self.free_until { Ok(()) } else { self.claim_slowly(payload_bytes) }
    }

    /// Where a record at `tail` ends.
    #[inline(always)]
    pub(super) fn end_of(&self, payload_bytes: usize) -> u64 {
        self.tail + ((payload_bytes as u64 + u64::from(HEADER_BYTES + 7)) & !7)
    }

    #[cold]
    #[inline(never)]
    fn claim_slowly(&mut self, payload_bytes: usize) -> Result<(), RingError> {
        if payload_bytes > self.max_payload_bytes() as usize {
            return Err(RingError::TooLarge { limit: self.max_payload_bytes() });
        }
        if self.closed {
            return Err(self.violation.clone().map_or(RingError::Closed, RingError::from));
        }
        let step = align8(HEADER_BYTES + payload_bytes as u32);
        if self.offset(self.tail) == 0 && self.tail > self.tuning.start {
            // A lap that ended without padding.
            self.extent.wrote(self.ring_bytes);
        }
        let mut look_again = false;
        if self.tail + u64::from(step) > self.boundary {
            look_again = self.cross_boundary(step)?;
        }
        let left = self.ring_bytes - self.offset(self.tail);
        if step > left {
            self.make_room(if P::breaks(weak::PAD_AND_RECORD_ROOM) { left + step } else { left })?;
            self.pad(left);
            self.extent.wrote(self.ring_bytes);
        }
        self.make_room(step)?;
        let end = self.tail + u64::from(step);
        self.boundary = if look_again { end } else { next_boundary(end - 1, self.tuning.restart_bytes) };
        let longest = self.tail + u64::from(self.tuning.max_record_bytes);
        self.free_until = self.boundary.min(self.end_of_room()).min(self.end_of_lap()).min(longest);
        if step <= self.tuning.restart_bytes / 4 {
            self.own_lines_ahead(end);
        }
        Ok(())
    }

    /// Stores into every line from `from` to the next boundary, all of it free and ours: the reader's core gives the lines
    /// up all at once, while these stores wait in the store buffer, and not one by one as messages come to them (64 B one
    /// way between two distant cores: 9 -> 22 million/s; a prefetch for writing does not take a shared line away). Only for
    /// short records: the stores of a long one wait together anyway.
    ///
    /// The word at a message's end is not among them: it is zeroed, and stands for what has not been written.
    fn own_lines_ahead(&self, from: u64) {
        let step = u64::from(P::Area::LINE_BYTES);
        let beyond = if P::breaks(weak::LINES_BEYOND_ROOM) { self.boundary } else { self.free_until };
        let line = (from / step + 1) * step;
        if line < beyond {
            self.area.own_lines(self.offset(line), (beyond - line).div_ceil(step) as u32);
        }
    }

    fn end_of_room(&self) -> u64 {
        let reserve = if P::breaks(weak::NO_RESERVE) { 0 } else { TRAILING_BYTES };
        self.head_seen + u64::from(self.ring_bytes - reserve)
    }

    fn end_of_lap(&self) -> u64 {
        self.tail - u64::from(self.offset(self.tail)) + u64::from(self.ring_bytes)
    }

    /// Starts again at offset 0 if the ring is drained, so that a quiet connection keeps to the first bytes of its area. Says
    /// whether the next record should look again.
    fn cross_boundary(&mut self, step: u32) -> Result<bool, RingError> {
        let offset = self.offset(self.tail);
        let fits_below = offset >= self.restart_from.max(step + TRAILING_BYTES);
        // The look at `head` is a cache miss: only where something can come of it.
        if !fits_below && !self.is_worth_trimming(offset, step) {
            return Ok(false);
        }
        if self.is_drained()? {
            failpoint(Failpoint::RestartDrained);
            self.trim_behind(offset, step);
            if fits_below {
                self.pad(self.ring_bytes - offset);
            }
            return Ok(false);
        }
        // All but drained: a quiet connection, whose reader was about to say so.
        Ok(self.tail - self.head_seen < u64::from(self.tuning.restart_bytes))
    }

    /// Looks at the reader's position. Without room: publishes and announces everything that is pending, padding too,
    /// so that whoever waits now keeps nothing back.
    #[inline(always)]
    fn make_room(&mut self, bytes: u32) -> Result<(), RingError> {
        if self.has_room(bytes) { Ok(()) } else { self.look_for_room(bytes) }
    }

    #[inline(never)]
    fn look_for_room(&mut self, bytes: u32) -> Result<(), RingError> {
        self.load_head()?;
        failpoint(Failpoint::HeadLoaded);
        if self.has_room(bytes) {
            return Ok(());
        }
        if !P::breaks(weak::BATCH_UNPUBLISHED) {
            self.publish();
        }
        failpoint(Failpoint::FullPublished);
        if !P::breaks(weak::PAD_NO_LOOK) {
            self.announce(self.published);
        }
        failpoint(Failpoint::FullAnnounced);
        self.wanted = bytes;
        self.expect_burst(bytes);
        Err(RingError::Full)
    }

    /// Full, and the reader is still in the lap before: a burst that begins with a restart has only as much room as there
    /// was in front of it. From now on restarts leave what this one has come to.
    fn expect_burst(&mut self, bytes: u32) {
        let (offset, lap) = (self.offset(self.tail), self.tail - u64::from(self.offset(self.tail)));
        if self.head_seen < lap {
            self.restart_from =
                self.restart_from.max(offset + bytes + TRAILING_BYTES).min(self.ring_bytes / 2);
        }
    }

    /// Loads `head` once, checks it, keeps it.
    pub(super) fn load_head(&mut self) -> Result<(), RingError> {
        // ORDER head: Acquire, so that the reader is done with the bytes that are now written again (control:
        // head_loaded_relaxed). The other end is in Consumer::store_head.
        let head = self.area.head().load(P::order(weak::HEAD_LOAD, crate::sync::Ordering::Acquire));
        let moved = u64::from((head & !7).wrapping_sub(self.head_seen as u32));
        if head & 6 != 0 || moved > self.published - self.head_seen {
            return Err(self.head_violation(head));
        }
        // Before `head_seen` moves: what a reader releases by going is never written again.
        if head & 1 != 0 {
            self.end();
            return Err(RingError::Closed);
        }
        self.head_seen += moved;
        Ok(())
    }

    /// Nothing more is sent, whatever `head` says later.
    pub(super) fn end(&mut self) {
        self.closed = true;
        self.free_until = 0;
    }

    #[cold]
    fn head_violation(&mut self, found: u32) -> RingError {
        self.end();
        let violation = Violation::Head { found, least: self.head_seen as u32, most: self.published as u32 };
        self.violation.get_or_insert(violation).clone().into()
    }

    fn pad(&mut self, bytes: u32) {
        self.extent.wrote(self.offset(self.tail) + TRAILING_BYTES);
        failpoint(Failpoint::PadClaimed);
        let next = self.tail + u64::from(bytes);
        self.zero(next);
        self.put(PADDING | bytes, next);
        failpoint(Failpoint::PadPut);
        if P::breaks(weak::PAD_NO_LOOK) {
            self.publish();
        }
    }
}

pub(super) fn next_boundary(position: u64, every: u32) -> u64 {
    if every == 0 { u64::MAX } else { (position / u64::from(every) + 1) * u64::from(every) }
}

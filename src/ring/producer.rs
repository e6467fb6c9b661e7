//! The writing half.

use core::fmt;

use super::{CLOSED, HEADER_BYTES, PADDING, RingError, Slot, TRAILING_BYTES, Tuning, Violation, align8};
use crate::sync::failpoint::{Failpoint, failpoint};
use crate::sync::{Area, Kernel, Ordering::Relaxed, Ordering::Release, Platform, RecordArea, Word, weak};
use crate::wait::{Mark, Waker};
use crate::wire::Header;

/// The first record or padding of what has not been published yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    position: u64,
    commit: u32,
}

/// The writing half of a ring.
///
/// Nothing here waits, except [`Producer::wait_for_room`]; [`RingError::Full`] says when to call it.
pub struct Producer<P: Platform, K> {
    pub(super) area: P::Area,
    pub(super) kernel: K,
    pub(super) ring_bytes: u32,
    /// Takes a position to its offset.
    mask: u32,
    pub(super) tuning: Tuning,
    /// End of what is written; private, the truth.
    pub(super) tail: u64,
    /// End of what the reader can see.
    pub(super) published: u64,
    pub(super) pending: Option<Pending>,
    /// The reader's position when it was last looked at.
    pub(super) head_seen: u64,
    /// Where `tail` next looks for a drained ring.
    boundary: u64,
    /// A restart needs an offset of at least this much: what it leaves free until the reader is past the padding.
    pub(super) restart_from: u32,
    /// Records that end up to here need no look at anything: there is room, no end of the area and no boundary is in
    /// between, and they are not too long.
    free_until: u64,
    /// Bytes that the last claim lacked room for.
    pub(super) wanted: u32,
    /// The end of the memory written since the last trim, as an offset.
    pub(super) high_water: u32,
    pub(super) trimmed_ns: u64,
    /// Nothing more is sent: this side closed, the reader has gone, or it broke the protocol.
    closed: bool,
    violation: Option<Violation>,
    waker: Waker,
    /// Only for the control that wakes "the record just committed".
    last_commit: u64,
}

impl<P: Platform, K> fmt::Debug for Producer<P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("ring_bytes", &self.ring_bytes)
            .field("tail", &self.tail)
            .field("head_seen", &self.head_seen)
            .finish_non_exhaustive()
    }
}

impl<P: Platform, K: Kernel<P::Word>> Producer<P, K> {
    /// The writing half over `area`, whose commit word at the start position is 0. Of one direction there is one such half.
    ///
    /// # Panics
    /// If the tuning does not fit the area.
    #[must_use]
    pub fn new(area: P::Area, kernel: K, tuning: Tuning) -> Self {
        tuning.check(area.size());
        Self {
            ring_bytes: area.size(),
            mask: area.size() - 1,
            area,
            kernel,
            tuning,
            tail: tuning.start,
            published: tuning.start,
            pending: None,
            head_seen: tuning.start,
            boundary: next_boundary(tuning.start, tuning.restart_bytes),
            restart_from: 0,
            // The first record looks.
            free_until: 0,
            wanted: 0,
            high_water: 0,
            trimmed_ns: 0,
            closed: false,
            violation: None,
            waker: Waker::default(),
            last_commit: tuning.start,
        }
    }

    /// The same with another memory of what was woken, for models.
    #[must_use]
    pub fn with_waker(self, waker: Waker) -> Self {
        Self { waker, ..self }
    }

    /// The longest payload of one record.
    #[inline]
    #[must_use]
    pub fn max_payload_bytes(&self) -> u32 {
        self.tuning.max_payload_bytes()
    }

    /// End of what is written.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// What this half asks of the kernel.
    #[must_use]
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Writes a record, publishes it and wakes the reader if it sleeps.
    ///
    /// # Errors
    /// [`RingError::Full`] without room, [`RingError::TooLarge`], [`RingError::Closed`], [`RingError::Corrupt`].
    #[inline(always)]
    pub fn push(&mut self, header: &Header, payload: &[u8]) -> Result<(), RingError> {
        self.claim_checked(payload.len())?;
        failpoint(Failpoint::SendClaimed);
        self.write(header, payload);
        failpoint(Failpoint::SendWritten);
        self.publish_record(payload.len() as u32);
        Ok(())
    }

    /// Writes a record of a batch; [`Producer::flush`] publishes it.
    ///
    /// # Errors
    /// As [`Producer::push`]. [`RingError::Full`] has published what was pending.
    #[inline(always)]
    pub fn append(&mut self, header: &Header, payload: &[u8]) -> Result<(), RingError> {
        self.claim_checked(payload.len())?;
        failpoint(Failpoint::SendClaimed);
        self.write(header, payload);
        failpoint(Failpoint::SendWritten);
        self.put_record(payload.len() as u32);
        Ok(())
    }

    #[inline(always)]
    fn write(&mut self, header: &Header, payload: &[u8]) {
        // SAFETY: positions are multiples of 8, and claim_checked() has said that the record ends before the lap does.
        unsafe { self.area.put_record(self.offset(self.tail), header.tag(), header.correlation, payload) };
    }

    /// Publishes what is pending and wakes the reader if it sleeps.
    #[inline(always)]
    pub fn flush(&mut self) {
        self.publish();
        self.announce(self.published);
    }

    /// Claims room for a record of at most `payload_bytes` that is written in place.
    ///
    /// # Errors
    /// As [`Producer::push`].
    #[inline(always)]
    pub fn reserve(&mut self, header: Header, payload_bytes: usize) -> Result<Slot<'_, P, K>, RingError> {
        self.claim(payload_bytes)?;
        Ok(Slot::new(self, header, payload_bytes as u32))
    }

    /// Publishes what is pending, then says that nothing follows. Needs no room; further calls do nothing.
    pub fn close(&mut self) {
        if self.closed {
            return;
        }
        self.end();
        failpoint(Failpoint::CloseBegun);
        self.publish();
        failpoint(Failpoint::ClosePublished);
        // Relaxed: who reads it reads nothing that was written before it, but by the commit words on the way here. (No
        // model fails with it; the wake-up below has the fence.)
        self.area.word(self.tail as u32).store(CLOSED, Relaxed);
        failpoint(Failpoint::CloseStored);
        if !P::breaks(weak::CLOSE_NO_LOOK) {
            self.announce(self.tail + 8);
        }
        failpoint(Failpoint::CloseAnnounced);
    }

    #[inline(always)]
    pub(super) fn offset(&self, position: u64) -> u32 {
        // The truncation is the masking.
        (position as u32) & self.mask
    }

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
    fn claim_checked(&mut self, payload_bytes: usize) -> Result<(), RingError> {
        let end = self.tail + ((payload_bytes as u64 + u64::from(HEADER_BYTES + 7)) & !7);
        if end <= self.free_until { Ok(()) } else { self.claim_slowly(payload_bytes) }
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
            self.high_water = self.ring_bytes;
        }
        let mut look_again = false;
        if self.tail + u64::from(step) > self.boundary {
            look_again = self.cross_boundary(step)?;
        }
        let left = self.ring_bytes - self.offset(self.tail);
        if step > left {
            self.make_room(if P::breaks(weak::PAD_AND_RECORD_ROOM) { left + step } else { left })?;
            self.pad(left);
            self.high_water = self.ring_bytes;
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
    fn end(&mut self) {
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
        self.high_water = self.high_water.max(self.offset(self.tail) + TRAILING_BYTES);
        failpoint(Failpoint::PadClaimed);
        self.put(PADDING | bytes, bytes);
        failpoint(Failpoint::PadPut);
        if P::breaks(weak::PAD_NO_LOOK) {
            self.publish();
        }
    }

    /// Ends the record at `tail`, whose header and payload are written.
    #[inline(always)]
    pub(super) fn put_record(&mut self, payload_bytes: u32) {
        let length = HEADER_BYTES + payload_bytes;
        self.put(length, align8(length));
    }

    /// Ends the record at `tail`, publishes it with all that is pending, and wakes the reader if it sleeps.
    #[inline(always)]
    pub(super) fn publish_record(&mut self, payload_bytes: u32) {
        // A batch, or padding, is pending: or a control breaks the order of what follows.
        if self.pending.is_some() || P::breaks(weak::ZERO_LATE | weak::FIRST_FIRST | weak::GENERATION) {
            self.put_record(payload_bytes);
            return self.flush();
        }
        let length = HEADER_BYTES + payload_bytes;
        let position = self.tail;
        self.tail = position + u64::from(align8(length));
        self.published = self.tail;
        if !P::breaks(weak::NO_ZERO) {
            self.area.word(self.tail as u32).store(0, Relaxed);
        }
        failpoint(Failpoint::SendZeroed);
        // ORDER commit: Release, as in publish() (control: commit_stored_relaxed).
        self.area.word(position as u32).store(length, P::order(weak::COMMIT_STORE, Release));
        failpoint(Failpoint::SendCommitted);
        self.announce(self.published);
    }

    /// Zeroes the next commit word, then notes this one; of a batch the first is stored last.
    #[inline(always)]
    fn put(&mut self, commit: u32, step: u32) {
        let (position, next) = (self.tail, self.tail + u64::from(step));
        let late = P::breaks(weak::ZERO_LATE);
        if !P::breaks(weak::NO_ZERO) && !late {
            self.area.word(next as u32).store(0, Relaxed);
        }
        failpoint(Failpoint::BatchZeroed);
        self.tail = next;
        if P::breaks(weak::GENERATION) {
            self.last_commit = position;
        }
        if self.pending.is_none() {
            self.pending = Some(Pending { position, commit });
            failpoint(Failpoint::BatchFirstNoted);
            if P::breaks(weak::FIRST_FIRST) {
                // ORDER commit: too early (control: first_word_of_a_batch_stored_first); publish() has the shipped one.
                self.area.word(position as u32).store(commit, Release);
            }
        } else {
            // Relaxed: the reader comes here only through the first word of the batch, which is stored with Release.
            self.area.word(position as u32).store(commit, Relaxed);
            failpoint(Failpoint::BatchLaterStored);
        }
        if late {
            self.publish();
            self.area.word(next as u32).store(0, Relaxed);
        }
    }

    #[inline(always)]
    fn publish(&mut self) {
        if let Some(first) = self.pending.take() {
            failpoint(Failpoint::BatchPublishing);
            // ORDER commit: Release, so that payload, header, later commit words of the batch and the trailing zero are
            // there for who sees it (control: first_commit_of_a_batch_stored_relaxed). The other end is in Consumer::poll.
            let order = P::order(weak::COMMIT_STORE, Release);
            if !P::breaks(weak::FIRST_FIRST) {
                self.area.word(first.position as u32).store(first.commit, order);
            }
            failpoint(Failpoint::BatchPublished);
            self.published = self.tail;
        }
    }

    /// Wakes the reader if it sleeps for something before `upto`.
    #[inline(always)]
    fn announce(&mut self, upto: u64) {
        // ORDER look: the commit word before the look at the mark (control: commit_looked_without_fence). The other end
        // is `ORDER park` of the reader.
        P::fence_at(weak::FENCE_COMMIT_LOOK);
        failpoint(Failpoint::AnnounceFenced);
        let early = P::breaks(weak::NO_POSITION_CHECK | weak::GENERATION);
        if let Some(mark) = self.waker.look::<P>(self.area.reader_parked(), upto, self.ring_bytes, early) {
            self.wake(mark);
        }
    }

    #[cold]
    fn wake(&self, mark: Mark) {
        failpoint(Failpoint::ReaderWaking);
        if mark.is_on_lifeline() {
            self.kernel.ring_bell();
        } else {
            let position =
                if P::breaks(weak::GENERATION) { self.last_commit as u32 } else { mark.position() };
            self.kernel.wake(self.area.word(position));
        }
        failpoint(Failpoint::ReaderWoken);
    }
}

fn next_boundary(position: u64, every: u32) -> u64 {
    if every == 0 { u64::MAX } else { (position / u64::from(every) + 1) * u64::from(every) }
}

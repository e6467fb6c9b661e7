//! The writing half.

use core::fmt;

use super::claim::next_boundary;
use super::extent::Extent;
use super::{CLOSED, HEADER_BYTES, RingError, Slot, Tuning, Violation};
use crate::sync::failpoint::{Failpoint, failpoint};
use crate::sync::{Area, Kernel, Ordering::Relaxed, Ordering::Release, Platform, RecordArea, Word, weak};
use crate::wait::{Mark, Patience, Waker};
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
    pub(super) mask: u32,
    pub(super) tuning: Tuning,
    /// End of what is written; private, the truth.
    pub(super) tail: u64,
    /// End of what the reader can see.
    pub(super) published: u64,
    pub(super) pending: Option<Pending>,
    /// The reader's position when it was last looked at.
    pub(super) head_seen: u64,
    /// Where `tail` next looks for a drained ring.
    pub(super) boundary: u64,
    /// A restart needs an offset of at least this much: what it leaves free until the reader is past the padding.
    pub(super) restart_from: u32,
    /// Records that end up to here need no look at anything: there is room, no end of the area and no boundary is in
    /// between, and they are not too long.
    pub(super) free_until: u64,
    /// Bytes that the last claim lacked room for.
    pub(super) wanted: u32,
    pub(super) extent: Extent,
    /// Nothing more is sent: this side closed, the reader has gone, or it broke the protocol.
    pub(super) closed: bool,
    pub(super) violation: Option<Violation>,
    waker: Waker,
    /// For waits for room.
    pub(super) patience: Patience,
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
            extent: Extent::default(),
            closed: false,
            violation: None,
            waker: Waker::default(),
            patience: Patience::default(),
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
        let offset = self.offset(self.tail);
        let next = self.zero_behind(payload.len());
        failpoint(Failpoint::SendZeroed);
        self.write(offset, header, payload);
        failpoint(Failpoint::SendWritten);
        self.publish_record(payload.len() as u32, next);
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
        let offset = self.offset(self.tail);
        let next = self.zero_behind(payload.len());
        failpoint(Failpoint::BatchZeroed);
        self.write(offset, header, payload);
        failpoint(Failpoint::SendWritten);
        self.put(HEADER_BYTES + payload.len() as u32, next);
        Ok(())
    }

    /// Writes the record at `tail`, which is at `offset`.
    #[inline(always)]
    fn write(&mut self, offset: u32, header: &Header, payload: &[u8]) {
        // SAFETY: positions are multiples of 8, and claim_checked() has said that the record ends before the lap does.
        unsafe { self.area.copy_record_in(offset + HEADER_BYTES, payload) };
        // SAFETY: as above.
        unsafe { self.area.put_record_header(offset, header.tag(), header.correlation) };
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

    /// As [`Producer::reserve`], for what [`Producer::claim`] has just made room for.
    #[inline(always)]
    pub(crate) fn reserve_claimed(&mut self, header: Header, payload_bytes: usize) -> Slot<'_, P, K> {
        debug_assert!(self.end_of(payload_bytes) <= self.free_until, "no room has been claimed");
        Slot::new(self, header, payload_bytes as u32)
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

    /// Zeroes the commit word behind the record at `tail`, for which there is room, before its header is written; says where
    /// that word is.
    #[inline(always)]
    pub(super) fn zero_behind(&self, payload_bytes: usize) -> u64 {
        let next = self.end_of(payload_bytes);
        self.zero(next);
        next
    }

    /// Zeroes the commit word at `next`.
    #[inline(always)]
    pub(super) fn zero(&self, next: u64) {
        // Relaxed: what comes before it is stored with Release later, and nobody looks here before having seen that (controls:
        // next_word_not_zeroed, next_word_of_a_batch_not_zeroed, next_word_zeroed_after_the_commit).
        if !P::breaks(weak::NO_ZERO | weak::ZERO_LATE) {
            self.area.word(next as u32).store(0, Relaxed);
        }
    }

    /// Ends the record at `tail`, up to `next` and written, publishes it with all that is pending, and wakes the reader if it
    /// sleeps.
    #[inline(always)]
    pub(super) fn publish_record(&mut self, payload_bytes: u32, next: u64) {
        let length = HEADER_BYTES + payload_bytes;
        // A batch, or padding, is pending: or a control breaks the order of what follows.
        if self.pending.is_some() || P::breaks(weak::ZERO_LATE | weak::FIRST_FIRST | weak::GENERATION) {
            self.put(length, next);
            return self.flush();
        }
        let position = self.tail;
        self.tail = next;
        self.published = next;
        // ORDER commit: Release, as in publish() (control: commit_stored_relaxed).
        self.area.word(position as u32).store(length, P::order(weak::COMMIT_STORE, Release));
        failpoint(Failpoint::SendCommitted);
        self.announce(next);
    }

    /// Ends what is at `tail`, up to `next`, where the next commit word has been zeroed; of a batch the first commit word is
    /// stored last.
    #[inline(always)]
    pub(super) fn put(&mut self, commit: u32, next: u64) {
        let position = self.tail;
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
        if P::breaks(weak::ZERO_LATE) {
            self.publish();
            self.area.word(next as u32).store(0, Relaxed);
        }
    }

    #[inline(always)]
    pub(super) fn publish(&mut self) {
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
    pub(super) fn announce(&mut self, upto: u64) {
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

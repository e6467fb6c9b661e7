//! The reading half.

use core::fmt;
use core::num::NonZeroU32;

use super::arm::Turns;
use super::{CLOSED, HEADER_BYTES, PADDING, Payload, RingError, Tuning, Violation, align8};
use crate::sync::failpoint::{Failpoint, failpoint};
use crate::sync::{
    Area, Kernel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, Platform, RecordArea, Word, weak,
};
use crate::wait::{BusyPoll, Mark, Patience, Waker};
use crate::wire::{Header, HeaderError, PackedHeader};

/// Payloads from this size on are asked for as a whole before they are read.
const EXPECT_FROM_BYTES: u32 = 256;
/// Beyond this the processor's own prefetching has caught up.
const EXPECT_MOST_BYTES: u32 = 2048;

/// A commit word that is not 0, as [`Consumer::poll`] found it.
#[derive(Clone, Copy, Debug)]
pub struct Commit(NonZeroU32);

impl Commit {
    /// Whether it says: nothing up to the end of the area.
    #[inline(always)]
    pub(crate) fn is_padding(self) -> bool {
        self.0.get() & PADDING != 0
    }
}

/// A record that [`Consumer::peek`] found: checked, and still in the ring.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    header: PackedHeader,
    place: Place,
}

/// Where a record lies, and how long it is: all that is left of it once its header has been read.
///
/// One word for the same reason as [`PackedHeader`]: the offset below, the payload's bytes above.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(u64);

impl Place {
    /// Behind every ring: stands for a record that lies elsewhere. Consumers refuse it.
    pub(crate) const ELSEWHERE: Self = Self::new(!(2 * HEADER_BYTES - 1), 0);

    #[inline(always)]
    const fn new(offset: u32, payload_bytes: u32) -> Self {
        Self((payload_bytes as u64) << 32 | offset as u64)
    }

    #[inline(always)]
    #[must_use]
    pub(crate) fn is_elsewhere(self) -> bool {
        self.offset() == Self::ELSEWHERE.offset()
    }

    #[inline(always)]
    const fn offset(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    const fn payload_bytes(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Record {
    /// One that is in no ring: see [`Place::ELSEWHERE`].
    #[must_use]
    pub(crate) fn elsewhere(header: Header) -> Self {
        Self { header: header.packed(), place: Place::ELSEWHERE }
    }

    #[inline(always)]
    #[must_use]
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// What it is.
    #[inline(always)]
    #[must_use]
    pub fn header(&self) -> Header {
        self.header.header()
    }

    #[inline(always)]
    #[must_use]
    pub(crate) fn packed_header(&self) -> PackedHeader {
        self.header
    }

    /// Bytes of its payload.
    #[inline]
    #[must_use]
    pub fn payload_bytes(&self) -> u32 {
        self.place.payload_bytes()
    }
}

/// The reading half of a ring.
pub struct Consumer<P: Platform, K> {
    pub(super) area: P::Area,
    pub(super) kernel: K,
    ring_bytes: u32,
    /// Takes a position to its offset.
    mask: u32,
    max_payload_bytes: u32,
    tuning: Tuning,
    /// End of what is consumed; private, the truth.
    pub(super) position: u64,
    /// What the writer knows of it.
    pub(super) head: u64,
    /// 1 once nothing more will be read: stays in the low bit of the word `head`.
    gone: u32,
    /// Where `position` next asks whether to publish.
    say_at: u64,
    pub(super) waker: Waker,
    pub(super) turns: Turns,
    pub(super) patience: Patience,
    pub(super) busy_poll: Option<Box<BusyPoll>>,
    /// Only for the control that parks under a generation number.
    pub(super) generation: u32,
    /// A wait has ended with that.
    pub(super) writer_is_gone: bool,
}

impl<P: Platform, K> fmt::Debug for Consumer<P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("ring_bytes", &self.ring_bytes)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<P: Platform, K: Kernel<P::Word>> Consumer<P, K> {
    /// The reading half over `area`. Of one direction of one process there is one such half: two would each give away what
    /// the other still reads.
    ///
    /// # Panics
    /// If the tuning does not fit the area.
    #[must_use]
    pub fn new(area: P::Area, kernel: K, tuning: Tuning) -> Self {
        tuning.check(area.size());
        Self {
            ring_bytes: area.size(),
            mask: area.size() - 1,
            max_payload_bytes: tuning.max_payload_bytes(),
            area,
            kernel,
            tuning,
            position: tuning.start,
            head: tuning.start,
            gone: 0,
            say_at: tuning.start + u64::from(tuning.say_every_bytes()),
            waker: Waker::default(),
            turns: Turns::default(),
            patience: Patience::default(),
            busy_poll: None,
            writer_is_gone: false,
            generation: 0,
        }
    }

    /// End of what is consumed.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What this half asks of the kernel.
    #[must_use]
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// The same, to be prepared for what this half will be asked.
    pub fn kernel_mut(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// Looks whether there is something at the read position: what it is, [`Consumer::check`] says.
    #[inline(always)]
    #[must_use]
    pub fn poll(&self) -> Option<Commit> {
        // ORDER commit: Acquire, so that what was written before the commit word is there (control:
        // commit_loaded_relaxed). The other end is in Producer::publish.
        let word = self.area.word(self.position as u32).load(P::order(weak::COMMIT_LOAD, Acquire));
        NonZeroU32::new(word).map(Commit)
    }

    /// The next record, if there is one. It stays until [`Consumer::release`].
    ///
    /// # Errors
    /// [`RingError::Closed`] once everything before the end has been read, [`RingError::Corrupt`].
    #[inline(always)]
    pub fn peek(&mut self) -> Result<Option<Record>, RingError> {
        match self.poll() {
            None => Ok(None),
            Some(commit) => self.check(commit),
        }
    }

    /// Checks what [`Consumer::poll`] has just found, and takes the header apart. `None` behind padding that nothing
    /// follows yet.
    ///
    /// # Errors
    /// As [`Consumer::peek`].
    #[inline(always)]
    pub fn check(&mut self, commit: Commit) -> Result<Option<Record>, RingError> {
        match self.check_plainly(commit) {
            None => self.check_special(commit),
            record => Ok(record),
        }
    }

    /// As [`Consumer::check`] where it is a record; `None` for all else, padding included. (Nothing of what it gives passes
    /// through memory, unlike the results of a function that is not inlined.)
    #[inline(always)]
    pub(crate) fn check_plainly(&self, commit: Commit) -> Option<Record> {
        let (offset, payload_bytes) = self.extent_of(commit.0.get())?;
        // SAFETY: positions are multiples of 8, and the record of at least a header ends inside the area.
        let (tag, correlation) = unsafe { self.area.record_header(offset) };
        let header = PackedHeader::parse(tag, correlation).ok()?;
        failpoint(Failpoint::RecordFound);
        Some(Record { header, place: Place::new(offset, payload_bytes) })
    }

    /// Where the record with this commit word lies, and how long its payload is; `None` if it is none, or too long.
    #[inline(always)]
    fn extent_of(&self, commit: u32) -> Option<(u32, u32)> {
        let offset = self.offset();
        // Shorter than a header wraps to more than any limit.
        let payload_bytes = commit.wrapping_sub(HEADER_BYTES);
        let fits = payload_bytes <= self.max_payload_bytes && commit <= self.ring_bytes - offset;
        fits.then_some((offset, payload_bytes))
    }

    /// Asks for all lines of a payload that is about to be read, if they are more than a few: copied one after the other,
    /// each would wait for the one before (1 KiB round trips between two cores: 1.67 -> 1.34 us). An economy.
    #[inline(always)]
    pub fn expect_payload(&self, record: &Record) {
        let (offset, payload_bytes) = (record.place.offset(), record.place.payload_bytes());
        if payload_bytes >= EXPECT_FROM_BYTES {
            let line_bytes = P::Area::LINE_BYTES;
            let end = HEADER_BYTES + payload_bytes.min(EXPECT_MOST_BYTES);
            for line in 2..end.div_ceil(line_bytes) {
                self.area.expect_read(offset.wrapping_add(line * line_bytes));
            }
        }
    }

    /// Padding, the end, or nonsense. After padding comes a record at offset 0 or nothing yet: never padding again, so
    /// this looks twice at the most.
    #[cold]
    #[inline(never)]
    fn check_special(&mut self, commit: Commit) -> Result<Option<Record>, RingError> {
        if commit.is_padding() && self.is_right_padding(commit) {
            return match self.skip_padding(commit) {
                None => Ok(None),
                Some(commit) => self.check(commit),
            };
        }
        let (commit, offset, ring_bytes) = (commit.0.get(), self.offset(), self.ring_bytes);
        if commit == CLOSED {
            return Err(RingError::Closed);
        }
        if commit & PADDING != 0 {
            return Err(Violation::Padding { found: commit & !PADDING, offset, ring_bytes }.into());
        }
        if self.extent_of(commit).is_none() {
            let limit = self.tuning.max_record_bytes.min(ring_bytes - offset);
            return Err(Violation::RecordLength { found: commit, offset, limit }.into());
        }
        // SAFETY: as in check_plainly(), by extent_of().
        let (tag, correlation) = unsafe { self.area.record_header(offset) };
        match Header::parse(tag, correlation) {
            // A hostile writer has put it right meanwhile.
            Ok(header) => {
                let place = Place::new(offset, commit - HEADER_BYTES);
                Ok(Some(Record { header: header.packed(), place }))
            }
            Err(error) => Err(bad_header(error)),
        }
    }

    /// Padding lies at the end of the area, and is not all of it.
    fn is_right_padding(&self, commit: Commit) -> bool {
        let offset = self.offset();
        offset != 0 && commit.0.get() & !PADDING == self.ring_bytes - offset
    }

    /// Leaves padding behind, and polls again; `None` also where it is not as it should be, which [`Consumer::check`] says.
    #[cold]
    #[inline(never)]
    pub(crate) fn skip_padding(&mut self, commit: Commit) -> Option<Commit> {
        if !self.is_right_padding(commit) {
            return None;
        }
        self.advance(commit.0.get() & !PADDING);
        failpoint(Failpoint::PaddingSkipped);
        self.poll()
    }

    /// The payload of `record`, in place.
    #[inline(always)]
    #[must_use]
    pub fn payload(&self, record: &Record) -> Payload<'_, P::Area> {
        self.payload_at(record.place)
    }

    /// As [`Consumer::payload`].
    #[inline(always)]
    pub(crate) fn payload_at(&self, place: Place) -> Payload<'_, P::Area> {
        Payload::in_ring(&self.area, place.offset() + HEADER_BYTES, place.payload_bytes())
    }

    /// Lets go of the record that [`Consumer::peek`] found last.
    #[inline(always)]
    pub fn release(&mut self, record: Record) {
        self.release_at(record.place);
    }

    /// As [`Consumer::release`].
    #[inline(always)]
    pub(crate) fn release_at(&mut self, place: Place) {
        debug_assert!(!place.is_elsewhere(), "a record of no ring");
        failpoint(Failpoint::Releasing);
        self.advance(align8(HEADER_BYTES + place.payload_bytes()));
    }

    #[inline(always)]
    fn offset(&self) -> u32 {
        // The truncation is the masking.
        (self.position as u32) & self.mask
    }

    #[inline(always)]
    fn advance(&mut self, bytes: u32) {
        self.position += u64::from(bytes);
        failpoint(Failpoint::Advanced);
        if self.position >= self.say_at {
            self.say_consumed();
        } else if self.area.writer_parked().load(Relaxed) != 0 {
            self.look_at_waiting_writer();
        }
    }

    /// Publishes an eighth of the area, or less where nothing more is there yet: the writer of a quiet connection starts
    /// again at offset 0 only if it knows that its ring is drained.
    #[cold]
    fn say_consumed(&mut self) {
        self.say_at = self.position + u64::from(self.tuning.say_every_bytes());
        if self.position - self.head >= u64::from(self.tuning.lazy_bytes) || !self.is_readable() {
            self.publish_consumed();
        } else if !P::breaks(weak::SAY_NO_LOOK) {
            self.look_at_waiting_writer();
        }
    }

    /// The writer waits for room: what is enough for it is published at once.
    #[cold]
    fn look_at_waiting_writer(&mut self) {
        let Some(mark) = Mark::from_word(self.area.writer_parked().load(Relaxed)) else { return };
        if (self.position as u32).wrapping_sub(mark.position()).cast_signed() > 0 {
            self.publish_consumed();
        }
    }

    /// Tells the writer what has been consumed, and wakes it if that is what it waits for.
    ///
    /// Happens by itself, but lazily: call it before doing something else for long.
    #[inline]
    pub fn publish_consumed(&mut self) {
        if self.head == self.position {
            return;
        }
        self.store_head();
        // ORDER look: `head` before the look at the mark (control: head_looked_without_fence). The other end is
        // `ORDER park` of the writer.
        P::fence_at(weak::FENCE_HEAD_LOOK);
        failpoint(Failpoint::HeadFenced);
        look_at_writer::<P, K>(&mut self.waker, &self.area, &self.kernel, self.head);
    }

    #[inline(always)]
    pub(super) fn store_head(&mut self) {
        failpoint(Failpoint::HeadStoring);
        // ORDER head: Release, so that our reads of the released bytes are over (control: head_stored_relaxed). The
        // other end is in Producer::load_head.
        self.area.head().store(self.position as u32 | self.gone, P::order(weak::HEAD_STORE, Release));
        failpoint(Failpoint::HeadStored);
        self.head = self.position;
    }

    /// Says that nothing more will be read: in the low bit of `head`, the word that the writer sleeps on.
    pub fn close(&mut self) {
        self.disarm();
        self.head = self.position;
        // Relaxed: the writer reuses nothing that this releases (Producer::load_head). No model fails with it.
        self.gone = 1;
        self.area.head().store(self.position as u32 | self.gone, Relaxed);
        failpoint(Failpoint::ReaderGone);
        // ORDER look: as in publish_consumed (control: reader_goes_without_fence).
        P::fence_at(weak::FENCE_HEAD_LOOK);
        failpoint(Failpoint::ReaderGoneFenced);
        if self.area.writer_parked().load(Relaxed) != 0 && !P::breaks(weak::READER_CLOSE_NO_LOOK) {
            self.kernel.wake(self.area.head());
            failpoint(Failpoint::ReaderGoneWoken);
        }
    }
}

#[cold]
fn bad_header(error: HeaderError) -> RingError {
    Violation::from(error).into()
}

/// Wakes the writer if it waits for no more than `head`. After the fence behind the store of `head`.
#[inline(always)]
pub(super) fn look_at_writer<P: Platform, K: Kernel<P::Word>>(
    waker: &mut Waker,
    area: &P::Area,
    kernel: &K,
    head: u64,
) {
    let early = P::breaks(weak::WRITER_WOKEN_EARLY);
    if waker.look::<P>(area.writer_parked(), head, area.size(), early).is_some() {
        failpoint(Failpoint::WriterWaking);
        kernel.wake(area.head());
        failpoint(Failpoint::WriterWoken);
    }
}

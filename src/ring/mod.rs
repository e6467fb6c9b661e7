//! The single-producer single-consumer record ring, published in-band.
//!
//! A record is 8-aligned and contiguous: a header of 16 bytes ([`RecordHeader`](crate::wire::RecordHeader)), then the
//! payload. Its first word, the *commit word*, is 0 until the record is there, then its length: the reader polls the very
//! line that the data arrives in.
//!
//! | word | written by | read by | what happens if its writer dies right there |
//! |---|---|---|---|
//! | commit word at the producer's position | producer: 0 before the record in front of it is committed, then the length (Release) | consumer (Acquire) | 0: the record was never sent; else: it was |
//! | payload and header behind it | producer, before the commit | consumer, after it | never seen |
//! | `head` | consumer: bytes released (Release), lazily; bit 0: it has gone | producer (Acquire), when the ring looks full or is checked for being drained | the producer's wait ends by the lifeline |
//! | `reader_parked`, `writer_parked` | the sleeper ([`wait`](crate::wait)) | the other side | one useless wake-up |
//!
//! Commit words: 0 not written; 16 to half the area: a record's length; [`PADDING`] with the exact length to the end of the
//! area, never at offset 0; [`CLOSED`]: nothing follows. Anything else is a [`Violation`].
//!
//! A record or padding of `n` bytes needs `n + 8` free: the next commit word is zeroed before this one is stored, so the
//! word at the producer's position is always free, and *closed* always has a place.
//!
//! A record is written in this order: the next commit word is zeroed, the payload copied, the header stored, the commit word
//! stored. What a reader sees depends on the last step alone; the order of the others leaves the line that it polls untouched
//! until header and commit word follow each other. (What a [`Slot`] has been given in place comes first of all.)
//!
//! Each side's own position is private and 64 bits wide; what the peer wrote is loaded once, checked, then used.

mod arm;
mod claim;
mod consumer;
mod extent;
mod interrupt;
mod payload;
mod producer;
mod room;
mod slot;
mod waiting;

pub use arm::Readiness;
pub(crate) use consumer::Place;
pub use consumer::{Commit, Consumer, Record};
pub use interrupt::Interrupter;
pub use payload::Payload;
pub use producer::Producer;
pub use slot::Slot;

use thiserror::Error;

use crate::wait::WaitError;
use crate::wire::{Header, HeaderError};

/// Bytes of a record's header.
pub const HEADER_BYTES: u32 = 16;
/// Commit word: padding from here to the end of the area, its length in the low bits.
pub const PADDING: u32 = 1 << 31;
/// Commit word: the producer has closed, nothing follows. Longer than any record.
pub const CLOSED: u32 = 1 << 30;
/// The smallest area.
pub const MIN_RING_BYTES: u32 = 4 << 10;
/// The largest area.
pub const MAX_RING_BYTES: u32 = 1 << 30;
/// Kept free behind every record for the next commit word.
const TRAILING_BYTES: u32 = 8;

/// What a ring's halves do when. Both halves of a ring start at the same position.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// The position of the first record, a multiple of 8.
    pub start: u64,
    /// The longest record, header included.
    pub max_record_bytes: u32,
    /// The consumer publishes `head` at the latest after this many bytes.
    pub lazy_bytes: u32,
    /// The producer looks for a drained ring, and asks for the lines up to the next one, each time it crosses a multiple of
    /// this.
    pub restart_bytes: u32,
}

impl Tuning {
    /// The shipped values for an area of `ring_bytes`.
    #[must_use]
    pub const fn for_ring(ring_bytes: u32) -> Self {
        Self {
            start: 0,
            max_record_bytes: (ring_bytes / 2).saturating_sub(HEADER_BYTES),
            lazy_bytes: ring_bytes / 8,
            restart_bytes: 1024,
        }
    }

    /// The reader looks this often whether it has come to the end of what is there, and then says so: as often as the
    /// writer wants to know.
    fn say_every_bytes(&self) -> u32 {
        if self.restart_bytes == 0 { self.lazy_bytes } else { self.lazy_bytes.min(self.restart_bytes) }
    }

    /// What the arithmetic of both halves, and the proofs of their unsafe blocks, take for granted.
    fn check(&self, ring_bytes: u32) {
        assert!(ring_bytes.is_power_of_two() && ring_bytes <= MAX_RING_BYTES, "ring of {ring_bytes} bytes");
        assert!(self.start.is_multiple_of(8) && self.start <= 1 << 62, "start at {}", self.start);
        let longest = self.max_record_bytes;
        assert!((HEADER_BYTES..=ring_bytes).contains(&longest), "records of up to {longest} bytes");
    }

    /// The longest payload of one record.
    #[must_use]
    pub const fn max_payload_bytes(&self) -> u32 {
        self.max_record_bytes - HEADER_BYTES
    }
}

/// Why a ring did not do what it was asked to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RingError {
    /// No room now.
    #[error("ring full")]
    Full,
    /// The other side closed (and, for a reader, everything that it sent has been read), or this side did.
    #[error("closed")]
    Closed,
    /// The payload does not fit a record.
    #[error("payload too large: a record of this ring takes {limit} bytes")]
    TooLarge {
        /// The longest that fits.
        limit: u32,
    },
    /// A wait ended without a result.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The peer broke the protocol. Boxed, so that a result of the hot path stays in registers.
    #[error(transparent)]
    Corrupt(Box<Violation>),
}

impl From<Violation> for RingError {
    #[cold]
    fn from(violation: Violation) -> Self {
        Self::Corrupt(Box::new(violation))
    }
}

const _: () = assert!(size_of::<Result<(), RingError>>() <= 16);

/// A value in shared memory that no correct peer writes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A record shorter than its header, or longer than a record may be or than what is left of the area.
    #[error("record of {found} bytes at offset {offset}, expected {HEADER_BYTES} to {limit}")]
    RecordLength {
        /// The commit word.
        found: u32,
        /// Where it lies in the area.
        offset: u32,
        /// The longest that is valid there.
        limit: u32,
    },
    /// Padding at offset 0, or not exactly to the end of the area.
    #[error("padding of {found} bytes at offset {offset} of {ring_bytes}")]
    Padding {
        /// Its length.
        found: u32,
        /// Where it lies in the area.
        offset: u32,
        /// Size of the area.
        ring_bytes: u32,
    },
    /// The header makes no sense.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A fragment that does not belong where it stands.
    #[error("fragment out of order: {found:?} where {expected} was due")]
    Fragment {
        /// What came.
        found: Header,
        /// What was due.
        expected: &'static str,
    },
    /// A message that nothing asked for.
    #[error("unexpected {found:?} where {expected} was due")]
    Unexpected {
        /// What came.
        found: Header,
        /// What was due.
        expected: &'static str,
    },
    /// `head` is not between what was released before and what was sent.
    #[error("read position {found:#x}, expected a multiple of 8 from {least:#x} to {most:#x} (modulo 2^32)")]
    Head {
        /// The value found.
        found: u32,
        /// The value seen before.
        least: u32,
        /// Everything sent.
        most: u32,
    },
}

#[inline(always)]
const fn align8(bytes: u32) -> u32 {
    (bytes + 7) & !7
}

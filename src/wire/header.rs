//! The record header of 16 bytes, and its parts as the rest of the library sees them.

use core::mem::{align_of, offset_of, size_of};

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A record's header as it lies in the ring.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Eq)]
#[repr(C)]
pub struct RecordHeader {
    /// 0: not written; else the record's length in bytes, header included. See [`ring`](crate::ring).
    pub commit: u32,
    /// A [`Kind`].
    pub kind: u8,
    /// [`Flags`].
    pub flags: u8,
    /// The handler's key.
    pub message_type: u16,
    /// Matches responses and stream items to their request.
    pub correlation: u64,
}

const _: () = {
    assert!(size_of::<RecordHeader>() == 16 && align_of::<RecordHeader>() == 8);
    assert!(offset_of!(RecordHeader, commit) == 0);
    assert!(offset_of!(RecordHeader, kind) == 4);
    assert!(offset_of!(RecordHeader, flags) == 5);
    assert!(offset_of!(RecordHeader, message_type) == 6);
    assert!(offset_of!(RecordHeader, correlation) == 8);
};

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// A request that wants a response.
    Request = 1,
    /// The response to a request.
    Response = 2,
    /// A status in place of a response.
    Error = 3,
    /// Something that the peer did not ask for.
    Event = 4,
    /// One item of a streamed response.
    StreamItem = 5,
    /// The end of a streamed response.
    StreamEnd = 6,
    /// The caller no longer wants the response.
    Cancel = 7,
    /// Asks for a [`Kind::Pong`].
    Ping = 8,
    /// The answer to a [`Kind::Ping`].
    Pong = 9,
    /// The sender is about to close.
    Goodbye = 10,
}

impl Kind {
    /// The kind that `byte` stands for.
    #[inline]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Error,
            4 => Self::Event,
            5 => Self::StreamItem,
            6 => Self::StreamEnd,
            7 => Self::Cancel,
            8 => Self::Ping,
            9 => Self::Pong,
            10 => Self::Goodbye,
            _ => return None,
        })
    }
}

/// Of the classes of [`Flags::of_size`], as many as four bits tell apart.
const SMALLEST_CLASS_BYTES: usize = 4 << 10;
const LARGEST_CLASS_BYTES: usize = SMALLEST_CLASS_BYTES << 14;

/// A record's flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No flag: a whole message in one record.
    pub const NONE: Self = Self(0);
    /// More fragments of this message follow.
    pub const MORE: Self = Self(1);
    /// Not the first fragment of its message.
    pub const CONTINUED: Self = Self(2);
    /// The message whose fragments came so far is abandoned; carries nothing. Only with `CONTINUED`.
    pub const ABANDONED: Self = Self(4);
    /// The message's payload begins with an extension of 8 bytes: see [`Header::extended`]. On its first record alone.
    pub const EXTENDED: Self = Self(8);
    /// The upper four bits: how long the message is at most, see [`Flags::of_size`].
    const SIZE: u8 = 0xF0;
    const SIZE_SHIFT: u32 = Self::SIZE.trailing_zeros();
    /// Everything that says something of the record's place among others.
    const PLACE: u8 = !Self::EXTENDED.0;

    /// For the first of several fragments, where the sender knows the length of the message's payload (without its
    /// extension) and the peer has [`Features::SIZE_CLASS`](super::Features::SIZE_CLASS): a class `n` from 1 to 15 in the
    /// upper four bits, which says that it has at most 2 KiB << n. No flags beyond 64 MiB.
    #[must_use]
    pub const fn of_size(bytes: usize) -> Self {
        if bytes > LARGEST_CLASS_BYTES {
            return Self::NONE;
        }
        let at_most =
            if bytes < SMALLEST_CLASS_BYTES { SMALLEST_CLASS_BYTES } else { bytes.next_power_of_two() };
        let class = 1 + (at_most / SMALLEST_CLASS_BYTES).ilog2() as u8;
        Self(class << Self::SIZE_SHIFT)
    }

    /// How many bytes the message has at most, if its sender said so: a power of two from 4 KiB to 64 MiB. A hint, as good as
    /// the sender.
    #[must_use]
    pub const fn at_most_bytes(self) -> Option<usize> {
        match self.0 >> Self::SIZE_SHIFT {
            0 => None,
            class => Some(SMALLEST_CLASS_BYTES << (class - 1)),
        }
    }

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is left for a message of its own.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn without_place(self) -> Self {
        Self(self.0 & !Self::PLACE)
    }

    /// Whether the record is a message of its own.
    #[inline]
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.0 & Self::PLACE == 0
    }
}

/// A record's kind, type and correlation: what a message is, besides its payload.
///
/// ```
/// use ringwire::{Header, Kind};
/// let header = Header::new(Kind::Request, 7, 42);
/// assert_eq!((header.kind, header.message_type, header.correlation), (Kind::Request, 7, 42));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// In the order of the record's bytes, so that kind, flags and type move as one word.
#[repr(C)]
pub struct Header {
    /// What the message is for.
    pub kind: Kind,
    pub(crate) flags: Flags,
    /// The handler's key.
    pub message_type: u16,
    /// Matches responses and stream items to their request.
    pub correlation: u64,
}

/// A header that no version of this library writes.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    /// The kind is not in the list.
    #[error("record of unknown kind {0} (known: 1 to 10)")]
    Kind(u8),
    /// The flags contradict each other.
    #[error("record with contradictory flags {0:#04x}")]
    Flags(u8),
}

impl Header {
    /// The header of a whole message.
    #[inline]
    #[must_use]
    pub const fn new(kind: Kind, message_type: u16, correlation: u64) -> Self {
        Self { kind, flags: Flags::NONE, message_type, correlation }
    }

    /// Set by the library for messages that travel in several records.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> Flags {
        self.flags
    }

    /// The same with other flags.
    #[inline]
    #[must_use]
    pub(crate) const fn with_flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }

    /// The same for a message whose payload begins with its deadline: 8 bytes, nanoseconds of `CLOCK_MONOTONIC` in the
    /// machine's byte order. The transport carries the mark along and leaves the bytes alone.
    #[inline]
    #[must_use]
    pub const fn extended(self) -> Self {
        self.with_flags(self.flags.with(Flags::EXTENDED))
    }

    /// Whether the payload begins with a deadline: see [`Header::extended`].
    #[inline]
    #[must_use]
    pub const fn is_extended(&self) -> bool {
        self.flags.contains(Flags::EXTENDED)
    }

    /// Bytes of the payload's extension, 8 or none.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn extension_bytes(&self) -> usize {
        if self.is_extended() { size_of::<u64>() } else { 0 }
    }

    /// The header of the whole message: without what a fragment's says of its place.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn whole(self) -> Self {
        self.with_flags(self.flags.without_place())
    }

    /// Kind, flags and type as the four bytes at offset 4 of the record.
    #[inline(always)]
    #[must_use]
    pub const fn tag(&self) -> u32 {
        let [low, high] = self.message_type.to_ne_bytes();
        u32::from_ne_bytes([self.kind as u8, self.flags.0, low, high])
    }

    /// Checks and takes apart what a record says; the inverse of [`Header::tag`].
    ///
    /// # Errors
    /// [`HeaderError`] for a kind or flags that are not in the list.
    #[inline(always)]
    pub fn parse(tag: u32, correlation: u64) -> Result<Self, HeaderError> {
        PackedHeader::parse(tag, correlation).map(PackedHeader::header)
    }

    /// The same in two words.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn packed(&self) -> PackedHeader {
        PackedHeader { tag: self.tag(), correlation: self.correlation }
    }
}

/// A [`Header`] in two words, as the record has it, and checked: its form on the way from the ring to a caller.
///
/// Two integers stay in registers. Four fields, of which one has values to spare for the enums around it, are copied through
/// memory, in other pieces than they were written in; and each such load waits for the stores before it to reach the cache
/// (some ten of them a call, one behind the other: 50 ns of 370).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedHeader {
    tag: u32,
    correlation: u64,
}

impl PackedHeader {
    /// As [`Header::parse`].
    #[inline(always)]
    pub(crate) fn parse(tag: u32, correlation: u64) -> Result<Self, HeaderError> {
        let [kind, flags, ..] = tag.to_ne_bytes();
        if Kind::from_byte(kind).is_none() {
            return Err(HeaderError::Kind(kind));
        }
        if flags != 0 {
            check_flags(flags)?;
        }
        Ok(Self { tag, correlation })
    }

    #[inline(always)]
    #[must_use]
    pub(crate) const fn header(self) -> Header {
        let [kind, flags, low, high] = self.tag.to_ne_bytes();
        Header {
            kind: match Kind::from_byte(kind) {
                Some(kind) => kind,
                // parse() has refused it.
                None => Kind::Goodbye,
            },
            flags: Flags(flags),
            message_type: u16::from_ne_bytes([low, high]),
            correlation: self.correlation,
        }
    }

    /// See [`Flags::is_whole`].
    #[inline(always)]
    #[must_use]
    pub(crate) const fn is_whole(self) -> bool {
        Flags(self.tag.to_ne_bytes()[1]).is_whole()
    }
}

fn check_flags(flags: u8) -> Result<(), HeaderError> {
    let abandoned = Flags(flags).contains(Flags::ABANDONED);
    let extended_late = Flags(flags).contains(Flags::EXTENDED.with(Flags::CONTINUED));
    let starts = flags & Flags::MORE.with(Flags::CONTINUED).0 == Flags::MORE.0;
    let sized = flags & Flags::SIZE != 0;
    if extended_late || sized && !starts || abandoned && flags != Flags::ABANDONED.with(Flags::CONTINUED).0 {
        return Err(HeaderError::Flags(flags));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_flag_survives_the_way_through_a_tag() {
        for byte in 0..=255 {
            let Some(kind) = Kind::from_byte(byte) else {
                let tag = u32::from_ne_bytes([byte, 0, 0, 0]);
                assert_eq!(Header::parse(tag, 0), Err(HeaderError::Kind(byte)));
                continue;
            };
            let header = Header::new(kind, 0xBEEF, u64::MAX - 5);
            for flags in [
                Flags::NONE,
                Flags::MORE,
                Flags::CONTINUED,
                Flags::CONTINUED.with(Flags::ABANDONED),
                Flags::EXTENDED,
                Flags::EXTENDED.with(Flags::MORE),
            ] {
                let header = header.with_flags(flags);
                assert_eq!(Header::parse(header.tag(), header.correlation), Ok(header));
            }
        }
    }

    #[test]
    fn a_size_class_is_the_next_power_of_two_and_leaves_a_whole_message_behind() {
        const MIB: usize = 1 << 20;
        for (bytes, at_most) in [
            (0, Some(4_096)),
            (4_096, Some(4_096)),
            (4_097, Some(8_192)),
            (MIB, Some(MIB)),
            (MIB + 1, Some(2 * MIB)),
            (64 * MIB, Some(64 * MIB)),
            (64 * MIB + 1, None),
            (usize::MAX, None),
        ] {
            let flags = Flags::MORE.with(Flags::EXTENDED).with(Flags::of_size(bytes));
            assert_eq!(flags.at_most_bytes(), at_most, "{bytes}");
            let header = Header::new(Kind::Request, 3, 4).with_flags(flags);
            assert_eq!(Header::parse(header.tag(), 4), Ok(header));
            assert_eq!(header.whole(), Header::new(Kind::Request, 3, 4).extended());
        }
    }

    #[test]
    fn contradictory_flags_are_refused() {
        for flags in [16, 0x80, 4, 5, 7, 10, 12, 14, 18, 19, 24, 255] {
            let tag = u32::from_ne_bytes([Kind::Event as u8, flags, 0, 0]);
            assert_eq!(Header::parse(tag, 0), Err(HeaderError::Flags(flags)));
        }
    }

    #[test]
    fn the_tag_lies_where_the_struct_says() {
        let raw = RecordHeader { commit: 9, kind: 4, flags: 1, message_type: 0x0203, correlation: 77 };
        let bytes = raw.as_bytes();
        let header = Header::new(Kind::Event, 0x0203, 77).with_flags(Flags::MORE);
        assert_eq!(bytes[4..8], header.tag().to_ne_bytes());
        assert_eq!(bytes[8..], 77u64.to_ne_bytes());
        assert_eq!(RecordHeader::read_from_bytes(bytes), Ok(raw));
    }
}

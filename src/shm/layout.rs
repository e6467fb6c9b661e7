//! Where everything lies in a segment.
//!
//! ```text
//! 0     words that the server writes   to_server.head | to_server.reader_parked | to_client.writer_parked
//! 256   words that the client writes   to_client.head | to_client.reader_parked | to_server.writer_parked
//! 512   words that the client writes   cancelled[64]
//! 1024  data area, client to server    a power of two
//! ...   data area, server to client    a power of two
//! ```
//!
//! One line of 64 bytes for each word, since their rhythms differ; 128 bytes between words that different sides write,
//! since processors fetch lines in pairs. The first area begins in the control words' page, so that a quiet connection
//! touches two pages in all.

use core::mem::{align_of, offset_of, size_of};

use thiserror::Error;

use crate::ring::{MAX_RING_BYTES, MIN_RING_BYTES};
use crate::sync::NativeWord;

/// Bytes in front of the first data area.
pub const CONTROL_BYTES: usize = 1024;
/// Requests whose cancellation can be told out of band.
pub const CANCEL_SLOTS: usize = 64;
/// Segments are a multiple of this; where pages are larger, the last one is partly used.
const PAGE_BYTES: usize = 4096;

/// A word alone in its cache line.
#[repr(C, align(64))]
struct Line {
    word: NativeWord,
}

/// The control words.
#[repr(C, align(64))]
pub(super) struct Control {
    to_server_head: Line,
    to_server_reader_parked: Line,
    to_client_writer_parked: Line,
    _apart: [u8; 64],
    to_client_head: Line,
    to_client_reader_parked: Line,
    to_server_writer_parked: Line,
    _apart_too: [u8; 64],
    cancelled: [NativeWord; CANCEL_SLOTS],
    _rest: [u8; 256],
}

const _: () = {
    assert!(size_of::<NativeWord>() == 4 && align_of::<NativeWord>() == 4);
    assert!(size_of::<Line>() == 64);
    assert!(size_of::<Control>() == CONTROL_BYTES && align_of::<Control>() == 64);
    assert!(offset_of!(Control, to_server_head) == 0);
    assert!(offset_of!(Control, to_server_reader_parked) == 64);
    assert!(offset_of!(Control, to_client_writer_parked) == 128);
    assert!(offset_of!(Control, to_client_head) == 256);
    assert!(offset_of!(Control, to_client_reader_parked) == 320);
    assert!(offset_of!(Control, to_server_writer_parked) == 384);
    assert!(offset_of!(Control, cancelled) == 512);
};

/// Offset in the segment of the word that cancels what is in `slot`, taken modulo [`CANCEL_SLOTS`].
pub(super) const fn cancel_word_offset(slot: usize) -> usize {
    offset_of!(Control, cancelled) + slot % CANCEL_SLOTS * size_of::<NativeWord>()
}

/// One of the two rings of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The client writes, the server reads.
    ToServer,
    /// The server writes, the client reads.
    ToClient,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }

    /// Offsets of head, reader_parked and writer_parked in the segment.
    pub(super) const fn words(self) -> [usize; 3] {
        match self {
            Self::ToServer => [
                offset_of!(Control, to_server_head),
                offset_of!(Control, to_server_reader_parked),
                offset_of!(Control, to_server_writer_parked),
            ],
            Self::ToClient => [
                offset_of!(Control, to_client_head),
                offset_of!(Control, to_client_reader_parked),
                offset_of!(Control, to_client_writer_parked),
            ],
        }
    }
}

/// The sizes of a segment's two areas, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    to_server_bytes: u32,
    to_client_bytes: u32,
}

/// A ring size that is not a power of two in the range.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("ring of {bytes} bytes, expected a power of two from {MIN_RING_BYTES} to {MAX_RING_BYTES}")]
pub struct LayoutError {
    /// The size.
    pub bytes: u32,
}

impl Layout {
    /// Areas of these sizes.
    ///
    /// # Errors
    /// [`LayoutError`] unless both are powers of two from 4 KiB to 1 GiB.
    pub const fn new(to_server_bytes: u32, to_client_bytes: u32) -> Result<Self, LayoutError> {
        if !is_ring_size(to_server_bytes) {
            return Err(LayoutError { bytes: to_server_bytes });
        }
        if !is_ring_size(to_client_bytes) {
            return Err(LayoutError { bytes: to_client_bytes });
        }
        Ok(Self { to_server_bytes, to_client_bytes })
    }

    /// Size of one data area in bytes.
    #[must_use]
    pub const fn ring_bytes(&self, direction: Direction) -> u32 {
        match direction {
            Direction::ToServer => self.to_server_bytes,
            Direction::ToClient => self.to_client_bytes,
        }
    }

    /// Where a data area begins.
    #[must_use]
    pub const fn area_offset(&self, direction: Direction) -> usize {
        match direction {
            Direction::ToServer => CONTROL_BYTES,
            Direction::ToClient => CONTROL_BYTES + self.to_server_bytes as usize,
        }
    }

    /// Size of the whole segment in bytes.
    #[must_use]
    pub const fn segment_bytes(&self) -> usize {
        let used = CONTROL_BYTES + self.to_server_bytes as usize + self.to_client_bytes as usize;
        used.next_multiple_of(PAGE_BYTES)
    }

    /// The whole pages of `page_bytes` inside the bytes `from..to` of an area, as a range of the segment; empty if there
    /// are none.
    pub(super) const fn whole_pages(
        &self,
        direction: Direction,
        from: u32,
        to: u32,
        page_bytes: usize,
    ) -> (usize, usize) {
        let area = self.area_offset(direction);
        let start = (area + from as usize).next_multiple_of(page_bytes);
        let end = (area + to as usize) / page_bytes * page_bytes;
        (start, if end > start { end } else { start })
    }
}

pub(super) const fn is_ring_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && bytes >= MIN_RING_BYTES && bytes <= MAX_RING_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_in_the_range() {
        for bytes in [0, 2048, 4095, 4097, 65_535, (1 << 30) + 1, 1 << 31] {
            assert_eq!(Layout::new(bytes, 4096), Err(LayoutError { bytes }));
            assert_eq!(Layout::new(4096, bytes), Err(LayoutError { bytes }));
        }
        let layout = Layout::new(1 << 30, 4096).unwrap();
        assert_eq!(layout.segment_bytes(), (1 << 30) + 8192);
        assert_eq!(layout.area_offset(Direction::ToClient), 1024 + (1 << 30));
    }

    #[test]
    fn only_whole_pages_inside_an_area_are_ever_given_back() {
        let layout = Layout::new(8192, 8192).unwrap();
        assert_eq!(layout.whole_pages(Direction::ToServer, 0, 8192, 4096), (4096, 8192));
        assert_eq!(layout.whole_pages(Direction::ToClient, 0, 8192, 4096), (12288, 16384));
        assert_eq!(layout.whole_pages(Direction::ToServer, 100, 200, 4096), (4096, 4096));
        assert_eq!(layout.whole_pages(Direction::ToServer, 4000, 5000, 4096), (8192, 8192));
        assert_eq!(layout.whole_pages(Direction::ToServer, 0, 8192, 65_536), (65_536, 65_536));
    }

    #[test]
    fn cancel_words_lie_among_the_words_that_the_client_writes() {
        assert_eq!((cancel_word_offset(0), cancel_word_offset(63)), (512, 764));
        assert_eq!(cancel_word_offset(64), 512);
    }

    #[test]
    fn directions_oppose_each_other() {
        assert_eq!(Direction::ToServer.opposite(), Direction::ToClient);
        assert_eq!(Direction::ToClient.opposite().opposite(), Direction::ToClient);
    }
}

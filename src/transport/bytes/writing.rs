//! [`Writing`]: the half that turns bytes into records.

use std::io::IoSlice;

use super::BYTES;
use super::patience::Patience;
use crate::error::Error;
use crate::ring::HEADER_BYTES;
use crate::transport::options::Backpressure;
use crate::transport::sender::{Meanwhile, Sender};
use crate::wait::{Deadline, WaitStrategy};

/// A large write goes out in pieces, of which this many fill the ring: the reader begins while the writer goes on.
/// Longer than an eighth of the ring, so that the reader publishes each.
const PIECES_PER_RING: usize = 7;
/// Who sleeps until there is room sleeps until there is room for this many: a wake-up for each would be too many.
const PIECES_AHEAD: usize = 3;

/// The sending half.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) sender: Sender,
    piece_bytes: usize,
}

impl Writing {
    pub(super) fn new(sender: Sender) -> Self {
        let header_bytes = HEADER_BYTES as usize;
        // The longest record takes half the ring, less a header; and 8 bytes of the ring are never used.
        let usable = 2 * (sender.max_record_bytes() + 2 * header_bytes) - 8;
        let record_bytes = usable / PIECES_PER_RING / 8 * 8;
        Self { sender, piece_bytes: record_bytes - header_bytes }
    }

    /// Writes all of `bytes`, or as much as `patience` allows; says how much that was.
    #[inline]
    pub(super) fn put(
        &mut self,
        bytes: &[u8],
        patience: &mut Patience<'_>,
        between: &mut impl Meanwhile,
    ) -> Result<usize, Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(self.piece_bytes));
            if !self.sender.push(&BYTES, piece)
                && let Err(error) = self.put_slowly(piece, rest.len(), patience, between)
            {
                return if rest.len() < bytes.len() { Ok(bytes.len() - rest.len()) } else { Err(error) };
            }
            rest = behind;
        }
        Ok(bytes.len())
    }

    #[cold]
    fn put_slowly(
        &mut self,
        piece: &[u8],
        rest_bytes: usize,
        patience: &mut Patience<'_>,
        between: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        let (backpressure, mut deadline) = how_to_wait(patience);
        if backpressure == Backpressure::Wait && self.sender.wait_strategy() != WaitStrategy::SpinOnly {
            let ahead = rest_bytes.min(PIECES_AHEAD * self.piece_bytes);
            self.sender.make_ready(ahead, backpressure, &mut deadline, between)?;
        }
        self.sender.send_record(BYTES, piece, backpressure, &mut deadline, between)
    }

    /// As [`Writing::put`], for bytes that lie apart: small ones still share a record.
    pub(super) fn put_vectored(
        &mut self,
        parts: &[IoSlice<'_>],
        patience: &mut Patience<'_>,
        between: &mut impl Meanwhile,
    ) -> Result<usize, Error> {
        let total = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let (mut sent, mut source) = (0, Source { parts, at: 0 });
        while sent < total {
            let piece_bytes = (total - sent).min(self.piece_bytes);
            let (backpressure, mut deadline) = how_to_wait(patience);
            let ready = self.sender.make_ready(piece_bytes, backpressure, &mut deadline, between);
            let reserved = ready.and_then(|()| self.sender.reserve(BYTES, piece_bytes));
            match reserved {
                Ok(mut slot) => {
                    while slot.remaining() > 0 {
                        let Some(bytes) = source.next(slot.remaining()) else { break };
                        slot.write(bytes);
                    }
                    slot.commit();
                }
                Err(error) => return if sent > 0 { Ok(sent) } else { Err(error) },
            }
            sent += piece_bytes;
        }
        Ok(sent)
    }
}

fn how_to_wait(patience: &mut Patience<'_>) -> (Backpressure, Option<Deadline>) {
    match patience.deadline() {
        None => (Backpressure::Fail, None),
        deadline => (Backpressure::Wait, deadline),
    }
}

/// What is left of a row of slices.
struct Source<'a> {
    parts: &'a [IoSlice<'a>],
    /// Bytes taken of the first.
    at: usize,
}

impl<'a> Source<'a> {
    /// The next bytes, at most `limit`.
    fn next(&mut self, limit: usize) -> Option<&'a [u8]> {
        loop {
            let first = self.parts.first()?;
            let rest = &first[self.at..];
            if rest.is_empty() {
                self.parts = &self.parts[1..];
                self.at = 0;
                continue;
            }
            let bytes = &rest[..rest.len().min(limit)];
            self.at += bytes.len();
            return Some(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_slices_is_taken_in_order_and_in_pieces() {
        let parts = [&b""[..], b"ab", b"", b"cdefg", b""].map(IoSlice::new);
        let mut source = Source { parts: &parts, at: 0 };
        let mut taken = Vec::new();
        while let Some(bytes) = source.next(3) {
            assert!((1..=3).contains(&bytes.len()));
            taken.extend_from_slice(bytes);
        }
        assert_eq!(taken, b"abcdefg");
    }
}
